//! TFRecord: records of bytes, each with its length and checksums.

/// What masking adds to a rotated CRC, as `kMaskDelta` in TensorFlow's `tsl/lib/hash/crc32c.h` has it.
const MASK_DELTA: u32 = 0xa282_ead8;

/// Appends a record to a file, as `RecordWriter` in TensorFlow's `tsl/lib/io/record_writer.cc` does: length
/// (u64), its masked CRC, the data, their masked CRC; all little endian.
pub(crate) fn append(file: &mut Vec<u8>, data: &[u8]) {
    let length = (data.len() as u64).to_le_bytes();
    file.extend_from_slice(&length);
    file.extend_from_slice(&masked_crc(&length).to_le_bytes());
    file.extend_from_slice(data);
    file.extend_from_slice(&masked_crc(data).to_le_bytes());
}

/// A CRC-32C, masked because a CRC of bytes that contain their own CRC is weak.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
        .rotate_right(15)
        .wrapping_add(MASK_DELTA)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_tensorflow() {
        // RFC 3720, B.4.
        assert_eq!(crc_fast::crc32_iscsi(&[0; 32]), 0x8a91_36aa);
        // TensorBoard's data server takes this from a file of TensorFlow (`data/server/masked_crc.rs`).
        assert_eq!(masked_crc(b"\x1a\x11CRC test, one two"), 0x5794_d08a);
    }
}

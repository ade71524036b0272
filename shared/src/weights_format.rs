//! Formats of files with weights, told by how a file begins.

/// A format of weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightsFormat {
    /// HDF5, as Keras writes it.
    Hdf5,
    /// Safetensors.
    Safetensors,
    /// PyTorch's: a zip archive, a tar archive, or a pickle.
    Pytorch,
    /// The zip archive `.keras`.
    Keras3,
}

/// As many bytes of a file as are looked at.
pub const HEAD_SIZE: usize = 512;

/// Protocols of pickles that name themselves.
const PICKLE_PROTOCOLS: std::ops::RangeInclusive<u8> = 2..=5;

impl WeightsFormat {
    /// The format of a file with these first [`HEAD_SIZE`] bytes.
    #[must_use]
    pub fn of(head: &[u8]) -> Option<Self> {
        let at = |offset: usize, magic: &[u8]| {
            head.get(offset..)
                .is_some_and(|rest| rest.starts_with(magic))
        };
        // Eight bytes of length come first in safetensors, whose low ones may be anything, such as the `PK`
        // of an archive. Then follows a JSON object.
        let safetensors = at(8, b"{");
        let is_pickle = matches!(head, [0x80, p, ..] if PICKLE_PROTOCOLS.contains(p));
        // An archive's first entry is named at byte 30.
        let entries = [&b"metadata.json"[..], b"config.json", b"model.weights.h5"];
        let keras_3 = entries.iter().any(|name| at(30, name));
        if at(0, b"\x89HDF\r\n\x1a\n") {
            Some(Self::Hdf5)
        } else if safetensors && at(4, &[0; 4]) {
            Some(Self::Safetensors)
        } else if at(0, b"PK\x03\x04") && keras_3 {
            Some(Self::Keras3)
        } else if at(0, b"PK\x03\x04") || is_pickle || at(257, b"ustar") {
            Some(Self::Pytorch)
        } else if safetensors {
            Some(Self::Safetensors)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_by_their_first_bytes() {
        let keras_3 = [&b"PK\x03\x04"[..], &[0; 26], b"config.json"].concat();
        let tar = [&[b'x'; 257][..], b"ustar"].concat();
        let long = [&0x0280_u64.to_le_bytes()[..], b"{"].concat();
        for (head, format) in [
            (&b"\x89HDF\r\n\x1a\n..."[..], WeightsFormat::Hdf5),
            (b"PK\x03\x04...", WeightsFormat::Pytorch),
            (b"\x80\x02}q\x00", WeightsFormat::Pytorch),
            (&tar, WeightsFormat::Pytorch),
            (&keras_3, WeightsFormat::Keras3),
            (b"\x02\0\0\0\0\0\0\0{}", WeightsFormat::Safetensors),
            // The length begins like a pickle.
            (&long, WeightsFormat::Safetensors),
            // It is absurd, which its reader says.
            (
                b"\xff\xff\xff\xff\xff\xff\xff\xff{",
                WeightsFormat::Safetensors,
            ),
        ] {
            assert_eq!(WeightsFormat::of(head), Some(format), "{head:?}");
        }
        for head in [
            &b""[..],
            b"x",
            b"<html>Not found</html>",
            b"\x89PNG\r\n\x1a\n",
            b"PK",
            b"\x80",
            b"\x80\x70",
            b"\x02\0\0\0\0\0\0\0[]",
        ] {
            assert_eq!(WeightsFormat::of(head), None, "{head:?}");
        }
    }
}

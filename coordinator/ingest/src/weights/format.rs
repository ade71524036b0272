//! A first look at a file of weights, so that a mistaken path is an error before anything is trained.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::FileProblem;

const HDF5: &[u8] = b"\x89HDF\r\n\x1a\n";
const ZIP: &[u8] = b"PK\x03\x04";
const LFS_POINTER: &[u8] = b"version https://git-lfs";
/// First byte of a pickle, before the number of its protocol.
const PICKLE: u8 = 0x80;
const PICKLE_PROTOCOLS: std::ops::RangeInclusive<u8> = 2..=5;
/// Longest header that the safetensors format allows.
const SAFETENSORS_HEADER: u64 = 100_000_000;

/// Checks that the file exists and begins like weights. What is in it, the worker checks.
pub(super) fn check(path: &Path) -> Result<(), FileProblem> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(FileProblem::Directory);
    }
    let mut head = Vec::new();
    file.take(LFS_POINTER.len() as u64).read_to_end(&mut head)?;
    check_head(&head, metadata.len())
}

fn check_head(head: &[u8], size: u64) -> Result<(), FileProblem> {
    if head.is_empty() {
        return Err(FileProblem::Empty);
    }
    if head.starts_with(LFS_POINTER) {
        return Err(FileProblem::LfsPointer);
    }
    let is_pickle = head[0] == PICKLE && head.get(1).is_some_and(|p| PICKLE_PROTOCOLS.contains(p));
    let known =
        head.starts_with(HDF5) || head.starts_with(ZIP) || is_pickle || is_safetensors(head, size);
    known.then_some(()).ok_or(FileProblem::NotWeights)
}

/// Eight bytes with the length of the header (little endian), then the header, a JSON object.
fn is_safetensors(head: &[u8], size: u64) -> bool {
    let Some((length, [b'{', ..])) = head.split_first_chunk() else {
        return false;
    };
    let length = u64::from_le_bytes(*length);
    (2..=SAFETENSORS_HEADER).contains(&length) && size.checked_sub(8).is_some_and(|n| length <= n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_by_their_first_bytes() {
        let safetensors =
            |length: u64, rest: &str| [&length.to_le_bytes(), rest.as_bytes()].concat();
        let good = [
            b"\x89HDF\r\n\x1a\n...".to_vec(),
            b"PK\x03\x04...".to_vec(),
            b"\x80\x02}q\x00".to_vec(),
            safetensors(2, "{}"),
            safetensors(0x0280, "{\"a\""),
        ];
        for head in good {
            assert!(check_head(&head, 10_000).is_ok(), "{head:?}");
        }
        let bad = [
            b"x".to_vec(),
            b"<html>Not found</html>".to_vec(),
            b"\x89PNG\r\n\x1a\n".to_vec(),
            b"PK".to_vec(),
            b"\x80".to_vec(),
            b"\x80\x70".to_vec(),
            safetensors(2, ""),
            safetensors(2, "[]"),
            safetensors(0, "{}"),
            safetensors(9_993, "{}"),
            safetensors(SAFETENSORS_HEADER + 1, "{}"),
        ];
        for head in bad {
            let problem = check_head(&head, 10_000).unwrap_err();
            assert!(matches!(problem, FileProblem::NotWeights), "{head:?}");
        }
    }

    #[test]
    fn a_pointer_and_an_empty_file_are_named() {
        let pointer = &b"version https://git-lfs.github.com/spec/v1\n"[..LFS_POINTER.len()];
        assert!(matches!(
            check_head(pointer, 130),
            Err(FileProblem::LfsPointer)
        ));
        assert!(matches!(check_head(b"", 0), Err(FileProblem::Empty)));
    }
}

//! A first look at a file of weights, so that a mistaken path is an error before anything is trained.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use quartet_shared::weights_format::{HEAD_SIZE, WeightsFormat};

use super::FileProblem;

const LFS_POINTER: &[u8] = b"version https://git-lfs";
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
    file.take(HEAD_SIZE as u64).read_to_end(&mut head)?;
    check_head(&head, metadata.len())
}

fn check_head(head: &[u8], size: u64) -> Result<(), FileProblem> {
    if head.is_empty() {
        return Err(FileProblem::Empty);
    }
    if head.starts_with(LFS_POINTER) {
        return Err(FileProblem::LfsPointer);
    }
    match WeightsFormat::of(head) {
        None => Err(FileProblem::NotWeights),
        Some(WeightsFormat::Safetensors) if !header_fits(head, size) => {
            Err(FileProblem::NotWeights)
        }
        Some(_) => Ok(()),
    }
}

/// Whether the first eight bytes of a safetensors file can be its header's length.
fn header_fits(head: &[u8], size: u64) -> bool {
    let length = head.first_chunk().copied().map_or(0, u64::from_le_bytes);
    (2..=SAFETENSORS_HEADER).contains(&length) && size.checked_sub(8).is_some_and(|n| length <= n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_must_fit_into_its_file() {
        let safetensors = |length: u64| [&length.to_le_bytes()[..], b"{}"].concat();
        for length in [2, 0x0280, 9_992] {
            assert!(check_head(&safetensors(length), 10_000).is_ok(), "{length}");
        }
        for length in [0, 1, 9_993, SAFETENSORS_HEADER + 1, u64::MAX] {
            let problem = check_head(&safetensors(length), 10_000).unwrap_err();
            assert!(matches!(problem, FileProblem::NotWeights), "{length}");
        }
        let text = check_head(b"<html>Not found</html>", 22).unwrap_err();
        assert!(matches!(text, FileProblem::NotWeights));
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

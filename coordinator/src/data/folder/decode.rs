//! Bytes of an image file to gray pixels of one size.

use std::io::{Cursor, ErrorKind};
use std::path::Path;

use image::imageops::FilterType;
use image::{ImageError, ImageFormat, ImageReader};

use crate::data::ImageProblem;

/// Whether a file's name is that of a PNG or JPEG image.
pub(super) fn has_image_name(path: &Path) -> bool {
    let extension = path
        .extension()
        .and_then(|extension| extension.to_str())
        .unwrap_or_default();
    ["png", "jpg", "jpeg"]
        .iter()
        .any(|known| extension.eq_ignore_ascii_case(known))
}

/// Decodes (by the content, whatever the name says), makes gray and resizes to `side` x `side` if need be.
pub(super) fn gray(bytes: &[u8], side: u16) -> Result<Vec<u8>, ImageProblem> {
    let format = match image::guess_format(bytes) {
        Ok(format @ (ImageFormat::Png | ImageFormat::Jpeg)) => format,
        _ if bytes.is_empty() => return Err(ImageProblem::Truncated),
        _ => return Err(ImageProblem::NotAnImage),
    };
    if format == ImageFormat::Jpeg && is_cut_jpeg(bytes) {
        return Err(ImageProblem::Truncated);
    }
    let reader = ImageReader::with_format(Cursor::new(bytes), format);
    let gray = reader.decode().map_err(problem)?.into_luma8();
    let side = u32::from(side);
    if gray.dimensions() == (side, side) {
        return Ok(gray.into_raw());
    }
    Ok(image::imageops::resize(&gray, side, side, FilterType::Triangle).into_raw())
}

fn problem(error: ImageError) -> ImageProblem {
    match error {
        ImageError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => {
            ImageProblem::Truncated
        }
        error => ImageProblem::Decode(error),
    }
}

/// Whether a JPEG file lacks its end marker after the last scan: the decoder would fill up the rest with gray.
fn is_cut_jpeg(bytes: &[u8]) -> bool {
    const START_OF_SCAN: [u8; 2] = [0xff, 0xda];
    const END_OF_IMAGE: [u8; 2] = [0xff, 0xd9];
    let last = |marker: [u8; 2]| bytes.windows(2).rposition(|pair| pair == marker);
    last(END_OF_IMAGE) < last(START_OF_SCAN).or(Some(0))
}

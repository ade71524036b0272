//! Image files to gray pixels, the same way for data sets and for predictions.

use std::io::{Cursor, ErrorKind};
use std::path::Path;

use image::imageops::FilterType;
use image::{DynamicImage, GrayImage, ImageDecoder as _, ImageError, ImageFormat, ImageReader};

/// Pixels of the largest image that is decoded. A small file can claim more, and takes seconds and, as a
/// progressive JPEG, up to 12 bytes for each.
const LARGEST_IMAGE: u64 = 64_000_000;

/// The formats that are read.
const FORMATS: [ImageFormat; 5] = [
    ImageFormat::Png,
    ImageFormat::Jpeg,
    ImageFormat::WebP,
    ImageFormat::Bmp,
    ImageFormat::Gif,
];

/// How the names of image files end.
const ENDINGS: [&str; 6] = ["png", "jpg", "jpeg", "webp", "bmp", "gif"];

/// What file managers and archives leave beside the files, in lower case.
const CLUTTER: [&str; 4] = ["thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx"];

/// What is wrong with an image file.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// Its content is of another kind.
    #[error("not a PNG, JPEG, WebP, BMP or GIF image")]
    NotAnImage,
    /// It ends too early.
    #[error("the image is truncated")]
    Truncated,
    /// It says that it is very large.
    #[error("the image has more than {} megapixels; make it smaller", LARGEST_IMAGE / 1_000_000)]
    TooLarge,
    /// The decoder rejects it.
    #[error("the image cannot be decoded ({0})")]
    Decode(ImageError),
}

/// A gray image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture(GrayImage);

impl Picture {
    /// Decodes PNG, JPEG, WebP, BMP or GIF, told apart by their content, and makes colours gray (luma, Rec.
    /// 709). Of a moving picture it is the first frame.
    ///
    /// # Errors
    /// Another format, or a damaged file.
    pub fn decode(bytes: &[u8]) -> Result<Self, PictureError> {
        let format = match image::guess_format(bytes) {
            Ok(format) if FORMATS.contains(&format) => format,
            _ if bytes.is_empty() => return Err(PictureError::Truncated),
            _ => return Err(PictureError::NotAnImage),
        };
        if format == ImageFormat::Jpeg && is_cut_jpeg(bytes) {
            return Err(PictureError::Truncated);
        }
        let failed = |error| match error {
            ImageError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => {
                PictureError::Truncated
            }
            ImageError::Limits(_) => PictureError::TooLarge,
            error => PictureError::Decode(error),
        };
        let reader = ImageReader::with_format(Cursor::new(bytes), format);
        let decoder = reader.into_decoder().map_err(failed)?;
        let (width, height) = decoder.dimensions();
        if u64::from(width) * u64::from(height) > LARGEST_IMAGE {
            return Err(PictureError::TooLarge);
        }
        let image = DynamicImage::from_decoder(decoder).map_err(failed)?;
        Ok(Self(image.into_luma8()))
    }

    /// Height and width in pixels.
    #[must_use]
    pub fn size(&self) -> [usize; 2] {
        [self.0.height() as usize, self.0.width() as usize]
    }

    /// The pixels, row by row.
    #[must_use]
    pub fn pixels(&self) -> &[u8] {
        &self.0
    }

    /// The picture in the size of a data set's images: linear interpolation, antialiased, without regard to
    /// the aspect ratio. A picture that has that size stays as it is.
    #[must_use]
    pub fn resized(self, height: u16, width: u16) -> Self {
        let (width, height) = (u32::from(width), u32::from(height));
        if self.0.dimensions() == (width, height) {
            return self;
        }
        Self(image::imageops::resize(
            &self.0,
            width,
            height,
            FilterType::Triangle,
        ))
    }
}

/// Whether a file's name is that of an image that [`Picture::decode`] may read.
#[must_use]
pub fn has_image_name(path: &Path) -> bool {
    let extension = path
        .extension()
        .and_then(|extension| extension.to_str())
        .unwrap_or_default();
    ENDINGS
        .iter()
        .any(|known| extension.eq_ignore_ascii_case(known))
}

/// Whether an entry of a folder is none of its owner's: hidden, or left there by a file manager or an archive
/// (`Thumbs.db`, `desktop.ini`, `.DS_Store`, `__MACOSX`).
#[must_use]
pub fn is_clutter(name: &str) -> bool {
    name.starts_with('.') || CLUTTER.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// Whether a JPEG file lacks its end marker after the last scan. The decoder would fill the rest with gray.
fn is_cut_jpeg(bytes: &[u8]) -> bool {
    const START_OF_SCAN: [u8; 2] = [0xff, 0xda];
    const END_OF_IMAGE: [u8; 2] = [0xff, 0xd9];
    let last = |marker: [u8; 2]| bytes.windows(2).rposition(|pair| pair == marker);
    last(END_OF_IMAGE) < last(START_OF_SCAN).or(Some(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How a format says that an image is so large.
    fn claim(format: ImageFormat, [height, width]: [u16; 2]) -> Vec<u8> {
        let [height, width] = [height, width].map(u32::from);
        match format {
            ImageFormat::Jpeg => [height as u16, width as u16].map(u16::to_be_bytes).concat(),
            ImageFormat::Gif => [width as u16, height as u16].map(u16::to_le_bytes).concat(),
            ImageFormat::Bmp => [width, height].map(u32::to_le_bytes).concat(),
            _ => [width, height].map(u32::to_be_bytes).concat(),
        }
    }

    /// A file that says of itself how large it is.
    fn claiming(format: ImageFormat, size: [u16; 2]) -> Result<Picture, PictureError> {
        let mut file = Cursor::new(Vec::new());
        let image = image::RgbImage::new(16, 16);
        image.write_to(&mut file, format).unwrap();
        let mut bytes = file.into_inner();
        let (found, claimed) = (claim(format, [16, 16]), claim(format, size));
        let at = bytes
            .windows(found.len())
            .position(|window| window == found)
            .unwrap();
        bytes[at..at + claimed.len()].copy_from_slice(&claimed);
        if format == ImageFormat::Png {
            // The sum of 16 bytes behind the magic, the header's length and its kind.
            let sum = crc(&bytes[12..29]);
            bytes[29..33].copy_from_slice(&sum.to_be_bytes());
        }
        Picture::decode(&bytes)
    }

    fn crc(bytes: &[u8]) -> u32 {
        let shift = |sum: u32, _| (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg());
        let next = |sum, byte: &u8| (0..8).fold(sum ^ u32::from(*byte), shift);
        !bytes.iter().fold(u32::MAX, next)
    }

    #[test]
    fn a_small_file_that_claims_a_large_image_is_refused() {
        let [png, jpeg, _, bmp, gif] = FORMATS;
        for format in [png, jpeg, bmp, gif] {
            assert!(claiming(format, [16, 16]).is_ok(), "{format:?}");
            for size in [[9000, 9000], [u16::MAX, u16::MAX]] {
                let refused = claiming(format, size).map(|picture| picture.size());
                assert!(
                    matches!(refused, Err(PictureError::TooLarge)),
                    "{refused:?}"
                );
            }
            let error = claiming(format, [9000, 9000]).unwrap_err().to_string();
            assert_eq!(
                error,
                "the image has more than 64 megapixels; make it smaller"
            );
        }
    }
}

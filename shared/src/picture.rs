//! Image files to gray pixels, the same way for data sets and for predictions.

use std::io::{Cursor, ErrorKind};

use image::imageops::FilterType;
use image::{GrayImage, ImageError, ImageFormat, ImageReader};

/// What is wrong with an image file.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// Its content is of another kind.
    #[error("not a PNG or JPEG image")]
    NotAnImage,
    /// It ends too early.
    #[error("the image is truncated")]
    Truncated,
    /// The decoder rejects it.
    #[error("the image cannot be decoded ({0})")]
    Decode(ImageError),
}

/// A gray image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture(GrayImage);

impl Picture {
    /// Decodes PNG or JPEG, told apart by their content, and makes colours gray (luma, Rec. 709).
    ///
    /// # Errors
    /// Another format, or a damaged file.
    pub fn decode(bytes: &[u8]) -> Result<Self, PictureError> {
        let format = match image::guess_format(bytes) {
            Ok(format @ (ImageFormat::Png | ImageFormat::Jpeg)) => format,
            _ if bytes.is_empty() => return Err(PictureError::Truncated),
            _ => return Err(PictureError::NotAnImage),
        };
        if format == ImageFormat::Jpeg && is_cut_jpeg(bytes) {
            return Err(PictureError::Truncated);
        }
        let reader = ImageReader::with_format(Cursor::new(bytes), format);
        let image = reader.decode().map_err(|error| match error {
            ImageError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => {
                PictureError::Truncated
            }
            error => PictureError::Decode(error),
        })?;
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

/// Whether a JPEG file lacks its end marker after the last scan. The decoder would fill the rest with gray.
fn is_cut_jpeg(bytes: &[u8]) -> bool {
    const START_OF_SCAN: [u8; 2] = [0xff, 0xda];
    const END_OF_IMAGE: [u8; 2] = [0xff, 0xd9];
    let last = |marker: [u8; 2]| bytes.windows(2).rposition(|pair| pair == marker);
    last(END_OF_IMAGE) < last(START_OF_SCAN).or(Some(0))
}

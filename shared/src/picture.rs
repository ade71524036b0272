//! Image files to pixels, gray or in colour, the same way for data sets and for predictions.

use std::io::{Cursor, ErrorKind};
use std::path::Path;

use image::imageops::{self, FilterType};
use image::{
    DynamicImage, GrayImage, ImageDecoder as _, ImageError, ImageFormat, ImageReader, RgbImage,
};

use crate::dataset::{Channels, ImageShape};

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

/// An image, gray or in colour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Picture {
    /// One value a pixel.
    Gray(GrayImage),
    /// Red, green and blue.
    Rgb(RgbImage),
}

impl Picture {
    /// Decodes PNG, JPEG, WebP, BMP or GIF, told apart by their content, to these channels: colours become
    /// gray by their luma (Rec. 709), and of a gray image red, green and blue are equal. Transparency is
    /// left out. Of a moving picture it is the first frame.
    ///
    /// # Errors
    /// Another format, or a damaged file.
    pub fn decode(bytes: &[u8], channels: Channels) -> Result<Self, PictureError> {
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
        Ok(match channels {
            Channels::Gray => Self::Gray(image.into_luma8()),
            Channels::Rgb => Self::Rgb(image.into_rgb8()),
        })
    }

    /// Height, width and channels.
    #[must_use]
    pub fn shape(&self) -> ImageShape {
        let ((width, height), channels) = match self {
            Self::Gray(image) => (image.dimensions(), Channels::Gray),
            Self::Rgb(image) => (image.dimensions(), Channels::Rgb),
        };
        ImageShape {
            height: height as usize,
            width: width as usize,
            channels,
        }
    }

    /// The pixels, `[height, width, channels]`, row-major.
    #[must_use]
    pub fn pixels(&self) -> &[u8] {
        match self {
            Self::Gray(image) => image,
            Self::Rgb(image) => image,
        }
    }

    /// The picture in the size of a data set's images: linear interpolation, antialiased, without regard to
    /// the aspect ratio. A picture that has that size stays as it is.
    #[must_use]
    pub fn resized(self, height: usize, width: usize) -> Self {
        let shape = self.shape();
        if [shape.height, shape.width] == [height, width] {
            return self;
        }
        let [width, height] = [width, height].map(|side| u32::try_from(side).unwrap_or(u32::MAX));
        let filter = FilterType::Triangle;
        match self {
            Self::Gray(image) => Self::Gray(imageops::resize(&image, width, height, filter)),
            Self::Rgb(image) => Self::Rgb(imageops::resize(&image, width, height, filter)),
        }
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
        Picture::decode(&bytes, Channels::Gray)
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
                let refused = claiming(format, size).map(|picture| picture.shape());
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

    /// The first pixel of each channel, and the shape, in both ways to read a file.
    fn read(image: impl Into<DynamicImage>) -> [(ImageShape, Vec<u8>); 2] {
        let mut file = Cursor::new(Vec::new());
        image.into().write_to(&mut file, ImageFormat::Png).unwrap();
        let bytes = file.into_inner();
        [Channels::Gray, Channels::Rgb].map(|channels| {
            let picture = Picture::decode(&bytes, channels).unwrap();
            assert_eq!(picture.pixels().len(), picture.shape().bytes());
            let first = picture.pixels()[..channels.count()].to_vec();
            (picture.shape(), first)
        })
    }

    #[test]
    fn colours_stay_or_become_gray() {
        let rgb = |shape| ImageShape {
            channels: Channels::Rgb,
            ..shape
        };
        let gray = ImageShape::gray([2, 3]);
        let orange = [200, 100, 50];
        // 0.2126 * 200 + 0.7152 * 100 + 0.0722 * 50 is 117.65.
        let expected = [(gray, vec![118]), (rgb(gray), orange.to_vec())];
        assert_eq!(
            read(RgbImage::from_pixel(3, 2, image::Rgb(orange))),
            expected
        );
        let [r, g, b] = orange;
        let glass = image::RgbaImage::from_pixel(3, 2, image::Rgba([r, g, b, 7]));
        assert_eq!(read(glass), expected);
        let expected = [(gray, vec![90]), (rgb(gray), vec![90; 3])];
        assert_eq!(
            read(GrayImage::from_pixel(3, 2, image::Luma([90]))),
            expected
        );
    }

    #[test]
    fn each_channel_is_resized_by_itself() {
        let pixel = |x: u32, y: u32| [(x * 40) as u8, (y * 60) as u8, (x * y * 9) as u8];
        let colour = RgbImage::from_fn(6, 4, |x, y| image::Rgb(pixel(x, y)));
        let Picture::Rgb(small) = Picture::Rgb(colour).resized(3, 2) else {
            panic!("it was in colour");
        };
        for channel in 0..3 {
            let plane = GrayImage::from_fn(6, 4, |x, y| image::Luma([pixel(x, y)[channel]]));
            let expected = Picture::Gray(plane).resized(3, 2);
            let found: Vec<u8> = small.pixels().map(|pixel| pixel.0[channel]).collect();
            assert_eq!(found, expected.pixels(), "channel {channel}");
        }
    }
}

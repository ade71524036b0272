//! CSV files of faces, and images.

use std::fmt::Write as _;
use std::io::Cursor;
use std::path::Path;

use image::{DynamicImage, ImageFormat, ImageReader, RgbaImage};
use quartet_ingest::data::{self, Dealing, Options, Source};
use quartet_mutation::{Format, Kind, survives};
use quartet_shared::dataset::Channels;
use quartet_shared::picture::Picture;

/// Faces of 2x2 pixels, in the three splits.
fn table(header: &str, row: impl Fn(usize, &str, &str) -> String) -> Vec<u8> {
    let mut text = format!("{header}\n");
    for (number, usage) in ["Training", "PublicTest", "PrivateTest"]
        .repeat(14)
        .iter()
        .enumerate()
    {
        let pixels = format!("{number} 0 255 {}", number * 3);
        writeln!(text, "{}", row(number % 7, &pixels, usage)).unwrap();
    }
    text.into_bytes()
}

#[test]
fn csv() {
    let format = Format {
        name: "csv",
        test: "data::csv",
        kind: Kind::Text,
        cases: 1000,
    };
    let valid = || {
        let plain = table("emotion,pixels,Usage", |emotion, pixels, usage| {
            format!("{emotion},{pixels},{usage}")
        });
        let quoted = table("emotion, Usage, pixels", |emotion, pixels, usage| {
            format!("\"{emotion}\",{usage},\"{pixels}\"\r")
        });
        let unsplit = table("\u{feff}emotion,pixels", |emotion, pixels, _| {
            format!("{emotion},{pixels}")
        });
        let words = ["anger", "1.0", "fear", "joy", "4", "surprised", "neutral"];
        let spelt = table("emotion;pixels;Usage", |emotion, pixels, usage| {
            format!("{};{pixels};{usage}", words[emotion])
        });
        vec![plain, quoted, unsplit, spelt]
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("faces.csv");
    survives(&format, valid, |bytes| {
        load(&path, folder.path(), false, bytes)
    });
}

#[test]
fn fer_plus() {
    let format = Format {
        name: "fer_plus",
        test: "data::fer_plus",
        kind: Kind::Text,
        cases: 1000,
    };
    let images = table("emotion,pixels,Usage", |emotion, pixels, usage| {
        format!("{emotion},{pixels},{usage}")
    });
    let valid = || {
        let header = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,\
            unknown,NF";
        let labels = table(header, |_, pixels, usage| {
            let (row, _) = pixels.split_once(' ').unwrap();
            let number: usize = row.parse().unwrap();
            let mut votes = [0; 10];
            // Fourteen rows in each split, of which each class has one or two.
            votes[number / 3 % 8] = 8;
            votes[9] = 2;
            let votes = votes.map(|votes: u8| votes.to_string()).join(",");
            format!("{usage},fer{row}.png,{votes}")
        });
        vec![labels]
    };
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("fer2013.csv"), images).unwrap();
    let path = folder.path().join("fer2013new.csv");
    survives(&format, valid, |bytes| {
        let soft = load(&path, folder.path(), true, bytes);
        load(&path, folder.path(), false, bytes).and(soft)
    });
}

/// Loads a table with these bytes, strictly and not. Errors name a file of `folder`.
fn load(path: &Path, folder: &Path, soft_labels: bool, bytes: &[u8]) -> Result<(), String> {
    std::fs::write(path, bytes).unwrap();
    let dealings = [Dealing::Own, Dealing::All("0.4,0.3,0.3".parse().unwrap())];
    for (skip_bad_rows, dealing) in [true, false].into_iter().zip(dealings.into_iter().rev()) {
        let options = Options {
            skip_bad_rows,
            dealing,
            soft_labels,
            spool: skip_bad_rows,
            ..Options::default()
        };
        match data::load(&Source::Path(path.to_owned()), &options) {
            Ok(loaded) => {
                loaded.dataset.validate().unwrap();
                assert!(skip_bad_rows || loaded.skipped == 0);
            }
            Err(error) => {
                let error = error.to_string();
                assert!(names(&error, folder), "{error}");
                return Err(error);
            }
        }
    }
    Ok(())
}

/// Whether a message names the file and is not longer than a screen.
fn names(error: &str, path: &Path) -> bool {
    error.contains(path.to_str().unwrap()) && error.len() < 4096
}

/// An image with a gradient, noise and some transparency.
fn image(width: u32, height: u32) -> DynamicImage {
    RgbaImage::from_fn(width, height, |x, y| {
        let noise = (x * 7919 + y * 104_729) % 61;
        image::Rgba([
            (x * 5) as u8,
            (y * 5 + noise) as u8,
            noise as u8,
            255 - x as u8,
        ])
    })
    .into()
}

fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn decode(bytes: &[u8]) -> Result<(), String> {
    let mut shapes = Vec::new();
    for channels in [Channels::Gray, Channels::Rgb] {
        let picture = Picture::decode(bytes, channels).map_err(|error| {
            let error = error.to_string();
            assert!(error.len() < 4096, "{error}");
            error
        })?;
        let shape = picture.shape();
        assert_eq!(shape.channels, channels);
        assert_eq!(picture.pixels().len(), shape.bytes());
        assert_eq!(
            picture.resized(48, 40).pixels().len(),
            48 * 40 * channels.count()
        );
        shapes.push([shape.height, shape.width]);
    }
    assert_eq!(shapes[0], shapes[1]);
    Ok(())
}

#[test]
fn png() {
    let format = Format {
        name: "png",
        test: "data::png",
        kind: Kind::Binary,
        cases: 1000,
    };
    let valid = || {
        let image = image(40, 30);
        let kinds = [
            image.clone(),
            image.to_rgb8().into(),
            image.to_luma8().into(),
            image.to_luma16().into(),
            image.to_rgba16().into(),
        ];
        kinds
            .map(|image| encoded(&image, ImageFormat::Png))
            .to_vec()
    };
    survives(&format, valid, |bytes| {
        // Sums that do not fit end the reading early.
        let summed = with_sums(bytes);
        decode(bytes).and(decode(&summed))
    });
}

#[test]
fn jpeg() {
    let format = Format {
        name: "jpeg",
        test: "data::jpeg",
        kind: Kind::Binary,
        cases: 1000,
    };
    let valid = || {
        let image = image(40, 30);
        let kinds = [image.to_rgb8().into(), image.to_luma8().into()];
        kinds
            .map(|image| encoded(&image, ImageFormat::Jpeg))
            .to_vec()
    };
    survives(&format, valid, decode);
}

#[test]
fn webp() {
    let format = Format {
        name: "webp",
        test: "data::webp",
        kind: Kind::Binary,
        cases: 1000,
    };
    let valid = || {
        let image = image(40, 30);
        let kinds = [image.to_rgb8().into(), image];
        kinds
            .map(|image| encoded(&image, ImageFormat::WebP))
            .to_vec()
    };
    survives(&format, valid, decode);
}

#[test]
fn bmp() {
    let format = Format {
        name: "bmp",
        test: "data::bmp",
        kind: Kind::Binary,
        cases: 1000,
    };
    let valid = || {
        let image = image(40, 30);
        let kinds = [image.to_rgb8().into(), image.to_luma8().into(), image];
        kinds
            .map(|image| encoded(&image, ImageFormat::Bmp))
            .to_vec()
    };
    survives(&format, valid, decode);
}

#[test]
fn gif() {
    let format = Format {
        name: "gif",
        test: "data::gif",
        kind: Kind::Binary,
        cases: 1000,
    };
    let valid = || {
        let image = image(40, 30);
        let kinds = [image.to_rgb8().into(), image];
        kinds
            .map(|image| encoded(&image, ImageFormat::Gif))
            .to_vec()
    };
    survives(&format, valid, decode);
}

/// A PNG file with the right checksum of each of its chunks: length, kind, data, checksum.
fn with_sums(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let mut at = 8;
    while let Some(length) = bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        let end = at
            .saturating_add(8)
            .saturating_add(u32::from_be_bytes(*length) as usize);
        let Some(sum) = bytes.get(at + 4..end).map(crc) else {
            break;
        };
        let Some(stored) = bytes.get_mut(end..end + 4) else {
            break;
        };
        stored.copy_from_slice(&sum.to_be_bytes());
        at = end + 4;
    }
    bytes
}

/// CRC-32, bit by bit.
fn crc(bytes: &[u8]) -> u32 {
    let shift = |sum: u32, _| (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg());
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), shift)
    })
}

#[test]
fn checksums_are_those_of_png() {
    let bytes = encoded(&image(9, 9), ImageFormat::Png);
    assert_eq!(with_sums(&bytes), bytes);
    let mut damaged = bytes;
    damaged[18] ^= 1;
    assert_ne!(with_sums(&damaged), damaged);
    assert!(
        ImageReader::new(Cursor::new(damaged))
            .with_guessed_format()
            .unwrap()
            .decode()
            .is_err()
    );
}

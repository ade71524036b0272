use std::fs;
use std::io::Cursor;

use image::{DynamicImage, GrayImage, ImageFormat, Luma, Rgb, RgbImage};
use quartet_shared::dataset::{Dataset, EMOTIONS};
use tempfile::TempDir;

use super::*;
use crate::data::tests::{load_at, load_with};

mod classes;
mod layouts;

fn bytes(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.into().write_to(&mut bytes, format).expect("encodes");
    bytes.into_inner()
}

fn gray_png(side: u32, value: u8) -> Vec<u8> {
    bytes(
        GrayImage::from_pixel(side, side, Luma([value])),
        ImageFormat::Png,
    )
}

fn put(root: &TempDir, path: &str, bytes: &[u8]) {
    let path = root.path().join(path);
    fs::create_dir_all(path.parent().expect("a parent")).expect("created");
    fs::write(path, bytes).expect("written");
}

/// One image a class in each split; its gray tells the place of the class in `classes`.
fn folders(splits: [&str; 3], classes: &[&str]) -> TempDir {
    let root = tempfile::tempdir().expect("temporary directory");
    for split in splits {
        for (number, class) in classes.iter().enumerate() {
            put(
                &root,
                &format!("{split}/{class}/a.png"),
                &gray_png(48, number as u8),
            );
        }
    }
    root
}

fn usual() -> TempDir {
    folders(["train", "valid", "test"], &EMOTIONS)
}

fn error(root: &TempDir) -> String {
    load_at(root.path(), false).expect_err("bad").to_string()
}

#[test]
fn emotions_have_fer2013s_numbers() {
    let loaded = load_at(usual().path(), false).expect("loads");
    assert_eq!(loaded.dataset.classes, EMOTIONS);
    assert_eq!((loaded.skipped, loaded.warnings.len()), (0, 0));
    for split in Split::ALL {
        let images = loaded.dataset.split(split);
        let firsts: Vec<u8> = images.pixels.iter().step_by(48 * 48).copied().collect();
        assert_eq!(firsts, images.labels);
        assert_eq!(loaded.dataset.class_counts(split), [1; 7]);
    }
}

#[test]
fn numbers_and_other_spellings() {
    let plain = load_at(usual().path(), false).expect("loads").dataset;
    let numbers = folders(
        ["Training", "PublicTest", "PrivateTest"],
        &["0", "1", "2", "3", "4", "5", "6"],
    );
    let numbers = load_at(numbers.path(), false).expect("loads").dataset;
    assert_eq!(numbers.class_counts(Split::Train), [1; 7]);
    assert_eq!(numbers.split(Split::Test).labels, [0, 1, 2, 3, 4, 5, 6]);
    let mut upper = EMOTIONS.map(str::to_uppercase);
    upper[3] = "3".into();
    let upper = folders(
        ["training", "val", "testing"],
        &upper.each_ref().map(String::as_str),
    );
    let upper = load_at(upper.path(), false).expect("loads").dataset;
    for split in Split::ALL {
        assert_eq!(upper.class_counts(split), plain.class_counts(split));
    }
}

#[test]
fn other_classes_are_sorted() {
    let root = folders(["train", "valid", "test"], &["dog", "cat", ".hidden"]);
    put(&root, "train/.DS_Store", b"x");
    put(&root, "train/cat/.thumb", b"x");
    let dataset = load_at(root.path(), false).expect("loads").dataset;
    assert_eq!(dataset.classes, ["cat", "dog"]);
    assert_eq!(
        dataset.image(Split::Train, 0).map(|image| image[0]),
        Some(1)
    );
    assert_eq!(dataset.split(Split::Train).labels, [0, 1]);
}

#[test]
fn splits_are_checked() {
    let root = usual();
    fs::rename(root.path().join("valid"), root.path().join("other")).expect("renamed");
    let message = error(&root);
    assert!(message.contains("no folder for the valid split (valid, validation, val, publictest)"));
    assert!(message.contains("--valid-fraction 0.1") && message.contains("--split 0.8,0.1,0.1"));
    fs::create_dir(root.path().join("val")).expect("created");
    assert!(error(&root).contains("the valid split has no image"));
    fs::create_dir(root.path().join("Validation")).expect("created");
    assert!(error(&root).contains("more than one folder for the valid split"));
}

#[test]
fn a_class_missing_in_train_is_an_error_elsewhere_a_warning() {
    let root = usual();
    fs::remove_dir_all(root.path().join("test/fear")).expect("removed");
    let loaded = load_at(root.path(), false).expect("loads");
    assert!(loaded.warnings[0].ends_with("the test split has no image of class fear"));
    fs::remove_file(root.path().join("train/fear/a.png")).expect("removed");
    assert!(error(&root).contains("the train split has no image of class `fear`"));
}

#[test]
fn colours_sizes_and_formats() {
    let root = usual();
    let red = RgbImage::from_pixel(100, 60, Rgb([255, 0, 0]));
    put(
        &root,
        "train/happy/b.JPG",
        &bytes(red.clone(), ImageFormat::Jpeg),
    );
    put(&root, "train/happy/c.png", &bytes(red, ImageFormat::Png));
    put(&root, "train/happy/d.jpeg", &gray_png(10, 77));
    let dataset = load_at(root.path(), false).expect("loads").dataset;
    let happy = |n: usize| dataset.image(Split::Train, 3 + n).expect("an image");
    assert_eq!(dataset.class_counts(Split::Train), [1, 1, 1, 4, 1, 1, 1]);
    assert!(
        happy(1)
            .iter()
            .zip(happy(2))
            .all(|(a, b)| a.abs_diff(*b) < 4)
    );
    assert!(happy(2).iter().all(|&luma| luma == happy(2)[0]) && (50..90).contains(&happy(2)[0]));
    assert_eq!(happy(3), [77; 48 * 48]);

    let options = Options {
        size: Some("20".parse().expect("a size")),
        ..Options::default()
    };
    let small = load_with(root.path(), &options).expect("loads").dataset;
    assert_eq!(
        (small.width, small.height, small.image_len()),
        (20, 20, 400)
    );
}

#[test]
fn colours_and_sizes_are_those_asked_for() {
    let root = usual();
    let place = |x: u32, y: u32| Rgb([x as u8, 2 * y as u8, 200 - x as u8]);
    let exact = RgbImage::from_fn(70, 60, place);
    put(
        &root,
        "train/happy/b.png",
        &bytes(exact.clone(), ImageFormat::Png),
    );
    let red = RgbImage::from_pixel(100, 100, Rgb([255, 0, 0]));
    put(&root, "train/happy/c.png", &bytes(red, ImageFormat::Png));
    let options = Options {
        size: Some("70x60".parse().expect("a size")),
        channels: Channels::Rgb,
        ..Options::default()
    };
    let dataset = load_with(root.path(), &options).expect("loads").dataset;
    assert_eq!(dataset.shape().to_string(), "70x60 rgb");
    assert_eq!(dataset.class_counts(Split::Train), [1, 1, 1, 3, 1, 1, 1]);
    let image = |n: usize| dataset.image(Split::Train, n).expect("an image");
    // An image of the size stays as it is; a gray one has three equal channels; others are stretched.
    assert_eq!(image(4), exact.as_raw());
    assert_eq!(image(3), [3; 70 * 60 * 3]);
    assert_eq!(image(5), [255, 0, 0].repeat(70 * 60));
    assert_eq!(Dataset::decode(&dataset.encode()), Ok(dataset));

    // The same images in gray are those of before, in the first format.
    let gray = load_at(root.path(), false).expect("loads").dataset;
    assert!(gray.encode().starts_with(b"QDS1"));
    let soft = Options {
        soft_labels: true,
        ..Options::default()
    };
    let error = load_with(root.path(), &soft).expect_err("no votes");
    assert!(
        error
            .to_string()
            .contains("--soft-labels is for FER+'s votes")
    );
}

#[test]
fn bad_files_are_errors_or_skipped() {
    let textured = GrayImage::from_fn(48, 48, |x, y| Luma([(x * 37 + y * 91) as u8]));
    let png = bytes(textured.clone(), ImageFormat::Png);
    let jpeg = bytes(textured, ImageFormat::Jpeg);
    let cases: [(&str, &[u8], &str); 7] = [
        ("cut.png", &png[..png.len() / 2], "the image is truncated"),
        ("cut.jpg", &jpeg[..jpeg.len() / 2], "the image is truncated"),
        ("end.jpg", &jpeg[..jpeg.len() - 2], "the image is truncated"),
        ("empty.png", b"", "the image is truncated"),
        (
            "text.png",
            b"hello",
            "not a PNG, JPEG, WebP, BMP or GIF image",
        ),
        (
            "notes.txt",
            b"hello",
            "not a PNG, JPEG, WebP, BMP or GIF image",
        ),
        (
            "nested/a.png",
            &png,
            "not a PNG, JPEG, WebP, BMP or GIF image",
        ),
    ];
    for (name, bytes, problem) in cases {
        let root = usual();
        put(&root, &format!("valid/sad/{name}"), bytes);
        let message = error(&root);
        let path = format!(
            "valid/sad/{}: {problem}; ",
            name.split('/').next().unwrap_or(name)
        );
        assert!(
            message.contains(&path) && message.contains("--skip-bad-rows"),
            "{message}"
        );
        let loaded = load_at(root.path(), true).expect("skips");
        assert_eq!((loaded.skipped, loaded.dataset.len(Split::Valid)), (1, 7));
        assert_eq!(loaded.warnings.len(), 1);
    }
    let root = usual();
    put(&root, "train/readme.txt", b"hello");
    assert!(error(&root).contains("train/readme.txt: a file beside the class folders"));
    let loaded = load_at(root.path(), true).expect("skips");
    assert_eq!((loaded.skipped, loaded.dataset.len(Split::Train)), (1, 7));
    let mut trailing = jpeg.clone();
    trailing.extend_from_slice(b"\0\0\0camera");
    assert!(Picture::decode(&trailing, Channels::Gray).is_ok());
}

use super::*;
use crate::data::tests::{split, valid_fraction};

/// What each split has: label and gray of its images, sorted.
fn pairs(loaded: &Loaded) -> [Vec<(u8, u8)>; 3] {
    Split::ALL.map(|split| {
        let images = loaded.dataset.split(split);
        let grays = images.pixels.chunks(48 * 48).map(|image| {
            assert!(image.iter().all(|gray| *gray == image[0]), "one gray");
            image[0]
        });
        let mut pairs: Vec<_> = images.labels.iter().copied().zip(grays).collect();
        pairs.sort_unstable();
        pairs
    })
}

/// FER2013 as Kaggle has it: two folders, and the test images' names say which split they are of.
fn kaggle() -> TempDir {
    let root = tempfile::tempdir().expect("temporary directory");
    for (number, class) in (0..).zip(EMOTIONS) {
        for (path, gray) in [
            (format!("train/{class}/Training_1.png"), number),
            (format!("test/{class}/PublicTest_2.png"), 100 + number),
            (format!("test/{class}/PrivateTest_3.png"), 200 + number),
        ] {
            put(&root, &path, &gray_png(48, gray));
        }
    }
    root
}

/// Ten images of each of two classes, under `folder`; the gray tells class and number.
fn twenty(root: &TempDir, folder: &str) {
    for (class, base) in [("cat", 0), ("dog", 100)] {
        for number in 0..10 {
            let path = format!("{folder}/{class}/{number}.png");
            put(root, &path, &gray_png(48, base + number));
        }
    }
}

#[test]
fn kaggles_fer2013_has_both_splits_in_one_folder() {
    let loaded = load_at(kaggle().path(), false).expect("loads");
    assert_eq!((loaded.warnings.len(), loaded.skipped), (0, 0));
    let expected = [0, 100, 200].map(|base| (0..7).map(|n| (n, base + n)).collect::<Vec<_>>());
    assert_eq!(pairs(&loaded), expected);
    // With the flag, its test folder is the test split.
    let root = kaggle();
    let error = load_with(root.path(), &valid_fraction("0.5")).expect_err("one image a class");
    assert!(
        error.to_string().contains("the valid split has no image"),
        "{error}"
    );
    for (number, class) in (0..).zip(EMOTIONS) {
        put(
            &root,
            &format!("train/{class}/Training_4.png"),
            &gray_png(48, 50 + number),
        );
    }
    let [train, valid, test] =
        pairs(&load_with(root.path(), &valid_fraction("0.5")).expect("loads"));
    // The SHA-256 of `Training_4.png` is the lower one.
    assert_eq!(train, (0..7).map(|n| (n, n)).collect::<Vec<_>>());
    assert_eq!(valid, (0..7).map(|n| (n, 50 + n)).collect::<Vec<_>>());
    let both = (0..7).flat_map(|n| [(n, 100 + n), (n, 200 + n)]);
    assert_eq!(test, both.collect::<Vec<_>>());
}

#[test]
fn a_test_folder_with_other_names_is_one_split() {
    let root = kaggle();
    put(&root, "test/happy/me.png", &gray_png(48, 0));
    assert!(error(&root).contains("no folder for the valid split"));
    let root = folders(["train", "other", "test"], &EMOTIONS);
    assert!(error(&root).contains("--valid-fraction 0.1 takes a part of the training images"));
}

#[test]
fn a_validation_split_is_made_of_training_images() {
    let root = tempfile::tempdir().expect("temporary directory");
    twenty(&root, "train");
    twenty(&root, "test");
    let loaded = load_with(root.path(), &valid_fraction("0.2")).expect("loads");
    assert_eq!((loaded.warnings.len(), loaded.skipped), (0, 0));
    // By Python: sorted(range(10), key=lambda n: sha256(f"{n}.png".encode()).digest())[:2]
    let chosen = [6, 0];
    let [train, valid, test] = pairs(&loaded);
    let all: Vec<(u8, u8)> = [(0, 0), (1, 100)]
        .into_iter()
        .flat_map(|(label, base)| (0..10).map(move |n| (label, base + n)))
        .collect();
    assert_eq!(test, all);
    let is_chosen = |(_, gray): &&(u8, u8)| chosen.contains(&(gray % 100));
    let (expected, rest): (Vec<_>, Vec<_>) = all.iter().partition(is_chosen);
    assert_eq!((valid, train), (expected, rest));

    let root = usual();
    let loaded = load_with(root.path(), &valid_fraction("0.2")).expect_err("it has one");
    let message = loaded.to_string();
    assert!(
        message.contains("this has one of 7 images; leave it out"),
        "{message}"
    );
}

#[test]
fn class_folders_alone_are_dealt() {
    let root = tempfile::tempdir().expect("temporary directory");
    twenty(&root, ".");
    put(&root, "readme.txt", b"hello");
    let message = error(&root);
    assert!(
        message.ends_with(
            "class folders (cat, dog) but no folders train, valid and test; --split 0.8,0.1,0.1 deals the \
             images to three splits"
        ),
        "{message}"
    );
    let options = split("0.6,0.2,0.2");
    let loaded = load_with(root.path(), &options).expect("loads");
    assert_eq!(loaded.dataset.classes, ["cat", "dog"]);
    let found = pairs(&loaded);
    assert_eq!(found.each_ref().map(Vec::len), [12, 4, 4]);
    let mut all: Vec<_> = found.concat();
    all.sort_unstable();
    let whole = [(0, 0), (1, 100)];
    let whole = whole.map(|(label, base)| (0..10).map(move |n| (label, base + n)));
    assert!(all.into_iter().eq(whole.into_iter().flatten()));
    // The same images in the folders of splits are dealt to the same splits.
    let moved = tempfile::tempdir().expect("temporary directory");
    twenty(&moved, "train");
    fs::create_dir_all(moved.path().join("test/dog")).expect("created");
    let (from, to) = ("train/dog/3.png", "test/dog/3.png");
    fs::rename(moved.path().join(from), moved.path().join(to)).expect("moved");
    let dealt = load_with(moved.path(), &options).expect("loads");
    assert_eq!(pairs(&dealt), found);
    put(&root, "stray.png", &gray_png(48, 1));
    let stray = load_with(root.path(), &options)
        .expect_err("stray")
        .to_string();
    assert!(
        stray.contains("stray.png: a file beside the class folders"),
        "{stray}"
    );
}

#[test]
fn without_a_test_split_there_is_a_warning() {
    let root = folders(["train", "validation", "other"], &EMOTIONS);
    let loaded = load_at(root.path(), false).expect("loads");
    assert_eq!(loaded.dataset.len(Split::Test), 0);
    assert_eq!(
        pairs(&loaded)[1],
        (0..7).map(|n| (n, n)).collect::<Vec<_>>()
    );
    assert_eq!(loaded.warnings.len(), 1);
    assert!(
        loaded.warnings[0].contains("no test split; the evaluation will be that of the validation")
    );
    let bytes = loaded.dataset.encode();
    assert_eq!(
        quartet_shared::dataset::Dataset::decode(&bytes),
        Ok(loaded.dataset)
    );
    // A test folder without images is a mistake.
    fs::create_dir(root.path().join("test")).expect("created");
    assert!(error(&root).contains("the test split has no image"));
    let root = folders(["valid", "test", "other"], &EMOTIONS);
    assert!(error(&root).contains("no folder for the train split (train, training)"));
}

#[test]
fn an_archives_own_folders_are_looked_into() {
    let root = tempfile::tempdir().expect("temporary directory");
    // As a copy of FER2013 has it: the images twice, one folder deeper than expected.
    for folder in ["images", "images/images"] {
        twenty(&root, &format!("{folder}/train"));
        twenty(&root, &format!("{folder}/validation"));
    }
    put(&root, "labels.csv", b"image,label\n");
    put(&root, "__MACOSX/images/._a.png", b"");
    let loaded = load_at(root.path(), false).expect("loads");
    assert_eq!(pairs(&loaded).map(|split| split.len()), [20, 20, 0]);
    let deep = tempfile::tempdir().expect("temporary directory");
    twenty(&deep, "a/b/c/train");
    twenty(&deep, "a/b/c/valid");
    assert!(load_at(deep.path(), false).is_ok());
    let deeper = tempfile::tempdir().expect("temporary directory");
    twenty(&deeper, "a/b/c/d/train");
    twenty(&deeper, "a/b/c/d/valid");
    assert!(error(&deeper).ends_with("(for --split); it has a"));
}

#[test]
fn what_file_managers_leave_is_passed_over() {
    let root = usual();
    for clutter in [
        "Thumbs.db",
        "desktop.ini",
        ".DS_Store",
        "ehthumbs.db",
        "._a.png",
    ] {
        for folder in [".", "train", "test/sad"] {
            put(&root, &format!("{folder}/{clutter}"), b"x");
        }
    }
    put(&root, "__MACOSX/train/._a.png", b"x");
    put(&root, "train/__MACOSX/._a.png", b"x");
    let plain = load_at(usual().path(), false).expect("loads");
    assert_eq!(load_at(root.path(), false).expect("loads"), plain);
}

#[test]
fn a_directory_that_is_not_understood() {
    let root = tempfile::tempdir().expect("temporary directory");
    put(&root, "a/b/c.png", &gray_png(48, 0));
    put(&root, "d/b/c.png", &gray_png(48, 0));
    put(&root, "labels.csv", b"image,label\n");
    let message = error(&root);
    assert!(
        message.ends_with(
            "neither a known CSV file (fer2013.csv, icml_face_data.csv, train.csv) nor folders train, valid \
             and test in this directory, nor a folder of images for each class (for --split); it has a, d, \
             labels.csv"
        ),
        "{message}"
    );
}

#[test]
fn other_formats_have_the_pixels_that_were_written() {
    let gray = GrayImage::from_fn(48, 48, |x, y| Luma([(x * 5 + y) as u8]));
    let rgb = DynamicImage::from(gray.clone()).to_rgb8();
    let root = usual();
    let rgba = DynamicImage::from(rgb.clone()).to_rgba8();
    put(
        &root,
        "train/happy/b.bmp",
        &bytes(rgb.clone(), ImageFormat::Bmp),
    );
    put(&root, "train/happy/c.WEBP", &bytes(rgb, ImageFormat::WebP));
    put(&root, "train/happy/d.gif", &moving(&rgba));
    let dataset = load_at(root.path(), false).expect("loads").dataset;
    for image in 4..7 {
        assert_eq!(
            dataset.image(Split::Train, image),
            Some(&gray.as_raw()[..]),
            "{image}"
        );
    }
}

/// A GIF with this frame and a black one.
fn moving(first: &image::RgbaImage) -> Vec<u8> {
    use image::codecs::gif::GifEncoder;
    let mut bytes = Vec::new();
    let mut encoder = GifEncoder::new(&mut bytes);
    let black = image::RgbaImage::from_pixel(48, 48, image::Rgba([0, 0, 0, 255]));
    for frame in [first.clone(), black] {
        encoder
            .encode_frame(image::Frame::new(frame))
            .expect("encodes");
    }
    drop(encoder);
    bytes
}

#[test]
fn damaged_files_of_other_formats_are_errors() {
    let textured = RgbImage::from_fn(48, 48, |x, y| {
        Rgb([(x * 37 + y * 91) as u8, x as u8, y as u8])
    });
    for (format, ending) in [
        (ImageFormat::Bmp, "bmp"),
        (ImageFormat::WebP, "webp"),
        (ImageFormat::Gif, "gif"),
    ] {
        let whole = bytes(textured.clone(), format);
        for kept in [whole.len() / 2, 20, whole.len() - 10] {
            let root = usual();
            put(&root, &format!("train/sad/b.{ending}"), &whole[..kept]);
            let message = error(&root);
            let named = format!("train/sad/b.{ending}: the image ");
            assert!(message.contains(&named), "{kept}: {message}");
        }
    }
}

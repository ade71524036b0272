use std::fs;

use quartet_shared::dataset::{Dataset, Split};

use super::*;

/// A row of a small image whose pixels all have one value.
pub(super) fn row(emotion: usize, value: u8, usage: &str) -> String {
    format!(
        "{emotion},{},{usage}\n",
        [value.to_string().as_str(); 4].join(" ")
    )
}

/// `fer2013.csv` of 2x2 images: every class once in each split, the pixels telling split and class.
pub(super) fn small_csv() -> String {
    let mut text = "emotion,pixels,Usage\n".to_owned();
    for (split, usage) in ["Training", "PublicTest", "PrivateTest"]
        .into_iter()
        .enumerate()
    {
        for emotion in 0..7 {
            text += &row(emotion, (split * 100 + emotion) as u8, usage);
        }
    }
    text
}

pub(super) fn load_at(path: &Path, skip_bad_rows: bool) -> Result<Loaded, DataError> {
    let options = Options {
        skip_bad_rows,
        ..Options::default()
    };
    load_with(path, &options)
}

/// Loads in memory, and verifies that pixels in a file are the same data set.
pub(super) fn load_with(path: &Path, options: &Options) -> Result<Loaded, DataError> {
    let source = Source::Path(path.to_owned());
    let loaded = load(&source, options);
    let spooled = load(&source, &spooled(options));
    match (&loaded, spooled) {
        (Ok(loaded), Ok(spooled)) => assert_same(loaded, &spooled),
        (Err(error), Err(spooled)) => assert_eq!(error.to_string(), spooled.to_string()),
        (_, spooled) => panic!("{spooled:?}"),
    }
    loaded
}

fn spooled(options: &Options) -> Options {
    Options {
        spool: true,
        ..options.clone()
    }
}

fn assert_same(loaded: &Loaded, spooled: &Loaded) {
    for images in &spooled.dataset.splits {
        assert!(images.pixels.is_empty());
    }
    assert!(loaded.dataset.encode() == spooled.dataset.encode());
    assert_eq!(
        (loaded.skipped, &loaded.warnings),
        (spooled.skipped, &spooled.warnings)
    );
}

/// Options that deal all images anew.
pub(super) fn split(shares: &str) -> Options {
    Options {
        dealing: Dealing::All(shares.parse().expect("shares")),
        ..Options::default()
    }
}

/// Options that make a validation split.
pub(super) fn valid_fraction(fraction: &str) -> Options {
    Options {
        dealing: Dealing::Valid(fraction.parse().expect("a fraction")),
        ..Options::default()
    }
}

#[test]
fn directories_prefer_files_with_usage() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let without_usage = small_csv().replace("Usage", "Set");
    fs::write(dir.path().join("train.csv"), without_usage).expect("written");
    let dealt = load_at(dir.path(), false);
    fs::write(dir.path().join("fer2013.csv"), small_csv()).expect("written");
    let loaded = load_at(dir.path(), false).expect("loads");
    assert_eq!(loaded.warnings, [] as [&str; 0]);
    assert_eq!(Split::ALL.map(|split| loaded.dataset.len(split)), [7, 7, 7]);
    assert!(dealt.is_ok_and(|dealt| dealt.warnings[0].contains("train.csv: no `Usage` column")));
}

#[test]
fn loaded_data_sets_encode() {
    let synthetic = SyntheticSpec {
        seed: 3,
        // More than is written at once.
        train: 1400,
        valid: 7,
        test: 7,
    };
    let options = Options {
        synthetic,
        ..Options::default()
    };
    let loaded = load(&Source::Synthetic, &options).expect("drawn");
    let spooled = load(&Source::Synthetic, &spooled(&options)).expect("drawn");
    assert_same(&loaded, &spooled);
    assert_eq!(
        Dataset::decode(&loaded.dataset.encode()),
        Ok(loaded.dataset)
    );
}

#[test]
fn a_missing_path_says_what_to_give() {
    let error = load_at(Path::new("/nowhere/fer2013.csv"), true).expect_err("missing");
    assert_eq!(
        error.to_string(),
        "/nowhere/fer2013.csv: no such file or directory; give --data a CSV file or a directory of images"
    );
}

#[test]
fn an_empty_directory_says_what_is_expected() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let error = load_at(dir.path(), false).expect_err("empty").to_string();
    assert!(
        error.contains("nor folders train, valid and test"),
        "{error}"
    );
}

#[test]
fn sources_have_names() {
    assert_eq!(Source::Synthetic.to_string(), "synthetic faces");
    assert_eq!(Source::Path("a/b".into()).to_string(), "a/b");
}

#[test]
fn options_are_shown_as_the_flags_that_they_are() {
    assert_eq!(Options::default().to_string(), "");
    let options = Options {
        skip_bad_rows: true,
        dealing: Dealing::All("0.7,0.2,0.1".parse().unwrap()),
        class_names: Some("a,b".parse().unwrap()),
        size: Some("64x32".parse().unwrap()),
        channels: Channels::Rgb,
        soft_labels: true,
        ..Options::default()
    };
    assert_eq!(
        options.to_string(),
        " --split 0.7,0.2,0.1 --class-names a,b --size 64x32 --channels rgb --soft-labels --skip-bad-rows"
    );
    let valid = Options {
        dealing: Dealing::Valid("0.15".parse().unwrap()),
        ..Options::default()
    };
    assert_eq!(valid.to_string(), " --valid-fraction 0.15");
}

//! FER+'s labels.

use super::*;
use crate::data::csv::fer_plus::{Vote, majority};
use crate::data::tests::split;
use quartet_shared::dataset::{Channels, Dataset, Images};

const HEADER: &str =
    "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF";

/// A folder with `small_csv` as `fer2013.csv`, and these rows of labels.
fn folder(rows: &[String]) -> TempDir {
    let dir = tempfile::tempdir().expect("temporary directory");
    fs::write(dir.path().join("fer2013.csv"), images()).expect("written");
    let text = format!("{HEADER}\n{}\n", rows.join("\n"));
    fs::write(dir.path().join("fer2013new.csv"), text).expect("written");
    dir
}

/// Nine images of each split; the pixels tell which.
fn images() -> String {
    let usages = ["Training", "PublicTest", "PrivateTest"];
    let rows = (0..27).map(|image| row(0, image as u8, usages[image / 9]));
    format!("emotion,pixels,Usage\n{}", rows.collect::<String>())
}

/// Labels for them: in each split one image of each class, in the order of the columns, and one of none.
fn labels() -> Vec<String> {
    let usages = ["Training", "PublicTest", "PrivateTest"];
    let row = |image: usize| {
        let votes = (0..10).map(|column| if column == image % 9 { "9" } else { "0" });
        let votes = votes.collect::<Vec<_>>().join(",");
        format!("{},fer{image:07}.png,{votes}", usages[image / 9])
    };
    (0..27).map(row).collect()
}

fn load_labels(dir: &TempDir) -> Result<Loaded, DataError> {
    load_at(&dir.path().join("fer2013new.csv"), false)
}

#[test]
fn the_majority_is_the_label() {
    let dir = folder(&labels());
    let loaded = load_labels(&dir).expect("loads");
    let dataset = &loaded.dataset;
    assert_eq!(dataset.classes[..7], EMOTIONS);
    assert_eq!(dataset.classes[7..], ["contempt"]);
    // Neutral, happiness, surprise, sadness, anger, disgust, fear, contempt in FER2013's numbers.
    for (base, split) in [0, 9, 18].into_iter().zip(Split::ALL) {
        assert_eq!(dataset.split(split).labels, [6, 3, 5, 4, 0, 1, 2, 7]);
        let pixels: Vec<u8> = (base..base + 8).flat_map(|image| [image; 4]).collect();
        assert_eq!(dataset.split(split).pixels, pixels);
    }
    assert_eq!(loaded.skipped, 0);
    assert!(loaded.warnings[0].ends_with(
        "fer2013new.csv: majority votes as labels; left out 3 images without a majority for one class, and 0 \
         without a face"
    ));
    let dealt = load_with(&dir.path().join("fer2013new.csv"), &split("0.4,0.3,0.3"));
    assert_eq!(counts(&dealt.expect("loads")), [8; 3]);
}

#[test]
fn votes_are_counted_as_fer_plus_does() {
    // In the order of FER2013, then contempt, unknown and no face.
    for (votes, expected) in [
        ([5, 0, 0, 5, 0, 0, 0, 0, 0, 0], Vote::Unknown),
        ([4, 0, 0, 3, 0, 0, 0, 0, 3, 0], Vote::Unknown),
        ([5, 1, 1, 2, 0, 0, 0, 0, 1, 0], Vote::Class(0)),
        ([0, 0, 0, 2, 1, 1, 1, 1, 1, 1], Vote::Class(3)),
        ([0, 0, 0, 0, 0, 0, 4, 6, 0, 0], Vote::Class(7)),
        ([0, 0, 0, 0, 0, 0, 4, 0, 6, 0], Vote::Unknown),
        ([0, 0, 0, 0, 0, 0, 2, 0, 0, 8], Vote::NoFace),
        ([1, 1, 1, 1, 1, 1, 1, 1, 1, 1], Vote::Unknown),
        ([0; 10], Vote::Unknown),
        (
            [usize::MAX, usize::MAX, 0, 0, 0, 0, 0, 0, 0, 0],
            Vote::Unknown,
        ),
    ] {
        assert_eq!(majority(votes), expected, "{votes:?}");
    }
    let mut rows = labels();
    rows[8] = "Training,,0,0,0,0,0,0,0,0,0,10".to_owned();
    let loaded = load_labels(&folder(&rows)).expect("loads");
    assert!(
        loaded.warnings[0]
            .ends_with("left out 2 images without a majority for one class, and 1 without a face")
    );
}

#[test]
fn votes_are_soft_labels_if_asked_for() {
    let mut rows = labels();
    // Of neutral, happiness, surprise, sadness, anger, disgust, fear, contempt, unknown, NF.
    rows[0] = "Training,fer0000000.png,6,0,0,2,0,0,0,1,1,0".to_owned();
    let dir = folder(&rows);
    let path = dir.path().join("fer2013new.csv");
    let with = |options: &Options| {
        let options = Options {
            soft_labels: true,
            ..options.clone()
        };
        load_with(&path, &options)
    };
    let loaded = with(&Options::default()).expect("loads");
    assert!(loaded.warnings[0].contains("and the votes of all classes as soft labels; left out 3"));
    let soft = &loaded.dataset;
    let train = soft.split(Split::Train);
    // In FER2013's order, then contempt. Single votes and those for no class do not count.
    assert_eq!(train.votes(0), Some([0, 0, 0, 0, 2, 0, 6, 0].as_slice()));
    assert_eq!(train.votes(1), Some([0, 0, 0, 9, 0, 0, 0, 0].as_slice()));
    assert_eq!(soft.validate(), Ok(()));
    assert!(soft.encode().starts_with(b"QDS2"));

    // Images and labels are those of the majority; dealt, each image has its own votes.
    let hard = load_labels(&dir).expect("loads").dataset;
    assert!(hard.encode().starts_with(b"QDS1"));
    for split in Split::ALL {
        assert_eq!(soft.split(split).labels, hard.split(split).labels);
        assert_eq!(soft.split(split).pixels, hard.split(split).pixels);
    }
    let dealt = with(&split("0.4,0.3,0.3")).expect("loads").dataset;
    assert_eq!(dealt.validate(), Ok(()));
    let votes_of = |dataset: &Dataset, image: u8| {
        let of_split = |split: &Images| {
            let found = split.pixels.chunks(4).position(|pixels| pixels[0] == image);
            found.and_then(|index| split.votes(index).map(<[u8]>::to_vec))
        };
        dataset.splits.iter().find_map(of_split).expect("an image")
    };
    for image in (0..27).filter(|image| image % 9 != 8) {
        assert_eq!(votes_of(&dealt, image), votes_of(soft, image));
    }

    rows[0] = "Training,fer0000000.png,300,0,0,2,0,0,0,1,1,0".to_owned();
    let many = folder(&rows);
    let path = many.path().join("fer2013new.csv");
    assert!(load_at(&path, false).is_ok());
    let options = Options {
        soft_labels: true,
        ..Options::default()
    };
    let error = load_with(&path, &options)
        .expect_err("too many")
        .to_string();
    assert!(
        error.contains("fer2013new.csv:2: 300 votes for neutral; soft labels take at most 255"),
        "{error}"
    );
}

#[test]
fn options_for_other_data_are_refused() {
    let dir = folder(&labels());
    let soft = Options {
        soft_labels: true,
        ..Options::default()
    };
    let sized = Options {
        size: Some("100".parse().expect("a size")),
        ..Options::default()
    };
    let colour = Options {
        channels: Channels::Rgb,
        ..Options::default()
    };
    for (file, options, message) in [
        ("fer2013.csv", &soft, "--soft-labels is for FER+'s votes"),
        (
            "fer2013.csv",
            &sized,
            "--size is for folders of image files",
        ),
        ("fer2013.csv", &colour, "--channels rgb is for folders"),
        ("fer2013new.csv", &colour, "--channels rgb is for folders"),
    ] {
        let error = load_with(&dir.path().join(file), options).expect_err("refused");
        let error = error.to_string();
        assert!(error.contains(message) && error.contains(file), "{error}");
    }
    let error = crate::data::load(&crate::data::Source::Synthetic, &soft).expect_err("refused");
    assert!(
        error
            .to_string()
            .starts_with("synthetic faces: --soft-labels")
    );
}

#[test]
fn a_folder_with_both_files_has_fer2013s_labels() {
    let dir = folder(&labels());
    fs::write(dir.path().join("fer2013.csv"), small_csv()).expect("written");
    let loaded = load_at(dir.path(), false).expect("loads");
    assert_eq!(
        loaded.dataset,
        load_text(small_csv(), false).expect("loads").dataset
    );
    assert!(
        loaded.warnings[0]
            .ends_with("fer2013new.csv: not used; give --data this file for FER+'s labels")
    );
}

#[test]
fn labels_that_do_not_fit_are_explained() {
    let error = |rows: &[String]| load_labels(&folder(rows)).expect_err("bad").to_string();
    let good = labels();
    assert!(error(&good[..26]).contains("fer2013.csv: more rows than the other"));
    let mut rows = good.clone();
    rows.push(good[26].clone());
    assert!(error(&rows).contains("fer2013new.csv: more rows than the other"));
    let mut rows = good.clone();
    rows.swap(0, 10);
    assert!(
        error(&rows)
            .contains("fer2013.csv:2: the usage is not that of the same row of FER+'s labels")
    );
    let mut rows = good.clone();
    rows[3] = rows[3].replace(",9,", ",x,");
    assert!(error(&rows).contains("fer2013new.csv:5: `x` is no number of votes for sadness"));
    let loaded = load_at(&folder(&rows).path().join("fer2013new.csv"), true);
    assert!(
        loaded
            .expect_err("no sad face")
            .to_string()
            .contains("no image of class `sad`")
    );

    let dir = folder(&good);
    fs::remove_file(dir.path().join("fer2013.csv")).expect("removed");
    let error = load_labels(&dir).expect_err("no images").to_string();
    assert!(
        error.ends_with("whose images are in fer2013.csv; put that file beside them"),
        "{error}"
    );
}

use std::fs;

use quartet_shared::dataset::EMOTIONS;
use tempfile::TempDir;

use super::*;
use crate::data::tests::{load_at, load_with, row, small_csv};

mod fer_plus;
mod shapes;

/// Loads one file with this content.
fn load_text(text: impl AsRef<[u8]>, skip: bool) -> Result<Loaded, DataError> {
    let dir = tempfile::tempdir().expect("temporary directory");
    let file = dir.path().join("data.csv");
    fs::write(&file, text).expect("written");
    load_at(&file, skip)
}

/// The error of a good file with a bad row after it, on line 23; also checks that the row can be skipped.
fn bad_row(row: impl AsRef<[u8]>) -> String {
    let text = [small_csv().as_bytes(), row.as_ref(), b"\n"].concat();
    let loaded = load_text(&text, true).expect("skips");
    assert_eq!((loaded.skipped, loaded.dataset.len(Split::Train)), (1, 7));
    assert!(loaded.warnings[0].contains("left 1 bad rows or images out; the first: "));
    let error = load_text(&text, false).expect_err("a bad row").to_string();
    assert!(error.ends_with("; correct the row, or pass --skip-bad-rows to leave such rows out"));
    let (_, problem) = error
        .split_once("data.csv:23: ")
        .expect("names file and line");
    problem.split_once(';').expect("has advice").0.to_owned()
}

fn counts(loaded: &Loaded) -> [usize; 3] {
    Split::ALL.map(|split| loaded.dataset.len(split))
}

#[test]
fn fer2013_csv() {
    let loaded = load_text(small_csv(), false).expect("loads");
    assert_eq!((loaded.skipped, loaded.warnings.len()), (0, 0));
    let dataset = loaded.dataset;
    assert_eq!((dataset.width, dataset.height), (2, 2));
    assert_eq!(dataset.classes, EMOTIONS);
    for (base, split) in [0, 100, 200].into_iter().zip(Split::ALL) {
        assert_eq!(dataset.split(split).labels, [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(dataset.image(split, 3), Some([base + 3; 4].as_slice()));
    }
}

#[test]
fn icml_face_data_csv() {
    let mut text = "emotion, Usage, pixels\n".to_owned();
    for line in small_csv().lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        text += &format!("{},{},{}\n", fields[0], fields[2], fields[1]);
    }
    let plain = load_text(small_csv(), false).expect("loads");
    assert_eq!(load_text(text, false).expect("loads"), plain);
}

#[test]
fn spelling_does_not_matter() {
    let quoted = small_csv().lines().fold(String::new(), |text, line| {
        let fields: Vec<String> = line
            .split(',')
            .map(|field| format!("\"{field}\""))
            .collect();
        text + &fields.join(", ") + "\r\n\r\n"
    });
    let text = format!(
        "\u{feff}{}",
        quoted
            .replace("Usage", " USAGE ")
            .replace("emotion", "Emotion")
    );
    let plain = load_text(small_csv(), false).expect("loads");
    assert_eq!(load_text(text, false).expect("loads"), plain);
    let no_end = small_csv().trim_end().to_owned();
    assert_eq!(load_text(no_end, false).expect("loads"), plain);
}

#[test]
fn bad_rows_are_explained() {
    assert_eq!(
        bad_row("0,1 2 3,Training"),
        "3 pixels where the rows before have 4"
    );
    assert_eq!(
        bad_row("0,1 2 256 4,Training"),
        "pixel 3 is `256`, not a whole number from 0 to 255"
    );
    assert_eq!(
        bad_row("0,1 -2 3 4,Training"),
        "pixel 2 is `-2`, not a whole number from 0 to 255"
    );
    assert_eq!(
        bad_row("0,1 2 3 4.5,Training"),
        "pixel 4 is `4.5`, not a whole number from 0 to 255"
    );
    let huge = "0,99999999999999999999999 2 3 4,Training";
    assert_eq!(
        bad_row(huge),
        "pixel 1 is `99999999999999999999999`, not a whole number from 0 to 255"
    );
    assert_eq!(
        bad_row("9,1 2 3 4,Training"),
        "emotion `9` is neither a number from 0 to 6 nor one of angry, disgust, fear, happy, sad, surprise, \
         neutral"
    );
    assert_eq!(
        bad_row(",1 2 3 4,Training"),
        "emotion `` is neither a number from 0 to 6 nor one of angry, disgust, fear, happy, sad, surprise, \
         neutral"
    );
    assert_eq!(
        bad_row("0,1 2 3 4,Trainig"),
        "usage `Trainig` is not Training, PublicTest or PrivateTest"
    );
    assert_eq!(bad_row("0,1 2 3 4"), "2 fields where the header has 3");
    assert_eq!(
        bad_row(b"0,1 2 \xff 4,Training"),
        "`pixels` is not UTF-8 text"
    );
    assert_eq!(
        bad_row(b"\xff,1 2 3 4,Training"),
        "`emotion` is not UTF-8 text"
    );
    assert_eq!(
        bad_row("0,,Training"),
        "0 pixels where the rows before have 4"
    );
}

#[test]
fn lines_are_counted_as_editors_do() {
    let text = small_csv().replace('\n', "\r\n\r\n") + "0,1,Training";
    let error = load_text(text, false).expect_err("a bad row").to_string();
    assert!(error.contains("data.csv:45: 1 pixels"), "{error}");
}

#[test]
fn the_first_row_must_be_square() {
    let text = small_csv().replacen("0 0 0 0", &"7 ".repeat(2303), 1);
    let error = load_text(text, false).expect_err("not square").to_string();
    assert!(
        error.contains("data.csv:2: 2303 pixels are not a square image"),
        "{error}"
    );
}

#[test]
fn endless_lines_are_not_kept() {
    let text = small_csv() + "0," + &"1 ".repeat(lines::LIMIT / 2) + "\n" + &row(0, 5, "Training");
    let error = load_text(&text, false).expect_err("too long").to_string();
    assert!(
        error.contains("data.csv:23: the line is longer than"),
        "{error}"
    );
    assert_eq!(counts(&load_text(&text, true).expect("skips")), [8, 7, 7]);
}

#[test]
fn bad_files_are_explained() {
    let error = |text: &[u8]| {
        let error = load_text(text, true).expect_err("bad").to_string();
        error
            .split_once("data.csv")
            .expect("names the file")
            .1
            .to_owned()
    };
    assert!(error(b"").starts_with(":1: the file is empty; expected a header"));
    assert!(error(b"\xff\xff").starts_with(":1: the file is not UTF-8 text"));
    for utf16 in [
        &b"\xff\xfee\0m\0"[..],
        b"\xfe\xff\0e\0m",
        b"e\0m\0",
        b"\0e\0m",
    ] {
        assert!(error(utf16).starts_with(":1: the file is UTF-16 text; save it as UTF-8"));
    }
    for archive in [&b"PK\x03\x04\x14\0\0\0"[..], b"\x1f\x8b\x08\0\0\0"] {
        assert!(error(archive).starts_with(":1: the file is an archive; unpack it"));
    }
    let missing = ":1: no column `emotion` in the header, which has: pixels, Usage";
    assert_eq!(error(b"pixels,Usage\n1 2 3 4,Training\n"), missing);
    assert!(
        error(b"label;pixels\n")
            .ends_with("no column `emotion` in the header, which has: label, pixels")
    );
    let empty = ": the train split has no image; every split needs at least one";
    assert_eq!(error(b"emotion,pixels,Usage\n"), empty);
}

#[test]
fn missing_classes_and_splits() {
    let without = |usage: &str, emotion: usize| {
        let keep = |line: &&str| !(line.ends_with(usage) && line.starts_with(&emotion.to_string()));
        small_csv()
            .lines()
            .filter(keep)
            .map(|line| format!("{line}\n"))
            .collect::<String>()
    };
    let error = load_text(without("Training", 1), true)
        .expect_err("missing")
        .to_string();
    assert!(
        error.contains("the train split has no image of class `disgust`"),
        "{error}"
    );
    let loaded = load_text(without("PublicTest", 6), false).expect("loads");
    assert!(loaded.warnings[0].ends_with("the valid split has no image of class neutral"));
    let only_bad = small_csv().replace("PrivateTest", "Private");
    let error = load_text(only_bad, true).expect_err("empty").to_string();
    assert!(error.contains("the test split has no image"), "{error}");
    assert!(
        error.ends_with("(7 bad rows or images were left out by --skip-bad-rows)"),
        "{error}"
    );
}

/// `train.csv` with 200 rows, and `test.csv` with this content if any.
fn competition(test: Option<&str>) -> (TempDir, Result<Loaded, DataError>) {
    let dir = tempfile::tempdir().expect("temporary directory");
    let rows = (0..200)
        .map(|row| format!("{},{row} 0 0 0\n", row % 7))
        .collect::<String>();
    fs::write(
        dir.path().join("train.csv"),
        format!("emotion,pixels\n{rows}"),
    )
    .expect("written");
    if let Some(test) = test {
        fs::write(dir.path().join("test.csv"), test).expect("written");
    }
    let loaded = load_at(dir.path(), false);
    (dir, loaded)
}

#[test]
fn without_usage_rows_are_dealt_by_their_number() {
    let (dir, loaded) = competition(None);
    let loaded = loaded.expect("loads");
    let [train, valid, test] = counts(&loaded);
    assert_eq!(train + valid + test, 200);
    assert!(
        (10..=30).contains(&valid) && (10..=30).contains(&test),
        "{valid} {test}"
    );
    assert!(loaded.warnings[0].contains("80 % train, 10 % valid and 10 % test"));
    let file = load_at(&dir.path().join("train.csv"), false).expect("loads");
    assert_eq!(file.dataset, loaded.dataset);

    let (_, unscored) = competition(Some("pixels\n1 2 3 4\n"));
    let unscored = unscored.expect("loads");
    assert_eq!(unscored.dataset, loaded.dataset);
    assert!(unscored.warnings[0].contains("test.csv: ignored, because it has no `emotion` column"));
}

#[test]
fn a_test_file_with_labels_is_the_test_split() {
    let (_, without) = competition(None);
    let (_, loaded) = competition(Some("emotion,pixels\n3,1 2 3 4\n"));
    let (without, loaded) = (without.expect("loads"), loaded.expect("loads"));
    assert_eq!(loaded.dataset.split(Split::Test).pixels, [1, 2, 3, 4]);
    assert_eq!(
        loaded.dataset.split(Split::Valid),
        without.dataset.split(Split::Valid)
    );
    assert!(loaded.warnings[0].contains("90 % train and 10 % valid"));
    let (_, sizes) = competition(Some("emotion,pixels\n3,1\n"));
    let error = sizes.expect_err("another size").to_string();
    assert!(
        error.contains("test.csv:2: 1 pixels where the rows before have 4"),
        "{error}"
    );
}

#[test]
fn rows_are_dealt_in_about_the_promised_shares() {
    let mut counts = [0; 3];
    (0..28_709).for_each(|row| counts[deal_row(row) as usize] += 1);
    assert_eq!(counts, [22_971, 2_868, 2_870]);
}

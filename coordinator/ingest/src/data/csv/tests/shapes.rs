//! Other shapes of the same table.

use super::*;
use crate::data::ClassNames;
use crate::data::tests::{split, valid_fraction};

#[test]
fn emotions_may_be_names_or_decimals() {
    let plain = load_text(small_csv(), false).expect("loads");
    let words = [
        "Anger",
        "disgust",
        "FEAR",
        "happiness",
        "sadness",
        "Surprise",
        "neutral",
    ];
    let decimals = ["0.0", "1.0", "2.", "3.00", "4.0", "5.0", "6.0"];
    for spellings in [words, decimals] {
        let text: String = small_csv()
            .lines()
            .map(|line| match line.split_at(1) {
                ("e", _) => format!("{line}\n"),
                (number, rest) => {
                    let number: usize = number.parse().expect("a number");
                    format!("{}{rest}\n", spellings[number])
                }
            })
            .collect();
        assert_eq!(load_text(text, false).expect("loads"), plain);
    }
    for bad in ["0.5", "7.0", "-1.0", "1e0", "unknown"] {
        let problem = bad_row(format!("{bad},1 2 3 4,Training"));
        assert!(problem.starts_with(&format!("emotion `{bad}` is neither")));
    }
}

#[test]
fn contempt_is_the_eighth_class_where_a_row_has_it() {
    let text = small_csv() + "contempt,9 9 9 9,Training\n";
    let dataset = load_text(text, false).expect("loads").dataset;
    assert_eq!(dataset.classes[..7], EMOTIONS);
    assert_eq!(dataset.classes[7..], ["contempt"]);
    assert_eq!(dataset.label(Split::Train, 7), Some(7));
    // A row that is left out makes no class.
    let text = small_csv() + "contempt,9 9 9,Training\n";
    let dataset = load_text(text, true).expect("skips").dataset;
    assert_eq!(dataset.classes, EMOTIONS);
}

#[test]
fn numbers_may_have_other_names() {
    let names = "anger,disgust,fear,happiness,sadness,surprise,neutral,contempt";
    let options = Options {
        class_names: Some(names.parse::<ClassNames>().expect("names")),
        ..Options::default()
    };
    let dir = tempfile::tempdir().expect("temporary directory");
    let file = dir.path().join("ckextended.csv");
    let text = small_csv() + "7,9 9 9 9,Training\nContempt,8 8 8 8,PublicTest\n";
    fs::write(&file, &text).expect("written");
    let dataset = load_with(&file, &options).expect("loads").dataset;
    assert_eq!(dataset.classes[7], "contempt");
    let labels = [Split::Train, Split::Valid].map(|split| dataset.label(split, 7));
    assert_eq!(labels, [Some(7); 2]);
    assert_eq!(dataset.image(Split::Train, 7), Some(&[9; 4][..]));
    fs::write(&file, text + "8,9 9 9 9,Training\n").expect("written");
    let error = load_with(&file, &options)
        .expect_err("no class 8")
        .to_string();
    assert!(
        error.contains("emotion `8` is neither a number from 0 to 7 nor one of angry"),
        "{error}"
    );
}

#[test]
fn semicolons_and_tabs_separate_fields() {
    let plain = load_text(small_csv(), false).expect("loads");
    for separator in [";", "\t", " ; "] {
        let text = small_csv().replace(',', separator);
        assert_eq!(
            load_text(text, false).expect("loads"),
            plain,
            "{separator:?}"
        );
    }
    let quoted = small_csv().replace(',', "\"\t\"").replace('\n', "\"\n\"");
    let quoted = format!("\"{}", quoted.trim_end_matches('"'));
    assert_eq!(load_text(quoted, false).expect("loads"), plain);
    let text = small_csv().replace(',', ";") + "0;;Training\n";
    let error = load_text(text, false).expect_err("no pixels").to_string();
    assert!(
        error.contains("data.csv:23: 0 pixels where the rows before have 4"),
        "{error}"
    );
    let text = small_csv().replace(',', "\t") + "0\t\tTraining\n";
    let error = load_text(text, false).expect_err("no pixels").to_string();
    assert!(
        error.contains("data.csv:23: 0 pixels where the rows before have 4"),
        "{error}"
    );
}

#[test]
fn options_deal_rows() {
    let (dir, _) = competition(None);
    let file = dir.path().join("train.csv");
    let loaded = load_with(&file, &split("0.5,0.25,0.25")).expect("loads");
    assert_eq!(loaded.warnings, [] as [&str; 0]);
    // 200 rows, 28 or 29 of each class, of which 7 go to valid and 7 to test.
    assert_eq!(counts(&loaded), [102, 49, 49]);
    assert_eq!(loaded.dataset.class_counts(Split::Test), [7; 7]);
    // A row's first pixel is its number, its class the remainder of that by seven.
    for split in Split::ALL {
        let images = loaded.dataset.split(split);
        for (label, pixels) in images.labels.iter().zip(images.pixels.chunks(4)) {
            assert_eq!((pixels[0] % 7, &pixels[1..]), (*label, &[0; 3][..]));
        }
    }
    let loaded = load_with(&file, &valid_fraction("0.25")).expect("loads");
    assert_eq!(counts(&loaded), [151, 49, 0]);
    assert!(loaded.warnings[0].contains("no test split"));
    let test = "emotion,pixels\n3,1 2 3 4\n";
    fs::write(dir.path().join("test.csv"), test).expect("written");
    let loaded = load_with(dir.path(), &valid_fraction("0.25")).expect("loads");
    assert_eq!(counts(&loaded), [151, 49, 1]);
    assert_eq!(loaded.dataset.split(Split::Test).pixels, [1, 2, 3, 4]);
    fs::write(&file, small_csv()).expect("written");
    let error = load_with(&file, &valid_fraction("0.1"))
        .expect_err("it has one")
        .to_string();
    assert!(
        error.contains("train.csv: --valid-fraction is for data without"),
        "{error}"
    );
}

#[test]
fn a_usage_column_without_test_rows_is_enough() {
    let text: String = small_csv()
        .lines()
        .filter(|line| !line.ends_with("PrivateTest"))
        .map(|line| format!("{line}\n"))
        .collect();
    let loaded = load_text(text, false).expect("loads");
    assert_eq!(counts(&loaded), [7, 7, 0]);
    assert!(loaded.warnings[0].contains("no test split"));
}

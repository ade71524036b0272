use super::*;
use crate::data::tests::split;

/// Labels of the training images, whose gray tells which folder they come from.
fn grays_and_labels(loaded: &Loaded) -> Vec<(u8, u8)> {
    let train = loaded.dataset.split(Split::Train);
    let grays = train.pixels.iter().step_by(48 * 48).copied();
    grays.zip(train.labels.iter().copied()).collect()
}

fn load_named(root: &TempDir, names: &str) -> Result<Loaded, DataError> {
    let options = Options {
        class_names: Some(names.parse().expect("names")),
        ..Options::default()
    };
    load_with(root.path(), &options)
}

#[test]
fn numbers_1_to_7_are_raf_dbs() {
    let root = folders(
        ["train", "valid", "test"],
        &["1", "2", "3", "4", "5", "6", "7"],
    );
    let loaded = load_at(root.path(), false).expect("loads");
    assert_eq!(loaded.dataset.classes, EMOTIONS);
    // Surprise is folder 1 and FER2013's number 5, and so on.
    let expected = [(0, 5), (1, 2), (2, 1), (3, 3), (4, 4), (5, 0), (6, 6)];
    assert_eq!(grays_and_labels(&loaded), expected);
    assert!(loaded.warnings[0].ends_with(
        "class folders with the numbers of RAF-DB (1 surprise, 2 fear, 3 disgust, 4 happy, 5 sad, 6 angry, \
         7 neutral); --class-names says otherwise"
    ));
}

#[test]
fn numbers_that_the_user_names() {
    let numbers = ["0", "1", "2", "3", "4", "5", "6", "7"];
    let root = folders(["train", "valid", "test"], &numbers);
    assert!(error(&root).contains(
        "the numbers of the class folders (0, 1, 2, 3, 4, 5, 6, 7) are neither FER2013's 0 to 6 nor RAF-DB's \
         1 to 7; name them with --class-names"
    ));
    let affectnet = "neutral,happiness,sadness,surprise,fear,disgust,anger,contempt";
    let loaded = load_named(&root, affectnet).expect("loads");
    assert_eq!(
        loaded.dataset.classes,
        [
            "neutral", "happy", "sad", "surprise", "fear", "disgust", "angry", "contempt"
        ]
    );
    assert!(
        grays_and_labels(&loaded)
            .iter()
            .all(|(gray, label)| gray == label)
    );
    let error = load_named(&root, "a,b").expect_err("too few").to_string();
    assert!(
        error.ends_with("8 class folders (0, 1, 2, 3, 4, 5, 6, 7) and 2 names in --class-names")
    );
    let words = load_named(&usual(), "a,b").expect_err("words").to_string();
    assert!(
        words.contains(
            "--class-names is for class folders with numbers, and these have names: angry"
        )
    );
    // Sorted as numbers, not as words.
    let tens = folders(["train", "valid", "test"], &["9", "10"]);
    let loaded = load_named(&tens, "nine,ten").expect("loads");
    assert_eq!(grays_and_labels(&loaded), [(1, 1), (0, 0)]);
}

#[test]
fn words_for_expressions_have_standard_names() {
    // CK+'s folders: no neutral faces, contempt.
    let ck = [
        "anger",
        "contempt",
        "disgust",
        "fear",
        "happiness",
        "sadness",
        "Surprised",
    ];
    let root = folders(["train", "valid", "test"], &ck);
    let loaded = load_at(root.path(), false).expect("loads");
    assert_eq!(
        loaded.dataset.classes,
        [
            "angry", "disgust", "fear", "happy", "sad", "surprise", "contempt"
        ]
    );
    let expected = [(6, 5), (0, 0), (1, 6), (2, 1), (3, 2), (4, 3), (5, 4)];
    assert_eq!(grays_and_labels(&loaded), expected);
    assert!(loaded.warnings[0].ends_with("no class folder for neutral"));

    // AffectNet's eight, with other words in the other splits.
    let affectnet = [
        "Anger", "Contempt", "disgust", "fear", "happy", "neutral", "sad", "surprise",
    ];
    let root = folders(["Train", "other", "unused"], &affectnet);
    let others = [
        "angry",
        "contempt",
        "Disgusted",
        "fearful",
        "joy",
        "Neutral",
        "sadness",
        "surprise",
    ];
    for (number, class) in others.iter().enumerate() {
        put(
            &root,
            &format!("Test/{class}/a.png"),
            &gray_png(48, number as u8),
        );
        put(
            &root,
            &format!("val/{class}/a.png"),
            &gray_png(48, number as u8),
        );
    }
    let loaded = load_at(root.path(), false).expect("loads");
    assert_eq!(loaded.dataset.classes[..7], EMOTIONS);
    assert_eq!(loaded.dataset.classes[7], "contempt");
    assert_eq!(loaded.warnings, [] as [&str; 0]);
    let by_gray = |split| {
        let images = loaded.dataset.split(split);
        let grays = images.pixels.iter().step_by(48 * 48).copied();
        let mut pairs: Vec<_> = grays.zip(images.labels.iter().copied()).collect();
        pairs.sort_unstable();
        pairs
    };
    let expected = [
        (0, 0),
        (1, 7),
        (2, 1),
        (3, 2),
        (4, 3),
        (5, 6),
        (6, 4),
        (7, 5),
    ];
    assert_eq!(Split::ALL.map(by_gray), [expected; 3]);
}

#[test]
fn other_classes_beside_emotions_are_in_all_splits() {
    let root = folders(["train", "valid", "test"], &["happy", "confused", "sad"]);
    let loaded = load_at(root.path(), false).expect("loads");
    assert_eq!(loaded.dataset.classes, ["happy", "sad", "confused"]);
    assert_eq!(grays_and_labels(&loaded), [(1, 2), (0, 0), (2, 1)]);
    assert!(loaded.warnings[0].ends_with("each a class of its own: confused"));
    put(&root, "train/hapy/a.png", &gray_png(48, 9));
    assert!(error(&root).contains(
        "class folder `hapy` is neither an emotion (angry, disgust, fear, happy, sad, surprise, neutral, \
         contempt), as others are, nor in the valid split, as a class of its own would be"
    ));
}

#[test]
fn class_folders_that_are_not_understood() {
    let names = |classes: &[&str]| error(&folders(["train", "valid", "test"], classes));
    assert!(names(&["8", "9"]).contains("the numbers of the class folders (8, 9) are neither"));
    assert!(names(&["0", "1"]).contains("(0, 1) are neither FER2013's 0 to 6 nor RAF-DB's 1 to 7"));
    assert!(names(&["happy", "7"]).contains("class folder `7` is neither an emotion"));
    assert!(names(&["cat", "0"]).contains("class folder `cat` is neither an emotion"));
    assert!(names(&["cat"]).contains("one class folder (cat); at least 2 are needed"));
    assert!(
        names(&["joy", "happy", "sad"])
            .contains("class folders `happy` and `joy` are both of class happy")
    );
    let many: Vec<String> = (0..257).map(|class| format!("c{class}")).collect();
    let many: Vec<_> = many
        .iter()
        .map(|name| (Split::Train, name.as_str()))
        .collect();
    let problem = Classes::new(&many, None).expect_err("too many");
    assert_eq!(problem, "257 class folders; at most 256 are possible");
    let none = tempfile::tempdir().expect("temporary directory");
    put(&none, "train/a.png", &gray_png(48, 0));
    let found = load_with(none.path(), &split("0.8,0.1,0.1")).expect_err("no classes");
    assert!(
        found
            .to_string()
            .contains("train/a.png: a file beside the class folders")
    );
}

//! Folders as people have them, from the images to the scores.

use std::fs;
use std::path::Path;

use quartet_ingest::data::{self, Options, Source};
use quartet_shared::dataset::Split;
use quartet_shared::report::EvaluationReport;
use quartet_tests::fixtures;
use quartet_tests::job::read_json;
use quartet_tests::processes::{Coordinator, output};
use quartet_tests::programs::command;
use serde_json::Value;

/// CK+'s class folders in the order of their classes. FER2013's neutral faces stand for contempt.
const FOLDERS: [&str; 7] = [
    "anger",
    "disgust",
    "fear",
    "happiness",
    "sadness",
    "surprise",
    "contempt",
];

/// Drawn faces, eight of each class, in class folders without splits.
fn faces(root: &Path) {
    let options = Options {
        synthetic: data::SyntheticSpec {
            train: 56,
            valid: 7,
            test: 7,
            ..data::SyntheticSpec::default()
        },
        ..Options::default()
    };
    let drawn = data::load(&Source::Synthetic, &options).unwrap().dataset;
    for index in 0..drawn.len(Split::Train) {
        let class = usize::from(drawn.label(Split::Train, index).unwrap());
        let folder = root.join(FOLDERS[class]);
        fs::create_dir_all(&folder).unwrap();
        let pixels = drawn.image(Split::Train, index).unwrap().to_vec();
        let face = image::GrayImage::from_raw(48, 48, pixels).unwrap();
        face.save(folder.join(format!("{index}.bmp"))).unwrap();
    }
}

#[test]
fn class_folders_without_splits_are_trained_on_and_scored() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("ck");
    faces(&root);
    let toml = fixtures::experiment(folder.path(), 1);
    let store = folder.path().join("store");
    let start = |split: &str| {
        let mut coordinator = command("coordinator");
        coordinator.args(["--workers", "1", "--listen", "127.0.0.1:0", "--data"]);
        coordinator.arg(&root).arg("--experiment").arg(&toml);
        coordinator
            .args(["--split", split])
            .arg("--store")
            .arg(&store);
        coordinator
    };
    let coordinator = Coordinator::spawn(&mut start("0.75,0.25,0"));
    let mut worker = coordinator.worker("anna", &folder.path().join("cache"));
    let (text, status) = coordinator.finish();
    assert!(status.success(), "{text}");
    assert!(worker.wait().success());

    // There is no test split, and the validation split has a quarter of each class.
    let experiment = store.join("small");
    let report: EvaluationReport = read_json(experiment.join("evaluation.json"));
    report.validate().unwrap();
    assert_eq!(
        report.classes,
        [
            "angry", "disgust", "fear", "happy", "sad", "surprise", "contempt"
        ]
    );
    let [valid] = &report.splits[..] else {
        panic!("one split, not {:?}", report.splits);
    };
    assert_eq!((valid.split, valid.images), (Split::Valid, 14));
    assert!(valid.per_class.iter().all(|class| class.support == 2));
    let table = fs::read_to_string(experiment.join("predictions.csv")).unwrap();
    assert_eq!(table.lines().count(), 15);
    for name in ["report.html", "evaluation.txt"] {
        let text = fs::read_to_string(experiment.join(name)).unwrap();
        assert!(
            text.contains("contempt") && !text.contains("Test:"),
            "{name}"
        );
    }
    let (list, errors, status) = output(command("status").args(["list", "--json"]).arg(&store));
    assert!(status.success(), "{errors}");
    let list: Value = serde_json::from_str(&list).unwrap();
    assert!(
        list.to_string().contains("\"test_accuracy\":null"),
        "{list}"
    );

    // The same words name the folders of images to be scored.
    let (text, errors, status) = output(
        command("worker")
            .args(["predict", "--json", "--labels", "--experiment"])
            .args([&experiment, &root]),
    );
    assert!(status.success(), "{errors}");
    let scores: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(scores["images"], 56);

    // Dealt otherwise, the same images are other data.
    let (_, errors, status) = output(&mut start("0.5,0.25,0.25"));
    assert_eq!(status.code(), Some(2), "{errors}");
    assert!(errors.contains("was begun with other data"), "{errors}");
}

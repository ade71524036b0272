//! Folders as people have them, from the images to the scores.

use std::fs;
use std::path::{Path, PathBuf};

use quartet_ingest::data::{self, Options, Source};
use quartet_shared::dataset::{Channels, Dataset, Split};
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

/// Where the pictures of two classes differ in their colour alone.
fn colours(root: &Path) {
    for (split, count) in [("train", 12), ("valid", 4), ("test", 4)] {
        for class in 0..2 {
            let folder = root.join(split).join(["warm", "cold"][class]);
            fs::create_dir_all(&folder).unwrap();
            for image in 0..count {
                let pixel = |x: u32, y: u32| {
                    let (strong, weak) = (150 + x as u8 + image, 20 + y as u8);
                    image::Rgb([[strong, weak, 9], [9, weak, strong]][class])
                };
                let picture = image::RgbImage::from_fn(40, 32, pixel);
                picture
                    .save(folder.join(format!("{image:02}.png")))
                    .unwrap();
            }
        }
    }
}

/// Trains and evaluates the small experiment with a worker, on data that these arguments name. Returns its
/// folder and the packed data set.
fn trained(folder: &Path, data: &[&str]) -> (PathBuf, Dataset) {
    let toml = fixtures::experiment(folder, 1);
    let store = folder.join("store");
    let mut coordinator = command("coordinator");
    coordinator.args(["--workers", "1", "--listen", "127.0.0.1:0", "--data"]);
    coordinator.args(data).arg("--experiment").arg(&toml);
    coordinator.arg("--store").arg(&store);
    let coordinator = Coordinator::spawn(&mut coordinator);
    let mut worker = coordinator.worker("anna", &folder.join("cache"));
    let (text, status) = coordinator.finish();
    assert!(status.success(), "{text}");
    assert!(worker.wait().success());
    let packed = fs::read_dir(store.join("datasets")).unwrap();
    let packed = packed.map(|entry| entry.unwrap().path()).next().unwrap();
    let dataset = Dataset::decode(&fs::read(packed).unwrap()).unwrap();
    (store.join("small"), dataset)
}

#[test]
fn colours_are_kept_from_the_files_to_the_predictions() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("colours");
    colours(&root);
    let data = [
        root.to_str().unwrap(),
        "--channels",
        "rgb",
        "--size",
        "40x32",
    ];
    let (experiment, dataset) = trained(folder.path(), &data);
    assert_eq!(dataset.shape().to_string(), "40x32 rgb");
    // Cold comes first, by its name.
    let face = root.join("test/cold/03.png");
    let pixels = image::open(&face).unwrap().into_rgb8();
    assert_eq!(dataset.image(Split::Test, 3), Some(&pixels.as_raw()[..]));

    // An image of its own is seen as the same image of the data set is.
    let mut predict = command("worker");
    predict.args(["predict", "--json", "--experiment"]);
    let (text, errors, status) = output(predict.arg(&experiment).arg(&face));
    assert!(status.success(), "{errors}");
    let answer: Value = serde_json::from_str(&text).unwrap();
    let table = fs::read_to_string(experiment.join("predictions.csv")).unwrap();
    let titles: Vec<&str> = table.lines().next().unwrap().split(',').collect();
    let row: Vec<&str> = table
        .lines()
        .map(|line| line.split(',').collect::<Vec<_>>())
        .find(|row| row[..2] == ["test", "3"])
        .unwrap();
    for class in ["cold", "warm"] {
        let column = titles
            .iter()
            .position(|title| *title == format!("ensemble:{class}"));
        let expected: f64 = row[column.unwrap()].parse().unwrap();
        let found = answer["probabilities"][class].as_f64().unwrap();
        assert!(
            (found - expected).abs() < 1e-5,
            "{class}: {found} {expected}"
        );
    }
    let (text, errors, status) = output(
        command("worker")
            .args(["predict", "--json", "--labels", "--experiment"])
            .args([&experiment, &root.join("test")]),
    );
    assert!(status.success(), "{errors}");
    let scores: Value = serde_json::from_str(&text).unwrap();
    let report: EvaluationReport = read_json(experiment.join("evaluation.json"));
    let test = report.splits.last().unwrap();
    assert_eq!(scores["accuracy"], test.ensemble.accuracy);

    // Other programs get the shape told.
    let onnx = folder.path().join("small.onnx");
    let (_, errors, status) = output(
        command("worker")
            .args(["export", "--format", "onnx", "--experiment"])
            .arg(&experiment)
            .arg("--out")
            .arg(&onnx),
    );
    assert!(status.success(), "{errors}");
    assert!(errors.contains("u8 [batch, 32, 40, 3]"), "{errors}");

    // In gray the same files are other data.
    let mut again = command("coordinator");
    again.args([
        "--name",
        "small",
        "--listen",
        "127.0.0.1:0",
        "--size",
        "40x32",
    ]);
    again.arg("--data").arg(&root).arg("--store");
    let (_, errors, status) = output(again.arg(folder.path().join("store")));
    assert_eq!(status.code(), Some(2), "{errors}");
    assert!(errors.contains("was begun with other data"), "{errors}");
}

#[test]
fn votes_are_trained_on_as_soft_labels() {
    let folder = tempfile::tempdir().unwrap();
    fs::rename(
        fixtures::csv(folder.path()),
        folder.path().join("fer2013.csv"),
    )
    .unwrap();
    let images = fs::read_to_string(folder.path().join("fer2013.csv")).unwrap();
    // Seven votes for the label's class and three for neutral; every 21st image shows contempt.
    let columns = "anger,disgust,fear,happiness,sadness,surprise,neutral,contempt,unknown,NF";
    let mut labels = format!("Usage,Image name,{columns}\n");
    for (number, row) in images.lines().skip(1).enumerate() {
        let mut votes = [0; 10];
        votes[6] = 3;
        let label: usize = row.split(',').next().unwrap().parse().unwrap();
        votes[if number % 21 == 0 { 7 } else { label }] += 7;
        let votes = votes.map(|votes: u8| votes.to_string()).join(",");
        let usage = row.rsplit(',').next().unwrap();
        labels.push_str(&format!("{usage},fer{number}.png,{votes}\n"));
    }
    let path = folder.path().join("fer2013new.csv");
    fs::write(&path, labels).unwrap();
    let (experiment, dataset) = trained(folder.path(), &[path.to_str().unwrap(), "--soft-labels"]);
    assert_eq!(dataset.channels, Channels::Gray);
    let images = dataset.split(Split::Train);
    assert_eq!(images.len(), fixtures::IMAGES[0] as usize);
    assert_eq!(images.votes(0), Some([0, 0, 0, 0, 0, 0, 3, 7].as_slice()));
    for (index, &label) in images.labels.iter().enumerate() {
        let mut expected = [0; 8];
        expected[6] = 3;
        expected[usize::from(label)] += 7;
        assert_eq!(images.votes(index), Some(expected.as_slice()));
    }
    // Accuracies are those of the majority's class.
    let report: EvaluationReport = read_json(experiment.join("evaluation.json"));
    report.validate().unwrap();
    for split in &report.splits {
        let mut support = vec![0; 8];
        for &label in &dataset.split(split.split).labels {
            support[usize::from(label)] += 1;
        }
        let found: Vec<u64> = split.per_class.iter().map(|class| class.support).collect();
        assert_eq!(found, support);
    }
}

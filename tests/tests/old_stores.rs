//! A store that an earlier version wrote, killed in the middle: this version reads it and goes on.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use quartet_shared::ids::Epoch;
use quartet_shared::outcome::Outcome;
use quartet_shared::position::Position;
use quartet_shared::report::EvaluationReport;
use quartet_store::manifest::{AttemptRecord, Manifest};
use quartet_tests::harness::Timers;
use quartet_tests::job::read_json;
use quartet_tests::processes::{Coordinator, files, output};
use quartet_tests::programs::command;
use serde_json::Value;

const ARCHIVE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/stores/e969e3a.tar.gz");

/// The JSON files that must stay as the earlier version wrote them.
fn records(experiment: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let of_begun =
        ["epochs/0001.json", "attempts/0001.json"].map(|name| Path::new("runs/begun").join(name));
    let is_record = |path: &PathBuf| {
        let is_json = path
            .extension()
            .is_some_and(|extension| extension == "json");
        let is_of_done = is_json && path.starts_with("runs/done");
        is_of_done || path == Path::new("spec.json") || of_begun.contains(path)
    };
    let paths = files(experiment).into_iter().filter(is_record);
    paths
        .map(|path| (path.clone(), fs::read(experiment.join(path)).unwrap()))
        .collect()
}

#[test]
fn a_store_of_an_earlier_version_is_read_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut tar = Command::new("tar");
    let (_, errors, status) = output(tar.arg("-xzf").arg(ARCHIVE).arg("-C").arg(dir.path()));
    assert!(status.success(), "{errors}");
    let store = dir.path().join("runs");
    let experiment = store.join("old");
    let begun = experiment.join("runs/begun");
    let before = records(&experiment);
    // Of `done` an attempt, three epochs and an outcome; of `begun` an attempt and an epoch; the experiment.
    assert_eq!(before.len(), 8, "{:?}", before.keys());
    assert!(begun.join("steps/0002-000004.json").exists());

    let timers = Timers::SHORT.arguments();
    let mut args = vec!["--name", "old", "--workers", "1"];
    args.extend(timers.iter().map(String::as_str));
    let coordinator = Coordinator::start(&store, &args);
    let mut worker = coordinator.worker("heir", &dir.path().join("cache"));
    let (text, status) = coordinator.finish();
    assert!(status.success(), "{status}: {text}");
    assert!(worker.wait().success());

    for (path, bytes) in &before {
        assert!(
            fs::read(experiment.join(path)).unwrap() == *bytes,
            "{} was changed",
            path.display()
        );
    }
    // The run that had finished was not trained again.
    assert!(!experiment.join("runs/done/attempts/0002.json").exists());
    // The other went on from its mid-epoch checkpoint.
    let attempt: AttemptRecord = read_json(begun.join("attempts/0002.json"));
    assert_eq!(attempt.resume, Position::within(Epoch(2), 4));
    assert_eq!((attempt.resume.epoch, attempt.resume.step), (Epoch(1), 4));
    for epoch in [2, 3] {
        let manifest: Manifest = read_json(begun.join(format!("epochs/{epoch:04}.json")));
        assert_eq!(
            (manifest.epoch, manifest.attempt),
            (Epoch(epoch), attempt.attempt)
        );
    }
    let outcome: Outcome = read_json(begun.join("outcome.json"));
    assert_eq!(outcome.epochs, 3);
    let report: EvaluationReport = read_json(experiment.join("evaluation.json"));
    report.validate().unwrap();
    let members: Vec<&str> = report
        .members
        .iter()
        .map(|member| member.run.as_str())
        .collect();
    assert_eq!(members, ["done", "begun"]);
    predicts(&experiment, dir.path());
}

/// `worker predict` reads the trained weights of both versions.
fn predicts(experiment: &Path, folder: &Path) {
    let picture = folder.join("gray.png");
    image::GrayImage::from_pixel(48, 48, image::Luma([128]))
        .save(&picture)
        .unwrap();
    let mut predict = command("worker");
    predict
        .args(["predict", "--json", "--experiment"])
        .arg(experiment)
        .arg(&picture);
    let (text, errors, status) = output(&mut predict);
    assert!(status.success(), "{errors}");
    let answer: Value = serde_json::from_str(&text).unwrap();
    let probabilities = answer["probabilities"]
        .as_object()
        .expect("a probability of each class");
    let sum: f64 = probabilities.values().filter_map(Value::as_f64).sum();
    assert!((sum - 1.0).abs() < 1e-5, "{text}");
}

//! A run that cannot be trained, in a real process with a real loss that is not finite: it costs itself.

use std::path::Path;
use std::process::Command;

use quartet_shared::report::EvaluationReport;
use quartet_store::manifest::AttemptRecord;
use quartet_tests::job::{Job, read_json};
use quartet_tests::processes::{Coordinator, files, output};
use quartet_tests::programs::command;
use serde_json::Value;

/// A job whose run `residual` has a learning rate that no network survives.
fn job(ensemble: &str) -> Job {
    let job = Job::new(2, 16);
    let path = job.path("small.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let (head, tail) = text.rsplit_once("learning_rate = 1e-3").unwrap();
    let text = format!("ensemble = \"{ensemble}\"\n{head}learning_rate = 1e30{tail}");
    std::fs::write(path, text).unwrap();
    job
}

/// Runs a coordinator with two workers of its own to its end. Returns what it printed.
fn run(job: &Job) -> String {
    let mut command = job.coordinator(2, "127.0.0.1:0");
    let (text, status) = Coordinator::spawn(command.arg("--local")).finish();
    assert_eq!(status.code(), Some(1), "{text}");
    text
}

fn show(job: &Job) -> Value {
    let mut status = command("status");
    let (shown, ..) = output(
        status
            .arg("show")
            .arg(job.path("store/small"))
            .arg("--json"),
    );
    serde_json::from_str(&shown).unwrap()
}

fn attempts(store: &Path, run: &str) -> Vec<AttemptRecord> {
    let folder = store.join(format!("small/runs/{run}/attempts"));
    files(&folder)
        .iter()
        .map(|file| read_json(folder.join(file)))
        .collect()
}

#[test]
fn the_others_are_evaluated_and_the_report_says_what_is_missing() {
    let job = job("finished");
    let store = job.path("store");
    let text = run(&job);
    assert!(
        text.contains("missing, because they failed: residual"),
        "{text}"
    );

    // Nobody takes it for the whole ensemble.
    assert!(!store.join("small/evaluation.json").exists());
    let folder = store.join("small/partial/0001");
    let names = [
        "evaluation.json",
        "evaluation.txt",
        "predictions.csv",
        "report.html",
    ];
    assert_eq!(files(&folder), names.map(Path::new));
    let report: EvaluationReport = read_json(folder.join("evaluation.json"));
    report.validate().unwrap();
    let members: Vec<_> = report
        .members
        .iter()
        .map(|member| member.run.as_str())
        .collect();
    assert_eq!(members, ["vgg16"]);
    assert_eq!(report.members[0].weight, 1.0);
    assert_eq!(report.missing(), ["residual".parse().unwrap()]);
    let table = std::fs::read_to_string(folder.join("predictions.csv")).unwrap();
    assert!(
        !table.contains("residual"),
        "{}",
        table.lines().next().unwrap()
    );

    // A loss that is not finite is tried once more, elsewhere.
    let tried = attempts(&store, "residual");
    assert_eq!(tried.len(), 2);
    assert_ne!(tried[0].worker, tried[1].worker);
    let shown = show(&job);
    assert_eq!(shown["state"], "failed");
    assert_eq!(
        shown["evaluation"]["report"]["partial"]["missing"][0],
        "residual"
    );
    let reason = shown["runs"][1]["failure"].as_str().unwrap();
    assert!(reason.contains("not finite"), "{reason}");

    // Started again, it is tried again; what was kept of the others is used.
    let before = attempts(&store, "vgg16").len();
    run(&job);
    assert_eq!(attempts(&store, "residual").len(), 4);
    assert_eq!(attempts(&store, "vgg16").len(), before);
    let again = store.join("small/partial/0002");
    let again: EvaluationReport = read_json(again.join("evaluation.json"));
    assert_eq!(
        (again.members, again.splits),
        (report.members, report.splits)
    );
}

#[test]
fn nothing_is_evaluated_where_all_runs_are_wanted() {
    let job = job("all");
    run(&job);
    assert!(!job.path("store/small/evaluation.json").exists());
    assert!(!job.path("store/small/partial").exists());
    assert_eq!(show(&job)["state"], "failed");
}

/// A key with another value is refused, and the values are named.
#[test]
fn what_the_ensemble_needs_is_said_in_known_words() {
    let job = job("most");
    let mut command: Command = job.coordinator(2, "127.0.0.1:0");
    let (_, errors, status) = output(&mut command);
    assert_eq!(status.code(), Some(2), "{errors}");
    assert!(
        errors.contains("\"most\" is neither \"finished\" nor \"all\""),
        "{errors}"
    );
}

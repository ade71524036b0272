//! What the ensemble's members say of every image is kept, used again, and told.

use std::fs;

use quartet_shared::report::EvaluationReport;
use quartet_tests::fixtures;
use quartet_tests::job::{Job, read_json};
use quartet_tests::processes::{Coordinator, files, output};
use quartet_tests::programs::command;

const RUNS: [&str; 2] = ["vgg16", "residual"];

/// What follows from an evaluation.
const RESULTS: [&str; 4] = [
    "evaluation.json",
    "evaluation.txt",
    "predictions.csv",
    "report.html",
];

/// Has a worker train and evaluate what is left to do. Returns what it logged of the evaluation.
fn go_on(job: &Job) -> String {
    let coordinator = Coordinator::spawn(&mut job.coordinator(1, "127.0.0.1:0"));
    let mut worker = coordinator.worker("anna", &job.path("cache"));
    let (text, status) = coordinator.finish();
    assert!(status.success(), "{text}");
    assert!(worker.wait().success());
    let logs = job.path("store/small/evaluation/logs");
    let newest = files(&logs).into_iter().max().expect("a log");
    fs::read_to_string(logs.join(newest)).expect("it is text")
}

/// The fraction of a split's rows in a table for which the class of the highest number in the columns of a
/// member is their label.
fn accuracy(table: &str, split: &str, member: &str) -> f64 {
    let mut lines = table
        .lines()
        .map(|line| line.split(',').collect::<Vec<_>>());
    let titles = lines.next().expect("a header");
    let (mut rows, mut right) = (0, 0);
    for line in lines.filter(|line| line[0] == split) {
        let said = titles.iter().zip(&line).filter_map(|(title, value)| {
            let class = title.strip_prefix(member)?.strip_prefix(':')?;
            Some((class, value.parse::<f64>().expect("a number")))
        });
        let best = said.reduce(|best, other| if other.1 > best.1 { other } else { best });
        rows += 1;
        right += u32::from(best.expect("a class").0 == line[2]);
        if member == "ensemble" {
            assert_eq!(best.unwrap().0, line[3], "{line:?}");
        }
    }
    f64::from(right) / f64::from(rows)
}

#[test]
fn predictions_are_kept_used_again_and_told() {
    let job = Job::new(2, 16);
    let log = go_on(&job);
    assert!(log.contains("predictions kept"), "{log}");
    let folder = job.path("store/small");

    // The table says what the evaluation says.
    let report: EvaluationReport = read_json(folder.join("evaluation.json"));
    let table = &fs::read_to_string(folder.join("predictions.csv")).unwrap();
    let images = fixtures::IMAGES[1] + fixtures::IMAGES[2];
    assert_eq!(table.lines().count() as u32, 1 + images);
    for split in &report.splits {
        let name = split.split.name();
        assert_eq!(accuracy(table, name, "ensemble"), split.ensemble.accuracy);
        for run in &split.runs {
            assert_eq!(accuracy(table, name, run.run.as_str()), run.scores.accuracy);
        }
    }
    // The report has pictures of mistakes, and is made again from the store alone.
    let html = fs::read_to_string(folder.join("report.html")).unwrap();
    let again = job.path("again.html");
    let mut status = command("status");
    status.args(["report", folder.to_str().unwrap(), "--out"]);
    let (_, errors, ended) = output(status.arg(&again));
    assert!(ended.success() && errors.is_empty(), "{errors}");
    for html in [html, fs::read_to_string(&again).unwrap()] {
        for part in [
            "Expected calibration error",
            "Worst mistakes",
            "<img src=\"data:image/png",
        ] {
            assert!(html.contains(part), "there is no {part}");
        }
    }

    // Another evaluation computes only what is not there: a member is gone, then another has rotted.
    let results = || {
        let is_timeless = |name: &&&str| **name != "report.html";
        let names = RESULTS.iter().filter(is_timeless);
        let read = |name| fs::read_to_string(folder.join(name)).expect("it is there");
        names.map(read).collect::<Vec<_>>()
    };
    let before = results();
    let forget = || {
        for name in RESULTS {
            fs::remove_file(folder.join(name)).expect("it is there");
        }
    };
    let kept = |run: &str| folder.join("runs").join(run).join("predictions");
    forget();
    fs::remove_dir_all(kept("residual")).unwrap();
    let log = go_on(&job);
    assert_eq!(results(), before);
    let told = |run: &str, log: &str| {
        let used = format!("an earlier attempt has computed the predictions run={run}");
        let computed = format!("predictions kept run={run}");
        (log.contains(&used), log.contains(&computed))
    };
    assert_eq!(
        RUNS.map(|run| told(run, &log)),
        [(true, false), (false, true)],
        "{log}"
    );

    forget();
    let file = files(&kept("vgg16"));
    let file = file
        .iter()
        .find(|file| file.extension().is_some_and(|e| e == "safetensors"));
    let file = kept("vgg16").join(file.expect("predictions"));
    let mut bytes = fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&file, bytes).unwrap();
    let log = go_on(&job);
    assert_eq!(results(), before);
    assert_eq!(
        RUNS.map(|run| told(run, &log)),
        [(false, true), (true, false)],
        "{log}"
    );
    assert!(log.contains("kept predictions cannot be used"), "{log}");
}

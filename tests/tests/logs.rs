//! What a worker logs of its attempts is kept, and shown from the coordinator and from the store.

use std::process::{Command, Stdio};

use quartet_store::manifest::AttemptRecord;
use quartet_tests::http;
use quartet_tests::job::{Job, read_json};
use quartet_tests::processes::{Coordinator, output};
use quartet_tests::programs::command;

fn status(args: &[&str]) -> Command {
    let mut status = command("status");
    status.args(args);
    status
}

/// The words are in the text in this order.
fn assert_in_order(text: &str, words: &[&str]) {
    let mut rest = text;
    for word in words {
        let at = rest.find(word);
        let at = at.unwrap_or_else(|| panic!("{word:?} does not come, or not in order: {text}"));
        rest = &rest[at..];
    }
}

#[test]
fn the_log_of_an_attempt_is_followed_and_kept() {
    let job = Job::new(20, 4);
    let coordinator = Coordinator::spawn(&mut job.coordinator(1, "127.0.0.1:0"));
    let address = coordinator.address.clone();
    let mut watch = coordinator.watch();
    let ask = |run: &str| output(status(&["logs", run]).args(["--coordinator", &address]));
    let (_, errors, ended) = ask("residual");
    assert_eq!(ended.code(), Some(2), "{errors}");
    assert!(errors.contains("nobody has begun residual yet"), "{errors}");
    let (_, errors, _) = ask("other");
    assert!(errors.contains("there is no run other"), "{errors}");

    let mut worker = coordinator.worker("anna", &job.path("cache"));
    let run = watch.until(|snapshot| {
        let runs = snapshot["runs"].as_array()?;
        let held = runs.iter().find(|run| run["worker"] == "anna")?;
        Some(held["name"].as_str()?.to_owned())
    });
    let followed = status(&["logs", &run, "--follow", "--coordinator", &address])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let page = |path: &str| http::request(address.parse().unwrap(), "GET", path, &[], &[]).unwrap();
    assert_eq!(page("/logs/other").status, 404);
    assert_eq!(page("/logs/..%2Fspec.json").status, 404);
    let path = format!("/logs/{run}");
    worker.until(|| page(&path).text().contains("task begins"));
    let begun = page(&path);
    assert_eq!(begun.status, 200);
    assert_eq!(
        begun.header("content-type"),
        Some("text/plain; charset=utf-8")
    );
    let (text, ended) = coordinator.finish();
    assert!(ended.success(), "{text}");
    assert!(worker.wait().success());
    let followed = followed.wait_with_output().unwrap();

    // All of it is in the store.
    let place = job.path("store/small");
    let place = place.to_str().unwrap();
    let stored = |args: &[&str]| output(status(args).args(["--experiment", place]));
    let words = [
        "INFO",
        "task begins",
        "checkpoint committed",
        "epoch 1 ",
        "accuracy",
        "epoch 20 ",
        "task done",
    ];
    for run in ["vgg16", "residual"] {
        let (text, errors, ended) = stored(&["logs", run]);
        assert!(ended.success(), "{errors}");
        assert_in_order(&text, &words);
        let other = if run == "vgg16" { "residual" } else { "vgg16" };
        assert!(!text.contains(&format!("lease={other}")), "{text}");
        assert_eq!(stored(&["logs", run, "--attempt", "1", "--follow"]).0, text);
    }
    let (text, errors, _) = stored(&["logs", "evaluation"]);
    assert_in_order(&text, &["task begins", "task done"]);
    assert!(errors.is_empty(), "{errors}");
    // Whoever followed it has seen its beginning at least: the coordinator leaves with its experiment.
    let text = String::from_utf8(followed.stdout).unwrap();
    let (whole, ..) = stored(&["logs", &run]);
    assert!(whole.starts_with(&text), "{text}");
    assert!(text == whole || !followed.status.success(), "{text}");

    for (args, words) in [
        (
            &["logs", "other"][..],
            ["no run other", "vgg16, residual, and evaluation"],
        ),
        (
            &["logs", "vgg16", "--attempt", "2"],
            ["no attempt 2", "the newest is 1"],
        ),
    ] {
        let (_, errors, ended) = stored(args);
        assert_eq!(ended.code(), Some(2), "{errors}");
        assert_in_order(&errors, &words);
    }

    // The record names the program and the machine.
    let record: AttemptRecord = read_json(job.path("store/small/runs/vgg16/attempts/0001.json"));
    let known: Vec<&str> = record.provenance.known().map(|(name, _)| name).collect();
    for name in ["device", "version", "features", "host", "CPU"] {
        assert!(known.contains(&name), "{name} is not in {known:?}");
    }
    let report = std::fs::read_to_string(job.path("store/small/report.html")).unwrap();
    let features = record.provenance.features.unwrap();
    assert_in_order(&report, &["Programs and machines", &features, "vgg16 1"]);
}

#[test]
fn local_workers_are_quiet_and_leave_logs_all_the_same() {
    let job = Job::new(2, 16);
    let mut start = job.coordinator(1, "127.0.0.1:0");
    let (_, errors, ended) = output(start.arg("--local").env_remove("QUARTET_LOG"));
    assert!(ended.success(), "{errors}");
    assert!(!errors.contains("checkpoint committed"), "{errors}");
    let place = job.path("store/small");
    let mut logs = status(&["logs", "vgg16", "--experiment", place.to_str().unwrap()]);
    let (text, errors, ended) = output(&mut logs);
    assert!(ended.success(), "{errors}");
    let words = ["task begins", "checkpoint committed", "task done"];
    assert_in_order(&text, &words);
}

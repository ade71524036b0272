//! Coordinators that are refused, replaced, told to stop, or told to send a worker away.

use std::process::Command;
use std::time::Duration;

use quartet_shared::ids::Epoch;
use quartet_shared::position::Position;
use quartet_store::manifest::{AttemptRecord, Manifest};
use quartet_tests::job::{Job, read_json};
use quartet_tests::ports;
use quartet_tests::processes::{Coordinator, Process, output, worker_command};
use quartet_tests::programs;
use serde_json::Value;

/// Enough that things can happen in the middle.
const EPOCHS: u32 = 16;

/// Many steps to an epoch.
fn job() -> Job {
    Job::new(EPOCHS, 4)
}

fn command(job: &Job, listen: &str) -> Command {
    let mut command = job.coordinator(2, listen);
    command.args(["--heartbeat-interval", "100ms"]);
    command
}

fn worker(job: &Job, name: &str, coordinators: &str) -> Process {
    Process::spawn(&mut worker_command(coordinators, name, &job.path("cache")))
}

fn manifest(job: &Job, run: &str, epoch: u32) -> Manifest {
    read_json(job.path(&format!("store/small/runs/{run}/epochs/{epoch:04}.json")))
}

fn attempt(job: &Job, run: &str, attempt: u32) -> AttemptRecord {
    read_json(job.path(&format!(
        "store/small/runs/{run}/attempts/{attempt:04}.json"
    )))
}

/// A run that a worker of this name trains, with at least one epoch committed, and how far it is.
fn in_the_middle(snapshot: &Value, worker: &str) -> Option<(String, Position)> {
    let runs = snapshot["runs"].as_array()?;
    let run = runs.iter().find(|run| {
        run["worker"] == worker
            && run["epochs_committed"].as_u64() >= Some(1)
            && run["progress"]["phase"] == "training"
    })?;
    let progress = |key: &str| u32::try_from(run["progress"][key].as_u64()?).ok();
    let position = Position::within(Epoch(progress("epoch")?), progress("step")?);
    Some((run["name"].as_str()?.to_owned(), position))
}

#[test]
fn a_second_coordinator_is_refused_while_the_first_lives() {
    let job = job();
    let mut first = Coordinator::spawn(&mut command(&job, "127.0.0.1:0"));
    let (_, errors, status) = output(&mut command(&job, "127.0.0.1:0"));
    assert_eq!(status.code(), Some(2), "{errors}");
    for part in [
        "small",
        &first.address,
        &first.process.id().to_string(),
        "term 1",
    ] {
        assert!(errors.contains(part), "{part:?} is not in {errors}");
    }
    // Dead, it is in nobody's way.
    first.process.kill();
    let second = Coordinator::spawn(&mut command(&job, "127.0.0.1:0"));
    assert!(job.path("store/small/coordinators/000002.json").exists());
    drop(second);
}

#[test]
fn a_coordinator_that_was_believed_dead_steps_down() {
    let job = job();
    let (one, two) = (ports::free().to_string(), ports::free().to_string());
    let log = job.path("errors");
    let errors = std::fs::File::create(&log).unwrap();
    let mut first = Coordinator::spawn(command(&job, &one).stderr(errors));
    let mut watch = first.watch();
    let mut workers = [
        worker(&job, "one", &format!("{one},{two}")),
        worker(&job, "two", &format!("{one},{two}")),
    ];
    let (run, _) = watch.until(|snapshot| in_the_middle(snapshot, "one"));
    first.process.signal("STOP");
    let second = Coordinator::spawn(&mut command(&job, &two));
    first.process.signal("CONT");
    let status = first.process.wait();
    let errors = std::fs::read_to_string(&log).unwrap();
    assert_eq!(status.code(), Some(1), "{errors}");
    assert!(
        errors.contains("since term 2") && errors.contains("steps down"),
        "{errors}"
    );
    let (text, status) = second.finish();
    assert!(status.success(), "{text}");
    for worker in &mut workers {
        assert!(worker.wait().success());
    }
    // The worker took its run along.
    assert_eq!(attempt(&job, &run, 1).term.0, 1);
    assert_eq!(manifest(&job, &run, EPOCHS).attempt.0, 1);
}

#[test]
fn a_drained_worker_hands_its_run_back_with_all_that_it_has_done() {
    let job = job();
    let coordinator = Coordinator::spawn(&mut command(&job, "127.0.0.1:0"));
    let mut watch = coordinator.watch();
    let mut leaves = worker(&job, "leaves", &coordinator.address);
    let (run, position) = watch.until(|snapshot| in_the_middle(snapshot, "leaves"));
    let status = |args: &[&str]| {
        output(
            programs::command("status")
                .args(["--coordinator", &coordinator.address])
                .args(args),
        )
    };
    let (_, errors, ended) = status(&["drain", "nobody"]);
    assert!(!ended.success() && errors.contains("nobody"), "{errors}");
    let (text, _, ended) = status(&["drain", "leaves"]);
    assert!(ended.success() && text.contains("leaves"), "{text}");
    assert!(leaves.wait().success());
    let _stays = worker(&job, "stays", &coordinator.address);
    let (text, ended) = coordinator.finish();
    assert!(ended.success(), "{text}");
    let resumed = attempt(&job, &run, 2);
    assert!(resumed.resume >= position, "{resumed:?} {position}");
    assert_eq!(resumed.name, "stays");
}

#[test]
fn a_coordinator_that_is_told_to_stop_drains_its_fleet_and_goes_on_later() {
    let job = job();
    let coordinator = Coordinator::spawn(&mut command(&job, "127.0.0.1:0"));
    let mut watch = coordinator.watch();
    let mut workers = ["one", "two"].map(|name| worker(&job, name, &coordinator.address));
    let (run, position) = watch.until(|snapshot| in_the_middle(snapshot, "one"));
    coordinator.process.signal("TERM");
    let (text, status) = coordinator.finish();
    assert_eq!(status.code(), Some(130), "{text}");
    for worker in &mut workers {
        assert!(worker.wait().success());
    }
    let coordinator = Coordinator::spawn(&mut command(&job, "127.0.0.1:0"));
    // Nobody holds a lease any more, and it knows.
    let leased = coordinator.watch().until(|snapshot| {
        let runs = snapshot["runs"].as_array()?.iter();
        Some(runs.filter(|run| run["state"] == "leased").count())
    });
    assert_eq!(leased, 0);
    let _worker = worker(&job, "three", &coordinator.address);
    let (text, status) = coordinator.finish();
    assert!(status.success(), "{text}");
    let resumed = attempt(&job, &run, 2);
    assert!(resumed.resume >= position, "{resumed:?} {position}");
}

#[test]
fn a_coordinator_that_stood_still_takes_no_lease_away() {
    let job = job();
    let coordinator = Coordinator::spawn(command(&job, "127.0.0.1:0").args(["--lease", "2s"]));
    let mut watch = coordinator.watch();
    let mut workers = ["one", "two", "spare"].map(|name| worker(&job, name, &coordinator.address));
    let runs: Vec<String> = watch.until(|snapshot| {
        let runs = snapshot["runs"].as_array()?.iter();
        let names = runs.map(|run| {
            let training = run["progress"]["phase"] == "training";
            training.then(|| run["name"].as_str().unwrap_or_default().to_owned())
        });
        names.collect()
    });
    drop(watch);
    coordinator.process.signal("STOP");
    // For longer than a lease lasts without heartbeats, and than a worker's keep-alive waits.
    std::thread::sleep(Duration::from_secs(18));
    coordinator.process.signal("CONT");
    let (text, status) = coordinator.finish();
    assert!(status.success(), "{text}");
    for worker in &mut workers {
        assert!(worker.wait().success());
    }
    for run in runs {
        assert_eq!(attempt(&job, &run, 1).attempt.0, 1);
        let second = job.path(&format!("store/small/runs/{run}/attempts/0002.json"));
        assert!(!second.exists(), "{run} was taken away");
    }
}

//! Workers that stay: one process for several experiments, over the ends and the stops of their coordinators.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use quartet_shared::ids::WorkerId;
use quartet_store::manifest::AttemptRecord;
use quartet_tests::job::{Job, read_json};
use quartet_tests::ports;
use quartet_tests::processes::{Coordinator, Process, output, worker_command};
use quartet_tests::programs;
use serde_json::Value;

/// Enough that a fleet can be stopped in the middle.
const LONG: u32 = 40;

/// A coordinator of the job, at this address.
fn coordinator(job: &Job, address: &str, more: &[&str]) -> Coordinator {
    let mut command = job.coordinator(2, address);
    Coordinator::spawn(command.args(["--heartbeat-interval", "100ms"]).args(more))
}

/// A worker that logs into a file of its name in the job's folder.
fn worker(job: &Job, name: &str, address: &str, more: &[&str]) -> Process {
    let log = File::create(job.path(name)).expect("the folder is writable");
    let mut command = worker_command(address, name, &job.path("cache"));
    Process::spawn(command.args(more).stderr(log))
}

fn log(job: &Job, worker: &str) -> String {
    std::fs::read_to_string(job.path(worker)).expect("a log is text")
}

/// Who had an attempt at a run.
fn worker_of(store: &Path, run: &str, attempt: u32) -> WorkerId {
    let path = store.join(format!("runs/{run}/attempts/{attempt:04}.json"));
    read_json::<AttemptRecord>(path).worker
}

/// `status` with these arguments, which must succeed; what it prints.
fn status(address: &str, arguments: &[&str]) -> String {
    let mut command: Command = programs::command("status");
    let (text, errors, status) = output(command.args(["--coordinator", address]).args(arguments));
    assert!(status.success(), "{errors}");
    text
}

/// Waits until these workers are there, and stay or leave at the end; the snapshot then.
fn joined(coordinator: &Coordinator, workers: &[(&str, bool)]) {
    coordinator.watch().until(|snapshot| {
        let known = snapshot["workers"].as_array()?;
        let is_there = |(name, stays): &(&str, bool)| {
            let mut known = known.iter();
            known.any(|worker| worker["name"] == *name && worker["stays"] == *stays)
        };
        workers.iter().all(is_there).then_some(())
    });
}

/// A run that the worker trains, with at least one epoch committed.
fn in_the_middle(snapshot: &Value, worker: &str) -> Option<String> {
    let mut runs = snapshot["runs"].as_array()?.iter();
    let run = runs.find(|run| {
        run["worker"] == worker
            && run["epochs_committed"].as_u64() >= Some(1)
            && run["progress"]["phase"] == "training"
    })?;
    Some(run["name"].as_str()?.to_owned())
}

#[test]
fn one_worker_trains_two_experiments_one_after_the_other() {
    let job = Job::new(1, 16);
    let address = ports::free().to_string();
    let first = coordinator(&job, &address, &[]);
    let mut stays = worker(&job, "stays", &address, &["--stay"]);
    joined(&first, &[("stays", true)]);
    let (text, ended) = first.finish();
    assert!(ended.success(), "{text}");
    let at_the_end = "1 worker stays for the next experiment at this address";
    assert!(text.contains(at_the_end), "{text}");

    // Another name and another id, and its terms begin anew.
    let second = coordinator(&job, &address, &["--name", "other"]);
    let (text, ended) = second.finish();
    assert!(ended.success(), "{text}");
    assert!(text.contains(at_the_end), "{text}");
    let trained_by = |experiment: &str| worker_of(&job.path("store").join(experiment), "vgg16", 1);
    assert_eq!(trained_by("small"), trained_by("other"));
    assert_eq!(stays.ended(), None);
    stays.signal("TERM");
    assert!(stays.wait().success(), "{}", log(&job, "stays"));
}

#[test]
fn a_fleet_stays_when_its_coordinator_is_stopped() {
    let job = Job::new(LONG, 4);
    let address = ports::free().to_string();
    let first = coordinator(&job, &address, &[]);
    let mut watch = first.watch();
    let mut stays = worker(&job, "stays", &address, &["--stay"]);
    let mut leaves = worker(&job, "leaves", &address, &[]);
    joined(&first, &[("stays", true), ("leaves", false)]);
    let run = watch.until(|snapshot| in_the_middle(snapshot, "stays"));
    first.process.signal("INT");
    let (text, ended) = first.finish();
    assert_eq!(ended.code(), Some(130), "{text}");
    for said in [
        "1 stays for the next coordinator (--stay), 1 leaves; a second signal",
        "1 worker stays for the next experiment at this address",
    ] {
        assert!(text.contains(said), "{said:?} is not in {text}");
    }
    assert!(leaves.wait().success(), "{}", log(&job, "leaves"));
    assert_eq!(stays.ended(), None);

    // The same process goes on with its run, and does the other one, too.
    let second = coordinator(&job, &address, &[]);
    let (text, ended) = second.finish();
    assert!(ended.success(), "{text}");
    let store = job.path("store/small");
    assert_eq!(worker_of(&store, &run, 1), worker_of(&store, &run, 2));
    assert!(
        !store
            .join(format!("runs/{run}/attempts/0003.json"))
            .exists()
    );
    let log = log(&job, "stays");
    assert!(!log.contains("lease revoked"), "{log}");
    assert_eq!(stays.ended(), None);
    // It left the first coordinator in order.
    let mut show = programs::command("status");
    let (shown, ..) = output(show.arg("show").arg(store).arg("--json"));
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let events = shown["events"].as_array().unwrap();
    let happened = |event: &str| events.iter().filter(|e| e["event"] == event).count();
    assert_eq!(
        (happened("worker_left"), happened("worker_lost")),
        (2, 0),
        "{events:#?}"
    );
}

#[test]
fn those_that_stay_can_be_sent_home() {
    let job = Job::new(LONG, 4);
    let address = ports::free().to_string();
    let coordinator = coordinator(&job, &address, &[]);
    let mut workers = ["one", "two", "three"].map(|name| worker(&job, name, &address, &["--stay"]));
    joined(
        &coordinator,
        &[("one", true), ("two", true), ("three", true)],
    );
    let text = status(&address, &[]);
    assert!(
        text.contains("at the end") && text.contains("stays"),
        "{text}"
    );
    let text = status(&address, &["drain", "one"]);
    assert!(text.starts_with("worker one ("), "{text}");
    assert!(workers[0].wait().success(), "{}", log(&job, "one"));

    status(&address, &["drain", "--all"]);
    for (worker, name) in workers[1..].iter_mut().zip(["two", "three"]) {
        assert!(worker.wait().success(), "{}", log(&job, name));
    }
    // Nobody is left whom the coordinator could speak of.
    coordinator.process.signal("INT");
    let (text, ended) = coordinator.finish();
    assert_eq!(ended.code(), Some(130), "{text}");
    assert!(!text.contains("for the next"), "{text}");
}

#[test]
fn a_worker_that_stays_in_vain_ends_in_order() {
    let job = Job::new(1, 16);
    let address = ports::free().to_string();
    let coordinator = coordinator(&job, &address, &[]);
    let more = ["--stay", "--give-up-after", "1s"];
    let mut stays = worker(&job, "stays", &address, &more);
    let (text, ended) = coordinator.finish();
    assert!(ended.success(), "{text}");
    assert!(stays.wait().success());
    let log = log(&job, "stays");
    assert!(
        log.contains("no other experiment came within 1.0 s") && !log.contains("error:"),
        "{log}"
    );
}

/// An experiment that the worker cannot compute is not its end.
#[test]
#[cfg(not(feature = "tch"))]
fn a_worker_that_stays_waits_for_an_experiment_that_it_computes() {
    let job = Job::new(1, 16);
    let address = ports::free().to_string();
    let mut first = coordinator(
        &job,
        &address,
        &["--name", "mixed", "--set", "precision=bf16"],
    );
    let mut stays = worker(&job, "stays", &address, &["--stay"]);
    stays.until(|| log(&job, "stays").contains("waits for another experiment"));
    // Nobody counts on it meanwhile.
    let snapshot: Value = serde_json::from_str(&status(&address, &["--json"])).unwrap();
    assert_eq!(snapshot["workers"], Value::Array(Vec::new()));
    first.process.kill();

    let second = coordinator(&job, &address, &[]);
    let (text, ended) = second.finish();
    assert!(ended.success(), "{text}");
    let log = log(&job, "stays");
    assert_eq!(
        log.matches("waits for another experiment").count(),
        1,
        "{log}"
    );
    assert_eq!(stays.ended(), None);
}

//! A coordinator of a queue, with real processes: experiments one after the other, and at the same time where
//! workers have nothing to do.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use quartet_shared::clock::Timestamp;
use quartet_shared::report::EvaluationReport;
use quartet_store::manifest::{AttemptRecord, Manifest};
use quartet_tests::job::{Job, read_json};
use quartet_tests::ports;
use quartet_tests::processes::{Coordinator, LIMIT, Process, files, output, worker_command};
use quartet_tests::programs;
use serde_json::Value;

/// A coordinator of the job's queue, at an address at which it can be started again.
struct Queue<'a> {
    job: &'a Job,
    address: String,
    coordinator: Coordinator,
}

impl<'a> Queue<'a> {
    fn start(job: &'a Job) -> Self {
        let address = ports::free().to_string();
        let coordinator = Coordinator::spawn(&mut job.serve(&address));
        Self {
            job,
            address,
            coordinator,
        }
    }

    /// Kills the coordinator as `kill -9` does, and starts another.
    fn restart(&mut self) {
        self.coordinator.process.kill();
        self.coordinator = Coordinator::spawn(&mut self.job.serve(&self.address));
    }

    fn worker(&self, name: &str) -> Process {
        let mut command = worker_command(&self.address, name, &self.job.path("cache"));
        Process::spawn(command.arg("--stay"))
    }

    fn submit(&self, name: &str, more: &[&str]) -> (String, String, ExitStatus) {
        output(self.job.submit(name, &self.address).args(more))
    }

    /// Submits what must be accepted; what is said of it.
    fn add(&self, name: &str, more: &[&str]) -> String {
        let (text, errors, status) = self.submit(name, more);
        assert!(status.success(), "{errors}");
        text
    }

    fn status(&self, arguments: &[&str]) -> (String, String, ExitStatus) {
        let mut command = programs::command("status");
        output(
            command
                .args(["--coordinator", &self.address])
                .args(arguments),
        )
    }

    /// The entries of the queue.
    fn entries(&self) -> Vec<Value> {
        let (text, errors, status) = self.status(&["queue", "--json"]);
        assert!(status.success(), "{errors}");
        serde_json::from_str(&text).expect("it is JSON")
    }

    /// Waits until something is true of the entry of an experiment; the entry then.
    fn until(&self, experiment: &str, found: impl Fn(&Value) -> bool) -> Value {
        let started = Instant::now();
        loop {
            let entries = self.entries();
            let mut of_it = entries.iter().filter(|e| e["experiment"] == experiment);
            if let Some(entry) = of_it.find(|entry| found(entry)) {
                return entry.clone();
            }
            assert!(started.elapsed() < LIMIT, "{experiment}: {entries:#?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until an experiment has finished; the entry then. It may have been cancelled before.
    fn until_finished(&self, experiment: &str) -> Value {
        let ended = |entry: &Value| {
            assert_ne!(entry["state"], "failed", "{entry}");
            entry["state"] == "finished"
        };
        self.until(experiment, ended)
    }

    fn store(&self) -> std::path::PathBuf {
        self.job.path("store")
    }
}

fn manifest(store: &Path, experiment: &str, run: &str, epoch: u32) -> Manifest {
    read_json(store.join(format!("{experiment}/runs/{run}/epochs/{epoch:04}.json")))
}

fn evaluation(store: &Path, experiment: &str) -> EvaluationReport {
    read_json(store.join(experiment).join("evaluation.json"))
}

/// How many attempts there were at a run.
fn attempts(store: &Path, experiment: &str, run: &str) -> usize {
    files(&store.join(format!("{experiment}/runs/{run}/attempts"))).len()
}

/// The experiment has given what it gives alone.
fn assert_as_alone(store: &Path, experiment: &str, alone: &Job, epochs: u32) {
    let other = alone.path("store");
    for run in ["vgg16", "residual"] {
        for epoch in 1..=epochs {
            let one = manifest(store, experiment, run, epoch);
            let two = manifest(&other, "small", run, epoch);
            assert_eq!(one.weights.blob, two.weights.blob, "{run}, epoch {epoch}");
            assert_eq!(one.training_state.blob, two.training_state.blob);
        }
    }
    let mut one = evaluation(store, experiment);
    let two = evaluation(&other, "small");
    one.experiment.clone_from(&two.experiment);
    assert_eq!(one, two);
}

/// Trains the job's experiment with a coordinator of its own.
fn alone(epochs: u32, batch_size: u32) -> Job {
    let job = Job::new(epochs, batch_size);
    let mut command = job.coordinator(2, "127.0.0.1:0");
    let (text, status) = Coordinator::spawn(command.arg("--local")).finish();
    assert!(status.success(), "{text}");
    job
}

#[test]
fn idle_workers_take_the_next_experiment_while_the_last_run_of_the_present_one_trains() {
    let job = Job::new(3, 8);
    let queue = Queue::start(&job);
    // Workers wait for what comes.
    let mut workers = ["one", "two"].map(|name| queue.worker(name));
    // One run of the first takes much longer than the other.
    let first = queue.add("first", &["--set", "vgg16.width=0.3"]);
    assert!(
        first.contains("first is in the queue; it is the next"),
        "{first}"
    );
    let second = queue.add("second", &[]);
    assert!(
        second.contains("second is in the queue; 1 is before it"),
        "{second}"
    );
    let again = queue.add("second", &[]);
    assert!(again.contains("second is in the queue already"), "{again}");

    let ended = queue.until_finished("first")["ended_at"].clone();
    queue.until_finished("second");
    let ended: Timestamp = serde_json::from_value(ended).unwrap();
    let (shown, ..) = queue.status(&[
        "show",
        queue.store().join("second").to_str().unwrap(),
        "--json",
    ]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let events = shown["events"].as_array().unwrap();
    let began = events
        .iter()
        .find(|e| e["event"] == "attempt_started")
        .unwrap();
    let began: Timestamp = serde_json::from_value(began["at"].clone()).unwrap();
    assert!(began < ended, "{began} {ended}");
    assert_as_alone(&queue.store(), "second", &alone(3, 8), 3);

    // The fleet stays with the next coordinator, or leaves when it is told to.
    queue.coordinator.process.signal("INT");
    let (text, status) = queue.coordinator.finish();
    assert_eq!(status.code(), Some(130), "{text}");
    for said in [
        "first has finished",
        "second has finished",
        "2 stay",
        "2 workers stay",
    ] {
        assert!(text.contains(said), "{said:?} is not in {text}");
    }
    for worker in &mut workers {
        assert_eq!(worker.ended(), None);
        worker.signal("TERM");
        assert!(worker.wait().success());
    }
}

#[test]
fn a_killed_coordinator_goes_on_with_its_queue() {
    let job = Job::new(24, 4);
    let mut queue = Queue::start(&job);
    let workers = ["one", "two"].map(|name| queue.worker(name));
    queue.add("first", &[]);
    queue.add("second", &["--set", "epochs=2"]);
    queue.add("third", &["--set", "epochs=1", "--priority", "-1"]);
    let mut watch = queue.coordinator.watch();
    watch.until(|snapshot| {
        let mut runs = snapshot["runs"].as_array()?.iter();
        let trains = |run: &Value| run["epochs_committed"].as_u64() >= Some(1);
        runs.all(trains).then_some(())
    });
    queue.restart();
    queue.until("first", |entry| entry["workers"] == 2);
    // In the middle of a change of experiments, too.
    queue.until("second", |entry| entry["state"] != "waiting");
    queue.restart();
    for experiment in ["first", "second", "third"] {
        queue.until_finished(experiment);
    }
    let names: Vec<_> = queue.entries();
    assert_eq!(names.len(), 3, "{names:#?}");
    let store = queue.store();
    // Their workers were there all the time, and kept their runs.
    for run in ["vgg16", "residual"] {
        assert_eq!(attempts(&store, "first", run), 1, "{run}");
    }
    assert_as_alone(&store, "first", &alone(24, 4), 24);
    drop(workers);
}

#[test]
fn what_is_cancelled_makes_room_and_can_come_again() {
    let job = Job::new(40, 4);
    let queue = Queue::start(&job);
    let workers = ["one", "two"].map(|name| queue.worker(name));
    queue.add("long", &[]);
    queue.add("never", &[]);
    queue.add("short", &["--set", "epochs=1"]);
    // Whoever follows one that waits hears of its end.
    let mut followers = ["never", "short"].map(|name| {
        let mut command = programs::command("status");
        command.args(["--coordinator", &queue.address, "--follow"]);
        Process::spawn(command.args(["--name", name]).stdout(Stdio::null()))
    });
    let store = queue.store();
    queue.until("long", |entry| entry["workers"] == 2);
    let (text, ..) = queue.status(&["cancel", "never"]);
    assert_eq!(text, "never is cancelled\n");
    let (_, errors, status) = queue.status(&["cancel", "never"]);
    assert_eq!(status.code(), Some(2), "{errors}");
    assert!(
        errors.contains("never neither waits nor is trained"),
        "{errors}"
    );
    let mut watch = queue.coordinator.watch();
    watch.until(|snapshot| {
        let mut runs = snapshot["runs"].as_array()?.iter();
        let trains = |run: &Value| run["epochs_committed"].as_u64() >= Some(1);
        runs.all(trains).then_some(())
    });
    let (text, ..) = queue.status(&["cancel", "long"]);
    assert!(
        text.starts_with("long is cancelled: its workers commit"),
        "{text}"
    );
    queue.until_finished("short");
    let before = ["vgg16", "residual"].map(|run| {
        let epochs = files(&store.join(format!("long/runs/{run}/epochs")));
        let last = u32::try_from(epochs.len()).unwrap();
        (run, last, manifest(&store, "long", run, last))
    });
    assert!(
        before.iter().all(|(_, last, _)| (1..40).contains(last)),
        "{before:?}"
    );
    let ended = followers.each_mut().map(|follower| follower.wait().code());
    assert_eq!(ended, [Some(1), Some(0)]);
    // Submitted again it goes on from there.
    queue.add("long", &[]);
    queue.until_finished("long");
    for (run, last, kept) in before {
        assert_eq!(manifest(&store, "long", run, last), kept);
        let attempt: AttemptRecord =
            read_json(store.join(format!("long/runs/{run}/attempts/0002.json")));
        assert!(attempt.resume.epoch.0 >= last, "{attempt:?}");
        assert_eq!(attempts(&store, "long", run), 2);
    }
    assert!(!store.join("never/runs").exists());
    drop(workers);
}

/// What no worker can compute is passed over, what comes first gets the next worker that is free, and those
/// that wait can be sent home.
#[test]
#[cfg(not(feature = "tch"))]
fn workers_go_where_they_are_wanted_first() {
    let job = Job::new(3, 4);
    let queue = Queue::start(&job);
    queue.add("mixed", &["--set", "precision=bf16"]);
    let mut worker = queue.worker("one");
    queue.add("long", &[]);
    queue.until("long", |entry| entry["state"] == "training");
    let mixed = queue.until("mixed", |entry| entry["ended_at"].is_null());
    assert_eq!(mixed["workers"], 0, "{mixed}");
    // Before the second run of the one that is trained.
    queue.add("urgent", &["--priority", "1"]);
    queue.until_finished("urgent");
    queue.until_finished("long");
    let store = queue.store();
    let first = |experiment: &str, run: &str| {
        let path = format!("{experiment}/runs/{run}/attempts/0001.json");
        read_json::<AttemptRecord>(store.join(path)).granted_at
    };
    let runs = ["vgg16", "residual"];
    let last_of_long = runs.map(|run| first("long", run)).into_iter().max();
    let last_of_urgent = runs.map(|run| first("urgent", run)).into_iter().max();
    assert!(last_of_urgent <= last_of_long);
    // It waits for an experiment that it can compute.
    queue.status(&["cancel", "mixed"]);
    let started = Instant::now();
    while !queue
        .status(&["queue"])
        .0
        .contains("waits for an experiment")
    {
        assert!(started.elapsed() < LIMIT);
        std::thread::sleep(Duration::from_millis(20));
    }
    let (text, errors, status) = queue.status(&["drain", "--all"]);
    assert!(
        status.success() && text.starts_with("1 worker"),
        "{text}{errors}"
    );
    assert!(worker.wait().success());
}

/// Whenever the coordinator dies, the experiment is in the queue once it was submitted again, and only once.
#[test]
fn a_coordinator_that_is_killed_in_the_middle_of_a_submit_loses_nothing() {
    let job = Job::new(1, 16);
    let mut queue = Queue::start(&job);
    for number in 0..12_u64 {
        let name = format!("try{number}");
        let mut submit = Process::spawn(&mut job.submit(&name, &queue.address));
        std::thread::sleep(Duration::from_millis(5 * number));
        queue.restart();
        submit.wait();
        queue.add(&name, &[]);
    }
    let entries = queue.entries();
    let names: Vec<_> = entries
        .iter()
        .map(|e| e["experiment"].as_str().unwrap())
        .collect();
    let expected: Vec<_> = (0..12).map(|number| format!("try{number}")).collect();
    assert_eq!(names, expected);
    // One copy of the data is enough.
    assert_eq!(files(&queue.store().join("datasets")).len(), 1);
}

#[test]
fn what_cannot_be_queued_is_refused_with_the_way_out() {
    let job = Job::new(1, 16);
    let queue = Queue::start(&job);
    queue.add("here", &[]);
    let refused = |name: &str, more: &[&str], code: i32, reason: &str| {
        let (_, errors, status) = queue.submit(name, more);
        assert_eq!(status.code(), Some(code), "{errors}");
        assert!(errors.contains(reason), "{reason:?} is not in {errors}");
    };
    refused("here", &["--set", "epochs=2"], 2, "epochs = 2 (was 1)");
    refused("other", &["--set", "epoch=2"], 2, "unknown key");
    refused(
        "other",
        &["--set", "vgg16.weights=nowhere.h5"],
        2,
        "nowhere.h5",
    );
    refused("datasets", &[], 2, "datasets");
    queue.until("here", |entry| entry["state"] != "waiting");
    let (_, errors, status) = queue.status(&["--name", "other"]);
    assert_eq!(status.code(), Some(2), "{errors}");
    assert!(
        errors.contains("not trained here now, but here"),
        "{errors}"
    );

    // One store, one coordinator of its queue.
    let (_, errors, status) = output(&mut job.serve("127.0.0.1:0"));
    assert_eq!(status.code(), Some(2), "{errors}");
    assert!(
        errors.contains("the queue of this store has a coordinator"),
        "{errors}"
    );
    // And an experiment of it has none of its own beside it.
    let mut beside = job.coordinator(1, "127.0.0.1:0");
    let (_, errors, status) = output(beside.args(["--name", "here"]));
    assert_eq!(status.code(), Some(2), "{errors}");
    assert!(
        errors.contains("experiment here has a coordinator"),
        "{errors}"
    );

    // A coordinator of one experiment has a queue of one.
    let lonely = Job::new(1, 16);
    let one = Coordinator::spawn(&mut lonely.coordinator(1, "127.0.0.1:0"));
    let (_, errors, status) = output(&mut job.submit("other", &one.address));
    assert_eq!(status.code(), Some(1), "{errors}");
    assert!(
        errors.contains("`coordinator --serve` has a queue"),
        "{errors}"
    );
    let mut status = programs::command("status");
    let (text, errors, ended) = output(status.args(["--coordinator", &one.address, "queue"]));
    assert!(ended.success(), "{errors}");
    assert!(
        text.contains("small") && text.contains("trains one experiment"),
        "{text}"
    );
}

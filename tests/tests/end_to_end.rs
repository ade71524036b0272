//! The main job with real processes and real training, on a CSV file and an experiment of our own.

use std::path::PathBuf;
use std::process::Command;

use quartet_shared::blob::Checksum;
use quartet_shared::ids::ExperimentName;
use quartet_shared::report::EvaluationReport;
use quartet_store::manifest::Manifest;
use quartet_tests::fixtures;
use quartet_tests::job::{Job, read_json};
use quartet_tests::processes::{Coordinator, files, output};
use quartet_tests::programs::command;
use serde_json::Value;

const BATCH_SIZE: u32 = 16;

/// Starts a coordinator of the job.
fn start(job: &Job, more: &[&str]) -> Coordinator {
    Coordinator::spawn(job.coordinator(2, "127.0.0.1:0").args(more))
}

#[test]
fn two_workers_train_and_evaluate_an_experiment() {
    let job = Job::new(2, BATCH_SIZE);
    let (store, cache) = (job.path("store"), job.path("cache"));
    let coordinator = start(&job, &[]);
    let mut watch = coordinator.watch();
    let mut workers = [
        coordinator.worker("one", &cache),
        coordinator.worker("two", &cache),
    ];
    let device =
        watch.until(|snapshot| Some(snapshot["workers"][0]["device"].as_str()?.to_owned()));
    let backend = match cfg!(feature = "tch") {
        true => "LibTorch",
        false => "flex",
    };
    assert!(device.contains(backend), "{device}");
    let (text, status) = coordinator.finish();
    assert!(status.success(), "{text}");
    for worker in &mut workers {
        assert!(worker.wait().success());
    }
    assert!(watch.finish().success());

    // The report is whole and agrees with what was printed.
    let report: EvaluationReport = read_json(store.join("small/evaluation.json"));
    report.validate().unwrap();
    assert_eq!(
        report.experiment,
        "small".parse::<ExperimentName>().unwrap()
    );
    let images: Vec<u64> = report.splits.iter().map(|split| split.images).collect();
    assert_eq!(
        images,
        fixtures::IMAGES[1..]
            .iter()
            .map(|n| u64::from(*n))
            .collect::<Vec<_>>()
    );
    assert!(
        text.contains("residual") && text.contains("evaluation.json"),
        "{text}"
    );

    // The store holds the best and the latest checkpoint, as their manifests say.
    for run in ["vgg16", "residual"] {
        let manifest = |epoch: u32| -> Manifest {
            read_json(store.join(format!("small/runs/{run}/epochs/{epoch:04}.json")))
        };
        let latest = manifest(2);
        for kept in [&latest, &manifest(latest.early_stopping.best_epoch.0)] {
            for object in [&kept.weights, &kept.training_state] {
                let bytes = std::fs::read(store.join(&object.key)).expect("the blob is kept");
                assert_eq!(bytes.len() as u64, object.blob.size);
                assert_eq!(Checksum::of(&bytes), object.blob.sha256);
            }
        }
    }

    // Asked again, the coordinator finds the experiment finished.
    let (text, _, status) = output(
        command("coordinator")
            .args([
                "--listen",
                "127.0.0.1:0",
                "--experiment",
                job.toml.to_str().unwrap(),
                "--store",
            ])
            .arg(&store),
    );
    assert!(status.success() && text.contains("residual"), "{text}");
    assert!(text.contains("has finished already"), "{text}");
    let claims = job.path("store/small/coordinators");
    assert_eq!(files(&claims).len(), 1, "nobody has claimed it again");
}

/// Enough that a worker can be killed in the middle.
const EPOCHS: u32 = 12;

#[test]
fn the_run_of_a_killed_worker_goes_on_elsewhere() {
    let job = Job::new(EPOCHS, BATCH_SIZE);
    let (store, cache) = (job.path("store"), job.path("cache"));
    let coordinator = start(&job, &[]);
    let mut watch = coordinator.watch();
    let mut victim = coordinator.worker("victim", &cache);
    // The victim is killed in the middle of its run, with at least one epoch committed.
    let run = watch.until(|snapshot| {
        let run = held_by(snapshot, "victim")?;
        (run["epochs_committed"].as_u64()? >= 1).then(|| run["name"].as_str().unwrap().to_owned())
    });
    victim.kill();
    let _heir = coordinator.worker("heir", &cache);
    let taken_over = watch.until(|snapshot| {
        let run = held_by(snapshot, "heir").filter(|held| held["name"] == run.as_str())?;
        Some(run.clone())
    });
    assert_eq!(taken_over["attempt"], 2);
    let (text, status) = coordinator.finish();
    assert!(status.success(), "{text}");
    assert!(watch.finish().success());

    // What was committed stayed, and the heir went on from there.
    let attempts: Vec<u32> = (1..=EPOCHS)
        .map(|epoch| {
            let path = store.join(format!("small/runs/{run}/epochs/{epoch:04}.json"));
            read_json::<Manifest>(path).attempt.0
        })
        .collect();
    assert_eq!(
        (attempts.first(), attempts.last()),
        (Some(&1), Some(&2)),
        "{attempts:?}"
    );
    assert!(attempts.is_sorted(), "{attempts:?}");
    read_json::<EvaluationReport>(store.join("small/evaluation.json"))
        .validate()
        .unwrap();
}

/// Enough that a fleet can be stopped by whoever looks for its first epoch.
const LONG: u32 = 40;

#[test]
fn a_stopped_local_fleet_hands_its_work_back_and_goes_on_later() {
    let job = Job::new(LONG, BATCH_SIZE);
    let mut coordinator = start(&job, &["--local"]);
    let manifests = ["vgg16", "residual"]
        .map(|run| job.path(&format!("store/small/runs/{run}/epochs/0001.json")));
    // The store is looked at: until `status` has started, a fast machine has trained many epochs.
    coordinator
        .process
        .until(|| manifests.iter().any(|path| path.exists()));
    coordinator.process.signal("TERM");
    let (text, status) = coordinator.finish();
    assert_eq!(status.code(), Some(130), "{text}");
    let before: Vec<_> = manifests.into_iter().filter(|path| path.exists()).collect();
    let bytes = |paths: &[PathBuf]| {
        paths
            .iter()
            .map(|p| std::fs::read(p).unwrap())
            .collect::<Vec<_>>()
    };
    let committed = bytes(&before);
    assert!(!committed.is_empty());

    let (text, status) = start(&job, &["--local"]).finish();
    assert!(status.success(), "{text}");
    assert_eq!(bytes(&before), committed);
}

/// The parent knows how it ended, and nobody waits for it to come back.
#[test]
fn a_killed_local_worker_is_lost_at_once() {
    let job = Job::new(LONG, BATCH_SIZE);
    // Who waited for a silent worker would wait for longer than the test.
    let timers = ["--lease", "20m", "--reattach-grace", "20m"];
    let mut coordinator = start(&job, &[&["--local"], &timers[..]].concat());
    let first = |run: &str| job.path(&format!("store/small/runs/{run}/epochs/0001.json"));
    let runs = ["vgg16", "residual"];
    coordinator
        .process
        .until(|| runs.iter().all(|run| first(run).exists()));
    let children = coordinator.process.children();
    assert_eq!(children.len(), 2, "{children:?}");
    let killed = Command::new("kill")
        .args(["-9", &children[0].to_string()])
        .status();
    assert!(killed.expect("kill runs").success());
    let (text, status) = coordinator.finish();
    assert!(status.success(), "{text}");

    let place = job.path("store/small");
    let (shown, _, status) = output(command("status").arg("show").arg(place).arg("--json"));
    assert!(status.success());
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let events = shown["events"].as_array().unwrap();
    let is_lost = |event: &&Value| event["how"] == "lost";
    let lost: Vec<_> = events.iter().filter(is_lost).collect();
    let [lost] = lost[..] else {
        panic!("one attempt is lost: {events:#?}");
    };
    let name = lost["worker"]["name"].as_str().unwrap();
    let reason = format!("worker {name} was lost: it ended with signal: 9 (SIGKILL)");
    assert_eq!(lost["reason"], reason);
    // It is told once, and before the next one comes.
    let place_of = |wanted: &dyn Fn(&Value) -> bool| events.iter().rposition(wanted).unwrap();
    let joined = place_of(&|event| event["event"] == "worker_joined");
    assert!(place_of(&|event| event["how"] == "lost") < joined);
    assert!(!events.iter().any(|event| event["event"] == "worker_lost"));
}

/// The run that the worker of this name trains.
fn held_by<'a>(snapshot: &'a Value, worker: &str) -> Option<&'a Value> {
    snapshot["runs"]
        .as_array()?
        .iter()
        .find(|run| run["worker"] == worker)
}

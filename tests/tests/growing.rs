//! Experiments that are changed and go on, with real processes: they end with the bytes of those that were so
//! from the start.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, ExitStatus};

use quartet_shared::ids::Revision;
use quartet_shared::report::EvaluationReport;
use quartet_store::manifest::{AttemptRecord, Manifest};
use quartet_tests::job::{Job, read_json};
use quartet_tests::processes::{Coordinator, Process, files, output, worker_command};
use quartet_tests::programs;
use serde_json::Value;

/// A coordinator of what the store has, with two workers of its own.
fn again(job: &Job, name: &str, arguments: &[&str]) -> Command {
    let mut command = programs::command("coordinator");
    command.args(["--workers", "2", "--local", "--listen", "127.0.0.1:0"]);
    command.arg("--store").arg(job.path("store"));
    command.args(["--name", name]).args(arguments);
    command
}

/// Runs a coordinator to its end.
fn finish(command: &mut Command) -> (String, ExitStatus) {
    Coordinator::spawn(command).finish()
}

/// Trains an experiment of its own to its end.
fn trained(epochs: u32) -> Job {
    let job = Job::new(epochs, 16);
    let mut command = job.coordinator(2, "127.0.0.1:0");
    let (text, status) = finish(command.arg("--local"));
    assert!(status.success(), "{text}");
    job
}

fn manifest(store: &Path, run: &str, epoch: u32) -> Manifest {
    read_json(store.join(format!("small/runs/{run}/epochs/{epoch:04}.json")))
}

fn evaluation(store: &Path) -> EvaluationReport {
    read_json(store.join("small/evaluation.json"))
}

/// Both have the same networks, and say the same.
fn assert_same(store: &Path, other: &Path, epochs: u32) {
    for run in ["vgg16", "residual"] {
        for epoch in 1..=epochs {
            let [one, two] = [store, other].map(|store| manifest(store, run, epoch));
            assert_eq!(one.weights.blob, two.weights.blob, "{run}, epoch {epoch}");
            assert_eq!(one.training_state.blob, two.training_state.blob);
            assert_eq!(one.early_stopping, two.early_stopping);
        }
    }
    let [mut one, two] = [store, other].map(evaluation);
    one.revision = two.revision;
    assert_eq!(one, two);
    let table = |store: &Path| std::fs::read(store.join("small/predictions.csv")).unwrap();
    assert_eq!(table(store), table(other));
}

#[test]
fn more_epochs_give_what_as_many_from_the_start_give() {
    let job = trained(2);
    let store = job.path("store");
    let before = evaluation(&store);
    let longer = ["--update", "--set", "epochs=4", "--set", "patience=4"];

    // Killed in the middle, once the update is accepted, and again while it trains.
    let mut killed = Coordinator::spawn(&mut again(&job, "small", &longer));
    killed.process.kill();
    let mut killed = Coordinator::spawn(&mut again(&job, "small", &longer));
    let mut watch = killed.watch();
    watch.until(|snapshot| {
        let runs = snapshot["runs"].as_array()?;
        let trains = |run: &Value| run["epochs_committed"].as_u64() >= Some(3);
        runs.iter().any(trains).then_some(())
    });
    killed.process.kill();
    let (text, status) = finish(&mut again(&job, "small", &[]));
    assert!(status.success(), "{text}");

    assert_same(&store, &trained(4).path("store"), 4);
    assert_eq!(manifest(&store, "vgg16", 2).revision, Revision(1));
    assert_eq!(manifest(&store, "vgg16", 3).revision, Revision(2));
    assert_eq!(evaluation(&store).revision, Revision(2));
    // What there was is kept.
    let earlier = store.join("small/earlier/0001");
    let names = [
        "evaluation.json",
        "evaluation.txt",
        "predictions.csv",
        "report.html",
    ];
    assert_eq!(files(&earlier), names.map(Path::new));
    assert_eq!(
        read_json::<EvaluationReport>(earlier.join("evaluation.json")),
        before
    );

    // It has finished, and says so at once.
    let (text, _, status) = output(&mut again(&job, "small", &longer));
    assert!(
        status.success() && text.contains("has finished already"),
        "{text}"
    );
    let (text, errors, status) = output(&mut again(&job, "small", &["--set", "epochs=3"]));
    assert_eq!(status.code(), Some(2), "{text}");
    assert!(
        errors.contains("epochs = 3 (was 4); --update changes it"),
        "{errors}"
    );
    let (_, errors, status) = output(&mut again(
        &job,
        "small",
        &["--update", "--set", "epochs=3"],
    ));
    assert_eq!(status.code(), Some(2));
    assert!(
        errors.contains("has been trained for 4 epochs") && errors.contains("--fork small"),
        "{errors}"
    );
}

#[test]
fn another_weighting_computes_no_network_and_one_run_more_only_its_own() {
    let job = trained(2);
    let store = job.path("store");
    let predictions = |run: &str| files(&store.join(format!("small/runs/{run}/predictions")));
    let before = [predictions("vgg16"), predictions("residual")];
    let toml = std::fs::read_to_string(&job.toml).unwrap();
    let weighted = toml + "ensemble_weight = 3\n";
    let more = format!(
        "{weighted}\n[[run]]\nname = \"third\"\nbackbone = \"vgg16\"\nwidth = 0.05\nlearning_rate = 1e-3\n"
    );
    for (revision, text) in [(2, weighted), (3, more)] {
        let file = job.path("other.toml");
        std::fs::write(&file, text).unwrap();
        let (text, status) = finish(&mut again(
            &job,
            "small",
            &["--update", "--experiment", file.to_str().unwrap()],
        ));
        assert!(status.success(), "{text}");
        let report = evaluation(&store);
        report.validate().unwrap();
        assert_eq!(report.revision, Revision(revision));
        assert_eq!(report.members[1].weight, [0.75, 0.6][revision as usize - 2]);
        assert_eq!([predictions("vgg16"), predictions("residual")], before);
    }
    assert_eq!(evaluation(&store).members.len(), 3);
    assert_eq!(predictions("third").len(), 2);
    // A fork has the same data, and its own runs.
    let fork = ["--fork", "small", "--set", "epochs=1", "--set", "seed=8"];
    let (text, status) = finish(&mut again(&job, "other", &fork));
    assert!(status.success(), "{text}");
    let specs =
        ["small", "other"].map(|name| read_json::<Value>(store.join(format!("{name}/spec.json"))));
    assert_eq!(specs[0]["dataset"], specs[1]["dataset"]);
    assert_eq!(specs[1]["forked_from"], "small");
    assert_eq!(specs[1]["experiment"]["runs"].as_array().unwrap().len(), 3);
}

#[test]
fn a_run_that_failed_begins_anew_with_other_settings_or_gets_another_budget() {
    let job = Job::new(24, 4);
    let toml = std::fs::read_to_string(&job.toml).unwrap();
    // A learning rate that no network survives.
    let (head, tail) = toml.rsplit_once("learning_rate = 1e-3").unwrap();
    std::fs::write(&job.toml, format!("{head}learning_rate = 1e30{tail}")).unwrap();
    let mut coordinator = Coordinator::spawn(&mut job.coordinator(2, "127.0.0.1:0"));
    let worker = |name: &str| {
        let mut command = worker_command(&coordinator.address, name, &job.path("cache"));
        Process::spawn(&mut command)
    };
    // The one that trains the other run is not free for the second try.
    let workers = ["one", "two", "three"].map(worker);
    let mut watch = coordinator.watch();
    let state = |snapshot: &Value, run: usize| snapshot["runs"][run]["state"].clone();
    watch.until(|snapshot| (state(snapshot, 1) == "failed").then_some(()));
    let retry = |run: &str| {
        let mut status = programs::command("status");
        output(status.args(["--coordinator", &coordinator.address, "retry", run]))
    };
    let (_, errors, status) = retry("vgg16");
    assert_eq!(status.code(), Some(1), "{errors}");
    assert!(errors.contains("vgg16 has not failed for good"), "{errors}");
    let (_, errors, status) = retry("vgg19");
    assert_eq!(status.code(), Some(2), "{errors}");
    assert!(
        errors.contains("no run vgg19; it has vgg16, residual"),
        "{errors}"
    );
    let (text, errors, status) = retry("residual");
    assert!(status.success(), "{errors}");
    assert_eq!(text, "residual is tried again\n");
    let store = job.path("store");
    let attempt = |number: u32| {
        let path = store.join(format!("small/runs/residual/attempts/{number:04}.json"));
        path.exists().then(|| read_json::<AttemptRecord>(path))
    };
    // It fails twice more.
    coordinator.process.until(|| attempt(4).is_some());
    watch.until(|snapshot| (state(snapshot, 1) == "failed").then_some(()));
    coordinator.process.kill();
    drop(workers);

    let change = ["--update", "--set", "residual.learning_rate=1e-3"];
    let (text, status) = finish(&mut again(&job, "small", &change));
    assert!(status.success(), "{text}");
    assert!(
        text.contains("revision 2: residual.learning_rate = 0.001"),
        "{text}"
    );
    assert_eq!(manifest(&store, "residual", 1).revision, Revision(2));
    assert_eq!(manifest(&store, "residual", 24).revision, Revision(2));
    assert_eq!(attempt(5).unwrap().revision, Revision(2));
    // TensorBoard shows it as another run.
    let tensorboard = store.join("small/tensorboard");
    assert!(tensorboard.join("residual@2/train").exists());
    assert!(tensorboard.join("residual").exists());
    assert_eq!(evaluation(&store).members.len(), 2);
}

/// The tensors of a file of weights, by name.
fn tensors(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let bytes = std::fs::read(path).unwrap();
    let (length, rest) = bytes.split_at(8);
    let length = u64::from_le_bytes(length.try_into().unwrap()) as usize;
    let header: BTreeMap<String, Value> = serde_json::from_slice(&rest[..length]).unwrap();
    let data = &rest[length..];
    let tensors = header
        .into_iter()
        .filter(|(name, _)| name != "__metadata__");
    let bytes = |tensor: &Value| {
        let at = |i: usize| tensor["data_offsets"][i].as_u64().unwrap() as usize;
        data[at(0)..at(1)].to_vec()
    };
    tensors
        .map(|(name, tensor)| (name, bytes(&tensor)))
        .collect()
}

#[test]
fn a_fork_starts_from_what_was_trained_and_freezes_the_backbone() {
    let job = trained(2);
    let store = job.path("store");
    let best = manifest(&store, "vgg16", 2).early_stopping.best_epoch.0;
    let best = manifest(&store, "vgg16", best);
    // At this rate an update changes no parameter, so that they can be compared.
    let fork = [
        "--fork",
        "small",
        "--set",
        "vgg16.weights=run:small/vgg16",
        "--set",
        "vgg16.freeze=backbone",
        "--set",
        "vgg16.learning_rate=1e-30",
        "--set",
        "epochs=1",
    ];
    let (text, status) = finish(&mut again(&job, "other", &fork));
    assert!(status.success(), "{text}");
    assert!(
        text.contains("vgg16 from run small/vgg16, epoch "),
        "{text}"
    );
    let spec: Value = read_json(store.join("other/spec.json"));
    let weights = &spec["weights"]["vgg16"];
    assert_eq!(weights["sha256"], best.weights.blob.sha256.to_string());
    let origin = &spec["origins"]["vgg16"];
    assert_eq!(origin["experiment"], "small");
    assert_eq!(origin["epoch"], best.epoch.0);

    let began: Manifest = read_json(store.join("other/runs/vgg16/epochs/0001.json"));
    let [before, after] =
        [&best, &began].map(|manifest| tensors(&store.join(&manifest.weights.key)));
    assert!(before.keys().eq(after.keys()));
    let other = before
        .iter()
        .filter(|(name, bytes)| after[*name] != **bytes);
    // Dead features apart, only the head's running statistics have moved.
    let other: Vec<&String> = other.map(|(name, _)| name).collect();
    assert!(!other.is_empty());
    for name in other {
        assert!(
            name.starts_with("head.") && name.contains("norm.running_"),
            "{name}"
        );
    }
}

//! The JSON objects of a store: a coordinator goes on with an experiment of which one is damaged.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use object_store::ObjectStoreExt as _;
use object_store::memory::InMemory;
use quartet_coordinator::experiment::{Experiment, Request, read_history};
use quartet_coordinator::scheduler::{Config, Now, RunSettings, Scheduler, WorkerInfo};
use quartet_coordinator::server::{Coordinator, Policy, Timing};
use quartet_ingest::data::Source;
use quartet_ingest::weights::DownloadProgress;
use quartet_mutation::{Format, Kind, survives};
use quartet_proto::channel::Connector;
use quartet_shared::dataset::Split;
use quartet_shared::provenance::Provenance;
use quartet_shared::report::{EvaluationReport, Member, Prediction, SplitReport};
use quartet_shared::secret::SecretHash;
use quartet_shared::spec::{Backbone, Preset};
use quartet_shared::terminal::Mode;
use quartet_status::{json, render};
use quartet_store::Store;
use quartet_tests::processes::{files, output};

const ARCHIVE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/stores/e969e3a.tar.gz");

/// Objects by their keys.
type Objects = BTreeMap<String, Vec<u8>>;

/// All JSON objects of a store that an earlier version wrote, and an evaluation.
fn objects() -> Objects {
    let folder = tempfile::tempdir().unwrap();
    let mut tar = Command::new("tar");
    let (_, errors, status) = output(tar.arg("-xzf").arg(ARCHIVE).arg("-C").arg(folder.path()));
    assert!(status.success(), "{errors}");
    let root = folder.path().join("runs");
    let is_json = |path: &Path| {
        path.extension()
            .is_some_and(|extension| extension == "json")
    };
    let paths = files(&root).into_iter().filter(|path| is_json(path));
    let mut objects: Objects = paths
        .map(|path| {
            (
                path.to_str().unwrap().to_owned(),
                fs::read(root.join(path)).unwrap(),
            )
        })
        .collect();
    let report = serde_json::to_vec_pretty(&report()).unwrap();
    objects.insert("old/evaluation.json".to_owned(), report);
    assert_eq!(objects.len(), 11, "{:?}", objects.keys());
    objects
}

/// An evaluation of two runs.
pub(super) fn report() -> EvaluationReport {
    let classes = ["angry", "happy", "sad"].map(str::to_owned).to_vec();
    let probabilities = [0.7, 0.2, 0.1, 0.6, 0.3, 0.1, 0.1, 0.8, 0.1];
    let predictions = ["begun", "done"].map(|run| Prediction {
        run: run.parse().unwrap(),
        weight: 0.5,
        probabilities: &probabilities,
    });
    let splits = [Split::Valid, Split::Test]
        .map(|split| SplitReport::compute(split, &classes, &[0, 1, 2], &predictions).unwrap());
    let members = predictions.map(|prediction| Member {
        run: prediction.run,
        backbone: Backbone::Vgg16,
        best_epoch: quartet_shared::ids::Epoch(1),
        weight: 0.5,
    });
    EvaluationReport {
        experiment: "old".parse().unwrap(),
        classes,
        members: members.into(),
        splits: splits.into(),
        partial: None,
        revision: quartet_shared::ids::Revision::FIRST,
    }
}

/// A network on which nobody answers.
fn nobody() -> Connector {
    let service = tower::service_fn(|_| async {
        Err::<TokioIo<tokio::net::TcpStream>, _>(io::Error::from(io::ErrorKind::ConnectionRefused))
    });
    Connector::new(
        move |endpoint| endpoint.connect_with_connector_lazy(service),
        move |endpoint| Box::pin(async move { endpoint.connect_with_connector(service).await }),
    )
}

/// Goes on with the experiment, shows it, and gives its tasks to a worker.
async fn go_on(objects: &Objects) -> anyhow::Result<()> {
    let memory = InMemory::new();
    for (key, bytes) in objects {
        memory
            .put(&key.as_str().into(), bytes.clone().into())
            .await?;
    }
    let store = Store::from_objects("memory", Arc::new(memory));
    let mut spec = Preset::Demo.spec();
    spec.name = "old".parse()?;
    let mut request = Request::new(spec, Source::Synthetic, "127.0.0.1:1".to_owned(), nobody());
    request.spec_is_explicit = false;
    let mut progress = DownloadProgress::new(Box::new(io::sink()), Mode::Lines);
    let experiment = Experiment::open(store, request, &mut progress).await?;
    let history = read_history(&experiment).await?;
    let spec = &experiment.spec.experiment;
    let runs = RunSettings::of(spec);
    let mut scheduler = Scheduler::new(experiment.id.clone(), Config::default(), runs, history);
    let worker = WorkerInfo {
        id: "w1".parse()?,
        name: "one".to_owned(),
        device: "CPU".to_owned(),
        secret: SecretHash::default(),
        provenance: Provenance::default(),
        stays: false,
        precisions: Vec::new(),
    };
    let mut now = Now::default();
    let _ = scheduler.join(worker, None, now);
    for _ in 0..8 {
        now = now + Duration::from_secs(600);
        let _ = scheduler.expire_leases(now);
        let _ = scheduler.report_stalls(now);
        let _ = scheduler.assign(now);
        let _ = (scheduler.next_deadline(now), scheduler.experiment_state());
    }
    let coordinator =
        Coordinator::new(experiment, 1, Timing::default(), Policy::Local, None).await?;
    let snapshot = coordinator.snapshots().now();
    let _ = (render::table(&snapshot, 80), json::pretty(&snapshot));
    Ok(())
}

#[test]
fn stores() {
    let format = Format {
        name: "store",
        test: "store::stores",
        kind: Kind::Text,
        cases: 1000,
    };
    let objects = objects();
    // Each with its key in the first line.
    let valid = || {
        let lines = objects
            .iter()
            .map(|(key, bytes)| [key.as_bytes(), b"\n", bytes].concat());
        lines.collect()
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    survives(&format, valid, |bytes| {
        let at = bytes
            .iter()
            .position(|&byte| byte == b'\n')
            .ok_or("no key")?;
        let key = String::from_utf8_lossy(&bytes[..at]).into_owned();
        let mut objects = objects.clone();
        let object = objects.get_mut(&key).ok_or("another key")?;
        *object = bytes[at + 1..].to_vec();
        runtime.block_on(go_on(&objects)).map_err(|error| {
            let error = format!("{error:#}");
            assert!(error.contains(&key) && error.len() < 4096, "{key}: {error}");
            error
        })
    });
}

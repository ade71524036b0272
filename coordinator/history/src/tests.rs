mod predictions;

use std::sync::Arc;

use object_store::memory::InMemory;
use quartet_shared::blob::{Blob, BlobRef};
use quartet_shared::clock::Timestamp;
use quartet_shared::dataset::Split;
use quartet_shared::early_stopping::EarlyStopping;
use quartet_shared::event::{AttemptEnd, Event, Occurrence, Worker};
use quartet_shared::ids::{Attempt, Epoch, RunName, Term, WorkerId};
use quartet_shared::outcome::{Outcome, StopReason};
use quartet_shared::position::Position;
use quartet_shared::progress::EpochMetrics;
use quartet_shared::provenance::Provenance;
use quartet_shared::report::{EvaluationReport, Partial};
use quartet_shared::spec::Preset;
use quartet_shared::state::TaskState;
use quartet_shared::task::Task;
use quartet_store::Store;
use quartet_store::layout::Layout;
use quartet_store::manifest::{AttemptRecord, Manifest, StoredSpec};

use crate::{HistoryError, Standing, experiments, read};

const BEGIN: u64 = 1_795_727_935;

/// An experiment of two runs in a store of its own.
struct Written {
    store: Store,
    layout: Layout,
    runs: Vec<RunName>,
    lists: u32,
}

impl Written {
    async fn new() -> Self {
        let mut experiment = Preset::Demo.spec();
        experiment.name = "e".parse().unwrap();
        experiment.runs.truncate(2);
        let runs = experiment.runs.iter().map(|run| run.name.clone()).collect();
        let spec = StoredSpec {
            note: None,
            tags: Vec::new(),
            forked_from: None,
            revised: None,
            format: 1,
            id: None,
            experiment,
            dataset: blob("datasets/x.qds"),
            weights: Default::default(),
            data_fingerprint: None,
            data_origin: None,
            origins: Default::default(),
            created_at: Some(Timestamp::from_seconds(BEGIN)),
        };
        let written = Self {
            store: Store::from_objects("memory", Arc::new(InMemory::new())),
            layout: Layout::new("e".parse().unwrap()),
            runs,
            lists: 0,
        };
        written.put(&written.layout.spec(), &spec).await;
        written
    }

    async fn put(&self, key: &str, value: &impl serde::Serialize) {
        self.store.create_json(key, value).await.unwrap();
    }

    async fn attempt(&self, run: usize, attempt: u32, resume: Position) {
        self.attempt_at(self.task(run), attempt, resume).await;
    }

    async fn attempt_at(&self, task: Task, attempt: u32, resume: Position) {
        let record = AttemptRecord {
            attempt: Attempt(attempt),
            worker: worker().id,
            revision: quartet_shared::ids::Revision::FIRST,
            name: worker().name,
            secret: None,
            term: Term(1),
            resume,
            granted_at: BEGIN + u64::from(attempt),
            provenance: Provenance::default(),
        };
        let key = self.layout.attempt(&task, record.attempt);
        self.put(&key, &record).await;
    }

    async fn epoch(&self, run: usize, epoch: u32, valid_accuracy: f64) {
        let name = self.runs[run].clone();
        let early_stopping = EarlyStopping::observe(None, Epoch(epoch), valid_accuracy);
        let manifest = Manifest {
            run: name.clone(),
            epoch: Epoch(epoch),
            attempt: Attempt(1),
            worker: worker().id,
            revision: quartet_shared::ids::Revision::FIRST,
            committed_at: Some(Timestamp::from_seconds(BEGIN + 60 * u64::from(epoch))),
            metrics: EpochMetrics {
                valid_accuracy,
                images_per_second: f64::from(epoch),
                seconds: 50.0,
                ..EpochMetrics::default()
            },
            early_stopping,
            weights: blob("w"),
            training_state: blob("s"),
        };
        let key = self.layout.manifest(&name, Epoch(epoch));
        self.put(&key, &manifest).await;
    }

    async fn outcome(&self, run: usize) {
        let outcome = outcome();
        self.put(&self.layout.outcome(&self.runs[run]), &outcome)
            .await;
    }

    /// An evaluation that lacks the first run.
    async fn evaluation_without_first(&self, attempt: u32) {
        let attempt = Attempt(attempt);
        let partial = Partial {
            missing: vec![self.runs[0].clone()],
            attempt,
        };
        let key = self.layout.results(Some(attempt)).evaluation();
        self.put(&key, &report(Some(partial))).await;
    }

    /// Things that happen one after the other, each a second later.
    async fn events(&mut self, what: Vec<Occurrence>) {
        self.lists += 1;
        let seconds = BEGIN + 1000 * u64::from(self.lists);
        let events: Vec<Event> = (seconds..)
            .zip(what)
            .map(|(at, what)| Event {
                at: Timestamp::from_seconds(at),
                what,
            })
            .collect();
        let key = self.layout.events(Term(1), self.lists);
        self.put(&key, &events).await;
    }

    fn task(&self, run: usize) -> Task {
        Task::Train(self.runs[run].clone())
    }

    async fn read(&self) -> crate::ExperimentRecord {
        read(&self.store, &"e".parse().unwrap()).await.unwrap()
    }
}

fn blob(key: &str) -> BlobRef {
    let blob = Blob::of(key.as_bytes());
    BlobRef {
        key: key.into(),
        blob,
    }
}

fn worker() -> Worker {
    Worker {
        id: "w1".parse::<WorkerId>().unwrap(),
        name: "gpu-0".into(),
    }
}

fn outcome() -> Outcome {
    Outcome {
        epochs: 2,
        best_epoch: Epoch(2),
        best_valid_accuracy: 0.5,
        stop_reason: StopReason::Epochs,
    }
}

fn report(partial: Option<Partial>) -> EvaluationReport {
    EvaluationReport {
        experiment: "e".parse().unwrap(),
        classes: Vec::new(),
        members: Vec::new(),
        splits: Vec::new(),
        partial,
        revision: quartet_shared::ids::Revision::FIRST,
    }
}

fn started() -> Occurrence {
    Occurrence::CoordinatorStarted {
        term: Term(1),
        host: "h".into(),
        version: "1".into(),
    }
}

#[tokio::test]
async fn an_experiment_is_read_from_its_store() {
    let mut written = Written::new().await;
    written.attempt(0, 1, Position::default()).await;
    written.attempt(0, 2, Position::end_of(Epoch(1))).await;
    written.epoch(0, 2, 0.5).await;
    written.epoch(0, 1, 0.4).await;
    written.outcome(0).await;
    let (task, run) = (written.task(0), written.runs[0].clone());
    let lost = Occurrence::AttemptEnded {
        task,
        attempt: Attempt(1),
        worker: worker(),
        how: AttemptEnd::Lost,
        reason: Some("no heartbeat for 15 s".into()),
    };
    let finished = Occurrence::RunFinished {
        run,
        attempt: Attempt(2),
        outcome: outcome(),
    };
    written.events(vec![started(), lost, finished]).await;

    let record = written.read().await;
    assert_eq!(record.standing(), Standing::Unfinished);
    // It was created before, and waited for a coordinator.
    assert_eq!(
        record.began_at(),
        Some(Timestamp::from_seconds(BEGIN + 1000))
    );
    assert_eq!(
        record.last_sign(),
        Some(Timestamp::from_seconds(BEGIN + 1002))
    );
    let run = &record.runs[0];
    assert_eq!(run.state(), TaskState::Finished);
    assert_eq!(record.runs[1].state(), TaskState::Pending);
    let epochs: Vec<u32> = run.epochs.iter().map(|epoch| epoch.epoch.0).collect();
    assert_eq!(epochs, [1, 2]);
    assert_eq!(run.best().unwrap().best_valid_accuracy, 0.5);
    assert_eq!(run.images_per_second(), Some(1.5));
    assert_eq!(run.trained_for().as_secs(), 100);
    assert_eq!(record.best_run().unwrap().spec.name, run.spec.name);
    let [first, second] = &run.attempts[..] else {
        panic!("{:?}", run.attempts)
    };
    let result = first.result.as_ref().unwrap();
    assert_eq!(result.how, Some(AttemptEnd::Lost));
    assert_eq!(result.reason.as_deref(), Some("no heartbeat for 15 s"));
    assert_eq!(second.resume, Position::end_of(Epoch(1)));
    assert_eq!(second.result.as_ref().unwrap().how, None);
    assert_eq!(record.ensemble_accuracy(Split::Test), None);
}

/// A killed coordinator writes no events: records and manifests are enough.
#[tokio::test]
async fn events_may_be_missing() {
    let written = Written::new().await;
    written.attempt(1, 1, Position::default()).await;
    written.epoch(1, 1, 0.3).await;
    let record = written.read().await;
    assert_eq!(record.standing(), Standing::Unfinished);
    assert_eq!(record.runs[1].state(), TaskState::Leased);
    assert_eq!(record.runs[1].attempts[0].worker, "gpu-0");
    assert_eq!(
        record.last_sign(),
        Some(Timestamp::from_seconds(BEGIN + 60))
    );
}

#[tokio::test]
async fn a_failure_lasts_until_the_next_attempt() {
    let mut written = Written::new().await;
    written.outcome(1).await;
    written.attempt(0, 1, Position::default()).await;
    let failed = |task| Occurrence::TaskFailed {
        task,
        reason: "failed 4 times".into(),
    };
    let what = vec![
        started(),
        failed(written.task(0)),
        Occurrence::CoordinatorStopped {
            reason: "it failed".into(),
        },
    ];
    written.events(what).await;
    let record = written.read().await;
    assert_eq!(record.standing(), Standing::Failed);
    assert_eq!(record.runs[0].failure.as_deref(), Some("failed 4 times"));
    assert_eq!(
        record.failures().collect::<Vec<_>>(),
        [(written.runs[0].to_string(), "failed 4 times")]
    );

    let again = Occurrence::AttemptStarted {
        task: written.task(0),
        attempt: Attempt(2),
        worker: worker(),
        resume: Position::default(),
    };
    written.events(vec![started(), again]).await;
    written.attempt(0, 2, Position::default()).await;
    let record = written.read().await;
    assert_eq!(record.standing(), Standing::Unfinished);
    assert_eq!(record.runs[0].failure, None);
    assert_eq!(record.runs[0].state(), TaskState::Leased);

    let stopped = Occurrence::CoordinatorStopped {
        reason: "a signal".into(),
    };
    written.events(vec![stopped]).await;
    assert_eq!(written.read().await.standing(), Standing::Stopped);
}

/// What was evaluated without a run that failed is of the past once that run is tried again.
#[tokio::test]
async fn an_evaluation_that_lacks_runs_is_that_of_the_last_coordinator() {
    let mut written = Written::new().await;
    written.outcome(1).await;
    written.attempt(0, 1, Position::default()).await;
    let failed = Occurrence::TaskFailed {
        task: written.task(0),
        reason: "it broke".into(),
    };
    written.events(vec![started(), failed]).await;
    // The evaluation of the other is to come.
    assert_eq!(written.read().await.standing(), Standing::Unfinished);

    for attempt in [1, 2] {
        written.evaluation_without_first(attempt).await;
    }
    let missing = written.runs[0].to_string();
    let evaluated = Occurrence::Evaluated {
        attempt: Attempt(2),
    };
    written.events(vec![evaluated]).await;
    let record = written.read().await;
    assert_eq!(record.standing(), Standing::Failed);
    assert_eq!(record.missing(), missing);
    let newest = record.report.and_then(|report| report.partial).unwrap();
    assert_eq!(newest.attempt, Attempt(2));

    written.events(vec![started()]).await;
    let record = written.read().await;
    assert_eq!(record.standing(), Standing::Unfinished);
    assert_eq!(record.report, None);

    // In the end all runs are evaluated.
    written.outcome(0).await;
    let whole = written.layout.results(None).evaluation();
    written.put(&whole, &report(None)).await;
    let record = written.read().await;
    assert_eq!(record.standing(), Standing::Finished);
    assert_eq!(record.report, Some(report(None)));
    assert_eq!(record.missing(), "");
}

/// A coordinator whose last events the store did not take has said by its report which runs failed.
#[tokio::test]
async fn an_evaluation_that_lacks_runs_needs_no_event() {
    let mut written = Written::new().await;
    written.outcome(1).await;
    written.attempt(0, 1, Position::default()).await;
    let evaluation = Task::Evaluate;
    written.attempt_at(evaluation, 1, Position::default()).await;
    let claims = written.layout.claims();
    written.put(&claims.claim(Term(1)), &1).await;
    written.evaluation_without_first(1).await;
    let record = written.read().await;
    assert_eq!(record.standing(), Standing::Failed);
    let failed = [(
        written.runs[0].to_string(),
        "its coordinator ended before it could record why",
    )];
    assert_eq!(record.failures().collect::<Vec<_>>(), failed);

    // It was written, but that answer was lost, and the run is tried again.
    let ended = Occurrence::AttemptEnded {
        task: Task::Evaluate,
        attempt: Attempt(1),
        worker: worker(),
        how: AttemptEnd::HandedBack,
        reason: None,
    };
    let retried = Occurrence::Retried {
        task: written.task(0),
    };
    written.events(vec![started(), ended, retried]).await;
    let record = written.read().await;
    assert_eq!(record.standing(), Standing::Unfinished);
    assert_eq!(record.report, None);
    assert_eq!(record.failures().next(), None);
}

/// The next coordinator tries it again, even if nothing of it is told yet.
#[tokio::test]
async fn an_evaluation_that_lacks_runs_is_not_that_of_a_later_term() {
    let written = Written::new().await;
    written.outcome(1).await;
    let evaluation = Task::Evaluate;
    written.attempt_at(evaluation, 1, Position::default()).await;
    written.evaluation_without_first(1).await;
    let claims = written.layout.claims();
    written.put(&claims.claim(Term(1)), &1).await;
    assert_eq!(written.read().await.standing(), Standing::Failed);

    written.put(&claims.claim(Term(2)), &1).await;
    let record = written.read().await;
    assert_eq!(record.standing(), Standing::Unfinished);
    assert_eq!(record.report, None);
    assert_eq!(record.failures().next(), None);
}

#[tokio::test]
async fn a_store_lists_what_has_a_spec() {
    let written = Written::new().await;
    for key in [
        "datasets/x.qds",
        "weights/y",
        "notes/readme.json",
        "b/spec.json",
    ] {
        written.put(key, &1).await;
    }
    let names = experiments(&written.store).await.unwrap();
    assert_eq!(names, ["b".parse().unwrap(), "e".parse().unwrap()]);
    let missing = read(&written.store, &"f".parse().unwrap())
        .await
        .unwrap_err();
    assert!(matches!(missing, HistoryError::Missing { .. }));
    assert_eq!(
        missing.to_string(),
        "memory has no experiment f; it has b, e"
    );
}

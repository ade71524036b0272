//! Which event files an experiment has, and what they say.
//!
//! Below the experiment's folder `tensorboard`, tags and steps are those of Keras' `TensorBoard` callback,
//! whose first epoch is step 0:
//!
//! | folder | number | content |
//! | --- | --- | --- |
//! | `.` | 0 | which hyperparameters and metrics there are |
//! | `<run>` | 0 | the run's hyperparameters |
//! | `<run>` | [`SUCCEEDED`] or [`FAILED`] | how the run ended |
//! | `<run>/train` | epoch | `epoch_loss`, `epoch_accuracy`, `epoch_learning_rate`, `images_per_second`, `seconds_per_epoch` |
//! | `<run>/validation` | epoch | `epoch_loss`, `epoch_accuracy` |
//!
//! A run that has begun anew with a later revision of the experiment is `<run>@<revision>`.

use bytes::Bytes;
use quartet_history::{EpochSummary, ExperimentRecord, RunRecord};
use quartet_shared::clock::Timestamp;
use quartet_shared::event::{Event, Occurrence};
use quartet_shared::ids::Epoch;
use quartet_shared::spec::{ExperimentSpec, RunSpec};
use quartet_shared::task::Task;
use quartet_store::layout::{EventFolder, Layout};
use quartet_store::manifest::StoredSpec;

use crate::event_file::{event_file, scalar};
use crate::hyperparameters;
use crate::proto::hparams::Status;

/// The number of the file that says that a run is trained.
pub const SUCCEEDED: u64 = 9_999_999_998;

/// The number of the file that says that a run has failed for good. Another coordinator can begin the run
/// again, and TensorBoard believes the first end that it reads: success has the smaller number.
pub const FAILED: u64 = 9_999_999_999;

/// An event file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its key in the store.
    pub key: String,
    /// Its content.
    pub bytes: Bytes,
}

/// Makes the event files of an experiment. The same facts always make the same files.
#[derive(Clone, Debug)]
pub struct EventFiles<'a> {
    layout: Layout,
    stored: &'a StoredSpec,
    spec: &'a ExperimentSpec,
    created_at: Option<Timestamp>,
    steps_per_epoch: u64,
}

impl<'a> EventFiles<'a> {
    /// The files of an experiment whose data set has `training_images` images to train on.
    #[must_use]
    pub fn new(spec: &'a StoredSpec, training_images: u64) -> Self {
        let (experiment, created_at) = (&spec.experiment, spec.created_at);
        Self {
            layout: Layout::new(experiment.name.clone()),
            stored: spec,
            spec: experiment,
            created_at,
            // The worker's sampler, in `worker/engine/src/input/sampler.rs`, makes as many.
            steps_per_epoch: training_images / u64::from(experiment.batch_size.max(1)) + 1,
        }
    }

    /// All files of an experiment, those of each folder in the order of their keys.
    pub fn all<'r>(&'r self, record: &'r ExperimentRecord) -> impl Iterator<Item = File> + 'r {
        let runs = record.runs.iter().flat_map(|run| {
            let epochs = run.epochs.iter();
            let epochs = epochs.flat_map(|epoch| self.epoch(&run.spec, epoch));
            let end = self.end(run, &record.events);
            std::iter::once(self.start(&run.spec))
                .chain(epochs)
                .chain(end)
        });
        std::iter::once(self.experiment()).chain(runs)
    }

    /// Which hyperparameters and metrics the experiment has.
    #[must_use]
    pub fn experiment(&self) -> File {
        let summary = hyperparameters::experiment(self.spec, self.created_at);
        File {
            key: self.layout.event_file(EventFolder::Experiment, 0),
            bytes: event_file(self.created_at, 0, vec![summary]),
        }
    }

    /// The hyperparameters of a run.
    #[must_use]
    pub fn start(&self, run: &RunSpec) -> File {
        let summary = hyperparameters::session_start(self.spec, run, self.created_at);
        File {
            key: self
                .layout
                .event_file(EventFolder::Run(&run.name, self.stored.begun(&run.name)), 0),
            bytes: event_file(self.created_at, 0, vec![summary]),
        }
    }

    /// The metrics of an epoch, of training and of validation.
    ///
    /// Create them after those of the epochs before. A TensorBoard that has read a file of a folder passes
    /// over smaller numbers that appear later, or drops the steps after theirs, until it is started again.
    #[must_use]
    pub fn epoch(&self, run: &RunSpec, epoch: &EpochSummary) -> [File; 2] {
        let metrics = &epoch.metrics;
        let train = vec![
            scalar("epoch_loss", metrics.train_loss),
            scalar("epoch_accuracy", metrics.train_accuracy),
            scalar("epoch_learning_rate", self.learning_rate(run, epoch.epoch)),
            scalar("images_per_second", metrics.images_per_second),
            scalar("seconds_per_epoch", metrics.seconds),
        ];
        let validation = vec![
            scalar("epoch_loss", metrics.valid_loss),
            scalar("epoch_accuracy", metrics.valid_accuracy),
        ];
        let step = i64::from(epoch.epoch.0) - 1;
        let begun = self.stored.begun(&run.name);
        let file = |folder, summaries| File {
            key: self.layout.event_file(folder, epoch.epoch.0.into()),
            bytes: event_file(epoch.committed_at, step, summaries),
        };
        [
            file(EventFolder::Train(&run.name, begun), train),
            file(EventFolder::Validation(&run.name, begun), validation),
        ]
    }

    /// The learning rate after an epoch, which is what Keras' callback writes: that of the next update.
    fn learning_rate(&self, run: &RunSpec, epoch: Epoch) -> f64 {
        let updates = self.steps_per_epoch as f64 * f64::from(epoch.0);
        run.learning_rate / (1.0 + run.decay * updates)
    }

    /// How a run has ended, if it has. `events` say when a run failed.
    #[must_use]
    pub fn end(&self, run: &RunRecord, events: &[Event]) -> Option<File> {
        let (status, number, at) = if run.outcome.is_some() {
            let last = run.epochs.last();
            let at = last.and_then(|epoch| epoch.committed_at);
            (Status::Success, SUCCEEDED, at)
        } else {
            run.failure.as_ref()?;
            (Status::Failure, FAILED, failed_at(run, events))
        };
        let summary = hyperparameters::session_end(status, at);
        let name = &run.spec.name;
        Some(File {
            key: self
                .layout
                .event_file(EventFolder::Run(name, self.stored.begun(name)), number),
            bytes: event_file(at, 0, vec![summary]),
        })
    }
}

/// When a run last failed for good.
fn failed_at(run: &RunRecord, events: &[Event]) -> Option<Timestamp> {
    let run = Task::Train(run.spec.name.clone());
    let failures = events.iter().filter_map(|event| match &event.what {
        Occurrence::TaskFailed { task, .. } if *task == run => Some(event.at),
        _ => None,
    });
    failures.max()
}

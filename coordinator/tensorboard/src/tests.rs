use std::collections::BTreeMap;
use std::sync::Arc;

use object_store::memory::InMemory;
use prost::Message;
use quartet_history::{EpochSummary, ExperimentRecord, RunRecord};
use quartet_shared::blob::{Blob, BlobRef};
use quartet_shared::clock::Timestamp;
use quartet_shared::early_stopping::EarlyStopping;
use quartet_shared::event::{Event as Happened, Occurrence};
use quartet_shared::ids::{Attempt, Epoch};
use quartet_shared::outcome::{Outcome, StopReason};
use quartet_shared::progress::EpochMetrics;
use quartet_shared::spec::Preset;
use quartet_shared::task::Task;
use quartet_store::Store;
use quartet_store::manifest::StoredSpec;

use crate::event_file::{hparams, scalar};
use crate::proto::event::{Event, Summary, Value, What};
use crate::proto::hparams::{
    Data, DataType, Domain, HParamsPluginData, Kind, SessionStartInfo, Status, Value as HParam,
};
use crate::{EventFiles, File, record, write_missing};

const TRAINING_IMAGES: u64 = 100;
const BEGIN: u64 = 1_795_727_935;

/// A whole file of TensorFlow 2.21: `tf.summary.scalar("epoch_loss", 0.5, step=0)`, and
/// `tf.summary.scalar("epoch_loss", float("nan"), step=3)`.
const OF_TENSORFLOW: &str = "\
    3e00000000000000d9d240e709000080ac29c2da411a0d627261696e2e4576656e743a3252240a2274656e736f72666c6f77\
    2e636f72652e7574696c2e6576656e74735f77726974657251223c353200000000000000241956ec09cf15a2ac29c2da412a\
    270a250a0a65706f63685f6c6f7373420a0801120022040000003f4a0b0a090a077363616c617273a0ad7421340000000000\
    00005e33175c098124a2ac29c2da4110032a270a250a0a65706f63685f6c6f7373420a0801120022040000c07f4a0b0a090a\
    077363616c6172731ef73b8b";

/// `hparams_pb({"a": 1.5, "b": "x"}, trial_id="", start_time_secs=5.0)` of TensorBoard 2.21.
const OF_TENSORBOARD: &str = "\
    0a5a0a1c5f68706172616d735f2f73657373696f6e5f73746172745f696e666f42060801120212004a320a300a0768706172\
    616d7312251a230a0e0a0161120911000000000000f83f0a080a016212031a0178290000000000001440";

/// The records of a file, whose framing must be ours.
fn records(file: &[u8]) -> Vec<Vec<u8>> {
    let (mut rest, mut records, mut again) = (file, Vec::new(), Vec::new());
    while !rest.is_empty() {
        let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
        records.push(rest[12..12 + length].to_vec());
        record::append(&mut again, records.last().unwrap());
        rest = &rest[12 + length + 4..];
    }
    assert_eq!(again, file);
    records
}

/// The events of a file after the first, which must be the version.
fn events(file: &File) -> Vec<Event> {
    let records = records(&file.bytes);
    let mut events: Vec<Event> = records
        .iter()
        .map(|record| Event::decode(&record[..]).unwrap())
        .collect();
    let version = events.remove(0).what;
    assert_eq!(version, Some(What::FileVersion("brain.Event:2".into())));
    events
}

fn summary(event: &Event) -> &Value {
    match &event.what {
        Some(What::Summary(Summary { value })) if value.len() == 1 => &value[0],
        other => panic!("{other:?}"),
    }
}

/// Tags and values of a file of scalars, all at `step`.
fn scalars(file: &File, step: i64) -> Vec<(String, f32)> {
    events(file)
        .iter()
        .map(|event| {
            assert_eq!(event.step, step);
            let Value { tag, tensor, .. } = summary(event);
            let content = &tensor.as_ref().unwrap().tensor_content;
            let value = f32::from_le_bytes(content[..].try_into().unwrap());
            (tag.clone(), value)
        })
        .collect()
}

/// The data of the HParams plugin in a file.
fn plugin_data(file: &File) -> Data {
    let events = events(file);
    let metadata = summary(&events[0]).metadata.as_ref().unwrap();
    let data = metadata.plugin_data.as_ref().unwrap();
    assert_eq!((events.len(), &data.plugin_name[..]), (1, "hparams"));
    let data = HParamsPluginData::decode(&data.content[..]).unwrap();
    data.data.unwrap()
}

fn blob() -> BlobRef {
    BlobRef {
        key: "x".into(),
        blob: Blob::of(b"x"),
    }
}

fn epoch(number: u32) -> EpochSummary {
    EpochSummary {
        epoch: Epoch(number),
        attempt: Attempt(1),
        committed_at: Some(Timestamp(1000 * (BEGIN + u64::from(number)) + 500)),
        metrics: EpochMetrics {
            train_loss: 1.5,
            train_accuracy: 0.25,
            valid_loss: f64::NAN,
            valid_accuracy: 0.125,
            images_per_second: 900.0,
            seconds: 30.0,
        },
        early_stopping: EarlyStopping::observe(None, Epoch(number), 0.125),
        weights: blob(),
    }
}

/// An experiment of the demo's four runs: one trained, one failed, one in its first epoch, one not begun.
fn record() -> ExperimentRecord {
    let mut experiment = Preset::Demo.spec();
    experiment.name = "e".parse().unwrap();
    experiment.runs[1].dropout = 0.0;
    let runs = experiment.runs.iter().zip([3, 2, 1, 0]);
    let mut runs: Vec<RunRecord> = runs
        .map(|(spec, epochs)| RunRecord {
            spec: spec.clone(),
            epochs: (1..=epochs).map(epoch).collect(),
            attempts: Vec::new(),
            outcome: None,
            failure: None,
        })
        .collect();
    runs[0].outcome = Some(Outcome {
        epochs: 3,
        best_epoch: Epoch(1),
        best_valid_accuracy: 0.125,
        stop_reason: StopReason::Epochs,
    });
    runs[1].failure = Some("failed 4 times".into());
    let failed = |index: usize, seconds| Happened {
        at: Timestamp::from_seconds(BEGIN + seconds),
        what: Occurrence::TaskFailed {
            task: Task::Train(experiment.runs[index].name.clone()),
            reason: "failed 4 times".into(),
        },
    };
    let events = vec![failed(1, 70), failed(1, 90), failed(0, 99)];
    ExperimentRecord {
        spec: StoredSpec {
            note: None,
            tags: Vec::new(),
            forked_from: None,
            revised: None,
            format: 1,
            id: None,
            experiment,
            dataset: blob(),
            weights: BTreeMap::new(),
            data_fingerprint: None,
            data_origin: None,
            origins: BTreeMap::new(),
            created_at: Some(Timestamp::from_seconds(BEGIN)),
        },
        runs,
        evaluation_attempts: Vec::new(),
        report: None,
        events,
        term: None,
        closed: false,
        evaluation_failure: None,
        unreadable: Vec::new(),
    }
}

#[test]
fn scalars_are_the_bytes_of_tensorflow() {
    let records = records(&hex::decode(OF_TENSORFLOW).unwrap());
    assert_eq!(records.len(), 3);
    for (record, (step, value)) in records[1..].iter().zip([(0, 0.5), (3, f64::NAN)]) {
        let wall_time = Event::decode(&record[..]).unwrap().wall_time;
        let value = vec![scalar("epoch_loss", value)];
        let event = Event {
            wall_time,
            step,
            what: Some(What::Summary(Summary { value })),
        };
        assert_eq!(hex::encode(event.encode_to_vec()), hex::encode(record));
    }
}

#[test]
fn hyperparameters_are_the_bytes_of_tensorboard() {
    let kinds = [
        ("a", Kind::NumberValue(1.5)),
        ("b", Kind::StringValue("x".into())),
    ];
    let start = SessionStartInfo {
        hparams: kinds
            .map(|(name, kind)| (name.to_owned(), HParam { kind: Some(kind) }))
            .into(),
        start_time_secs: 5.0,
    };
    let value = vec![hparams(
        "_hparams_/session_start_info",
        Data::SessionStartInfo(start),
    )];
    assert_eq!(
        hex::encode(Summary { value }.encode_to_vec()),
        OF_TENSORBOARD
    );
}

#[test]
fn an_epoch_has_the_tags_and_steps_of_keras() {
    let record = record();
    let mut run = record.runs[0].spec.clone();
    (run.learning_rate, run.decay) = (0.5, 0.25);
    let files = EventFiles::new(&record.spec, TRAINING_IMAGES);
    let [train, validation] = files.epoch(&run, &epoch(2));
    let folder = format!("e/tensorboard/{}", run.name);
    let name = "events.out.tfevents.0000000002.quartet";
    assert_eq!(train.key, format!("{folder}/train/{name}"));
    assert_eq!(validation.key, format!("{folder}/validation/{name}"));
    // 100 images in batches of 16 make 7 steps.
    let rate = 0.5 / (1.0 + 0.25 * 14.0);
    let expected = [
        ("epoch_loss", 1.5),
        ("epoch_accuracy", 0.25),
        ("epoch_learning_rate", rate),
        ("images_per_second", 900.0),
        ("seconds_per_epoch", 30.0),
    ];
    let expected = expected.map(|(tag, value)| (tag.to_owned(), value as f32));
    assert_eq!(scalars(&train, 1), expected);
    let [(loss, nan), (accuracy, value)] = &scalars(&validation, 1)[..] else {
        panic!("{validation:?}")
    };
    assert_eq!((&loss[..], &accuracy[..]), ("epoch_loss", "epoch_accuracy"));
    assert!(nan.is_nan() && *value == 0.125);
    let times = events(&train).into_iter().map(|event| event.wall_time);
    assert!(times.into_iter().all(|time| time == BEGIN as f64 + 2.5));

    let mut old = epoch(1);
    old.committed_at = None;
    let [train, _] = files.epoch(&run, &old);
    assert_eq!(events(&train)[0].wall_time, 0.0);
    assert_eq!(scalars(&train, 0).len(), 5);
}

#[test]
fn runs_are_sessions_with_their_hyperparameters() {
    let record = record();
    let files = EventFiles::new(&record.spec, TRAINING_IMAGES);
    let run = &record.runs[2].spec;
    let Data::SessionStartInfo(start) = plugin_data(&files.start(run)) else {
        panic!("this is no start")
    };
    assert_eq!(start.start_time_secs, BEGIN as f64);
    let of = |name: &str| start.hparams[name].kind.clone().unwrap();
    assert_eq!(of("backbone"), Kind::StringValue("resnet50".into()));
    assert_eq!(of("weights"), Kind::StringValue("none".into()));
    assert_eq!(of("learning_rate"), Kind::NumberValue(8e-3));
    assert_eq!(of("image_size"), Kind::NumberValue(48.0));
    assert_eq!(of("seed"), Kind::StringValue(run.seed.to_string()));
    assert_eq!(of("precision"), Kind::StringValue("tf32".into()));

    let Data::Experiment(experiment) = plugin_data(&files.experiment()) else {
        panic!("this is no experiment")
    };
    let infos: BTreeMap<_, _> = experiment
        .hparam_infos
        .iter()
        .map(|info| (&info.name[..], info))
        .collect();
    assert!(infos.keys().eq(start.hparams.keys()));
    let Some(Domain::DomainInterval(dropout)) = &infos["dropout"].domain else {
        panic!("{infos:?}")
    };
    assert_eq!((dropout.min_value, dropout.max_value), (0.0, 0.1));
    assert!(infos["dropout"].differs && !infos["batch_size"].differs);
    let Some(Domain::DomainDiscrete(backbones)) = &infos["backbone"].domain else {
        panic!("{infos:?}")
    };
    assert_eq!(backbones.values.len(), 4);
    assert_eq!(infos["backbone"].r#type(), DataType::String);
}

#[test]
fn a_run_ends_once_it_has_an_end() {
    let record = record();
    let files = EventFiles::new(&record.spec, TRAINING_IMAGES);
    let end = |run: &RunRecord| {
        let file = files.end(run, &record.events)?;
        let Data::SessionEndInfo(end) = plugin_data(&file) else {
            panic!("this is no end")
        };
        Some((end.status(), end.end_time_secs - BEGIN as f64, file.key))
    };
    let (status, after, success) = end(&record.runs[0]).unwrap();
    assert_eq!((status, after), (Status::Success, 3.5));
    let (status, after, _) = end(&record.runs[1]).unwrap();
    assert_eq!((status, after), (Status::Failure, 90.0));
    assert_eq!(end(&record.runs[2]), None);

    // A run that had failed before it was trained: TensorBoard believes what it reads first.
    let mut failed = record.runs[0].clone();
    failed.failure = Some("failed 4 times".into());
    failed.outcome = None;
    let (status, _, failure) = end(&failed).unwrap();
    assert_eq!(status, Status::Failure);
    assert!(success < failure, "{success} {failure}");
}

#[tokio::test]
async fn what_is_missing_is_written_and_nothing_else() {
    let store = Store::from_objects("memory", Arc::new(InMemory::new()));
    let mut record = record();
    let trained = record.runs[0].epochs.pop().unwrap();
    // The experiment, four starts, two ends, and two files for each of five epochs.
    assert_eq!(write(&store, &record).await, 1 + 4 + 2 + 2 * 5);
    assert_eq!(write(&store, &record).await, 0);

    record.runs[0].epochs.push(trained);
    // Trained again after a rollback, at another speed.
    record.runs[0].epochs[0].metrics.images_per_second = 1.0;
    assert_eq!(write(&store, &record).await, 2);
    let before = content(&store).await;
    assert_eq!(before.len(), 19);
    let lost = before.keys().nth(7).unwrap();
    store.delete(lost).await.unwrap();
    assert_eq!(write(&store, &record).await, 1);
    assert_eq!(content(&store).await, before);
}

async fn write(store: &Store, record: &ExperimentRecord) -> usize {
    let written = write_missing(store, record, TRAINING_IMAGES).await;
    written.unwrap()
}

async fn content(store: &Store) -> BTreeMap<String, Blob> {
    let mut content = BTreeMap::new();
    for key in store.list("e/tensorboard").await.unwrap() {
        let blob = store.checksum(&key).await.unwrap().unwrap();
        content.insert(key, blob);
    }
    content
}

#[test]
fn the_files_of_a_folder_are_in_order() {
    let record = record();
    let files = EventFiles::new(&record.spec, TRAINING_IMAGES);
    let mut folders: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for File { key, .. } in files.all(&record) {
        let folder = key.rsplit_once('/').unwrap().0.to_owned();
        folders.entry(folder).or_default().push(key);
    }
    assert_eq!(folders.len(), 1 + 4 + 2 * 3);
    assert!(folders.values().all(|keys| keys.is_sorted()), "{folders:?}");
}

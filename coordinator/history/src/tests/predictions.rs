use quartet_shared::dataset::{Channels, Dataset, ImageShape, Images};
use quartet_shared::predictions::{InvalidPredictions, Predictions, Shape};
use quartet_shared::report::{EvaluationReport, Member};
use quartet_store::manifest::PredictionsManifest;

use super::*;
use crate::ExperimentRecord;
use crate::predictions::{PredictionsError, PredictionsReader, kept, write_table};

/// Two images of each evaluated split, in two classes.
fn dataset() -> Dataset {
    let images = |labels: &[u8]| Images {
        labels: labels.to_vec(),
        pixels: (0..4 * labels.len() as u8).collect(),
        ..Images::default()
    };
    Dataset {
        width: 2,
        height: 2,
        channels: Channels::Gray,
        classes: ["calm", "sad, \"blue\""].map(str::to_owned).into(),
        splits: [images(&[0, 1, 1]), images(&[1, 0]), images(&[0, 1])],
    }
}

/// What the members say: the probability of the first class for each image.
const SAID: [[[f32; 2]; 2]; 2] = [[[0.25, 0.75], [1.0, 0.5]], [[0.5, 0.0], [0.75, 3e-5]]];

fn predictions(member: usize) -> Predictions {
    let rows = |said: [f32; 2]| said.iter().flat_map(|&p| [p, 1.0 - p]).collect();
    Predictions {
        splits: SAID[member].map(rows).into(),
    }
}

/// An evaluated experiment of two runs, with the predictions of some.
struct Evaluated {
    written: Written,
    record: ExperimentRecord,
}

impl Evaluated {
    async fn new(members: &[usize]) -> Self {
        let written = Written::new().await;
        let dataset = dataset();
        let key = "datasets/x.qds";
        let created = written.store.create(key, dataset.encode().into()).await;
        created.unwrap();
        for run in 0..2 {
            written.epoch(run, 1, 0.5).await;
        }
        let mut record = written.read().await;
        let member = |(run, weight): (&RunName, f64)| Member {
            run: run.clone(),
            backbone: record.runs[0].spec.backbone,
            best_epoch: Epoch(1),
            weight,
        };
        let members_of_it = written.runs.iter().zip([0.75, 0.25]).map(member).collect();
        record.report = Some(EvaluationReport {
            experiment: "e".parse().unwrap(),
            classes: dataset.classes.clone(),
            members: members_of_it,
            splits: Vec::new(),
            partial: None,
            revision: quartet_shared::ids::Revision::FIRST,
        });
        let this = Self { written, record };
        for &run in members {
            let file = predictions(run).encode(&Shape::of(&dataset));
            this.keep(run, 1, "w", &file).await;
        }
        this
    }

    /// Keeps predictions of weights.
    async fn keep(&self, run: usize, attempt: u32, weights: &str, file: &[u8]) {
        let Written {
            store,
            layout,
            runs,
            ..
        } = &self.written;
        let (run, attempt) = (runs[run].clone(), Attempt(attempt));
        let key = layout.predictions(&run, Epoch(1), attempt);
        store.create(&key, file.to_vec().into()).await.unwrap();
        let manifest = PredictionsManifest {
            epoch: Epoch(1),
            attempt,
            worker: worker().id,
            weights: blob(weights),
            predictions: BlobRef {
                key,
                blob: Blob::of(file),
            },
            run,
        };
        let key = layout.predictions_manifest(&manifest.run, Epoch(1), attempt);
        self.written.put(&key, &manifest).await;
    }

    async fn open(&self) -> Result<Option<PredictionsReader>, PredictionsError> {
        PredictionsReader::open(&self.written.store, &self.record).await
    }
}

#[tokio::test]
async fn the_table_has_a_row_for_each_image() {
    let evaluated = Evaluated::new(&[0, 1]).await;
    let reader = evaluated.open().await.unwrap().unwrap();
    let store = &evaluated.written.store;
    let key = evaluated.written.layout.results(None).predictions_table();
    write_table(&reader, &key).await.unwrap();
    let size = store.size(&key).await.unwrap();
    let table = store.read_piece(&key, 0..size).await.unwrap();
    let [a, b] = &evaluated.written.runs[..] else {
        panic!("two runs")
    };
    let sad = |who: &str| format!("\"{who}:sad, \"\"blue\"\"\"");
    let titles = format!(
        "split,image,label,predicted,{a}:calm,{},{b}:calm,{},ensemble:calm,{}",
        sad(a.as_str()),
        sad(b.as_str()),
        sad("ensemble")
    );
    let blue = "\"sad, \"\"blue\"\"\"";
    let expected = [
        titles,
        format!("valid,0,{blue},{blue},0.25,0.75,0.5,0.5,0.3125,0.6875"),
        "valid,1,calm,calm,0.75,0.25,0,1,0.5625,0.4375".to_owned(),
        "test,0,calm,calm,1,0,0.75,0.25,0.9375,0.0625".to_owned(),
        format!("test,1,{blue},{blue},0.5,0.5,3e-5,0.99997,0.3750075,0.6249925"),
    ];
    let table = String::from_utf8(table.into()).unwrap();
    assert_eq!(table.lines().collect::<Vec<_>>(), expected);
    // One that is there stays.
    write_table(&reader, &key).await.unwrap();
}

#[tokio::test]
async fn an_image_is_found_among_those_of_all_splits() {
    let evaluated = Evaluated::new(&[0, 1]).await;
    let reader = evaluated.open().await.unwrap().unwrap();
    assert_eq!(reader.image_shape(), ImageShape::gray([2, 2]));
    for (split, image) in [(Split::Valid, 1), (Split::Test, 0), (Split::Test, 1)] {
        let pixels = reader.image(split, image as u64).await.unwrap();
        assert_eq!(Some(&pixels[..]), dataset().image(split, image));
    }
}

#[tokio::test]
async fn of_several_predictions_the_newest_of_these_weights_count() {
    let evaluated = Evaluated::new(&[0]).await;
    let Written {
        store,
        layout,
        runs,
        ..
    } = &evaluated.written;
    let kept = |weights: &'static str| async move {
        let object = kept(store, layout, &runs[0], &blob(weights)).await.unwrap();
        object.map(|object| object.key)
    };
    let key = |attempt| Some(layout.predictions(&runs[0], Epoch(1), Attempt(attempt)));
    assert_eq!((kept("w").await, kept("others").await), (key(1), None));
    evaluated.keep(0, 2, "others", b"2").await;
    evaluated.keep(0, 999, "w", b"999").await;
    evaluated.keep(0, 1000, "w", b"1000").await;
    let damaged = layout.predictions_manifest(&runs[0], Epoch(1), Attempt(1001));
    store.create(&damaged, "{".into()).await.unwrap();
    assert_eq!((kept("w").await, kept("others").await), (key(1000), key(2)));
}

#[tokio::test]
async fn what_cannot_be_read_is_named() {
    let mut evaluated = Evaluated::new(&[0]).await;
    let missing = evaluated.open().await.unwrap_err().to_string();
    let run = evaluated.written.runs[1].clone();
    assert_eq!(
        missing,
        format!("the predictions of run {run} are not kept")
    );
    let shape = Shape::of(&dataset());
    evaluated.keep(1, 1, "w", b"short").await;
    let Err(PredictionsError::Invalid { source, .. }) = evaluated.open().await else {
        panic!("five bytes are no predictions")
    };
    let expected = shape.size();
    assert_eq!(source, InvalidPredictions::Size { found: 5, expected });
    let mut wrong = predictions(1);
    wrong.splits[1][2] = f32::NAN;
    evaluated.keep(1, 2, "w", &wrong.encode(&shape)).await;
    let reader = evaluated.open().await.unwrap().unwrap();
    let mut read = Vec::new();
    for block in reader.blocks() {
        read.push(reader.block(block).await.map(|block| block.first));
    }
    let Err(PredictionsError::Invalid { source, .. }) = &read[1] else {
        panic!("NaN is no probability")
    };
    let (split, image) = (Split::Test, 1);
    let value = "NaN".to_owned();
    assert_eq!(
        *source,
        InvalidPredictions::Probability {
            split,
            image,
            value
        }
    );
    // Rot.
    let key = evaluated
        .written
        .layout
        .predictions(&run, Epoch(1), Attempt(2));
    evaluated.written.store.delete(&key).await.unwrap();
    let gone = evaluated.open().await.unwrap_err().to_string();
    assert_eq!(gone, format!("{key} does not exist"));
    let file = predictions(1).encode(&shape);
    evaluated
        .written
        .store
        .create(&key, file.into())
        .await
        .unwrap();
    let corrupt = evaluated.open().await.unwrap_err().to_string();
    assert_eq!(corrupt, format!("{key} is corrupt"));
    evaluated.record.report = None;
    assert!(evaluated.open().await.unwrap().is_none());
}

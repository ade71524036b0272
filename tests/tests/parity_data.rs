//! Augmentation, callbacks and scores are those of Keras, numpy and scikit-learn.
//!
//! `QUARTET_PARITY` names a folder of references; see `tests/parity`.

#![expect(
    clippy::print_stdout,
    reason = "the measured differences are what these tests are run for"
)]

use burn::tensor::Device;
use quartet_engine::input::{AugmentationParams, Input};
use quartet_shared::dataset::{EMOTIONS, ImageShape, Images, Split};
use quartet_shared::early_stopping::EarlyStopping;
use quartet_shared::ids::Epoch;
use quartet_shared::report::{Prediction, SplitReport, argmax, ensemble};
use quartet_shared::spec::Preset;
use quartet_tests::parity::{self, Tensors};
use serde::Deserialize;

/// Side of FER2013's images.
const SIDE: usize = 48;

/// Largest difference of a pixel on the scale 0..255.
const TOLERANCE: f64 = 0.05;

#[test]
fn augmentation_is_keras() {
    let tensors = Tensors::read(&parity::references().join("augmentation.safetensors"));
    let images = Images {
        labels: vec![0; 200],
        pixels: tensors.u8("images"),
        ..Images::default()
    };
    let draws: Vec<AugmentationParams> = tensors
        .f64("draws")
        .chunks_exact(5)
        .map(|row| AugmentationParams {
            tx: row[0],
            ty: row[1],
            zx: row[2],
            zy: row[3],
            flip: row[4] != 0.0,
        })
        .collect();
    assert_eq!(draws.len(), 200);
    for size in [75, 200] {
        let expected = tensors.f64(&format!("expected_{size}"));
        let count = expected.len() / (size * size);
        assert!(count >= 40);
        for device in parity::cpus() {
            let input = Input::of_shape(ImageShape::gray([SIDE, SIDE]), size as u32, &device);
            let indices: Vec<usize> = (0..count).collect();
            let batch = input.augmented(&images, &indices, &draws[..count]).unwrap();
            let found: Vec<f32> = parity::values(batch.images);
            // Three equal channels.
            let found = found.chunks_exact(3 * size * size).flat_map(|image| {
                let (gray, rest) = image.split_at(size * size);
                assert!(
                    rest.chunks_exact(size * size)
                        .all(|channel| channel == gray)
                );
                gray
            });
            let difference = found
                .zip(&expected)
                .map(|(&found, expected)| (f64::from(found) * 255.0 - expected).abs())
                .fold(0.0, f64::max);
            println!("augmentation at {size}: at most {difference:.1e} of 255");
            assert!(difference <= TOLERANCE, "{difference} at {size}");
        }
    }
}

/// The draws are uniform in Keras' ranges: the largest distance of two empirical distributions (Kolmogorov
/// and Smirnov) of 100,000 draws each stays below its 99.9 % quantile, 1.95 * sqrt(2 / n).
#[test]
fn draws_have_keras_distribution() {
    let tensors = Tensors::read(&parity::references().join("augmentation.safetensors"));
    let keras = tensors.f64("drawn");
    let n = keras.len() / 4;
    let augmentation = Preset::Fer2013.spec().augmentation;
    let ours: Vec<AugmentationParams> = (0..n)
        .map(|index| {
            AugmentationParams::new(&augmentation, 7, Epoch(1 + (index % 5) as u32), index)
        })
        .collect();
    let limit = 1.95 * (2.0 / n as f64).sqrt();
    type Value = fn(&AugmentationParams) -> f64;
    let values: [(&str, Value); 4] = [
        ("row shift", |draw| draw.tx),
        ("column shift", |draw| draw.ty),
        ("row zoom", |draw| draw.zx),
        ("column zoom", |draw| draw.zy),
    ];
    for (column, (name, value)) in values.into_iter().enumerate() {
        let theirs = keras.iter().skip(column).step_by(4).copied().collect();
        let distance = kolmogorov_smirnov(ours.iter().map(value).collect(), theirs);
        println!("{name}: distance {distance:.4}, limit {limit:.4}");
        assert!(distance < limit, "{name}: {distance}");
    }
    let flips = |count: usize| count as f64 / n as f64;
    let theirs = flips(
        tensors
            .u8("flips")
            .iter()
            .filter(|&&flip| flip != 0)
            .count(),
    );
    let ours = flips(ours.iter().filter(|draw| draw.flip).count());
    // Five standard deviations of a fair coin's mean.
    let limit = 5.0 * 0.5 / (n as f64).sqrt();
    assert!((ours - 0.5).abs() < limit && (theirs - 0.5).abs() < limit);
}

/// Largest distance of the empirical distributions of two samples.
fn kolmogorov_smirnov(mut a: Vec<f64>, mut b: Vec<f64>) -> f64 {
    a.sort_by(f64::total_cmp);
    b.sort_by(f64::total_cmp);
    let (mut i, mut j, mut distance) = (0, 0, 0.0_f64);
    while i < a.len() && j < b.len() {
        let x = a[i].min(b[j]);
        while i < a.len() && a[i] <= x {
            i += 1;
        }
        while j < b.len() && b[j] <= x {
            j += 1;
        }
        distance = distance.max((i as f64 / a.len() as f64 - j as f64 / b.len() as f64).abs());
    }
    distance
}

/// What Keras' callbacks did with a sequence of validation accuracies.
#[derive(Debug, Deserialize)]
struct Training {
    patience: u32,
    values: Vec<f64>,
    /// The last epoch that was trained, from 1.
    stopped_epoch: u32,
    /// The epoch of the last weights that were saved, from 1.
    best_epoch: u32,
}

#[test]
fn callbacks_decide_as_keras_do() {
    let trainings: Vec<Training> = parity::json(&parity::references().join("callbacks.json"));
    assert!(trainings.len() >= 1000);
    let mut early = 0;
    for training in &trainings {
        let mut state = None;
        let mut stopped = 0;
        for (epoch, &accuracy) in (1..).map(Epoch).zip(&training.values) {
            let next = EarlyStopping::observe(state, epoch, accuracy);
            state = Some(next);
            stopped = epoch.0;
            if next.should_stop(training.patience) {
                break;
            }
        }
        assert_eq!(stopped, training.stopped_epoch, "{training:?}");
        let best = state.expect("there is an epoch").best_epoch;
        assert_eq!(best, Epoch(training.best_epoch), "{training:?}");
        early += usize::from((stopped as usize) < training.values.len());
    }
    println!("{early} of {} stopped early", trainings.len());
    assert!(early > 100 && early < trainings.len() - 100);
}

/// An ensemble of four and its scores by numpy and scikit-learn.
#[derive(Debug, Deserialize)]
struct Ensemble {
    probabilities: String,
    labels: String,
    weights: Vec<f64>,
    ensemble: Scores,
}

#[derive(Debug, Deserialize)]
struct Scores {
    accuracy: f64,
    loss: f64,
    confusion_matrix: Vec<Vec<u64>>,
    precision: Vec<f64>,
    recall: Vec<f64>,
    f1: Vec<f64>,
    support: Vec<u64>,
    macro_f1: f64,
    predicted: Vec<usize>,
}

#[test]
fn scores_are_numpy_s_and_scikit_learn_s() {
    let folder = parity::references();
    let tensors = Tensors::read(&folder.join("ensemble.safetensors"));
    let cases: Vec<Ensemble> = parity::json(&folder.join("ensemble.json"));
    assert!(cases.len() >= 4);
    let close = |found: f64, expected: f64| (found - expected).abs() < 1e-12;
    for case in &cases {
        let probabilities = tensors.f32(&case.probabilities);
        let labels: Vec<u8> = tensors
            .i64(&case.labels)
            .iter()
            .map(|&label| u8::try_from(label).expect("a class"))
            .collect();
        let members = probabilities.chunks_exact(labels.len() * EMOTIONS.len());
        let predictions: Vec<Prediction<'_>> = members
            .zip(&case.weights)
            .enumerate()
            .map(|(i, (probabilities, &weight))| Prediction {
                run: format!("run{i}").parse().expect("a name"),
                weight,
                probabilities,
            })
            .collect();
        assert_eq!(predictions.len(), 4);
        let predicted: Vec<usize> = ensemble(&predictions)
            .chunks_exact(EMOTIONS.len())
            .map(argmax)
            .collect();
        let expected = &case.ensemble;
        assert_eq!(predicted, expected.predicted);
        let classes = EMOTIONS.map(str::to_owned);
        let report = SplitReport::compute(Split::Test, &classes, &labels, &predictions)
            .expect("the members fit together");
        assert_eq!(report.confusion_matrix, expected.confusion_matrix);
        assert!(close(report.ensemble.accuracy, expected.accuracy));
        assert!((report.ensemble.loss - expected.loss).abs() < 1e-7);
        assert!(close(report.macro_f1, expected.macro_f1));
        for (i, class) in report.per_class.iter().enumerate() {
            assert!(
                close(class.precision, expected.precision[i])
                    && close(class.recall, expected.recall[i])
                    && close(class.f1, expected.f1[i])
                    && class.support == expected.support[i],
                "{class:?} {expected:?}"
            );
        }
    }
}

#[test]
fn devices_include_flex() {
    assert!(parity::cpus().contains(&Device::flex()));
}

use quartet_history::Update;
use quartet_report::{Images, InvalidPredictions, Predictions, accuracies, curves, html, mistakes};
use quartet_shared::dataset::Split;
use quartet_shared::event::{Event, Occurrence};
use quartet_shared::report::{Prediction, SplitReport};
use quartet_shared::task::Task;

use crate::{page_of, parsed, samples, text_of, whole_text};

#[test]
fn losses_that_are_no_numbers_leave_gaps() {
    let mut record = samples::failed();
    let text = whole_text(&page_of(&record));
    assert!(text.contains("Losses beyond an axis, here and above, are drawn at its end"));
    for epoch in record.runs.iter_mut().flat_map(|run| &mut run.epochs) {
        epoch.metrics.train_loss = f64::INFINITY;
        epoch.metrics.valid_loss = f64::NAN;
        epoch.metrics.train_accuracy = f64::NAN;
        epoch.metrics.valid_accuracy = f64::NAN;
        epoch.metrics.images_per_second = f64::NAN;
        epoch.metrics.seconds = f64::NEG_INFINITY;
        epoch.early_stopping.best_valid_accuracy = f64::NAN;
    }
    let page = page_of(&record);
    let text = whole_text(&page);
    assert!(
        !text.contains("NaN %") && !text.contains("NaN at"),
        "{text}"
    );
    let lines = parsed(&page)
        .descendants()
        .filter(|node| node.has_tag_name("polyline"))
        .count();
    // Each axis is a line with its ticks, and nothing else is.
    for node in parsed(&page)
        .descendants()
        .filter(|node| node.has_tag_name("polyline"))
    {
        assert_ne!(node.attribute("stroke"), Some("#005FA6"));
    }
    assert!(lines > 0);
}

#[test]
fn a_run_of_one_epoch_is_a_dot() {
    let mut record = samples::begun(2, 30);
    samples::train(&mut record.runs[0], 1);
    let name = record.runs[0].spec.name.clone();
    let svg = curves(&record.runs, &name).unwrap();
    let dots = parsed(&svg)
        .descendants()
        .filter(|node| node.has_tag_name("circle"))
        .count();
    // Training and validation, and the ring around the best one, in both panels.
    assert_eq!(dots, 2 * 4);
    let waiting = record.runs[1].spec.name.clone();
    assert!(
        curves(&record.runs, &waiting)
            .unwrap()
            .contains("no epoch yet")
    );
    assert_eq!(curves(&record.runs[..1], &waiting), None);
    assert!(accuracies(&record.runs).contains(name.as_str()));
    assert!(accuracies(&[]).contains("no epoch yet"));
}

#[test]
fn a_class_without_images_has_no_percentages() {
    let (mut record, _) = samples::finished();
    let report = record.report.as_mut().unwrap();
    let (labels, run) = ([0, 1, 1, 0], report.members[0].run.clone());
    let said: Vec<f32> = labels
        .iter()
        .flat_map(|_| [0.1, 0.9, 0.0, 0.0, 0.0, 0.0, 0.0])
        .collect();
    let predictions = [Prediction {
        run,
        weight: 1.0,
        probabilities: &said,
    }];
    report.splits =
        vec![SplitReport::compute(Split::Test, &report.classes, &labels, &predictions).unwrap()];
    let page = page_of(&record);
    let text = text_of(&parsed(&page), "classes");
    // Angry is never predicted, disgust always, and there are no others.
    assert!(
        text.contains("100 %") && text.contains("–") && !text.contains("NaN"),
        "{text}"
    );
    assert!(whole_text(&page).contains("ensemble accuracy, test 50.00 %"));
}

#[test]
fn records_with_next_to_nothing_have_a_report() {
    let mut record = samples::begun(0, 1);
    record.spec.created_at = None;
    record.spec.id = None;
    record.term = None;
    parsed(&page_of(&record));
    let (mut record, predictions) = samples::trained(1, 1);
    parsed(&html(&record, &predictions, samples::NOW));
    let report = record.report.as_mut().unwrap();
    for split in &mut report.splits {
        split.runs.clear();
        split.per_class.clear();
        split.confusion_matrix.clear();
        split.ensemble.accuracy = f64::NAN;
    }
    parsed(&html(&record, &predictions, samples::NOW));
    record.report.as_mut().unwrap().splits.clear();
    parsed(&page_of(&record));
    // All runs are trained, but the ensemble cannot be evaluated.
    record.report = None;
    let (task, reason) = (Task::Evaluate, "no memory".to_owned());
    let what = Occurrence::TaskFailed { task, reason };
    record.apply(Update::Happened(Event {
        at: samples::NOW,
        what,
    }));
    let text = whole_text(&page_of(&record));
    assert!(
        text.contains("1 of 1 run trained; the evaluation of the ensemble has failed"),
        "{text}"
    );
}

#[test]
fn numbers_of_a_broken_store_do_no_harm() {
    let (mut record, _) = samples::trained(2, 3);
    for (run, value) in record.runs.iter_mut().zip([1e300, -1e300]) {
        for epoch in &mut run.epochs {
            epoch.epoch.0 += u32::MAX - 3;
            epoch.metrics.valid_accuracy = value;
            epoch.metrics.train_loss = value;
            epoch.metrics.seconds = value;
            epoch.early_stopping.best_valid_accuracy = value;
        }
    }
    parsed(&page_of(&record));
}

#[test]
fn predictions_that_do_not_fit_are_named_and_left_out() {
    let (record, mut predictions) = samples::finished();
    predictions[0].probabilities.pop();
    predictions[1].labels[3] = 9;
    let page = html(&record, &predictions, samples::NOW);
    let text = whole_text(&page);
    assert!(text.contains("split valid has 8399 probabilities for 1200 images and 7 classes"));
    assert!(text.contains("image 3 of split test has label 9, but there are only 7 classes"));
    assert!(!text.contains("Worst mistakes") && !text.contains("Calibration"));
}

#[test]
fn predictions_are_checked() {
    let valid = Predictions {
        split: Split::Valid,
        labels: vec![0, 1],
        probabilities: vec![0.5, 0.5, 1.0, 0.0],
        images: Some(Images {
            width: 2,
            height: 1,
            pixels: vec![0, 1, 2, 3],
        }),
    };
    assert_eq!(valid.check(2), Ok(()));
    let split = Split::Valid;
    let mut pixels = valid.clone();
    pixels.images.as_mut().unwrap().height = 2;
    assert_eq!(
        pixels.check(2),
        Err(InvalidPredictions::Pixels {
            split,
            found: 4,
            expected: 8
        })
    );
    let mut nan = valid.clone();
    nan.probabilities[2] = f32::NAN;
    assert_eq!(
        nan.check(2),
        Err(InvalidPredictions::Probability { split, image: 1 })
    );
    assert_eq!(valid.check(0), Err(InvalidPredictions::Empty(split)));
}

#[test]
fn the_worst_mistakes_are_those_of_the_highest_probabilities() {
    let predictions = Predictions {
        split: Split::Test,
        labels: vec![0, 1, 0, 1, 1],
        probabilities: vec![0.9, 0.1, 0.8, 0.2, 0.3, 0.7, 0.95, 0.05, 0.8, 0.2],
        images: Some(Images {
            width: 1,
            height: 1,
            pixels: vec![0, 10, 20, 30, 40],
        }),
    };
    let worst = mistakes::worst(&predictions, 2, 3);
    let told: Vec<_> = worst
        .iter()
        .map(|it| (it.image, it.label, it.predicted, it.probability))
        .collect();
    assert_eq!(told, [(3, 1, 0, 0.95), (1, 1, 0, 0.8), (4, 1, 0, 0.8)]);
    let picture = worst[0].picture.as_deref().unwrap();
    let (_, encoded) = picture.split_once("base64,").unwrap();
    let file = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, encoded).unwrap();
    let image = image::load_from_memory(&file).unwrap().into_luma8();
    assert_eq!(image.as_raw(), &[30]);
}

use quartet_history::{ExperimentRecord, Update};
use quartet_report::{accuracies, curves, html, losses};
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
    assert!(losses(&record.runs).contains(name.as_str()));
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
fn what_cannot_be_read_is_named() {
    let (mut record, findings) = samples::finished();
    let of = |record: &ExperimentRecord| whole_text(&html(record, &findings, samples::NOW));
    assert!(!of(&record).contains("missing here"));
    let reasons = [
        "e/events/1.json: EOF",
        "e/events/2.json: EOF",
        "e/events/3.json: EOF",
    ];
    record.unreadable = reasons.map(str::to_owned).into();
    let text = of(&record);
    assert!(
        text.contains("missing here") && text.contains("e/events/1.json: EOF; and 2 others"),
        "{text}"
    );
}

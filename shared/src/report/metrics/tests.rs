use super::*;

fn classes(n: usize) -> Vec<String> {
    (0..n).map(|i| format!("c{i}")).collect()
}

fn prediction<'a>(run: &str, weight: f64, probabilities: &'a [f32]) -> Prediction<'a> {
    Prediction {
        run: run.parse().unwrap(),
        weight,
        probabilities,
    }
}

fn close(a: f64, b: f64) {
    assert!((a - b).abs() < 1e-6, "{a} is not {b}");
}

/// Checked with numpy and scikit-learn's `precision_recall_fscore_support(zero_division=0)`.
#[test]
fn scores_of_two_runs_and_their_ensemble() {
    let a = [0.7, 0.2, 0.1, 0.6, 0.3, 0.1, 0.1, 0.8, 0.1, 0.3, 0.3, 0.4];
    let b = [0.2, 0.7, 0.1, 0.1, 0.8, 0.1, 0.1, 0.8, 0.1, 0.4, 0.5, 0.1];
    let predictions = [prediction("a", 3.0, &a), prediction("b", 1.0, &b)];
    let report =
        SplitReport::compute(Split::Valid, &classes(3), &[0, 1, 1, 2], &predictions).unwrap();

    // Means: .575 .325 .1 | .475 .425 .1 | .1 .8 .1 | .325 .35 .325
    assert_eq!(report.confusion_matrix, [[1, 0, 0], [1, 1, 0], [0, 1, 0]]);
    assert_eq!(report.images, 4);
    close(report.ensemble.accuracy, 0.5);
    close(report.ensemble.loss, 0.689_031);
    let accuracies: Vec<_> = report.runs.iter().map(|run| run.scores.accuracy).collect();
    assert_eq!(accuracies, [0.75, 0.5]);
    close(report.runs[0].scores.loss, 0.675_020);
    let [first, second, third] = &report.per_class[..] else {
        panic!("three classes")
    };
    assert_eq!(
        (first.precision, first.recall, first.support),
        (0.5, 1.0, 1)
    );
    close(first.f1, 2.0 / 3.0);
    assert_eq!(
        (second.precision, second.recall, second.f1),
        (0.5, 0.5, 0.5)
    );
    assert_eq!(
        (third.precision, third.recall, third.f1, third.support),
        (0.0, 0.0, 0.0, 1)
    );
    close(report.macro_f1, (2.0 / 3.0 + 0.5) / 3.0);
}

#[test]
fn of_equal_probabilities_the_first_wins() {
    assert_eq!(argmax(&[0.25, 0.25, 0.25, 0.25]), 0);
    assert_eq!(argmax(&[0.1, 0.45, 0.45]), 1);
}

#[test]
fn the_loss_of_a_sure_mistake_is_finite() {
    let report = SplitReport::compute(
        Split::Test,
        &classes(2),
        &[0],
        &[prediction("a", 1.0, &[0.0, 1.0])],
    )
    .unwrap();
    close(report.ensemble.loss, 16.118_096);
}

#[test]
fn inputs_that_do_not_fit_are_refused() {
    let compute = |labels: &[u8], predictions: &[Prediction<'_>]| {
        SplitReport::compute(Split::Test, &classes(2), labels, predictions).unwrap_err()
    };
    assert_eq!(
        compute(&[], &[prediction("a", 1.0, &[])]),
        MetricsError::Empty
    );
    assert_eq!(compute(&[0], &[]), MetricsError::Empty);
    let half = [0.5, 0.5];
    let error = compute(&[0, 1], &[prediction("a", 1.0, &half)]);
    assert_eq!(
        error.to_string(),
        "run a predicts 2 probabilities for 2 images and 2 classes"
    );
    let error = compute(&[2], &[prediction("a", 1.0, &half)]);
    assert_eq!(
        error.to_string(),
        "image 0 has label 2, but there are only 2 classes"
    );
    let error = compute(&[0], &[prediction("a", 1.0, &[0.5, f32::NAN])]);
    assert_eq!(
        error.to_string(),
        "run a predicts a probability of NaN for image 0"
    );
    for weight in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert_eq!(
            compute(&[0], &[prediction("a", weight, &half)]),
            MetricsError::Weights
        );
    }
}

//! Whether probabilities mean what they say.
//!
//! C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger: On Calibration of Modern Neural Networks, ICML 2017
//! (<https://arxiv.org/abs/1706.04599>), section 2 and equation 3.

/// Bins of equal width, as in the paper.
pub const BINS: usize = 15;

/// The predictions of a split by their confidence.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    /// Bin `b` has the confidences in `(b / BINS, (b + 1) / BINS]`; 0 belongs to the first.
    pub bins: [Bin; BINS],
    /// Expected calibration error: the mean over images of the distance between the accuracy and the mean
    /// confidence of their bin, a fraction of 1.
    pub expected_error: f64,
}

impl Calibration {
    /// Mean of `value` over the images.
    fn mean(&self, value: impl Fn(&Bin) -> f64) -> f64 {
        let images: u64 = self.bins.iter().map(|bin| bin.count).sum();
        let sum: f64 = self
            .bins
            .iter()
            .map(|bin| bin.count as f64 * value(bin))
            .sum();
        sum / images.max(1) as f64
    }

    /// Mean confidence of all images, a fraction of 1.
    #[must_use]
    pub fn confidence(&self) -> f64 {
        self.mean(|bin| bin.confidence)
    }

    /// Fraction of all images about which the predictions are right.
    #[must_use]
    pub fn accuracy(&self) -> f64 {
        self.mean(|bin| bin.accuracy)
    }
}

/// The predictions of similar confidence.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bin {
    /// How many there are.
    pub count: u64,
    /// Fraction of them that are right; 0 for none.
    pub accuracy: f64,
    /// Mean of their confidences; 0 for none.
    pub confidence: f64,
}

/// The predictions so far: each bin has sums where a [`Calibration`] has means.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bins([Bin; BINS]);

impl Bins {
    /// Takes a prediction with its confidence, the probability of the predicted class.
    pub(crate) fn add(&mut self, confidence: f64, is_right: bool) {
        let bin = &mut self.0[bin_of(confidence)];
        bin.count += 1;
        bin.accuracy += f64::from(u8::from(is_right));
        bin.confidence += confidence;
    }

    pub(crate) fn calibration(&self) -> Calibration {
        let mut bins = self.0;
        let images: u64 = bins.iter().map(|bin| bin.count).sum();
        let mut error = 0.0;
        for bin in bins.iter_mut().filter(|bin| bin.count > 0) {
            error += (bin.accuracy - bin.confidence).abs() / images as f64;
            bin.accuracy /= bin.count as f64;
            bin.confidence /= bin.count as f64;
        }
        Calibration {
            bins,
            expected_error: error,
        }
    }
}

fn bin_of(confidence: f64) -> usize {
    // In single precision, so that 0.2 as a confidence is the edge 3 / 15.
    let above = (confidence as f32 * BINS as f32).ceil() as usize;
    above.saturating_sub(1).min(BINS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The calibration of predictions of two classes: the probability of the first one, with the label.
    fn of(said: &[(f64, u8)]) -> Calibration {
        let mut bins = Bins::default();
        for &(first, label) in said {
            bins.add(first.max(1.0 - first), (first < 0.5) == (label == 1));
        }
        bins.calibration()
    }

    /// Bin 12 (0.8 to 0.867) has 0.85 right, 0.85 right and 0.81 wrong: accuracy 2/3, confidence 2.51/3. Bin
    /// 8 (0.533 to 0.6) has 0.55 wrong: accuracy 0. So the error is 3/4 * |2/3 - 2.51/3| + 1/4 * 0.55 = (0.51
    /// + 0.55) / 4 = 0.265.
    #[test]
    fn the_error_is_the_one_worked_out_by_hand() {
        let calibration = of(&[(0.85, 0), (0.15, 1), (0.81, 1), (0.55, 1)]);
        assert!((calibration.expected_error - 0.265).abs() < 1e-7);
        assert!((calibration.confidence() - 0.765).abs() < 1e-7);
        assert_eq!(calibration.accuracy(), 0.5);
        let bin = calibration.bins[12];
        assert_eq!(bin.count, 3);
        assert!((bin.accuracy - 2.0 / 3.0).abs() < 1e-12);
        assert!((bin.confidence - 2.51 / 3.0).abs() < 1e-7);
        assert_eq!(calibration.bins[8].count, 1);
        assert_eq!(calibration.bins[8].accuracy, 0.0);
    }

    #[test]
    fn who_is_sure_and_right_has_no_error() {
        let calibration = of(&[(1.0, 0), (0.0, 1)]);
        assert_eq!(calibration.expected_error, 0.0);
        assert_eq!(calibration.bins[BINS - 1].count, 2);
    }

    #[test]
    fn a_bin_holds_its_upper_edge() {
        assert_eq!(
            [0.0, 0.01, 0.2, 0.200_001, 1.0].map(bin_of),
            [0, 0, 2, 3, 14]
        );
    }
}

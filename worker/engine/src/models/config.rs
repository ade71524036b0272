//! What decides a network's structure.

use quartet_shared::spec::{Backbone, ExperimentSpec, RunSpec, Variant};
use serde::{Deserialize, Serialize};

/// What decides a network's structure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NetworkConfig {
    /// The backbone.
    pub backbone: Backbone,
    /// Whose implementation of it.
    pub variant: Variant,
    /// Channel multiplier: `c` published channels become `max(4, round(c * width))`, and the head's hidden
    /// layers `max(16, round(1024 * width))`.
    pub width: f64,
    /// Height and width of the input in pixels, at least [`Backbone::minimum_image_size`].
    pub image_size: usize,
    /// Dropout rate in the head, in `[0, 1)`.
    pub dropout: f64,
    /// Momentum of every batch normalisation as Keras counts it: running = momentum * running +
    /// (1 - momentum) * batch.
    pub batch_norm_momentum: f64,
    /// Names of the classes told apart, in their order.
    pub classes: Vec<String>,
}

impl NetworkConfig {
    /// The network that the specs describe, for these classes; its variant is that of random weights.
    #[must_use]
    pub fn of_run(experiment: &ExperimentSpec, run: &RunSpec, classes: &[String]) -> Self {
        Self {
            backbone: run.backbone,
            variant: run.backbone.facts().variants[0],
            width: run.width,
            image_size: run.image_size as usize,
            dropout: run.dropout,
            batch_norm_momentum: experiment.batch_norm_momentum,
            classes: classes.to_vec(),
        }
    }

    /// Checks the ranges.
    ///
    /// # Errors
    /// What is wrong.
    pub fn validate(&self) -> Result<(), String> {
        let minimum = self.backbone.minimum_image_size() as usize;
        if self.image_size < minimum {
            return Err(format!(
                "{} needs images of {minimum} pixels, not {}",
                self.backbone, self.image_size
            ));
        }
        let rules = [
            ("dropout", (0.0..1.0).contains(&self.dropout)),
            (
                "batch_norm_momentum",
                (0.0..=1.0).contains(&self.batch_norm_momentum),
            ),
            ("width", self.width > 0.0 && self.width <= 4.0),
            ("classes", !self.classes.is_empty()),
        ];
        match rules.iter().find(|(_, holds)| !holds) {
            Some((key, _)) => Err(format!("{key} is out of its range")),
            None => Ok(()),
        }
    }
}

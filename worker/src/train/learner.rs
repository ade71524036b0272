//! One training step.

use burn::module::Module;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor};
use quartet_shared::checkpoint::Position;
use quartet_shared::ids::Epoch;

use super::adam::{Adam, AdamConfig};
use super::meter::Sums;
use crate::checkpoint::TrainingSnapshot;
use crate::input::Batch;
use crate::input::random::{Purpose, stream};
use crate::models::{DropoutMasks, Network};

/// The network that learns, on a device with autodiff, and its optimizer.
#[derive(Debug)]
pub struct Learner {
    /// The network.
    pub network: Network,
    /// Its optimizer.
    pub adam: Adam,
    seed: u64,
}

impl Learner {
    /// Before the first step of `network`, which is on a device with autodiff. Dropout depends on `seed`, epoch and step.
    #[must_use]
    pub fn new(network: Network, rates: AdamConfig, seed: u64) -> Self {
        let adam = Adam::new(rates, &network);
        Self {
            network,
            adam,
            seed,
        }
    }

    /// Forward, backward and update on one batch; returns `[loss, images classified right]` of the forward pass. By
    /// value, so that the weights are updated in place.
    #[must_use]
    pub fn step(self, batch: Batch, epoch: Epoch, step: u64) -> (Self, Tensor<1>) {
        let Self {
            network,
            mut adam,
            seed,
        } = self;
        let images = batch.images.autodiff();
        let mut rng = stream(Purpose::Dropout, seed, epoch, step);
        let masks = DropoutMasks::draw(&network, images.dims()[0], &mut rng, &images.device());
        let logits = network.forward_train(images, masks);
        let loss = cross_entropy(logits.clone(), batch.labels.clone());
        let statistics = statistics(logits.inner(), batch.labels, loss.clone().inner());
        let network = adam.step(network, loss.backward());
        (
            Self {
                network,
                adam,
                seed,
            },
            statistics,
        )
    }

    /// The state at a position, with the sums of the epoch that it is within.
    pub(crate) fn snapshot(&self, position: Position, sums: Option<Sums>) -> TrainingSnapshot {
        TrainingSnapshot {
            network: self.network.valid(),
            adam: self.adam.clone(),
            seed: self.seed,
            position,
            sums,
        }
    }
}

/// Mean categorical cross-entropy in nats, `[1]`, of logits `[N, classes]` and classes `[N, 1]`.
pub(crate) fn cross_entropy(logits: Tensor<2>, labels: Tensor<2, Int>) -> Tensor<1> {
    log_softmax(logits, 1).gather(1, labels).mean().neg()
}

/// `[loss, images whose class has the highest logit]`, still on the device.
pub(crate) fn statistics(logits: Tensor<2>, labels: Tensor<2, Int>, loss: Tensor<1>) -> Tensor<1> {
    let correct = logits.argmax(1).equal(labels).int().sum().float();
    Tensor::cat(vec![loss, correct], 0)
}

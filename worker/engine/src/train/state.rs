//! The state of a training, and one step of it.

use burn::module::Module;
use burn::tensor::{Gradients, Tensor};
use quartet_shared::ids::Epoch;
use quartet_shared::position::Position;

use crate::adam::{Adam, AdamConfig};
use crate::checkpoint::TrainingSnapshot;
use crate::input::Batch;
use crate::input::random::{Purpose, stream};
use crate::metrics::{MetricTotals, cross_entropy, statistics};
use crate::models::{DropoutMasks, Network};

/// What training changes: the network, on a device with autodiff, and its optimizer.
#[derive(Debug)]
pub struct TrainState {
    /// The network.
    pub network: Network,
    /// Its optimizer.
    pub adam: Adam,
    seed: u64,
}

impl TrainState {
    /// Before the first step of `network`, which is on a device with autodiff. Dropout depends on `seed`,
    /// epoch and step.
    #[must_use]
    pub fn new(network: Network, rates: AdamConfig, seed: u64) -> Self {
        let adam = Adam::new(rates, &network);
        Self {
            network,
            adam,
            seed,
        }
    }

    /// Forward, backward and update on one batch; returns `[loss, images classified right]` of the forward
    /// pass. By value, so that the weights are updated in place.
    #[must_use]
    pub fn step(self, batch: Batch, epoch: Epoch, step: u64) -> (Self, Tensor<1>) {
        let (loss, statistics) = self.forward(batch, epoch, step);
        (self.update(loss.backward()), statistics)
    }

    /// The loss on one batch, with its graph, and the statistics that [`TrainState::step`] returns.
    pub(super) fn forward(&self, batch: Batch, epoch: Epoch, step: u64) -> (Tensor<1>, Tensor<1>) {
        let images = batch.images.autodiff();
        let n = images.dims()[0];
        let mut rng = stream(Purpose::Dropout, self.seed, epoch, step);
        let masks = DropoutMasks::draw(&self.network, n, &mut rng, &images.device());
        let logits = self.network.forward_train(images, masks);
        let distributions = batch.distributions.map(Tensor::autodiff);
        let loss = cross_entropy(logits.clone(), batch.labels.clone(), distributions);
        let statistics = statistics(logits.inner(), batch.labels, loss.clone().inner());
        (loss, statistics)
    }

    /// The state after an update by the gradients of the loss.
    pub(super) fn update(self, gradients: Gradients) -> Self {
        let Self {
            network,
            mut adam,
            seed,
        } = self;
        let network = adam.step(network, gradients);
        Self {
            network,
            adam,
            seed,
        }
    }

    /// The state at a position, with the totals of the epoch that it is within.
    pub(crate) fn snapshot(
        &self,
        position: Position,
        totals: Option<MetricTotals>,
    ) -> TrainingSnapshot {
        TrainingSnapshot {
            network: self.network.valid(),
            adam: self.adam.clone(),
            seed: self.seed,
            position,
            totals,
        }
    }
}

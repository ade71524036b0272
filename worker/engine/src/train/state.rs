//! The state of a training, and one step of it.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Gradients, Tensor, TensorData};
use quartet_kernels::{Addresses, MemoryFormat, flat, upload, write};
use quartet_shared::ids::Epoch;
use quartet_shared::position::Position;

use crate::adam::{Adam, AdamConfig};
use crate::checkpoint::TrainingSnapshot;
use crate::compute::Compute;
use crate::input::random::{Purpose, stream};
use crate::input::{Batch, DeviceBatch, HostBatch, Input};
use crate::metrics::{MetricTotals, cross_entropy, statistics};
use crate::models::parameters::copied;
use crate::models::{DropoutMasks, HostMasks, Network};
use crate::repeat::Inputs;

/// What training changes: the network, on a device with autodiff, and its optimizer.
#[derive(Clone, Debug)]
pub struct TrainState {
    /// The network.
    pub network: Network,
    /// Its optimizer.
    pub adam: Adam,
    seed: u64,
    /// Of what a step changes.
    addresses: Addresses,
}

/// What a step takes from the host, while it is still there.
#[derive(Debug)]
pub(super) struct HostStep {
    pub(super) batch: HostBatch,
    masks: HostMasks,
    /// Of the update, `[1]`.
    rate: TensorData,
}

/// What a step takes from the host, on the device.
#[derive(Debug)]
pub(super) struct StepInputs {
    batch: DeviceBatch,
    masks: DropoutMasks,
    /// `[1]`, where LibTorch reads it.
    rate: Option<Tensor<1>>,
}

impl Inputs for StepInputs {
    type Host = HostStep;

    fn write(&mut self, HostStep { batch, masks, rate }: HostStep) {
        self.batch.write(batch);
        self.masks.write(masks);
        if let Some(to) = &self.rate {
            write(to, rate);
        }
    }
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
            addresses: Addresses::Free,
        }
    }

    /// The state with the addresses that `compute` wants, in memory of its own if they are fixed.
    pub(super) fn placed(self, compute: &Compute) -> Self {
        let addresses = compute.addresses();
        let own = match addresses {
            Addresses::Free => self,
            Addresses::Fixed => Self {
                network: copied(self.network, compute.weights()),
                adam: self.adam.copied(compute.weights()),
                ..self
            },
        };
        Self { addresses, ..own }
    }

    /// Forward, backward and update on one batch; returns `[loss, images classified right]` of the forward
    /// pass. By value, so that the weights are updated in place.
    #[must_use]
    pub fn step(self, batch: Batch, epoch: Epoch, step: u64) -> (Self, Tensor<1>) {
        let (loss, statistics) = self.forward(batch, epoch, step);
        (self.update(loss.backward(), None), statistics)
    }

    /// What a step on `batch` takes from the host.
    pub(super) fn host_step(&self, batch: HostBatch, epoch: Epoch, step: u64) -> HostStep {
        let mut rng = stream(Purpose::Dropout, self.seed, epoch, step);
        let masks = DropoutMasks::on_host(&self.network, batch.images, &mut rng);
        let rate = TensorData::new(vec![self.adam.next_rate()], [1]);
        HostStep { batch, masks, rate }
    }

    /// Sends that to the device.
    pub(super) fn upload(HostStep { batch, masks, rate }: HostStep, input: &Input) -> StepInputs {
        StepInputs {
            masks: DropoutMasks::upload(masks, input.device()),
            rate: quartet_kernels::is_native(input.device()).then(|| upload(rate, input.device())),
            batch: input.upload(batch),
        }
    }

    /// [`step`](Self::step) on what [`upload`](Self::upload) has sent.
    pub(super) fn step_on(self, inputs: &StepInputs, input: &Input) -> (Self, Tensor<1>) {
        let batch = input.decode(&inputs.batch);
        let masks = inputs.masks.clone().autodiff();
        let (loss, statistics) = self.forward_with(batch, masks);
        (
            self.update(loss.backward(), inputs.rate.clone()),
            statistics,
        )
    }

    /// [`step_on`](Self::step_on) with fixed addresses: the tensors of this state get the new values.
    ///
    /// # Panics
    /// If one of them is somewhere else afterwards.
    pub(super) fn step_in_place(&self, inputs: &StepInputs, input: &Input) -> Tensor<1> {
        let before = self.places();
        let (after, statistics) = self.clone().step_on(inputs, input);
        assert!(before == after.places(), "a step has moved what it changes");
        statistics
    }

    /// The loss on one batch, with its graph, and the statistics that [`TrainState::step`] returns.
    pub(super) fn forward(&self, batch: Batch, epoch: Epoch, step: u64) -> (Tensor<1>, Tensor<1>) {
        let n = batch.images.dims()[0];
        let mut rng = stream(Purpose::Dropout, self.seed, epoch, step);
        let device = batch.images.device().autodiff();
        let masks = DropoutMasks::draw(&self.network, n, &mut rng, &device);
        self.forward_with(batch, masks)
    }

    fn forward_with(&self, batch: Batch, masks: DropoutMasks) -> (Tensor<1>, Tensor<1>) {
        let images = batch.images.autodiff();
        let logits = self.network.forward_train_at(images, masks, self.addresses);
        let distributions = batch.distributions.map(Tensor::autodiff);
        let loss = cross_entropy(logits.clone(), batch.labels.clone(), distributions);
        let statistics = statistics(logits.inner(), batch.labels, loss.clone().inner());
        (loss, statistics)
    }

    /// The state after an update by the gradients of the loss; `rate`, `[1]`, is on the device already.
    pub(super) fn update(self, gradients: Gradients, rate: Option<Tensor<1>>) -> Self {
        let Self {
            network, mut adam, ..
        } = self;
        let network = adam.step_at(network, gradients, rate, self.addresses);
        Self {
            network,
            adam,
            ..self
        }
    }

    /// The state at a position, with the totals of the epoch that it is within.
    pub(crate) fn snapshot(
        &self,
        position: Position,
        totals: Option<MetricTotals>,
    ) -> TrainingSnapshot {
        let network = self.network.valid();
        let (network, adam) = match self.addresses {
            Addresses::Free => (network, self.adam.clone()),
            // The next step writes where these are.
            Addresses::Fixed => {
                let format = MemoryFormat::Contiguous;
                (copied(network, format), self.adam.copied(format))
            }
        };
        TrainingSnapshot {
            network,
            adam,
            seed: self.seed,
            position,
            totals,
        }
    }

    /// All that a step changes, without autodiff: tensors that share its memory.
    pub(super) fn tensors(&self) -> Vec<Tensor<1>> {
        let mut tensors = Tensors(Vec::new());
        self.network.visit(&mut tensors);
        for moments in self.adam.moments.values() {
            tensors.0.extend([moments.m.clone(), moments.v.clone()]);
        }
        tensors.0
    }

    /// Where that is.
    fn places(&self) -> Vec<Option<usize>> {
        let tensors = self.tensors();
        tensors.iter().map(quartet_kernels::address).collect()
    }
}

struct Tensors(Vec<Tensor<1>>);

impl ModuleVisitor for Tensors {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.push(flat(param.val()));
    }
}

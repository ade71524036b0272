//! Computations that are repeated with other inputs: on GPUs they are recorded, and then replayed.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor};
use quartet_kernels::{Addresses, Graph, GraphError, copied};

use crate::compute::Compute;
use crate::input::BatchKind;

/// Runs of a computation before it is recorded: in the first one the fastest algorithms are looked for.
const WARM_UP: u32 = 2;

/// What a computation takes from the host.
pub(crate) trait Inputs {
    /// While it is still on the host.
    type Host;

    /// Sends other inputs of the same shapes to the addresses of these.
    fn write(&mut self, host: Self::Host);
}

/// A computation on batches of different kinds.
#[derive(Debug)]
pub(crate) struct Repeated<I> {
    device: Device,
    addresses: Addresses,
    /// Whether it is recorded.
    records: bool,
    plans: BTreeMap<BatchKind, Plan<I>>,
}

/// A computation on batches of one kind, at fixed addresses.
#[derive(Debug)]
struct Plan<I> {
    inputs: I,
    runs: u32,
    /// With its result, which the next replay overwrites.
    recorded: Option<(Graph, Tensor<1>)>,
}

impl<I: Inputs> Repeated<I> {
    pub(crate) fn new(compute: &Compute) -> Self {
        Self {
            device: compute.device.clone(),
            addresses: compute.addresses(),
            records: compute.records(),
            plans: BTreeMap::new(),
        }
    }

    /// Where inputs are, and where a computation leaves what it changes.
    pub(crate) fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Computes on a batch of this kind. With fixed addresses `compute` reads nothing but its inputs and what
    /// is where it was at the calls before, and changes that in place: it may not be called. Its result is of
    /// one axis.
    pub(crate) fn run(
        &mut self,
        kind: BatchKind,
        host: I::Host,
        upload: impl FnOnce(I::Host) -> I,
        mut compute: impl FnMut(&I) -> Tensor<1>,
    ) -> Tensor<1> {
        if self.addresses == Addresses::Free {
            return compute(&upload(host));
        }
        // Taken out, so that it can become another's sibling.
        let mut plan = match self.plans.remove(&kind) {
            Some(mut plan) => {
                plan.inputs.write(host);
                plan
            }
            None => Plan {
                inputs: upload(host),
                runs: 0,
                recorded: None,
            },
        };
        if plan.recorded.is_none() && plan.runs >= WARM_UP && self.records {
            match self.record(&plan.inputs, &mut compute) {
                Ok(recorded) => plan.recorded = Some(recorded),
                Err(reason) => {
                    self.records = false;
                    tracing::warn!("steps are launched operation by operation: {reason}");
                }
            }
        }
        plan.runs = plan.runs.saturating_add(1);
        let result = match &mut plan.recorded {
            Some((graph, result)) => {
                graph.replay();
                copied(result.clone())
            }
            None => compute(&plan.inputs),
        };
        self.plans.insert(kind, plan);
        result
    }

    fn record(
        &self,
        inputs: &I,
        compute: impl FnOnce(&I) -> Tensor<1>,
    ) -> Result<(Graph, Tensor<1>), GraphError> {
        let mut recorded = self
            .plans
            .values()
            .filter_map(|plan| plan.recorded.as_ref());
        let sibling = recorded.next().map(|(graph, _)| graph);
        Graph::record(&self.device, sibling, || compute(inputs))
    }
}

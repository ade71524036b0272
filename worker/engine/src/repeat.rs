//! Computations that are repeated with other inputs: on GPUs they are recorded, and then replayed.
//!
//! A recording is used only after a replay has been seen to do, with the same batch, what the operations do
//! one by one.

#[cfg(all(test, feature = "tch"))]
mod tests;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::tensor::{Tensor, TensorData};
use quartet_kernels::{
    Addresses, Graph, GraphError, GraphFamily, copied, overwrite, panic_message,
};

use crate::compute::Compute;
use crate::input::BatchKind;

/// Runs of a computation before it is recorded: in the first one the fastest algorithms are looked for.
const WARM_UP: u32 = 2;

/// How far the result of a replay may be from that of the operations one by one, whose sums are not always in
/// the same order: as a part of it. A count above 1 may differ by one.
const RESULT_TOLERANCE: f64 = 0.05;

/// Of smaller results it is this that they may be off by that part of.
const LEAST: f64 = 0.1;

/// As a part of what a tensor has changed by.
const CHANGE_TOLERANCE: f64 = 0.5;

/// The part of all values that may be in tensors that differ by more: gradients that are 0 but for rounding,
/// as those of a bias before a normalisation, have a sign by chance.
const STRAYING: f64 = 0.01;

/// What a computation takes from the host.
pub(crate) trait Inputs {
    /// While it is still on the host.
    type Host;

    /// Sends other inputs of the same shapes to the addresses of these.
    fn write(&mut self, host: Self::Host);
}

/// What is computed on inputs again and again.
pub(crate) trait Computation<I> {
    /// Reads nothing but the inputs and what is where it was at the calls before. The result is of one axis.
    /// Where addresses are fixed it may be called less often than there are batches, and once more.
    fn compute(&mut self, inputs: &I) -> Tensor<1>;

    /// What it changes in place where addresses are fixed: tensors that share that memory.
    fn changed(&self) -> Vec<Tensor<1>>;
}

/// A computation on batches of different kinds.
#[derive(Debug)]
pub(crate) struct Repeated<I> {
    addresses: Addresses,
    recorder: Recorder,
    plans: BTreeMap<BatchKind, Plan<I>>,
}

/// What records.
#[derive(Debug)]
enum Recorder {
    Nothing,
    Graphs(GraphFamily),
    /// A test, which says what a recording does.
    #[cfg(all(test, feature = "tch"))]
    Test(Box<tests::Record>),
}

/// A computation on batches of one kind, at fixed addresses.
#[derive(Debug)]
struct Plan<I> {
    inputs: I,
    runs: u32,
    recorded: Option<Recorded>,
}

#[derive(Debug)]
struct Recorded {
    recording: Recording,
    /// The result, which the next replay overwrites.
    result: Tensor<1>,
}

#[derive(Debug)]
enum Recording {
    Graph(Graph),
    #[cfg(all(test, feature = "tch"))]
    Test(tests::Replay),
}

impl<I: Inputs> Repeated<I> {
    /// With recordings of this family, if there are to be any.
    pub(crate) fn new(compute: &Compute, family: Option<GraphFamily>) -> Self {
        Self {
            addresses: compute.addresses(),
            recorder: family.map_or(Recorder::Nothing, Recorder::Graphs),
            plans: BTreeMap::new(),
        }
    }

    /// Where inputs are, and where a computation leaves what it changes.
    pub(crate) fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Whether there is a recording.
    pub(crate) fn is_recorded(&self) -> bool {
        self.plans.values().any(|plan| plan.recorded.is_some())
    }

    /// Computes on a batch of this kind.
    pub(crate) fn run(
        &mut self,
        kind: BatchKind,
        host: I::Host,
        upload: impl FnOnce(I::Host) -> I,
        computation: &mut impl Computation<I>,
    ) -> Tensor<1> {
        if self.addresses == Addresses::Free {
            return computation.compute(&upload(host));
        }
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
        plan.runs = plan.runs.saturating_add(1);
        let due = plan.runs > WARM_UP && !matches!(self.recorder, Recorder::Nothing);
        let result = match &mut plan.recorded {
            Some(recorded) => recorded.replay(),
            None if due => {
                let (result, recorded) = self.record(&plan.inputs, computation);
                match recorded {
                    Ok(recorded) => plan.recorded = Some(recorded),
                    Err(reason) => {
                        self.recorder = Recorder::Nothing;
                        tracing::warn!(
                            "further steps are launched operation by operation: {reason}"
                        );
                    }
                }
                result
            }
            None => computation.compute(&plan.inputs),
        };
        self.plans.insert(kind, plan);
        result
    }

    /// Computes operation by operation, records, and replays from the same beginning to compare. What is
    /// returned, and what was changed, is of the one or the other.
    fn record(
        &self,
        inputs: &I,
        computation: &mut impl Computation<I>,
    ) -> (Tensor<1>, Result<Recorded, GraphError>) {
        let changed = computation.changed();
        let before = match tried(|| values(&changed)) {
            Ok(before) => before,
            Err(reason) => return (computation.compute(inputs), Err(reason)),
        };
        let result = copied(computation.compute(inputs));
        let after = match tried(|| values(&changed)) {
            Ok(after) => after,
            Err(reason) => return (result, Err(reason)),
        };
        let mut recorded = match self.recording(|| computation.compute(inputs)) {
            Ok(recorded) => recorded,
            Err(reason) => return (result, Err(reason)),
        };
        let compared = tried(|| {
            write_all(&changed, &before);
            let replayed = recorded.replay();
            let change = changed.iter().zip(before).zip(&after);
            let change = change.map(|((found, before), after)| Change::of(found, before, after));
            let change: Vec<Change> = change.collect();
            match differ(&replayed, &result).or_else(|| stray(&change)) {
                None => Ok(replayed),
                Some(reason) => Err(GraphError::Failed(reason)),
            }
        });
        match compared.and_then(|compared| compared) {
            Ok(replayed) => (replayed, Ok(recorded)),
            Err(reason) => {
                write_all(&changed, &after);
                (result, Err(reason))
            }
        }
    }

    fn recording(&self, compute: impl FnOnce() -> Tensor<1>) -> Result<Recorded, GraphError> {
        let (recording, result) = match &self.recorder {
            #[cfg(all(test, feature = "tch"))]
            Recorder::Test(record) => {
                let (replay, result) = record.call(compute)?;
                (Recording::Test(replay), result)
            }
            Recorder::Graphs(family) => {
                let (graph, result) = family.record(compute)?;
                (Recording::Graph(graph), result)
            }
            Recorder::Nothing => unreachable!("nothing is to be recorded"),
        };
        Ok(Recorded { recording, result })
    }
}

impl Recorded {
    /// The result, in memory of its own.
    fn replay(&mut self) -> Tensor<1> {
        match &mut self.recording {
            Recording::Graph(graph) => graph.replay(),
            #[cfg(all(test, feature = "tch"))]
            Recording::Test(replay) => replay.call(),
        }
        copied(self.result.clone())
    }
}

/// What `body` returns, unless it panics, as it does where there is no memory.
fn tried<T>(body: impl FnOnce() -> T) -> Result<T, GraphError> {
    catch_unwind(AssertUnwindSafe(body))
        .map_err(|panic| GraphError::Failed(panic_message(&*panic).to_owned()))
}

/// On the host: a GPU has memory for the steps, not for their state once more.
fn values(tensors: &[Tensor<1>]) -> Vec<TensorData> {
    let values = tensors.iter().map(|tensor| tensor.clone().into_data());
    values.collect()
}

fn write_all(targets: &[Tensor<1>], values: &[TensorData]) {
    for (target, values) in targets.iter().zip(values) {
        overwrite(target, &Tensor::from_data(values.clone(), &target.device()));
    }
}

/// How two ways have changed a tensor.
#[derive(Clone, Copy, Debug)]
struct Change {
    values: usize,
    /// Norm of the difference of the two.
    difference: f64,
    /// Norm of the change.
    change: f64,
}

impl Change {
    fn of(found: &Tensor<1>, before: TensorData, expected: &TensorData) -> Self {
        let device = found.device();
        let before = Tensor::from_data(before, &device);
        let expected = Tensor::from_data(expected.clone(), &device);
        let norm = |tensor: Tensor<1>| {
            let squares = tensor.clone() * tensor;
            f64::from(squares.sum().into_scalar::<f32>()).sqrt()
        };
        Self {
            values: found.dims()[0],
            difference: norm(found.clone() - expected.clone()),
            change: norm(expected - before),
        }
    }

    /// Where both are no numbers, as after a loss that is none, nothing can be told.
    fn strays(&self) -> bool {
        self.difference > CHANGE_TOLERANCE * self.change
            || self.difference.is_nan() != self.change.is_nan()
    }
}

/// What is wrong with a replay's result.
fn differ(found: &Tensor<1>, expected: &Tensor<1>) -> Option<String> {
    let values = |tensor: &Tensor<1>| {
        let data = tensor.clone().into_data_as::<f32>();
        data.try_to_vec::<f32>().expect("converted to f32")
    };
    let (found, expected) = (values(found), values(expected));
    let near = |(a, b): (&f32, &f32)| {
        let (a, b) = (f64::from(*a), f64::from(*b));
        let whole = a.fract() == 0.0 && b.fract() == 0.0 && a.max(b) > 1.0;
        let tolerance = RESULT_TOLERANCE * b.abs().max(LEAST);
        (a - b).abs() <= if whole { tolerance.max(1.0) } else { tolerance }
            || (a.is_nan() && b.is_nan())
    };
    let wrong = found.iter().zip(&expected).find(|pair| !near(*pair));
    match wrong {
        _ if found.len() != expected.len() => Some("a replay has a result of another size".into()),
        Some((a, b)) => Some(format!("a replay computes {a} instead of {b}")),
        None => None,
    }
}

/// What is wrong with what a replay has changed.
fn stray(changes: &[Change]) -> Option<String> {
    let sum = |changes: &mut dyn Iterator<Item = &Change>| -> usize {
        changes.map(|change| change.values).sum()
    };
    let all = sum(&mut changes.iter());
    let wrong = sum(&mut changes.iter().filter(|change| change.strays()));
    (wrong as f64 > STRAYING * all as f64)
        .then(|| format!("a replay changes {wrong} of {all} values otherwise"))
}

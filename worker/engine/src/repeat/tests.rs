//! Recording, played on the CPU.

use std::fmt;
use std::sync::{Arc, Mutex};

use super::*;
use crate::input::HostBatch;

/// What a test's recording does when it is replayed.
pub(super) struct Replay(Box<dyn FnMut()>);

impl Replay {
    pub(super) fn call(&mut self) {
        (self.0)();
    }
}

impl fmt::Debug for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Replay")
    }
}

/// Makes recordings of the computation of these tests.
#[derive(Clone, Debug)]
pub(super) struct Record {
    addition: Addition,
    kind: Kind,
    replays: Arc<Mutex<u32>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Right,
    /// Changes the right tensor in another way.
    WrongChange,
    /// Has another result.
    WrongResult,
    Refused,
}

impl Record {
    pub(super) fn call(
        &self,
        compute: impl FnOnce() -> Tensor<1>,
    ) -> Result<(Replay, Tensor<1>), GraphError> {
        if self.kind == Kind::Refused {
            return Err(GraphError::Failed("no memory".into()));
        }
        // Recorded operations are not computed: what they have changed is put back.
        let before = copied(self.addition.total.clone());
        let result = copied(compute());
        overwrite(&self.addition.total, &before);
        let (record, to) = (self.clone(), result.clone());
        let replay = move || {
            *record.replays.lock().unwrap() += 1;
            let mut addition = record.addition.clone();
            let factor = if record.kind == Kind::WrongChange {
                3.0
            } else {
                1.0
            };
            let sum = addition.by(factor);
            let off = if record.kind == Kind::WrongResult {
                9.0
            } else {
                0.0
            };
            overwrite(&to, &sum.add_scalar(off));
        };
        Ok((Replay(Box::new(replay)), result))
    }
}

/// Adds its input to a total; the result is the total's sum.
#[derive(Clone, Debug)]
struct Addition {
    total: Tensor<1>,
    input: Tensor<1>,
}

impl Addition {
    fn by(&mut self, factor: f64) -> Tensor<1> {
        let next = self.total.clone() + self.input.clone().mul_scalar(factor);
        overwrite(&self.total, &next);
        copied(self.total.clone()).sum()
    }
}

#[derive(Debug)]
struct Input(Tensor<1>);

impl Inputs for Input {
    type Host = f32;

    fn write(&mut self, host: f32) {
        let value = Tensor::full_like(&self.0, host);
        overwrite(&self.0, &value);
    }
}

impl Computation<Input> for Addition {
    fn compute(&mut self, _: &Input) -> Tensor<1> {
        self.by(1.0)
    }

    fn changed(&self) -> Vec<Tensor<1>> {
        vec![self.total.clone()]
    }
}

/// Sums after each of so many additions, and how often a recording was replayed.
fn sums(kind: Kind, runs: u32) -> (Vec<f32>, u32) {
    let device = crate::devices::cpus()
        .into_iter()
        .find(quartet_kernels::is_native)
        .unwrap();
    let zeros = || Tensor::zeros([4], &device);
    let mut addition = Addition {
        total: zeros(),
        input: zeros(),
    };
    let replays = Arc::new(Mutex::new(0));
    let mut repeated = Repeated {
        recorder: Recorder::Test(Box::new(Record {
            addition: addition.clone(),
            kind,
            replays: replays.clone(),
        })),
        ..Repeated::new(&Compute::rehearsed(&device), None)
    };
    let input = addition.input.clone();
    let sums = (0..runs).map(|run| {
        let kind = HostBatch::kind_of(4);
        let upload = |host| {
            let mut input = Input(input.clone());
            input.write(host);
            input
        };
        let sum = repeated.run(kind, run as f32, upload, &mut addition);
        sum.into_scalar::<f32>()
    });
    let sums = sums.collect();
    let replays = *replays.lock().unwrap();
    (sums, replays)
}

#[test]
fn a_recording_that_does_the_same_is_replayed() {
    let expected: Vec<f32> = (0..8).map(|n| (4 * n * (n + 1) / 2) as f32).collect();
    // The third run is recorded and replayed to compare; the five after it are replayed.
    assert_eq!(sums(Kind::Right, 8), (expected.clone(), 6));
    // Those that do something else are replayed once, and what they did is undone.
    assert_eq!(sums(Kind::WrongChange, 8), (expected.clone(), 1));
    assert_eq!(sums(Kind::WrongResult, 8), (expected.clone(), 1));
    assert_eq!(sums(Kind::Refused, 8), (expected, 0));
}

#[test]
fn few_values_may_stray() {
    let change = |values, difference, change| Change {
        values,
        difference,
        change,
    };
    assert_eq!(stray(&[]), None);
    let same = change(10_000, 0.1, 1.0);
    assert_eq!(stray(&[same, change(100, 2.0, 1.0)]), None);
    let reason = stray(&[same, change(200, 2.0, 1.0)]).unwrap();
    assert_eq!(reason, "a replay changes 200 of 10200 values otherwise");
    assert_eq!(stray(&[change(10, 0.0, 0.0)]), None, "nothing has changed");
    assert!(stray(&[change(10, 0.1, 0.0)]).is_some());
    assert!(stray(&[change(10, f64::NAN, 1.0)]).is_some());
    assert_eq!(stray(&[change(10, f64::NAN, f64::NAN)]), None);
}

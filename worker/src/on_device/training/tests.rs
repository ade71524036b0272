use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use quartet_agent::executor::{CheckpointFiles, Moment, Snapshot, SnapshotError};
use quartet_kernels::panic_message;
use quartet_shared::ids::Epoch;
use quartet_shared::position::Position;

use super::*;

/// How often it got a checkpoint; and whether it wants to stop.
#[derive(Default)]
struct Count(u32, Option<Stop>);

impl Callbacks for Count {
    fn on_progress(&mut self, _: Progress) {}

    fn stop(&self) -> Option<Stop> {
        self.1
    }

    fn wants_mid_epoch_checkpoint(&self) -> bool {
        true
    }

    fn on_checkpoint(&mut self, _: Checkpoint) -> Option<Stop> {
        self.0 += 1;
        None
    }

    fn on_predictions(&mut self, _: &RunName, _: &Predictions) {}
}

#[derive(Debug)]
struct Nothing;

impl Snapshot for Nothing {
    fn write(self: Box<Self>, _: &Path, _: &str) -> Result<CheckpointFiles, SnapshotError> {
        unreachable!("nobody keeps it")
    }
}

fn checkpoint() -> Checkpoint {
    Checkpoint {
        moment: Moment::MidEpoch(Position::end_of(Epoch(1))),
        snapshot: Box::new(Nothing),
    }
}

const MESSAGE: &str = "LibTorch: convolution: CUDA out of memory. Tried to allocate 2.44 GiB.";

/// What becomes of a training that has no memory for recorded steps, for which `why` is the reason, after so
/// many checkpoints; and how its steps were.
fn trained(
    again: bool,
    checkpoints: u32,
    why: &OutOfMemory,
) -> (Result<Trained, ExecutorError>, Vec<Steps>) {
    let (tried, mut link) = (RefCell::new(Vec::new()), Count::default());
    let train = |steps, link: &mut dyn Callbacks| {
        tried.borrow_mut().push(steps);
        for _ in 0..checkpoints {
            link.on_checkpoint(checkpoint());
        }
        match steps {
            Steps::Recorded => panic!("{MESSAGE}"),
            Steps::Launched => Ok(Trained::Stopped),
        }
    };
    let result = once_or_twice(again, &mut link, train, |_, message, _| {
        assert_eq!(message, MESSAGE);
        why.clone()
    });
    let tried = tried.into_inner();
    assert_eq!(
        link.0,
        checkpoints * tried.len() as u32,
        "all are passed on"
    );
    (result, tried)
}

fn failed(why: &str) -> Result<Trained, ExecutorError> {
    Err(ExecutorError::Failed(why.to_owned()))
}

#[test]
fn what_fits_without_recorded_steps_begins_again_without_them() {
    let recorded = OutOfMemory::Recorded("recorded".to_owned());
    let (result, tried) = trained(true, 0, &recorded);
    assert_eq!(tried, [Steps::Recorded, Steps::Launched]);
    assert_eq!(result.unwrap(), Trained::Stopped);

    // The next attempt begins with the checkpoint, and is to end with the same bytes.
    for (again, checkpoints) in [(true, 1), (false, 0)] {
        let (result, tried) = trained(again, checkpoints, &recorded);
        assert_eq!(tried, [Steps::Recorded]);
        assert_eq!(result, failed("recorded (--cuda-graphs off)"));
    }
}

#[test]
fn what_does_not_fit_is_not_tried_again() {
    let (result, tried) = trained(true, 0, &OutOfMemory::Taken("taken".to_owned()));
    assert_eq!(tried, [Steps::Recorded]);
    assert_eq!(result, failed("taken"));

    let (result, tried) = trained(true, 0, &OutOfMemory::TooLarge("large".to_owned()));
    assert_eq!(tried, [Steps::Recorded]);
    let large = ExecutorError::Repeatable("large".to_owned());
    assert_eq!(result, Err(large));
}

#[test]
fn it_begins_again_once_only() {
    let tried = RefCell::new(0);
    let train = |_, _: &mut dyn Callbacks| {
        *tried.borrow_mut() += 1;
        panic!("{MESSAGE}")
    };
    let why = |_, _: &str, _: &mut Ask<'_>| OutOfMemory::Recorded("recorded".to_owned());
    let result = once_or_twice(true, &mut Count::default(), train, why);
    assert_eq!(result, failed("recorded (--cuda-graphs off)"));
    assert_eq!(tried.into_inner(), 2);
}

#[test]
fn who_is_told_to_stop_does_not_begin_again() {
    let train = |_, _: &mut dyn Callbacks| panic!("{MESSAGE}");
    let why = |_, _: &str, _: &mut Ask<'_>| OutOfMemory::Recorded("recorded".to_owned());
    let mut link = Count(0, Some(Stop::Drain));
    let result = once_or_twice(true, &mut link, train, why);
    assert_eq!(result, Ok(Trained::Stopped));
}

#[test]
fn another_panic_goes_on() {
    let train = |_, _: &mut dyn Callbacks| panic!("channels do not match");
    let why = |_, _: &str, _: &mut Ask<'_>| unreachable!("there is memory");
    let mut link = Count::default();
    let training = AssertUnwindSafe(|| once_or_twice(true, &mut link, train, why));
    let panic = catch_unwind(training).unwrap_err();
    assert_eq!(panic_message(&*panic), "channels do not match");
}

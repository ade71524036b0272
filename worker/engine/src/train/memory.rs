//! A training that does not fit into the memory of its device.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::tensor::Device;
use quartet_agent::executor::{Callbacks, Checkpoint, Stop, TrainTask};
use quartet_kernels::{panic_message, release_memory};
use quartet_shared::ids::RunName;
use quartet_shared::predictions::Predictions;
use quartet_shared::progress::Progress;

use super::{TrainError, train};
use crate::compute::Compute;
use crate::memory::{description, is_out_of_memory, release_forward_passes};

/// Steps that are tried, of training or, where an epoch has fewer, of validation: the second one finds the
/// memory in the pieces that the first has left.
const FIRST_STEPS: u32 = 3;

/// Why there was no memory for a training, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutOfMemory {
    /// There is enough for steps that are not recorded; recorded ones keep memory of their own.
    Recorded(String),
    /// There is enough now: somebody else had it.
    Taken(String),
    /// It is never enough; with what would be.
    TooLarge(String),
}

impl fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Recorded(reason) | Self::Taken(reason) | Self::TooLarge(reason)) = self;
        f.write_str(reason)
    }
}

/// Whether to stop.
pub type Ask<'a> = dyn FnMut() -> bool + Send + 'a;

/// What did not fit, and what would have: `message` is LibTorch's. A few training steps with batches of this
/// size and of smaller ones are tried on the device, without CUDA graphs, unless `stop` says to stop.
#[must_use]
pub fn out_of_memory(
    task: &TrainTask,
    compute: &Compute,
    message: &str,
    stop: &mut Ask<'_>,
) -> OutOfMemory {
    let batch = task.experiment.batch_size;
    // Of the training.
    release(&compute.device);
    let mut fits = |batch| fits(task, compute, batch, stop);
    let found = match fits(batch) {
        Ok(true) if compute.records_steps() => {
            let advice = "it fits now without recorded steps";
            return OutOfMemory::Recorded(described(task, message, advice));
        }
        Ok(true) => return OutOfMemory::Taken(described(task, message, "it fits now")),
        Ok(false) => search(batch, fits),
        Err(reason) => Err(reason),
    };
    let advice = match found {
        Ok(Some(batch)) => format!("the largest batch that fits is {batch} (batch_size = {batch})"),
        Ok(None) => "not even one image fits".to_owned(),
        Err(reason) => format!("what would fit could not be found out: {reason}"),
    };
    OutOfMemory::TooLarge(described(task, message, &advice))
}

fn described(task: &TrainTask, message: &str, advice: &str) -> String {
    let (run, size) = (&task.run, task.run.image_size);
    let batch = task.experiment.batch_size;
    let what = format_args!(
        "{} with batches of {batch} images of {size}x{size}; {advice}",
        run.backbone
    );
    description(message, what)
}

/// The largest batch below `batch` that fits, to an eighth of it: half as large each time, and then between.
fn search<E>(batch: u32, mut fits: impl FnMut(u32) -> Result<bool, E>) -> Result<Option<u32>, E> {
    let mut too_large = batch;
    let mut largest = loop {
        let half = too_large / 2;
        if half == 0 {
            return Ok(None);
        }
        if fits(half)? {
            break half;
        }
        too_large = half;
    };
    while too_large - largest > (too_large / 8).max(1) {
        let middle = largest.midpoint(too_large);
        match fits(middle)? {
            true => largest = middle,
            false => too_large = middle,
        }
    }
    Ok(Some(largest))
}

/// Whether the first steps of a training with so many images in a batch fit.
fn fits(
    task: &TrainTask,
    compute: &Compute,
    batch: u32,
    stop: &mut Ask<'_>,
) -> Result<bool, String> {
    let mut fresh = TrainTask {
        resume: None,
        weights: None,
        checkpoint_interval: None,
        ..task.clone()
    };
    fresh.experiment.batch_size = batch;
    let mut first = FirstSteps {
        stop: RefCell::new(stop),
        done: Cell::new(0),
    };
    let steps = || {
        let launched = compute.clone().with_graphs(false);
        train(&fresh, launched, &mut first)
    };
    // A panic is what failures inside of burn are; nothing of the steps is used.
    let tried = catch_unwind(AssertUnwindSafe(steps));
    release(&compute.device);
    if stop() {
        return Err("it was told to stop".to_owned());
    }
    match tried {
        // Random weights may have any loss.
        Ok(Ok(_) | Err(TrainError::Diverged { .. })) => Ok(true),
        Ok(Err(error)) => Err(error.to_string()),
        Err(panic) => match panic_message(&*panic) {
            message if is_out_of_memory(message) => Ok(false),
            message => Err(message.to_owned()),
        },
    }
}

/// So that the next attempt finds the memory as a new process does.
fn release(device: &Device) {
    release_forward_passes(device);
    release_memory(device);
}

/// Ends a training after its first steps, or when it is told to stop.
struct FirstSteps<'a, 'b> {
    stop: RefCell<&'a mut Ask<'b>>,
    done: Cell<u32>,
}

impl Callbacks for FirstSteps<'_, '_> {
    fn on_progress(&mut self, _: Progress) {}

    fn stop(&self) -> Option<Stop> {
        self.done.set(self.done.get() + 1);
        let told = self.stop.borrow_mut()().then_some(Stop::Drop);
        told.or_else(|| self.is_over())
    }

    fn wants_mid_epoch_checkpoint(&self) -> bool {
        false
    }

    fn on_checkpoint(&mut self, _: Checkpoint) -> Option<Stop> {
        self.is_over()
    }

    fn on_predictions(&mut self, _: &RunName, _: &Predictions) {}
}

impl FirstSteps<'_, '_> {
    fn is_over(&self) -> Option<Stop> {
        (self.done.get() >= FIRST_STEPS).then_some(Stop::Drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::tests::MESSAGE;

    #[test]
    fn the_largest_batch_is_found() {
        let found = |batch, limit| {
            let mut tried = Vec::new();
            let found = search(batch, |batch| {
                tried.push(batch);
                Ok::<_, ()>(batch <= limit)
            });
            let all = tried.iter().all(|&n| n < batch);
            assert!(tried.len() <= 12 && all, "{tried:?}");
            found.unwrap()
        };
        assert_eq!(found(32, 0), None);
        assert_eq!(found(1, 1), None, "nothing is smaller");
        let cases = [
            (32, 31),
            (32, 16),
            (32, 5),
            (512, 100),
            (1000, 999),
            (2, 1),
            (3, 2),
        ];
        for (batch, limit) in cases {
            let found = found(batch, limit).unwrap();
            assert!(found <= limit, "{batch} {limit}: {found}");
            assert!(found >= limit - limit / 4, "{batch} {limit}: {found}");
        }
        assert_eq!(search(8, |_| Err("a disk")), Err("a disk"));
    }

    #[test]
    fn what_fits_is_tried() {
        for device in crate::devices::cpus() {
            let compute = Compute::from(&device);
            // Of an epoch the first steps; and one of training, two of validation.
            for images in [64, 8] {
                let task = crate::train::tests::task(images, 0.05, 1000);
                let mut times = 0;
                let mut stop = || {
                    times += 1;
                    false
                };
                let expected = "out of memory on the GPU, of which 1.06 GiB was free: vgg16 with batches of \
                                8 images of 32x32; it fits now";
                let found = out_of_memory(&task, &compute, MESSAGE, &mut stop);
                assert_eq!(found, OutOfMemory::Taken(expected.to_owned()));
                assert_eq!(times, FIRST_STEPS + 1, "{images} images");
            }
            let mut task = crate::train::tests::task(16, 0.05, 1);
            // An epoch of two steps, the second of which has a loss that is no number.
            task.run.learning_rate = f64::NAN;
            assert_eq!(fits(&task, &compute, 8, &mut || false), Ok(true));
            // It fails, but not for want of memory.
            task.run.image_size = 0;
            assert!(
                fits(&task, &compute, 3, &mut || false).is_err(),
                "{device:?}"
            );
        }
    }

    #[test]
    fn who_is_told_to_stop_looks_no_further() {
        for device in crate::devices::cpus() {
            let task = crate::train::tests::task(64, 0.05, 1);
            let mut times = 0;
            let mut stop = || {
                times += 1;
                true
            };
            let found = out_of_memory(&task, &Compute::from(&device), MESSAGE, &mut stop);
            assert_eq!(times, 2, "after one step");
            let OutOfMemory::TooLarge(reason) = found else {
                panic!("{found:?}")
            };
            assert!(reason.ends_with("it was told to stop"), "{reason}");
        }
    }
}

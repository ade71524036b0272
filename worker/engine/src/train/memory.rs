//! A training that does not fit into the memory of its device.

use std::panic::{AssertUnwindSafe, catch_unwind};

use quartet_agent::executor::TrainTask;
use quartet_kernels::panic_message;
use quartet_shared::dataset::Split;
use quartet_shared::ids::Epoch;

use super::error::TrainError;
use super::prepare::prepare;
use crate::compute::Compute;
use crate::memory::{is_out_of_memory, release_forward_passes, was_free};

/// What became of a training for which there was no memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutOfMemory {
    /// There is enough for steps that are not recorded: recorded ones, which keep memory of their own, or
    /// somebody else had it.
    Taken(String),
    /// It is never enough; with what would be.
    TooLarge(String),
}

/// What did not fit, and what would have: `message` is LibTorch's. Training steps of this size and of smaller
/// ones are tried on the device, for up to a minute, without CUDA graphs.
#[must_use]
pub fn out_of_memory(task: &TrainTask, compute: &Compute, message: &str) -> OutOfMemory {
    let batch = task.experiment.batch_size;
    // Of the training.
    release_forward_passes(&compute.device);
    let fits = |batch| fits(task, compute, batch);
    let found = match fits(batch) {
        Ok(true) => {
            let advice = match compute.records_steps() {
                true => "it fits now without recorded steps (--cuda-graphs off)",
                false => "it fits now",
            };
            return OutOfMemory::Taken(description(task, message, advice));
        }
        Ok(false) => search(batch, fits),
        Err(reason) => Err(reason),
    };
    let advice = match found {
        Ok(Some(batch)) => format!("the largest batch that fits is {batch} (batch_size = {batch})"),
        Ok(None) => "not even one image fits".to_owned(),
        Err(reason) => format!("what would fit could not be found out: {reason}"),
    };
    OutOfMemory::TooLarge(description(task, message, &advice))
}

fn description(task: &TrainTask, message: &str, advice: &str) -> String {
    let (run, size) = (&task.run, task.run.image_size);
    let free = was_free(message);
    format!(
        "out of memory on the GPU{free}: {} with batches of {} images of {size}x{size}; {advice}",
        run.backbone, task.experiment.batch_size
    )
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

/// Whether a training step of so many images fits.
fn fits(task: &TrainTask, compute: &Compute, batch: u32) -> Result<bool, String> {
    let images = task.dataset.split(Split::Train);
    let indices: Vec<usize> = (0..batch as usize)
        .map(|index| index % images.labels.len())
        .collect();
    let step = || {
        let fresh = TrainTask {
            resume: None,
            weights: None,
            ..task.clone()
        };
        let (state, _) = prepare(&fresh, &compute.device)?;
        let input = compute.input(&task.dataset, &[Split::Train], task.run.image_size)?;
        let augmentation = &task.experiment.augmentation;
        let batch = input.training(images, &indices, augmentation, 0, Epoch(1))?;
        let (loss, _) = state.forward(batch, Epoch(1), 0);
        let state = state.update(loss.backward(), None);
        let done = compute.device.sync();
        drop(state);
        done.map_err(|error| TrainError::Images(std::io::Error::other(error.to_string())))
    };
    // A panic is what failures inside of burn are; nothing of the step is used.
    let tried = catch_unwind(AssertUnwindSafe(step));
    release_forward_passes(&compute.device);
    match tried {
        Ok(Ok(())) => Ok(true),
        Ok(Err(error)) => Err(error.to_string()),
        Err(panic) => match panic_message(&*panic) {
            message if is_out_of_memory(message) => Ok(false),
            message => Err(message.to_owned()),
        },
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
            let task = crate::train::tests::task(16, 0.05, 1);
            let expected = "out of memory on the GPU, of which 1.06 GiB was free: vgg16 with batches of 8 \
                            images of 32x32; it fits now";
            let found = out_of_memory(&task, &compute, MESSAGE);
            assert_eq!(found, OutOfMemory::Taken(expected.to_owned()));
            // It fails, but not for want of memory.
            let mut wrong = task.clone();
            wrong.run.image_size = 0;
            assert!(fits(&wrong, &compute, 3).is_err(), "{device:?}");
        }
    }
}

//! A training that does not fit into the memory of its device.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::tensor::Device;
use quartet_agent::executor::TrainTask;
use quartet_shared::dataset::Split;
use quartet_shared::ids::Epoch;

use super::prepare::prepare;
use crate::input::Input;

/// What LibTorch and NVIDIA's libraries say when there is no memory left on a GPU.
const SIGNS: [&str; 4] = [
    "CUDA out of memory",
    "CUDA error: out of memory",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_ALLOC_FAILED",
];

/// Whether a failure is one for want of memory on the device.
#[must_use]
pub fn is_out_of_memory(message: &str) -> bool {
    SIGNS.iter().any(|sign| message.contains(sign))
}

/// What did not fit, and what would have: `message` is LibTorch's. Training steps of smaller batches are tried on
/// `device` to find the largest.
#[must_use]
pub fn out_of_memory(task: &TrainTask, device: &Device, message: &str) -> String {
    let batch = task.experiment.batch_size;
    let largest = search(batch, |batch| fits(task, device, batch));
    description(task, message, largest)
}

fn description(task: &TrainTask, message: &str, largest: Option<u32>) -> String {
    let (run, size) = (&task.run, task.run.image_size);
    let free = match free(message) {
        Some(free) => format!(", of which {free} was free"),
        None => String::new(),
    };
    let advice = match largest {
        Some(batch) => format!("the largest batch that fits is {batch} (batch_size = {batch})"),
        None => "not even one image fits".to_owned(),
    };
    format!(
        "out of memory on the GPU{free}: {} with batches of {} images of {size}x{size}; {advice}",
        run.backbone, task.experiment.batch_size
    )
}

/// How much LibTorch says was free.
fn free(message: &str) -> Option<&str> {
    let (_, after) = message.split_once("of which ")?;
    let (free, _) = after.split_once(" is free")?;
    (free.len() < 20).then_some(free)
}

/// The largest batch below `batch` that fits, to an eighth of it: half as large each time, and then between.
fn search(batch: u32, mut fits: impl FnMut(u32) -> bool) -> Option<u32> {
    let mut too_large = batch;
    let mut largest = loop {
        let half = too_large / 2;
        if half == 0 {
            return None;
        }
        if fits(half) {
            break half;
        }
        too_large = half;
    };
    while too_large - largest > (too_large / 8).max(1) {
        let middle = largest.midpoint(too_large);
        match fits(middle) {
            true => largest = middle,
            false => too_large = middle,
        }
    }
    Some(largest)
}

/// Whether forward and backward pass of a batch of so many images fit.
fn fits(task: &TrainTask, device: &Device, batch: u32) -> bool {
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
        let (state, _) = prepare(&fresh, device).ok()?;
        let input = Input::new(&task.dataset, task.run.image_size, device);
        let augmentation = &task.experiment.augmentation;
        let batch = input.training(images, &indices, augmentation, 0, Epoch(1));
        let (loss, _) = state.forward(batch.ok()?, Epoch(1), 0);
        let gradients = loss.backward();
        device.sync().ok()?;
        drop(gradients);
        Some(())
    };
    // A panic is what failures inside of burn are; nothing of the step is used.
    catch_unwind(AssertUnwindSafe(step)).is_ok_and(|done| done.is_some())
}

/// What a panic says.
#[must_use]
pub fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_batch_is_found() {
        let found = |batch, limit| {
            let mut tried = Vec::new();
            let found = search(batch, |batch| {
                tried.push(batch);
                batch <= limit
            });
            assert!(
                tried.len() <= 12 && tried.iter().all(|&n| n < batch),
                "{tried:?}"
            );
            found
        };
        assert_eq!(found(32, 0), None);
        assert_eq!(found(1, 1), None, "nothing is smaller");
        for (batch, limit) in [
            (32, 31),
            (32, 16),
            (32, 5),
            (512, 100),
            (1000, 999),
            (2, 1),
            (3, 2),
        ] {
            let found = found(batch, limit).unwrap();
            assert!(found <= limit, "{batch} {limit}: {found}");
            assert!(found >= limit - limit / 4, "{batch} {limit}: {found}");
        }
    }

    #[test]
    fn a_failure_for_want_of_memory_says_what_would_fit() {
        let message = "LibTorch: convolution: CUDA out of memory. Tried to allocate 2.44 GiB. GPU 0 has a total \
                       capacity of 79.18 GiB of which 1.06 GiB is free. Including non-PyTorch memory, this \
                       process has 78.11 GiB memory in use.";
        assert!(is_out_of_memory(message));
        assert!(!is_out_of_memory(
            "LibTorch: convolution: channels do not match"
        ));
        let task = crate::train::tests::task(16, 0.05, 1);
        let text = description(&task, message, Some(6));
        let expected = "out of memory on the GPU, of which 1.06 GiB was free: vgg16 with batches of 8 images of \
                        32x32; the largest batch that fits is 6 (batch_size = 6)";
        assert_eq!(text, expected);
        let text = description(&task, "CUDNN_STATUS_ALLOC_FAILED", None);
        assert!(text.ends_with("not even one image fits"), "{text}");
    }

    #[test]
    fn what_fits_is_tried() {
        for device in crate::devices::cpus() {
            let task = crate::train::tests::task(16, 0.05, 1);
            assert!(fits(&task, &device, 3), "{device:?}");
            // It fails, for whatever reason.
            let mut wrong = task.clone();
            wrong.run.image_size = 0;
            assert!(!fits(&wrong, &device, 3), "{device:?}");
        }
    }
}

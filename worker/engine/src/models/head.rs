//! The notebook's classifier on top of a backbone, and its dropout.

use burn::module::Module;
use burn::nn::{BatchNorm, Linear};
use burn::tensor::{Device, Tensor, TensorData};
use quartet_kernels::{upload, write};
use rand::Rng;

use super::blocks::KERAS_EPSILON;
use super::init::Init;
use super::interpreter::Interpreter;

/// Units of the two hidden layers.
const HIDDEN: usize = 1024;

/// BatchNorm, global mean, then twice dropout, dense with ReLU and BatchNorm, then dropout and dense.
#[derive(Module, Debug)]
pub(super) struct Head {
    norm: BatchNorm,
    hidden1: Hidden,
    hidden2: Hidden,
    /// Keras applies softmax here; the loss and the ensemble do it outside.
    logits: Linear,
}

/// Dense with ReLU, then BatchNorm.
#[derive(Module, Debug)]
struct Hidden {
    dense: Linear,
    norm: BatchNorm,
}

impl Head {
    pub(super) fn new(init: &mut Init<'_>, channels: usize, classes: usize) -> Self {
        let units = init.hidden(HIDDEN);
        Self {
            norm: init.batch_norm(channels, KERAS_EPSILON),
            hidden1: Hidden::new(init, channels, units),
            hidden2: Hidden::new(init, units, units),
            logits: init.linear(units, classes),
        }
    }

    /// Features where dropout applies, in order.
    pub(super) fn widths(&self) -> [usize; 3] {
        [
            self.norm.beta.dims()[0],
            self.hidden1.norm.beta.dims()[0],
            self.hidden2.norm.beta.dims()[0],
        ]
    }

    /// Feature map `[batch, channels, height, width]` to logits `[batch, classes]`.
    pub(super) fn forward<I: Interpreter>(&self, x: I::Map, ops: &I) -> I::Row {
        let x = ops.bn(&self.norm, x);
        let x = ops.global_avg_pool(x); // [batch, channels]
        let x = self.hidden1.forward(ops.dropout(0, x), ops); // [batch, 1024]
        let x = self.hidden2.forward(ops.dropout(1, x), ops); // [batch, 1024]
        ops.dense(&self.logits, ops.dropout(2, x))
    }
}

impl Hidden {
    fn new(init: &mut Init<'_>, input: usize, units: usize) -> Self {
        Self {
            dense: init.linear(input, units),
            norm: init.batch_norm(units, KERAS_EPSILON),
        }
    }

    fn forward<I: Interpreter>(&self, x: I::Row, ops: &I) -> I::Row {
        ops.bn_row(&self.norm, ops.dense_relu(&self.dense, x))
    }
}

/// [`DropoutMasks`] on the host, `[batch, features]` each; `None` where nothing is dropped.
pub(crate) type HostMasks = Option<[TensorData; 3]>;

/// What dropout multiplies activations with in one training step.
///
/// Drawn on the host from a generator of the caller's, so that a step can be repeated exactly on any
/// device; burn's own generator cannot be saved.
#[derive(Clone, Debug, Default)]
pub struct DropoutMasks {
    /// `[batch, features]` of 0 or `1 / (1 - rate)`, for each place of the head.
    pub(super) masks: Option<[Tensor<2>; 3]>,
}

impl DropoutMasks {
    /// Masks that drop nothing.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Masks of these widths that drop each value with probability `rate`, which is below 1.
    pub(super) fn draw_widths(
        widths: [usize; 3],
        rate: f64,
        batch: usize,
        rng: &mut impl Rng,
    ) -> HostMasks {
        if rate <= 0.0 {
            return None;
        }
        let dropped_below = (rate * 2f64.powi(32)) as u32;
        let kept = (1.0 / (1.0 - rate)) as f32;
        Some(widths.map(|width| {
            let values: Vec<f32> = (0..batch * width)
                .map(|_| match rng.next_u32() < dropped_below {
                    true => 0.0,
                    false => kept,
                })
                .collect();
            TensorData::new(values, [batch, width])
        }))
    }

    /// Masks on the device with autodiff.
    pub(crate) fn autodiff(self) -> Self {
        Self {
            masks: self.masks.map(|masks| masks.map(Tensor::autodiff)),
        }
    }

    /// Masks on a device.
    pub(crate) fn upload(masks: HostMasks, device: &Device) -> Self {
        let masks = masks.map(|masks| {
            masks.map(|data| {
                let mask = upload(data, &device.clone().inner());
                match device.is_autodiff() {
                    true => mask.autodiff(),
                    false => mask,
                }
            })
        });
        Self { masks }
    }

    /// New values for masks of the same widths, which keep their addresses.
    pub(crate) fn write(&self, masks: HostMasks) {
        match (&self.masks, masks) {
            (None, None) => {}
            (Some(to), Some(from)) => {
                for (mask, data) in to.iter().zip(from) {
                    write(mask, data);
                }
            }
            (to, from) => unreachable!("{from:?} for {to:?}"),
        }
    }
}

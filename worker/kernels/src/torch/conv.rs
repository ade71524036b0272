//! Convolution.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::libtorch::TchTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, LibTorch, backend_extension};
use burn::nn::PaddingConfig2d;
use burn::nn::conv::Conv2d;
use burn::tensor::Tensor;

use super::added::Added;
use super::ffi::{self, Tail, Window};
use super::{converted, done, fresh, graph};

/// [`Window`], and zeros that are added to the input before.
#[derive(Clone, Copy, Debug)]
struct Geometry {
    window: Window,
    /// At the bottom and at the right, beyond what the window adds on both sides.
    extra: [i64; 2],
    /// At the top and at the left.
    before: [i64; 2],
}

#[backend_extension(LibTorch, Autodiff)]
trait Conv: Backend {
    fn conv(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        geometry: Geometry,
    ) -> FloatTensor<Self>;

    fn conv_bias(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        geometry: Geometry,
    ) -> FloatTensor<Self>;

    /// `residual + scale * (convolution + bias)`, then ReLU.
    fn conv_combined(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        #[extension_type] residual: Added<Self>,
        geometry: Geometry,
        tail: Tail,
    ) -> FloatTensor<Self>;
}

pub(crate) fn conv2d(conv: &Conv2d, x: Tensor<4>) -> Tensor<4> {
    let Some(bias) = &conv.bias else {
        return conv2d_unbiased(conv, x);
    };
    let [_, _, height, width] = x.dims();
    let geometry = Geometry::of(conv, [height, width]);
    let (x, weight) = (x.into_dispatch(), conv.weight.val().into_dispatch());
    let bias = bias.val().into_dispatch();
    Tensor::from_dispatch(Dispatch::conv_bias(x, weight, bias, geometry))
}

/// The convolution without the bias that the module may have.
pub(crate) fn conv2d_unbiased(conv: &Conv2d, x: Tensor<4>) -> Tensor<4> {
    let [_, _, height, width] = x.dims();
    let geometry = Geometry::of(conv, [height, width]);
    let (x, weight) = (x.into_dispatch(), conv.weight.val().into_dispatch());
    Tensor::from_dispatch(<Dispatch as Conv>::conv(x, weight, geometry))
}

/// `residual + scale * conv(x)`, then ReLU if `relu`. The module has a bias.
pub(crate) fn conv2d_combined(
    conv: &Conv2d,
    x: Tensor<4>,
    residual: Option<Tensor<4>>,
    scale: f64,
    relu: bool,
) -> Tensor<4> {
    let [_, _, height, width] = x.dims();
    let geometry = Geometry::of(conv, [height, width]);
    let bias = conv.bias.as_ref().expect("a convolution with bias").val();
    let (x, weight) = (x.into_dispatch(), conv.weight.val().into_dispatch());
    let (bias, residual) = (bias.into_dispatch(), Added::of(residual));
    let tail = Tail { scale, relu };
    Tensor::from_dispatch(Dispatch::conv_combined(
        x, weight, bias, residual, geometry, tail,
    ))
}

impl Geometry {
    fn of(conv: &Conv2d, size: [usize; 2]) -> Self {
        let ends = match conv.padding {
            PaddingConfig2d::Valid => [[0, 0], [0, 0]],
            PaddingConfig2d::Explicit(top, left, bottom, right) => [[top, bottom], [left, right]],
            PaddingConfig2d::Same => {
                [0, 1].map(|axis| same(conv.kernel_size[axis], conv.stride[axis], size[axis]))
            }
        };
        let integers = |values: [usize; 2]| values.map(|v| v as i64);
        // What both ends have is the window's.
        let padding = ends.map(|[before, after]| before.min(after));
        let window = Window {
            stride: integers(conv.stride),
            padding: integers(padding),
            dilation: integers(conv.dilation),
            groups: conv.groups as i64,
        };
        Self {
            window,
            before: [0, 1].map(|axis: usize| (ends[axis][0] - padding[axis]) as i64),
            extra: [0, 1].map(|axis: usize| (ends[axis][1] - padding[axis]) as i64),
        }
    }

    fn pads(&self) -> bool {
        self.before != [0, 0] || self.extra != [0, 0]
    }

    fn padded(&self, x: TchTensor) -> TchTensor {
        if !self.pads() {
            return x;
        }
        let ([top, left], [bottom, right]) = (self.before, self.extra);
        let y = x.tensor.constant_pad_nd([left, right, top, bottom]);
        // Padding makes the tensor contiguous.
        fresh(done(ffi::convert(&y, &x.tensor)))
    }

    /// The part of a padded input's gradient that is the input's.
    fn cropped(&self, gradient: tch::Tensor) -> TchTensor {
        if !self.pads() {
            return fresh(gradient);
        }
        let size = gradient.size();
        let [height, width] = [0, 1].map(|i| size[i + 2] - self.before[i] - self.extra[i]);
        let part = gradient.narrow(2, self.before[0], height);
        let part = part.narrow(3, self.before[1], width);
        // A view keeps the whole gradient in memory, and burn must not take it for all of it.
        fresh(part.copy())
    }
}

/// TensorFlow's "same" padding at both ends of an axis: an odd one goes to the end.
fn same(kernel: usize, stride: usize, size: usize) -> [usize; 2] {
    let total = ((size.div_ceil(stride) - 1) * stride + kernel).saturating_sub(size);
    [total / 2, total - total / 2]
}

/// What the backward pass needs: input and weight as the convolution took them.
#[derive(Clone, Debug)]
struct Saved {
    x: TchTensor,
    weight: TchTensor,
    /// The parameter itself, whose type and layout its gradient has.
    parameter: TchTensor,
    geometry: Geometry,
}

fn forward(
    x: TchTensor,
    parameter: TchTensor,
    bias: Option<TchTensor>,
    geometry: Geometry,
    save: bool,
) -> (TchTensor, Option<Saved>) {
    let x = geometry.padded(x);
    let weight = converted(&parameter, &x.tensor);
    let bias = bias.map(|bias| bias.tensor.to_kind(x.tensor.kind()));
    let y = done(ffi::conv2d(
        &x.tensor,
        &weight.tensor,
        bias.as_ref(),
        &geometry.window,
    ));
    let saved = save.then(|| Saved {
        x,
        weight,
        parameter,
        geometry,
    });
    (fresh(y), saved)
}

fn gradients(saved: Saved, gradient: TchTensor, want: [bool; 3]) -> [Option<TchTensor>; 3] {
    let Saved {
        x,
        weight,
        parameter,
        geometry,
    } = saved;
    let [x, weight, bias] = done(ffi::conv2d_backward(
        &gradient.tensor,
        &x.tensor,
        &weight.tensor,
        &geometry.window,
        want,
    ));
    [
        x.map(|x| geometry.cropped(x)),
        weight.map(|weight| fresh(done(ffi::convert(&weight, &parameter.tensor)))),
        bias.map(|bias| fresh(bias.to_kind(parameter.tensor.kind()))),
    ]
}

/// What the backward pass of [`Conv::conv_combined`] needs.
#[derive(Clone, Debug)]
struct SavedCombined {
    conv: Saved,
    bias: TchTensor,
    /// The output, if ReLU made it.
    output: Option<TchTensor>,
    residual: bool,
    scale: f64,
}

fn forward_combined(
    x: TchTensor,
    parameter: TchTensor,
    bias: TchTensor,
    residual: Option<TchTensor>,
    (geometry, tail): (Geometry, Tail),
    save: bool,
) -> (TchTensor, Option<SavedCombined>) {
    let x = geometry.padded(x);
    let weight = converted(&parameter, &x.tensor);
    let y = fresh(done(ffi::conv2d_combined(
        &x.tensor,
        &weight.tensor,
        &bias.tensor,
        residual.as_ref().map(|residual| &residual.tensor),
        &geometry.window,
        tail,
    )));
    let saved = save.then(|| SavedCombined {
        conv: Saved {
            x,
            weight,
            parameter,
            geometry,
        },
        bias,
        output: tail.relu.then(|| y.clone()),
        residual: residual.is_some(),
        scale: tail.scale,
    });
    (y, saved)
}

/// Gradients of input, weight, bias and residual.
fn gradients_combined(
    saved: SavedCombined,
    gradient: TchTensor,
    want: [bool; 4],
) -> [Option<TchTensor>; 4] {
    let SavedCombined {
        conv,
        bias,
        output,
        residual,
        scale,
    } = saved;
    let output = output.as_ref().map(|output| &output.tensor);
    let parts = ffi::part(&gradient.tensor, &bias.tensor, output, residual, scale);
    let [of_product, of_bias, of_residual] = done(parts);
    // Each may be the gradient itself, and the last may be the first.
    let same = of_residual.data_ptr() == of_product.data_ptr();
    let of_product = TchTensor::from_existing(of_product, gradient.storage.clone());
    let parent = if same { &of_product } else { &gradient };
    let of_residual = TchTensor::from_existing(of_residual, parent.storage.clone());
    let [x, weight, _] = gradients(conv, of_product, [want[0], want[1], false]);
    let of_residual = residual.then_some(of_residual);
    [x, weight, Some(fresh(of_bias)), of_residual]
}

impl Conv for LibTorch {
    fn conv(x: TchTensor, weight: TchTensor, geometry: Geometry) -> TchTensor {
        forward(x, weight, None, geometry, false).0
    }

    fn conv_bias(
        x: TchTensor,
        weight: TchTensor,
        bias: TchTensor,
        geometry: Geometry,
    ) -> TchTensor {
        forward(x, weight, Some(bias), geometry, false).0
    }

    fn conv_combined(
        x: TchTensor,
        weight: TchTensor,
        bias: TchTensor,
        residual: Added<Self>,
        geometry: Geometry,
        tail: Tail,
    ) -> TchTensor {
        let residual = residual.tensor();
        forward_combined(x, weight, bias, residual, (geometry, tail), false).0
    }
}

#[derive(Debug)]
struct Step;

impl<const N: usize> Backward<LibTorch, N> for Step {
    type State = Saved;

    fn backward(self, ops: Ops<Saved, N>, found: &mut Gradients, _: &mut Checkpointer) {
        graph::backward(ops, found, gradients);
    }
}

#[derive(Debug)]
struct CombinedStep;

impl<const N: usize> Backward<LibTorch, N> for CombinedStep {
    type State = SavedCombined;

    fn backward(self, ops: Ops<SavedCombined, N>, found: &mut Gradients, _: &mut Checkpointer) {
        graph::backward(ops, found, gradients_combined);
    }
}

impl<C: CheckpointStrategy> Conv for Autodiff<LibTorch, C> {
    fn conv(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        geometry: Geometry,
    ) -> FloatTensor<Self> {
        let ((x, x_node), (weight, weight_node)) = (x.into_parts(), weight.into_parts());
        graph::node::<C, _, 2>(Step, [x_node, weight_node], |save| {
            forward(x, weight, None, geometry, save)
        })
    }

    fn conv_bias(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        geometry: Geometry,
    ) -> FloatTensor<Self> {
        let ((x, x_node), (weight, weight_node)) = (x.into_parts(), weight.into_parts());
        let (bias, bias_node) = bias.into_parts();
        graph::node::<C, _, 3>(Step, [x_node, weight_node, bias_node], |save| {
            forward(x, weight, Some(bias), geometry, save)
        })
    }

    fn conv_combined(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: Added<Self>,
        geometry: Geometry,
        tail: Tail,
    ) -> FloatTensor<Self> {
        let ((x, x_node), (weight, weight_node)) = (x.into_parts(), weight.into_parts());
        let (bias, bias_node) = bias.into_parts();
        let what = (geometry, tail);
        match residual {
            Added::Nothing => {
                let parents = [x_node, weight_node, bias_node];
                graph::node::<C, _, 3>(CombinedStep, parents, |save| {
                    forward_combined(x, weight, bias, None, what, save)
                })
            }
            Added::Tensor(residual) => {
                let (residual, residual_node) = residual.into_parts();
                let parents = [x_node, weight_node, bias_node, residual_node];
                graph::node::<C, _, 4>(CombinedStep, parents, |save| {
                    forward_combined(x, weight, bias, Some(residual), what, save)
                })
            }
        }
    }
}

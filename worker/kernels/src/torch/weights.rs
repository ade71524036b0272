//! The weights of all convolutions at once, in the type that these compute in.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::libtorch::TchTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, LibTorch, backend_extension};
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::Tensor;

use super::transfer::primitive;
use super::{done, ffi, fresh, graph};

#[backend_extension(LibTorch, Autodiff)]
trait Weight: Backend {
    /// `converted`, whose gradient is that of `x`.
    fn weight_as(x: FloatTensor<Self>, converted: TchTensor) -> FloatTensor<Self>;
}

/// See [`crate::bf16_weights`].
pub(crate) fn bf16_weights<M: Module>(module: M) -> M {
    let mut weights = Weights(Vec::new());
    module.visit(&mut weights);
    let converted = done(ffi::bf16_weights(&weights.0));
    module.map(&mut Convert(converted.into_iter()))
}

struct Weights(Vec<tch::Tensor>);

impl ModuleVisitor for Weights {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if D == 4 {
            self.0.push(primitive(param.val().inner()).tensor);
        }
    }
}

struct Convert(std::vec::IntoIter<tch::Tensor>);

impl ModuleMapper for Convert {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if D != 4 {
            return param;
        }
        let (id, weight, mapper) = param.consume();
        let converted = self.0.next().expect("each weight was converted");
        let weight = Dispatch::weight_as(weight.into_dispatch(), fresh(converted));
        Param::from_mapped_value(id, Tensor::from_dispatch(weight), mapper)
    }
}

impl Weight for LibTorch {
    fn weight_as(_: TchTensor, converted: TchTensor) -> TchTensor {
        converted
    }
}

#[derive(Debug)]
struct Converted;

impl Backward<LibTorch, 1> for Converted {
    type State = ();

    fn backward(self, ops: Ops<(), 1>, found: &mut Gradients, _: &mut Checkpointer) {
        // Adam converts those of all weights at once.
        graph::backward(ops, found, |(), gradient, _: [bool; 1]| [Some(gradient)]);
    }
}

impl<C: CheckpointStrategy> Weight for Autodiff<LibTorch, C> {
    fn weight_as(x: FloatTensor<Self>, converted: TchTensor) -> FloatTensor<Self> {
        let (_, node) = x.into_parts();
        graph::node::<C, _, 1>(Converted, [node], |_| (converted, Some(())))
    }
}

#[cfg(test)]
mod tests {
    use burn::nn::conv::{Conv2d, Conv2dConfig};
    use burn::tensor::{DType, Device, TensorData};

    use super::*;
    use crate::{channels_last_bf16, conv2d};

    fn ramp<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
        let n: usize = shape.iter().product();
        let values = (0..n).map(|i| (i as f32 * 0.37).sin()).collect();
        Tensor::from_data(TensorData::new(values, shape), device)
    }

    #[test]
    fn converted_weights_are_those_that_each_convolution_converts() {
        let device = Device::libtorch().autodiff();
        let conv = |kernel: [usize; 2], from, to| -> Conv2d {
            let mut conv = Conv2dConfig::new([from, to], kernel).init(&device);
            conv.weight = Param::from_tensor(ramp([to, from, kernel[0], kernel[1]], &device));
            conv.bias = Some(Param::from_tensor(ramp([to], &device)));
            conv
        };
        let convs = vec![conv([3, 3], 4, 6), conv([1, 1], 6, 5), conv([1, 3], 5, 3)];
        let x = channels_last_bf16(ramp([2, 4, 9, 9], &device));
        let run = |convs: &Vec<Conv2d>| convs.iter().fold(x.clone(), |x, conv| conv2d(conv, x));
        let one_by_one = run(&convs);
        let together = bf16_weights(convs.clone());
        for (conv, before) in together.iter().zip(&convs) {
            assert_eq!(conv.weight.val().dtype(), DType::BF16);
            assert_eq!(conv.bias.as_ref().unwrap().val().dtype(), DType::F32);
            assert_eq!(conv.weight.id, before.weight.id);
        }
        let y = run(&together);
        assert_eq!(
            y.clone().into_data(),
            one_by_one.clone().into_data(),
            "outputs"
        );
        let [expected, found] = [one_by_one, y].map(|y| (y.clone() * y).sum().backward());
        for conv in &convs {
            let [expected, found] = [&expected, &found].map(|gradients| {
                let gradient = conv.weight.val().grad(gradients);
                gradient
                    .expect("it reaches the module's own")
                    .into_data_as::<f32>()
            });
            assert_eq!(found, expected);
        }
    }
}

//! Adam.

use burn::backend::LibTorch;
use burn::backend::libtorch::TchTensor;
use burn::tensor::Tensor;

use super::ffi::{self, TorchAdam};
use super::{done, fresh};
use crate::{AdamState, AdamUpdate};

/// PyTorch's fused Adam. It has `sqrt(v) / sqrt(1 - beta2^t) + epsilon` where Keras has `sqrt(v) + epsilon`
/// times the correction: with `epsilon / sqrt(1 - beta2^t)` they are the same.
pub(crate) fn adam<const D: usize>(
    AdamState { value, m, v }: AdamState<D>,
    gradient: Tensor<D>,
    update: AdamUpdate,
) -> AdamState<D> {
    let (mut value, gradient) = (writable(value), primitive(gradient));
    let (mut m, mut v) = (writable(m), writable(v));
    let step = update.number as f64;
    let update = TorchAdam {
        rate: update.learning_rate,
        betas: [update.beta1, update.beta2],
        epsilon: update.epsilon / (1.0 - update.beta2.powf(step)).sqrt(),
        step,
    };
    let moments = [&mut m.tensor, &mut v.tensor];
    done(ffi::adam(
        &mut value.tensor,
        &gradient.tensor,
        moments,
        update,
    ));
    AdamState {
        value: Tensor::from_primitive::<LibTorch>(value),
        m: Tensor::from_primitive::<LibTorch>(m),
        v: Tensor::from_primitive::<LibTorch>(v),
    }
}

fn primitive<const D: usize>(tensor: Tensor<D>) -> TchTensor {
    let tensor = tensor.try_into_primitive::<LibTorch>();
    tensor.expect("all tensors of an update are on one device, without autodiff")
}

/// The tensor itself if nobody else sees its memory, such as a snapshot; else a copy.
fn writable<const D: usize>(tensor: Tensor<D>) -> TchTensor {
    let tensor = primitive(tensor);
    match tensor.can_mut() && tensor.tensor.is_contiguous() {
        true => tensor,
        false => fresh(tensor.tensor.contiguous().copy()),
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{DType, Device, TensorData};

    use super::*;

    fn tensor<const D: usize>(value: f64, shape: [usize; D]) -> Tensor<D> {
        let data = TensorData::new(vec![value; shape.iter().product()], shape);
        Tensor::from_data(data, (&Device::libtorch(), DType::F64))
    }

    fn address<const D: usize>(tensor: &Tensor<D>) -> usize {
        let tensor = tensor.clone().try_into_primitive::<LibTorch>().unwrap();
        tensor.tensor.data_ptr() as usize
    }

    fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
        tensor.into_data().try_to_vec().unwrap()
    }

    const UPDATE: AdamUpdate = AdamUpdate {
        learning_rate: 0.1,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-7,
        number: 1,
    };

    fn state() -> AdamState<2> {
        AdamState {
            value: tensor(1.0, [2, 3]),
            m: tensor(0.0, [6]),
            v: tensor(0.0, [6]),
        }
    }

    #[test]
    fn unshared_memory_is_updated_in_place() {
        let state = state();
        let before = [address(&state.value), address(&state.m), address(&state.v)];
        let state = adam(state, tensor(0.5, [2, 3]), UPDATE);
        let after = [address(&state.value), address(&state.m), address(&state.v)];
        assert_eq!(before, after);
        assert!(values(state.value).iter().all(|v| (v - 0.9).abs() < 1e-6));
        assert!(values(state.m).iter().all(|v| (v - 0.05).abs() < 1e-12));
    }

    #[test]
    fn shared_memory_is_left_alone() {
        let state = state();
        let snapshot = state.clone();
        let flat: Tensor<1> = state.value.clone().reshape([-1]);
        let moved = adam(state, tensor(0.5, [2, 3]), UPDATE);
        assert_ne!(values(moved.value), [1.0; 6]);
        assert_eq!(values(snapshot.value), [1.0; 6]);
        assert_eq!(values(flat), [1.0; 6]);
        assert_eq!(values(snapshot.m), [0.0; 6]);
        assert_eq!(values(snapshot.v), [0.0; 6]);
    }
}

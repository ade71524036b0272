//! Adam.

use burn::backend::LibTorch;
use burn::backend::libtorch::TchTensor;
use burn::tensor::Tensor;

use super::ffi::{self, TorchAdam};
use super::{done, fresh};
use crate::{AdamState, AdamUpdate, Addresses};

/// Parameters with their gradients and moments, which share their memory with the tensors that burn has of
/// them.
#[derive(Debug, Default)]
pub(crate) struct AdamList {
    values: Vec<tch::Tensor>,
    gradients: Vec<tch::Tensor>,
    m: Vec<tch::Tensor>,
    v: Vec<tch::Tensor>,
}

impl AdamList {
    pub(crate) fn add<const D: usize>(
        &mut self,
        AdamState { value, m, v }: AdamState<D>,
        gradient: Tensor<D>,
        addresses: Addresses,
    ) -> AdamState<D> {
        let value = writable(value, addresses);
        let [m, v] = [m, v].map(|moment| writable(moment, addresses));
        self.values.push(value.tensor.shallow_clone());
        self.gradients.push(primitive(gradient).tensor);
        self.m.push(m.tensor.shallow_clone());
        self.v.push(v.tensor.shallow_clone());
        AdamState {
            value: Tensor::from_primitive::<LibTorch>(value),
            m: Tensor::from_primitive::<LibTorch>(m),
            v: Tensor::from_primitive::<LibTorch>(v),
        }
    }

    /// PyTorch's fused Adam, whose corrections of bias are put off: in Keras' formula they are a factor of
    /// the rate. `rate`, `[1]`, is [`AdamUpdate::rate`].
    pub(crate) fn update(mut self, update: AdamUpdate, rate: Option<Tensor<1>>) {
        if self.values.is_empty() {
            // Another backend's were updated one by one.
            return;
        }
        let rate = match rate {
            Some(rate) => primitive(rate).tensor,
            None => tch::Tensor::from_slice(&[update.rate()]),
        };
        let update = TorchAdam {
            rate: &rate,
            betas: [update.beta1, update.beta2],
            epsilon: update.epsilon,
        };
        let moments = [&mut self.m[..], &mut self.v[..]];
        done(ffi::adam(
            &mut self.values,
            &self.gradients,
            moments,
            update,
        ));
    }
}

fn primitive<const D: usize>(tensor: Tensor<D>) -> TchTensor {
    let tensor = tensor.try_into_primitive::<LibTorch>();
    tensor.expect("all tensors of an update are on one device, without autodiff")
}

/// The tensor itself if its address is fixed, whatever the order of its memory, or if nobody else sees it,
/// such as a snapshot; else a copy.
fn writable<const D: usize>(tensor: Tensor<D>, addresses: Addresses) -> TchTensor {
    let tensor = primitive(tensor);
    let in_place = match addresses {
        Addresses::Fixed => true,
        Addresses::Free => tensor.can_mut() && tensor.tensor.is_contiguous(),
    };
    match in_place {
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

    /// One update of one parameter.
    fn adam<const D: usize>(
        state: AdamState<D>,
        gradient: Tensor<D>,
        update: AdamUpdate,
    ) -> AdamState<D> {
        let mut list = AdamList::default();
        let state = list.add(state, gradient, Addresses::Free);
        list.update(update, None);
        state
    }

    #[test]
    fn many_at_once_are_updated_as_each_alone() {
        let state = |value| AdamState {
            value: tensor(value, [2, 3]),
            ..state()
        };
        let alone = [1.0, -2.0]
            .map(|value| values(adam(state(value), tensor(value, [2, 3]), UPDATE).value));
        let mut list = AdamList::default();
        let add = |value| list.add(state(value), tensor(value, [2, 3]), Addresses::Free);
        let together = [1.0, -2.0].map(add);
        list.update(UPDATE, None);
        assert_eq!(together.map(|state| values(state.value)), alone);
        AdamList::default().update(UPDATE, None);
    }

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
    fn fixed_memory_is_updated_though_it_is_shared() {
        let state = state();
        let shared = state.clone();
        let mut list = AdamList::default();
        let _ = list.add(state, tensor(0.5, [2, 3]), Addresses::Fixed);
        let rate = tensor(UPDATE.rate(), [1]);
        list.update(UPDATE, Some(rate));
        assert!(values(shared.value).iter().all(|v| (v - 0.9).abs() < 1e-6));
        assert!(values(shared.m).iter().all(|v| (v - 0.05).abs() < 1e-12));
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

//! Adam as Keras 2 computes it, with time-based decay.
//!
//! Update `k` (from 0), `t = k + 1`:
//!
//! ```text
//! m = beta1 * m + (1 - beta1) * g
//! v = beta2 * v + (1 - beta2) * g^2
//! p = p - lr / (1 + decay * k) * sqrt(1 - beta2^t) / (1 - beta1^t) * m / (sqrt(v) + epsilon)
//! ```
//!
//! Epsilon is added outside the bias correction; burn's Adam has it inside.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Tensor};
use quartet_kernels::{AdamState, AdamUpdate, Addresses, MemoryFormat, copied_as, flat};

use crate::models::parameters::Path;

/// Keras' defaults.
const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;

/// Keras' default.
const EPSILON: f64 = 1e-7;

/// Learning rate and its decay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamConfig {
    /// Rate of the first update.
    pub learning_rate: f64,
    /// Decay: update `k` has the rate `learning_rate / (1 + decay * k)`.
    pub decay: f64,
    /// What is added to the root of the second moment.
    pub epsilon: f64,
}

impl AdamConfig {
    /// With Keras' epsilon.
    #[must_use]
    pub fn keras(learning_rate: f64, decay: f64) -> Self {
        Self {
            learning_rate,
            decay,
            epsilon: EPSILON,
        }
    }
}

/// First and second moment of one parameter.
#[derive(Clone, Debug)]
pub(crate) struct Moments {
    /// The parameter's shape.
    pub(crate) shape: Vec<usize>,
    /// `[elements]`, as `v`.
    pub(crate) m: Tensor<1>,
    pub(crate) v: Tensor<1>,
}

/// The optimizer's state: a clone is cheap, tensors are shared until one side changes them.
#[derive(Clone, Debug)]
pub struct Adam {
    /// Rates of the next update.
    pub config: AdamConfig,
    pub(crate) updates: u64,
    /// By path of the parameter, which unlike its id is the same in every process.
    pub(crate) moments: BTreeMap<String, Moments>,
    /// Of the parameters, whose order the moments have.
    format: MemoryFormat,
}

impl Adam {
    /// Before the first update: moments of 0 for each parameter of `module` that requires gradients.
    #[must_use]
    pub fn new<M: Module>(config: AdamConfig, module: &M) -> Self {
        let mut zeros = Zeros {
            path: Path::default(),
            moments: BTreeMap::new(),
        };
        module.visit(&mut zeros);
        Self {
            config,
            updates: 0,
            moments: zeros.moments,
            format: MemoryFormat::Contiguous,
        }
    }

    /// Updates done so far: `k` of the next one.
    #[must_use]
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// One update. Parameters without a gradient stay as they are.
    #[must_use]
    pub fn step<M: Module>(&mut self, module: M, gradients: Gradients) -> M {
        self.step_at(module, gradients, None, Addresses::Free)
    }

    /// [`step`](Self::step) with the `rate` of [`Self::next_rate`] where it is on the device, `[1]`.
    pub(crate) fn step_at<M: Module>(
        &mut self,
        module: M,
        gradients: Gradients,
        rate: Option<Tensor<1>>,
        addresses: Addresses,
    ) -> M {
        let next = self.next_update();
        self.updates += 1;
        let mut update = Update {
            adam: quartet_kernels::Adam::new(next, rate, addresses),
            gradients,
            moments: &mut self.moments,
            path: Path::default(),
        };
        let module = module.map(&mut update);
        update.adam.finish();
        module
    }

    /// The same state in memory of its own, for parameters of this format.
    pub(crate) fn copied(&self, format: MemoryFormat) -> Self {
        let copy = |(path, Moments { shape, m, v }): (&String, &Moments)| {
            let [m, v] = [m, v].map(|moment| reordered(moment, shape, self.format, format));
            let shape = shape.clone();
            (path.clone(), Moments { shape, m, v })
        };
        Self {
            moments: self.moments.iter().map(copy).collect(),
            format,
            ..*self
        }
    }

    /// Counts an update that the device has done by itself.
    pub(crate) fn count_update(&mut self) {
        self.updates += 1;
    }

    /// The rate of the next update with the corrections of the moments' bias.
    pub(crate) fn next_rate(&self) -> f64 {
        self.next_update().rate()
    }

    fn next_update(&self) -> AdamUpdate {
        AdamUpdate {
            learning_rate: self.learning_rate(),
            beta1: BETA1,
            beta2: BETA2,
            epsilon: self.config.epsilon,
            number: self.updates + 1,
        }
    }

    /// Learning rate of the next update, decayed.
    #[must_use]
    pub fn learning_rate(&self) -> f64 {
        self.config.learning_rate / (1.0 + self.config.decay * self.updates as f64)
    }
}

/// The elements of a moment, `[elements]`, for a parameter of this shape in another format, in memory of
/// their own.
fn reordered(
    moment: &Tensor<1>,
    shape: &[usize],
    from: MemoryFormat,
    to: MemoryFormat,
) -> Tensor<1> {
    let [a, b, c, d] = match *shape {
        [a, b, c, d] => [a, b, c, d],
        _ => [moment.dims()[0], 1, 1, 1],
    };
    let moment = moment.clone();
    let moment: Tensor<4> = match from {
        MemoryFormat::Contiguous => moment.reshape([a, b, c, d]),
        MemoryFormat::ChannelsLast => moment.reshape([a, c, d, b]).permute([0, 3, 1, 2]),
    };
    flat(copied_as(moment, to))
}

struct Zeros {
    path: Path,
    moments: BTreeMap<String, Moments>,
}

impl ModuleVisitor for Zeros {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, container_type: &str) {
        self.path.exit(container_type);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if param.is_require_grad() {
            let value = param.val();
            let device: Device = value.device().inner();
            let zeros = || Tensor::zeros([value.shape().num_elements()], &device);
            let moments = Moments {
                shape: value.dims().to_vec(),
                m: zeros(),
                v: zeros(),
            };
            self.moments.insert(self.path.name(), moments);
        }
    }
}

struct Update<'a> {
    adam: quartet_kernels::Adam,
    gradients: Gradients,
    moments: &'a mut BTreeMap<String, Moments>,
    path: Path,
}

impl ModuleMapper for Update<'_> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, container_type: &str) {
        self.path.exit(container_type);
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, tensor, mapper) = param.consume();
        let tensor = match tensor.grad_remove(&mut self.gradients) {
            Some(gradient) => {
                let path = self.path.name();
                // Taken out, so that the update finds them unshared and computes in place.
                let Moments { shape, m, v } = self
                    .moments
                    .remove(&path)
                    .expect("every trainable parameter has moments");
                let value = tensor.inner();
                let AdamState { value, m, v } = self.adam.add(AdamState { value, m, v }, gradient);
                self.moments.insert(path, Moments { shape, m, v });
                Tensor::from_inner(value).require_grad()
            }
            None => tensor,
        };
        Param::from_mapped_value(id, tensor, mapper)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;

    use super::*;

    #[derive(Module, Debug)]
    struct Pair {
        used: Param<Tensor<2>>,
        unused: Param<Tensor<1>>,
    }

    fn pair(device: &Device) -> Pair {
        let used = Tensor::from_data(TensorData::from([[1.0_f32, -2.0]]), device);
        let unused = Tensor::from_data(TensorData::from([5.0_f32]), device);
        Pair {
            used: Param::from_tensor(used),
            unused: Param::from_tensor(unused),
        }
    }

    fn values(tensor: Tensor<2>) -> Vec<f32> {
        tensor.into_data().try_to_vec().unwrap()
    }

    #[test]
    fn follows_keras_formula_by_hand() {
        let mut module = pair(&Device::flex().autodiff());
        let mut adam = Adam::new(AdamConfig::keras(0.1, 0.5), &module);
        // The loss is the sum of p^3, the gradient 3 p^2.
        let mut expected = [1.0_f64, -2.0];
        let (mut m, mut v) = ([0.0; 2], [0.0; 2]);
        for k in 0..5 {
            let loss = (module.used.val() * module.used.val() * module.used.val()).sum();
            module = adam.step(module, loss.backward());
            let t = k + 1;
            let rate = 0.1 / (1.0 + 0.5 * f64::from(k));
            for i in 0..2 {
                let g = 3.0 * expected[i] * expected[i];
                m[i] = 0.9 * m[i] + 0.1 * g;
                v[i] = 0.999 * v[i] + 0.001 * g * g;
                let correction = (1.0 - 0.999_f64.powi(t)).sqrt() / (1.0 - 0.9_f64.powi(t));
                expected[i] -= rate * correction * m[i] / (v[i].sqrt() + 1e-7);
            }
            for (value, expected) in values(module.used.val().inner()).iter().zip(expected) {
                assert!(
                    (f64::from(*value) - expected).abs() < 1e-5,
                    "{k}: {value} {expected}"
                );
            }
        }
        assert_eq!(adam.updates(), 5);
        assert_eq!(module.unused.val().inner().into_scalar::<f32>(), 5.0);
        assert!(module.used.is_require_grad() && module.unused.is_require_grad());
    }

    /// With a gradient as small as epsilon its place shows: the first update is `lr * g / (g + 1e-7 /
    /// sqrt(1e-3))`, the usual Adam's `lr * g / (g + 1e-7)`.
    #[test]
    fn epsilon_is_outside_the_bias_correction() {
        let mut module = pair(&Device::flex().autodiff());
        let mut adam = Adam::new(AdamConfig::keras(1.0, 0.0), &module);
        let loss = module.used.val().mul_scalar(1e-6).sum();
        module = adam.step(module, loss.backward());
        let moved = 1.0 - values(module.used.val().inner())[0];
        let expected = 1e-6 / (1e-6 + 1e-7 / 0.001_f32.sqrt());
        assert!((moved - expected).abs() < 1e-4, "{moved} {expected}");
    }
}

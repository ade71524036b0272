//! Counting parameters.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;

use super::parameters::Path;

/// How many numbers a network consists of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ParameterCount {
    /// Those that training changes by their gradient.
    pub trainable: usize,
    /// Running means and variances.
    pub statistics: usize,
    /// Tensors among `trainable`, each of which gets one gradient.
    pub trainable_tensors: usize,
}

impl ParameterCount {
    /// Keras' `count_params()`: all but frozen constants, such as the gamma that burn stores where Keras
    /// has `scale=False`.
    #[must_use]
    pub fn total(self) -> usize {
        self.trainable + self.statistics
    }
}

/// Counts the parameters of a network or a part of it, which may be on any device.
#[must_use]
pub fn parameter_count<M: Module>(module: &M) -> ParameterCount {
    let mut counter = Counter::default();
    // On a plain device no tensor tells whether it is trained: look at the module as training has it.
    module.valid().train().visit(&mut counter);
    counter.count
}

#[derive(Default)]
struct Counter {
    path: Path,
    count: ParameterCount,
}

impl ModuleVisitor for Counter {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let numbers = param.lazy_shape().num_elements();
        if matches!(self.path.last(), "running_mean" | "running_var") {
            self.count.statistics += numbers;
        } else if param.is_require_grad() {
            self.count.trainable += numbers;
            self.count.trainable_tensors += 1;
        }
    }

    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, container_type: &str) {
        self.path.exit(container_type);
    }
}

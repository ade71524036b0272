//! The parameters of a network by name: what checkpoints, the optimizer and published weights are keyed by.
//!
//! A parameter's name is its path through the modules, such as `backbone.stages.0.blocks.0.conv1.weight`;
//! which of the four backbones it belongs to is not part of it.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};
use quartet_kernels::{MemoryFormat, copied_as};

/// The path to the parameter that a visitor or mapper is at.
#[derive(Debug, Default)]
pub struct Path(Vec<String>);

impl Path {
    /// To be called by `enter_module`.
    pub fn enter(&mut self, name: &str, container_type: &str) {
        if !is_enum(container_type) {
            self.0.push(name.to_owned());
        }
    }

    /// To be called by `exit_module`.
    pub fn exit(&mut self, container_type: &str) {
        if !is_enum(container_type) {
            self.0.pop();
        }
    }

    /// The parameter's name.
    pub fn name(&self) -> String {
        self.0.join(".")
    }

    /// The last part of the name, such as `weight`.
    pub fn last(&self) -> &str {
        self.0.last().map_or("", String::as_str)
    }
}

/// The name of an enum's variant is no part of a parameter's name.
fn is_enum(container_type: &str) -> bool {
    container_type.starts_with("Enum:")
}

/// A parameter or running statistic.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Its shape.
    pub shape: Vec<usize>,
    /// `[elements]`, without autodiff.
    pub values: Tensor<1>,
}

/// All parameters and running statistics.
pub fn parameters<M: Module>(module: &M) -> BTreeMap<String, Parameter> {
    let mut collect = Collect::default();
    // A plain copy also takes in the last update of the running statistics, which burn keeps aside.
    module.valid().visit(&mut collect);
    collect.parameters
}

/// The shapes of all parameters and running statistics, whose values need not be there.
pub fn shapes<M: Module>(module: &M) -> BTreeMap<String, Vec<usize>> {
    let mut collect = Shapes::default();
    module.visit(&mut collect);
    collect.shapes
}

/// The module with the values that `value` gives for each parameter's name and shape, row-major, on the
/// devices of its parameters; where it gives none, a parameter stays as it is.
///
/// # Panics
/// If the number of values is not that of the shape.
pub fn with_values<M: Module>(
    module: M,
    value: impl FnMut(&str, &[usize]) -> Option<Vec<f32>>,
) -> M {
    module.map(&mut Apply {
        value,
        path: Path::default(),
    })
}

/// The module with parameters and running statistics of this format, in memory of their own.
pub(crate) fn copied<M: Module>(module: M, format: MemoryFormat) -> M {
    module.map(&mut Copied(format))
}

#[derive(Default)]
struct Collect {
    path: Path,
    parameters: BTreeMap<String, Parameter>,
}

impl ModuleVisitor for Collect {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, container_type: &str) {
        self.path.exit(container_type);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        let parameter = Parameter {
            shape: value.dims().to_vec(),
            values: value.reshape([-1]),
        };
        self.parameters.insert(self.path.name(), parameter);
    }
}

#[derive(Default)]
struct Shapes {
    path: Path,
    shapes: BTreeMap<String, Vec<usize>>,
}

impl ModuleVisitor for Shapes {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, container_type: &str) {
        self.path.exit(container_type);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let shape = param.lazy_shape().to_vec();
        self.shapes.insert(self.path.name(), shape);
    }
}

struct Apply<F> {
    value: F,
    path: Path,
}

impl<F: FnMut(&str, &[usize]) -> Option<Vec<f32>>> ModuleMapper for Apply<F> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, container_type: &str) {
        self.path.exit(container_type);
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (shape, device) = (param.lazy_shape(), param.lazy_device());
        let Some(values) = (self.value)(&self.path.name(), &shape) else {
            return param;
        };
        let trained = param.is_require_grad();
        let (id, _, mapper) = param.consume();
        let value = Tensor::<D>::from_data(TensorData::new(values, shape), &device);
        Param::from_mapped_value(id, value.set_require_grad(trained), mapper)
    }
}

struct Copied(MemoryFormat);

impl ModuleMapper for Copied {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let trained = param.is_require_grad();
        let (id, value, mapper) = param.consume();
        let autodiff = value.is_autodiff();
        let value = copied_as(value.inner(), self.0);
        let value = match autodiff {
            true => Tensor::from_inner(value).set_require_grad(trained),
            false => value,
        };
        Param::from_mapped_value(id, value, mapper)
    }
}

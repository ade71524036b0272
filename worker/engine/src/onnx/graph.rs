//! A network's forward pass as nodes of an ONNX graph.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::nn::conv::Conv2d;
use burn::nn::{BatchNorm, Linear, PaddingConfig2d};
use burn::tensor;

use super::messages::{Attribute, AttributeType, DataType, Graph, Node, Tensor};
use crate::models::Network;
use crate::models::interpreter::Interpreter;
use crate::models::parameters::{Parameter, Path, parameters};

/// The name of a value in the graph.
pub(super) type Name = String;

/// A graph that grows.
#[derive(Debug, Default)]
pub(super) struct Nodes(RefCell<Graph>);

impl Nodes {
    /// Adds a node with one output, which gets a name of its own.
    pub(super) fn push(&self, op: &str, input: Vec<Name>, attribute: Vec<Attribute>) -> Name {
        let mut graph = self.0.borrow_mut();
        let name = format!("{}_{}", op.to_lowercase(), graph.node.len());
        graph.node.push(Node {
            input,
            output: vec![name.clone()],
            name: name.clone(),
            op_type: op.to_owned(),
            attribute,
        });
        name
    }

    /// Adds a node whose output is called `output`.
    pub(super) fn push_output(&self, op: &str, input: Vec<Name>, output: &str) {
        let name = self.push(op, input, Vec::new());
        let mut graph = self.0.borrow_mut();
        let node = graph.node.iter_mut().find(|node| node.name == name);
        node.expect("it was added").output = vec![output.to_owned()];
    }

    /// Adds floats.
    pub(super) fn floats(&self, name: &str, shape: &[usize], values: &[f32]) -> Name {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes());
        self.initializer(name, shape, DataType::Float, bytes.collect())
    }

    /// Adds whole numbers.
    pub(super) fn integers(&self, name: &str, values: &[i64]) -> Name {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes());
        self.initializer(name, &[values.len()], DataType::Int64, bytes.collect())
    }

    fn initializer(&self, name: &str, shape: &[usize], kind: DataType, raw: Vec<u8>) -> Name {
        self.0.borrow_mut().initializer.push(Tensor {
            dims: shape.iter().map(|&extent| extent as i64).collect(),
            data_type: kind as i32,
            name: name.to_owned(),
            raw_data: raw,
        });
        name.to_owned()
    }

    pub(super) fn finish(self) -> Graph {
        self.0.into_inner()
    }
}

pub(super) fn int(name: &str, value: i64) -> Attribute {
    Attribute {
        i: Some(value),
        ..attribute(name, AttributeType::Int)
    }
}

pub(super) fn ints<const N: usize>(name: &str, values: [usize; N]) -> Attribute {
    Attribute {
        ints: values.iter().map(|&value| value as i64).collect(),
        ..attribute(name, AttributeType::Ints)
    }
}

fn float(name: &str, value: f64) -> Attribute {
    Attribute {
        f: Some(value as f32),
        ..attribute(name, AttributeType::Float)
    }
}

fn string(name: &str, value: &str) -> Attribute {
    Attribute {
        s: Some(value.as_bytes().to_vec()),
        ..attribute(name, AttributeType::String)
    }
}

fn attribute(name: &str, kind: AttributeType) -> Attribute {
    Attribute {
        name: name.to_owned(),
        kind: kind as i32,
        ..Attribute::default()
    }
}

/// How a pool or convolution goes beyond its input.
fn padding(padding: &PaddingConfig2d) -> Option<Attribute> {
    match *padding {
        PaddingConfig2d::Valid => None,
        // Of an odd number of rows or columns one more at the bottom and at the right.
        PaddingConfig2d::Same => Some(string("auto_pad", "SAME_UPPER")),
        PaddingConfig2d::Explicit(top, left, bottom, right) => {
            Some(ints("pads", [top, left, bottom, right]))
        }
    }
}

/// Writes down what a network computes. Its initializers have the parameters' names, after `prefix`.
pub(super) struct Writer<'a> {
    nodes: &'a Nodes,
    prefix: String,
    names: HashMap<ParamId, String>,
    parameters: BTreeMap<String, Parameter>,
    written: RefCell<BTreeSet<String>>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(nodes: &'a Nodes, network: &Network, prefix: String) -> Self {
        let mut names = Names::default();
        network.visit(&mut names);
        Self {
            nodes,
            prefix,
            names: names.names,
            parameters: parameters(network),
            written: RefCell::default(),
        }
    }

    /// The layer that a parameter belongs to.
    fn layer(&self, id: ParamId) -> &str {
        let name = &self.names[&id];
        name.rsplit_once('.').map_or("", |(layer, _)| layer)
    }

    /// The initializer of a layer's parameter.
    fn parameter(&self, layer: &str, last: &str) -> Name {
        let name = format!("{layer}.{last}");
        let parameter = &self.parameters[&name];
        let name = format!("{}{name}", self.prefix);
        if self.written.borrow_mut().insert(name.clone()) {
            let values = parameter.values.clone().into_data_as::<f32>();
            let bytes = values.into_bytes().to_vec();
            self.nodes
                .initializer(&name, &parameter.shape, DataType::Float, bytes);
        }
        name
    }

    fn batch_norm(&self, norm: &BatchNorm, x: Name) -> Name {
        let layer = self.layer(norm.beta.id);
        let parameters = ["gamma", "beta", "running_mean", "running_var"];
        let parameters = parameters.map(|last| self.parameter(layer, last));
        let input = std::iter::once(x).chain(parameters).collect();
        let epsilon = vec![float("epsilon", norm.epsilon)];
        self.nodes.push("BatchNormalization", input, epsilon)
    }

    fn max_pool(&self, x: Name, side: usize, pads: &PaddingConfig2d) -> Name {
        let mut attributes = vec![ints("kernel_shape", [side, side]), ints("strides", [2, 2])];
        attributes.extend(padding(pads));
        self.nodes.push("MaxPool", vec![x], attributes)
    }
}

impl Interpreter for Writer<'_> {
    type Map = Name;
    type Row = Name;

    fn conv(&self, conv: &Conv2d, x: Name) -> Name {
        let layer = self.layer(conv.weight.id);
        let mut input = vec![x, self.parameter(layer, "weight")];
        input.extend(conv.bias.as_ref().map(|_| self.parameter(layer, "bias")));
        let mut attributes = vec![
            ints("kernel_shape", conv.kernel_size),
            ints("strides", conv.stride),
        ];
        attributes.extend(padding(&conv.padding));
        self.nodes.push("Conv", input, attributes)
    }

    fn relu(&self, x: Name) -> Name {
        self.nodes.push("Relu", vec![x], Vec::new())
    }

    fn bn(&self, norm: &BatchNorm, x: Name) -> Name {
        self.batch_norm(norm, x)
    }

    fn conv_bn_add_relu(&self, conv: &Conv2d, norm: &BatchNorm, x: Name, residual: Name) -> Name {
        let x = self.conv_bn(conv, norm, x);
        self.relu(self.nodes.push("Add", vec![x, residual], Vec::new()))
    }

    fn add_scaled(&self, x: Name, branch: Name, scale: f64) -> Name {
        let name = format!("{}scale_{scale}", self.prefix);
        if self.written.borrow_mut().insert(name.clone()) {
            self.nodes.floats(&name, &[], &[scale as f32]);
        }
        let branch = self.nodes.push("Mul", vec![branch, name], Vec::new());
        self.nodes.push("Add", vec![x, branch], Vec::new())
    }

    fn concat(&self, branches: Vec<Name>) -> Name {
        self.nodes.push("Concat", branches, vec![int("axis", 1)])
    }

    fn max_pool_2x2(&self, x: Name) -> Name {
        self.max_pool(x, 2, &PaddingConfig2d::Valid)
    }

    fn max_pool_3x3(&self, x: Name, padding: PaddingConfig2d) -> Name {
        self.max_pool(x, 3, &padding)
    }

    fn avg_pool_3x3_same(&self, x: Name, count_padding: bool) -> Name {
        let attributes = vec![
            ints("kernel_shape", [3, 3]),
            ints("pads", [1, 1, 1, 1]),
            int("count_include_pad", count_padding.into()),
        ];
        self.nodes.push("AveragePool", vec![x], attributes)
    }

    fn global_avg_pool(&self, x: Name) -> Name {
        let x = self.nodes.push("GlobalAveragePool", vec![x], Vec::new());
        self.nodes.push("Flatten", vec![x], vec![int("axis", 1)])
    }

    /// There is none without training.
    fn dropout(&self, _place: usize, x: Name) -> Name {
        x
    }

    fn dense_relu(&self, linear: &Linear, x: Name) -> Name {
        self.relu(self.dense(linear, x))
    }

    fn dense(&self, linear: &Linear, x: Name) -> Name {
        let layer = self.layer(linear.weight.id);
        let input = vec![
            x,
            self.parameter(layer, "weight"),
            self.parameter(layer, "bias"),
        ];
        self.nodes.push("Gemm", input, Vec::new())
    }

    fn bn_row(&self, norm: &BatchNorm, x: Name) -> Name {
        self.batch_norm(norm, x)
    }
}

/// The names of parameters by their ids.
#[derive(Default)]
struct Names {
    path: Path,
    names: HashMap<ParamId, String>,
}

impl ModuleVisitor for Names {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, container_type: &str) {
        self.path.exit(container_type);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<tensor::Tensor<D>>) {
        self.names.insert(param.id, self.path.name());
    }
}

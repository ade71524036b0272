//! Operations and their gradients on the cases of `tests/parity/ops_live.py`.

use burn::module::{Param, ParamId, RunningState};
use burn::nn::conv::Conv2d;
use burn::nn::{BatchNorm, PaddingConfig2d};
use burn::tensor::{DType, Device, Tensor, TensorData};
use quartet_kernels::{self as kernels, Addresses, Statistics};
use serde::Deserialize;

use super::{Tensors, relative};

/// A case as the script lists it.
#[derive(Clone, Debug, Deserialize)]
pub struct Case {
    /// The prefix of its tensors.
    pub name: String,
    #[serde(flatten)]
    operation: Operation,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "operation", rename_all = "snake_case")]
enum Operation {
    Conv {
        stride: usize,
        padding: Padding,
        dilation: usize,
        groups: usize,
    },
    Bn {
        train: bool,
        relu: bool,
        scale: bool,
    },
    Relu,
    GlobalAvgPool,
    AddScaled,
    MaxPool {
        kernel: usize,
        padding: usize,
    },
    AvgPool {
        count_padding: bool,
    },
    CrossEntropy,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Padding {
    Named(String),
    /// Top, left, bottom, right.
    Explicit([usize; 4]),
}

/// How an operation is computed.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Without autodiff.
    pub device: Device,
    /// Of all tensors.
    pub dtype: DType,
    /// In which images come.
    pub layout: Layout,
}

/// How images come to an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// As they are.
    Ordinary,
    /// With their channels innermost.
    ChannelsLast,
    /// The same in bfloat16, as mixed precision has it.
    Mixed,
}

/// A tensor's name, and its largest difference relative to the reference's largest value; with
/// [`Layout::Mixed`] the same of their norms.
pub type Difference = (String, f64);

/// A case on a device.
struct Run<'a> {
    case: &'a Case,
    tensors: &'a Tensors,
    setting: &'a Setting,
    device: Device,
}

/// Computes a case forward and backward; returns the differences of output, gradients and statistics.
#[must_use]
pub fn run(case: &Case, tensors: &Tensors, setting: &Setting) -> Vec<Difference> {
    let run = Run {
        case,
        tensors,
        setting,
        device: setting.device.clone().autodiff(),
    };
    match run.rank() {
        2 => run.compare::<2>(),
        _ => run.compare::<4>(),
    }
}

impl Run<'_> {
    fn rank(&self) -> usize {
        self.tensors.shape(&self.key("x")).len()
    }

    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.case.name)
    }

    fn has(&self, name: &str) -> bool {
        let key = self.key(name);
        self.tensors.names().contains(&key)
    }

    fn constant<const D: usize>(&self, name: &str) -> Tensor<D> {
        let key = self.key(name);
        let data = TensorData::new(self.tensors.f64(&key), self.tensors.shape(&key));
        Tensor::from_data(data, (&self.device, self.setting.dtype))
    }

    /// A tensor that gets a gradient.
    fn leaf<const D: usize>(&self, name: &str) -> Tensor<D> {
        self.constant(name).require_grad()
    }

    fn param<const D: usize>(&self, name: &str, trained: bool) -> Param<Tensor<D>> {
        let value = self.constant::<D>(name).set_require_grad(trained);
        Param::initialized(ParamId::new(), value)
    }

    fn compare<const D: usize>(&self) -> Vec<Difference> {
        let x = self.leaf::<D>("x");
        let images = self.images(x.clone());
        let mut found = Vec::new();
        match &self.case.operation {
            Operation::Conv { .. } => {
                let conv = self.conv();
                let y = kernels::conv2d(&conv, fixed(images));
                let gradients = self.backward(y, &mut found);
                self.gradient("weight", &conv.weight.val(), &gradients, &mut found);
                if let Some(bias) = &conv.bias {
                    self.gradient("bias", &bias.val(), &gradients, &mut found);
                }
                self.gradient("x", &x, &gradients, &mut found);
            }
            Operation::Bn { train, relu, scale } => {
                let norm = self.norm(*scale);
                let residual = self.has("residual").then(|| self.leaf::<D>("residual"));
                let statistics = match train {
                    true => Statistics::Batch(Addresses::Free),
                    false => Statistics::Running,
                };
                let added = residual.clone().map(|residual| self.images(residual));
                let y = kernels::batch_norm(&norm, images, added, *relu, statistics);
                let gradients = self.backward(y, &mut found);
                self.gradient("x", &x, &gradients, &mut found);
                self.gradient("beta", &norm.beta.val(), &gradients, &mut found);
                if *scale {
                    self.gradient("gamma", &norm.gamma.val(), &gradients, &mut found);
                }
                if let Some(residual) = residual {
                    self.gradient("residual", &residual, &gradients, &mut found);
                }
                self.value("new_mean", norm.running_mean.value(), &mut found);
                self.value("new_var", norm.running_var.value(), &mut found);
            }
            Operation::AddScaled => {
                let branch = self.leaf::<4>("branch");
                let y = kernels::add_scaled(fixed(images), self.images(branch.clone()), 0.17);
                let gradients = self.backward(y, &mut found);
                self.gradient("x", &x, &gradients, &mut found);
                self.gradient("branch", &branch, &gradients, &mut found);
            }
            Operation::GlobalAvgPool => {
                let gradients = self.backward(kernels::global_avg_pool(fixed(images)), &mut found);
                self.gradient("x", &x, &gradients, &mut found);
            }
            Operation::CrossEntropy => {
                let loss = kernels::cross_entropy(fixed(images), self.constant("distributions"));
                let gradients = self.backward(loss, &mut found);
                self.gradient("x", &x, &gradients, &mut found);
            }
            operation => {
                let y = match operation {
                    Operation::MaxPool { kernel, padding: 0 } => fixed(kernels::max_pool(
                        fixed(images),
                        *kernel,
                        PaddingConfig2d::Valid,
                    )),
                    Operation::MaxPool { kernel, padding: p } => {
                        let padding = PaddingConfig2d::Explicit(*p, *p, *p, *p);
                        fixed(kernels::max_pool(fixed(images), *kernel, padding))
                    }
                    Operation::AvgPool { count_padding } => {
                        fixed(kernels::avg_pool_3x3_same(fixed(images), *count_padding))
                    }
                    _ => kernels::relu::<D>(images),
                };
                let gradients = self.backward(y, &mut found);
                self.gradient("x", &x, &gradients, &mut found);
            }
        }
        found
    }

    /// In the layout of the setting.
    fn images<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        match self.setting.layout {
            Layout::ChannelsLast if D == 4 => fixed(kernels::channels_last(fixed(x))),
            Layout::Mixed if D == 4 => fixed(kernels::channels_last_bf16(fixed(x))),
            _ => x,
        }
    }

    fn conv(&self) -> Conv2d {
        let Operation::Conv {
            stride,
            padding,
            dilation,
            groups,
        } = &self.case.operation
        else {
            unreachable!("it is a convolution")
        };
        let weight = self.param::<4>("weight", true);
        let [_, _, height, width] = weight.dims();
        Conv2d {
            weight,
            bias: self.has("bias").then(|| self.param("bias", true)),
            stride: [*stride; 2],
            kernel_size: [height, width],
            dilation: [*dilation; 2],
            groups: *groups,
            padding: match padding {
                Padding::Named(name) if name == "same" => PaddingConfig2d::Same,
                Padding::Named(_) => PaddingConfig2d::Valid,
                Padding::Explicit([t, l, b, r]) => PaddingConfig2d::Explicit(*t, *l, *b, *r),
            },
        }
    }

    fn norm(&self, scale: bool) -> BatchNorm {
        let statistic = |name| RunningState::with_id(ParamId::new(), self.constant(name));
        BatchNorm {
            gamma: self.param("gamma", scale),
            beta: self.param("beta", true),
            training: Param::from_bool(true),
            running_mean: statistic("running_mean"),
            running_var: statistic("running_var"),
            momentum: 0.01,
            epsilon: 1.001e-5,
        }
    }

    /// Compares the output, and goes back from the reference's gradient of it.
    fn backward<const D: usize>(
        &self,
        y: Tensor<D>,
        found: &mut Vec<Difference>,
    ) -> burn::tensor::Gradients {
        let y = y.cast(self.setting.dtype);
        self.value("out", y.clone(), found);
        (y * self.constant("gradient")).sum().backward()
    }

    fn gradient<const D: usize>(
        &self,
        name: &str,
        of: &Tensor<D>,
        gradients: &burn::tensor::Gradients,
        found: &mut Vec<Difference>,
    ) {
        let gradient = of.grad(gradients);
        let gradient =
            gradient.unwrap_or_else(|| panic!("{}: {name} has no gradient", self.case.name));
        assert_eq!(gradient.dtype(), self.setting.dtype, "{name}");
        self.value(&format!("d_{name}"), gradient, found);
    }

    fn value<const D: usize>(&self, name: &str, value: Tensor<D>, found: &mut Vec<Difference>) {
        let key = self.key(name);
        assert_eq!(value.dims().to_vec(), self.tensors.shape(&key), "{key}");
        let values = value.into_data_as::<f64>();
        let values = values.try_to_vec::<f64>().expect("converted");
        let expected = self.tensors.f64(&key);
        let difference = match self.setting.layout {
            // Single values may differ wholly, where rounding decides the sign before ReLU.
            Layout::Mixed => in_norm(&values, &expected),
            _ => relative(&values, &expected),
        };
        found.push((name.to_owned(), difference));
    }
}

/// The norm of the difference relative to that of the reference.
fn in_norm(found: &[f64], expected: &[f64]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let pairs = found.iter().zip(expected);
    norm(&mut pairs.map(|(a, b)| a - b)) / norm(&mut expected.iter().copied())
}

/// The same tensor under another rank that is in fact the same.
fn fixed<const A: usize, const B: usize>(x: Tensor<A>) -> Tensor<B> {
    let dims: [usize; B] = x.dims().to_vec().try_into().expect("of this rank");
    x.reshape(dims)
}

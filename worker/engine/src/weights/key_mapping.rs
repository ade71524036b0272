//! Which tensor of a file is which parameter of a network.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use quartet_shared::spec::Backbone;

use super::error::Problems;
use super::families::{files, layers};
use super::keras::{KerasModel, Order};
use super::keras3;
use super::layer::{BACKBONE, Kind, Layer, Names};
use super::state_dict::{Numbers, StateDict, StoredTensor};
use crate::models::NetworkConfig;

/// The shapes of a network's parameters by name.
pub(super) type Shapes = BTreeMap<String, Vec<usize>>;

/// The source of each parameter, as an index among the file's tensors, and whatever did not work out.
#[derive(Debug, Default)]
pub(super) struct KeyMapping {
    pub(super) sources: BTreeMap<String, usize>,
    pub(super) problems: Problems,
}

/// How convolution kernels lie in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// `[out, in, height, width]`, as ours.
    Torch,
    /// `[height, width, in, out]`.
    Keras,
}

/// The parameters of a layer that a network of these shapes has.
fn parameters<'a>(
    layer: &'a Layer,
    shapes: &'a Shapes,
    has_gamma: bool,
) -> impl Iterator<Item = (String, Names)> + 'a {
    let names = layer.kind.parameters().iter();
    names
        .filter(move |names| has_gamma || names.ours != "gamma")
        .map(|names| (format!("{}.{}", layer.ours, names.ours), *names))
        .filter(|(ours, _)| shapes.contains_key(ours))
}

/// A file of torchvision or timm.
pub(super) fn torch(tensors: &StateDict, config: &NetworkConfig, shapes: &Shapes) -> KeyMapping {
    let mut mapping = KeyMapping::default();
    let mut open = by_name(tensors);
    for layer in layers(config.backbone, config.variant) {
        for (ours, names) in parameters(&layer, shapes, true) {
            let name = format!("{}.{}", layer.torch, names.torch);
            mapping.assign(ours, open.remove(name.as_str()), name);
        }
    }
    let heads = files(config.backbone).torch_heads;
    let unused = open.into_keys().filter(|name| {
        !name.ends_with("num_batches_tracked") && !heads.iter().any(|head| name.starts_with(head))
    });
    mapping.problems.unused = unused.map(str::to_owned).collect();
    mapping
}

/// A checkpoint of ours: the backbone, and the head if `head`.
pub(super) fn checkpoint(tensors: &StateDict, head: bool, shapes: &Shapes) -> KeyMapping {
    let mut mapping = KeyMapping::default();
    let wanted = |name: &str| head || name.starts_with(BACKBONE);
    let mut open = by_name(tensors);
    for name in shapes.keys().filter(|name| wanted(name)) {
        mapping.assign(name.clone(), open.remove(name.as_str()), name.clone());
    }
    let unused = open.into_keys().filter(|name| wanted(name));
    mapping.problems.unused = unused.map(str::to_owned).collect();
    mapping
}

/// A file of Keras. Layers with weights after the last one of the backbone are the classifier, and left out.
pub(super) fn keras(
    model: &KerasModel,
    tensors: &StateDict,
    config: &NetworkConfig,
    shapes: &Shapes,
) -> KeyMapping {
    let mut mapping = KeyMapping::default();
    let has_gamma = files(config.backbone).has_gamma(config.variant);
    let layers = layers(config.backbone, config.variant);
    let is_there = |name: &String| model.layers.iter().any(|layer| layer.name == *name);
    let is_named = layers
        .iter()
        .filter_map(|layer| layer.keras.as_ref())
        .any(is_there);
    let mut used = BTreeSet::new();
    let mut counts = [0, 0];
    for (index, layer) in layers.iter().enumerate() {
        let count = &mut counts[usize::from(layer.kind == Kind::Norm)];
        let number = std::mem::replace(count, *count + 1);
        let (found, absent) = match (&model.order, &layer.keras) {
            (Order::Kind { .. }, Some(name)) if is_named => (model.named(name), name.clone()),
            (Order::Kind { container, .. }, _) => (
                model.numbered(layer.kind, number),
                keras3::layer(container, layer.kind, number),
            ),
            (Order::Model, Some(name)) => (model.named(name), name.clone()),
            (Order::Model, None) => (
                (index < model.layers.len()).then_some(index),
                format!("weighted layer {} ({})", index + 1, described(layer)),
            ),
        };
        used.extend(found);
        let name = found.map_or(absent, |found| model.layers[found].name.clone());
        let mut weights = found.map_or(0..0, |found| model.layers[found].weights.clone());
        for (ours, names) in parameters(layer, shapes, has_gamma) {
            mapping.assign(ours, weights.next(), format!("{name}/{}", names.keras));
        }
        mapping.unused(weights, tensors);
    }
    for range in model.sorted() {
        let last = used
            .range(range.clone())
            .last()
            .copied()
            .unwrap_or(range.start);
        for index in (range.start..last).filter(|index| !used.contains(index)) {
            mapping.unused(model.layers[index].weights.clone(), tensors);
        }
    }
    mapping
}

impl KerasModel {
    fn named(&self, name: &str) -> Option<usize> {
        self.layers.iter().position(|layer| layer.name == name)
    }

    /// The layer of a kind with this number, from 0.
    fn numbered(&self, kind: Kind, number: usize) -> Option<usize> {
        let sorted = self.sorted();
        let range = match (kind, &sorted[..]) {
            (Kind::Norm, [_, norms]) => norms,
            (_, [convolutions, ..]) => convolutions,
            _ => return None,
        };
        let index = range.start.checked_add(number)?;
        range.contains(&index).then_some(index)
    }

    /// The layers that are in the model's order.
    fn sorted(&self) -> Vec<Range<usize>> {
        let all = self.layers.len();
        let cuts = match self.order {
            Order::Model => vec![0, all],
            Order::Kind { convolutions, .. } => vec![0, convolutions, all],
        };
        cuts.windows(2).map(|cuts| cuts[0]..cuts[1]).collect()
    }
}

fn described(layer: &Layer) -> &'static str {
    match layer.kind {
        Kind::Conv => "convolution",
        Kind::Norm => "batch normalization",
    }
}

fn by_name(tensors: &StateDict) -> BTreeMap<&str, usize> {
    let names = tensors.iter().enumerate();
    names.map(|(i, tensor)| (tensor.name.as_str(), i)).collect()
}

impl KeyMapping {
    fn assign(&mut self, ours: String, source: Option<usize>, name: String) {
        match source {
            Some(source) => {
                self.sources.insert(ours, source);
            }
            None => self.problems.missing.push(name),
        }
    }

    fn unused(&mut self, indices: impl Iterator<Item = usize>, tensors: &StateDict) {
        let names = indices.map(|index| tensors[index].name.clone());
        self.problems.unused.extend(names);
    }

    /// Looks for tensors of another shape or type than the network has them.
    pub(super) fn check(&mut self, tensors: &StateDict, layout: Layout, shapes: &Shapes) {
        for (ours, &source) in &self.sources {
            let StoredTensor {
                name,
                shape: found,
                numbers,
                ..
            } = &tensors[source];
            let expected = layout.stored(&shapes[ours]);
            let unfit = &mut self.problems.unfit;
            if *found != expected {
                unfit.push(format!(
                    "{name} has shape {found:?} instead of {expected:?}"
                ));
            } else if let Numbers::Other(kind) = numbers {
                unfit.push(format!("{name} holds {kind}"));
            }
        }
    }

    /// The width of the network that the file is of, if its first kernel has other channels than the
    /// network's.
    pub(super) fn width(
        &self,
        tensors: &StateDict,
        layout: Layout,
        shapes: &Shapes,
        backbone: Backbone,
    ) -> Option<f64> {
        let mut sources = self.sources.iter();
        let (network, &file) = sources.find_map(|(ours, source)| match shapes[ours][..] {
            [channels, 3, _, _] => Some((channels, source)),
            _ => None,
        })?;
        let file = match (layout, &tensors[file].shape[..]) {
            (Layout::Torch, &[channels, 3, _, _]) | (Layout::Keras, &[_, _, 3, channels]) => {
                channels
            }
            _ => return None,
        };
        (file != network).then(|| file as f64 / files(backbone).stem_channels as f64)
    }
}

impl Layout {
    /// The shape in the file of what has this shape in our networks.
    pub(super) fn stored(self, shape: &[usize]) -> Vec<usize> {
        match (self, shape) {
            (Self::Keras, &[output, input, height, width]) => vec![height, width, input, output],
            _ => shape.to_vec(),
        }
    }

    /// Values of a parameter of this shape as they lie in the file.
    pub(super) fn theirs(self, values: Vec<f32>, shape: &[usize]) -> Vec<f32> {
        let (Self::Keras, &[output, input, height, width]) = (self, shape) else {
            return values;
        };
        let mut theirs = Vec::with_capacity(values.len());
        for pixel in 0..height * width {
            for i in 0..input {
                let place = |o: usize| (o * input + i) * height * width + pixel;
                theirs.extend((0..output).map(|o| values[place(o)]));
            }
        }
        theirs
    }

    /// Values as they lie in the file in our order, for a parameter of this shape.
    pub(super) fn ours(self, values: Vec<f32>, shape: &[usize]) -> Vec<f32> {
        let (Self::Keras, &[output, input, height, width]) = (self, shape) else {
            return values;
        };
        let mut ours = Vec::with_capacity(values.len());
        let pixels = height * width;
        for o in 0..output {
            for i in 0..input {
                let kernel = (0..pixels).map(|pixel| values[(pixel * input + i) * output + o]);
                ours.extend(kernel);
            }
        }
        ours
    }
}

/// How names of torchvision and timm begin that only one backbone has.
pub(super) const MARKS: [(&str, Backbone); 4] = [
    ("features.28.", Backbone::Vgg16),
    ("layer1.0.conv3.", Backbone::Resnet50V1_5),
    ("Mixed_5b.", Backbone::InceptionV3),
    ("conv2d_7b.", Backbone::InceptionResnetV2),
];

/// The backbone that names of torchvision or timm belong to.
pub(super) fn torch_backbone(tensors: &StateDict) -> Option<Backbone> {
    let begins = |prefix: &str| tensors.iter().any(|t| t.name.starts_with(prefix));
    let mark = MARKS.into_iter().find(|(prefix, _)| begins(prefix));
    mark.map(|(_, backbone)| backbone)
}

/// The backbone that Keras' layer names belong to, or, where they are not told, the convolutions.
pub(super) fn keras_backbone(model: &KerasModel, tensors: &StateDict) -> Option<Backbone> {
    let has = |name: &str| model.names.iter().any(|layer| layer == name);
    let marks = [
        ("block1_conv1", Backbone::Vgg16),
        ("conv2_block1_1_conv", Backbone::Resnet50),
        (KERAS_2018, Backbone::Resnet50),
        ("conv_7b", Backbone::InceptionResnetV2),
        ("mixed10", Backbone::InceptionV3),
    ];
    let mark = marks.into_iter().find(|(name, _)| has(name));
    mark.map(|(_, backbone)| backbone)
        .or_else(|| backbone_of_convolutions(model, tensors))
}

/// The backbone whose convolutions, of which there are at least as many, begin as the file's.
fn backbone_of_convolutions(model: &KerasModel, tensors: &StateDict) -> Option<Backbone> {
    let kernels = model.layers.iter().filter_map(|layer| {
        let kernel = &tensors.get(layer.weights.start)?.shape;
        (kernel.len() == 4).then_some((kernel, layer.weights.len()))
    });
    let kernels: Vec<_> = kernels.collect();
    let (first, weights) = kernels.first()?;
    let beginnings = [
        ([7, 7, 3], 2, 53, Backbone::Resnet50),
        ([3, 3, 3], 2, 13, Backbone::Vgg16),
        ([3, 3, 3], 1, 244, Backbone::InceptionResnetV2),
        ([3, 3, 3], 1, 94, Backbone::InceptionV3),
    ];
    let found = beginnings.into_iter().find(|(kernel, count, least, _)| {
        first.starts_with(kernel) && weights == count && kernels.len() >= *least
    });
    found.map(|(.., backbone)| backbone)
}

/// A layer of the ResNet50 that Keras had until 2018.
pub(super) const KERAS_2018: &str = "res2a_branch2a";

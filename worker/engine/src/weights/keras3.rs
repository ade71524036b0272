//! The layout that Keras 3 itself has: `model.save_weights("x.weights.h5")`, and `model.weights.h5` in the
//! archive `x.keras`.
//!
//! After `keras/src/saving/saving_lib.py`: a group `layers` has a group for each layer of a model, in its
//! order named by the layer's class and a number, such as `conv2d`, `conv2d_1`, ..; that has a group `vars`
//! of datasets `0`, `1`, .., and, of a model within the model, a group `layers` again. Newer files also have
//! the layer's own name, as an attribute `name` of `vars`.
//!
//! Keras 2.15 wrote the same layout. Keras 2.12 to 2.14 called the group `_layer_checkpoint_dependencies`,
//! and 2.12 and 2.13 counted each layer with weights twice: their numbers have gaps, but the model's order.

use std::collections::{BTreeMap, BTreeSet};

use hdf5_reader::error::Error;
use hdf5_reader::group::Group;

use super::keras::{KerasLayer, KerasModel, Order, Problem, strings, tensor};
use super::layer::Kind;
use super::state_dict::StateDict;

/// The group of a model's layers.
pub(super) const LAYERS: &str = "layers";

/// The same before Keras 2.15.
const KERAS_2_LAYERS: &str = "_layer_checkpoint_dependencies";

/// Classes of the layers of which backbones consist.
const CONVOLUTION: &str = "conv2d";
pub(super) const NORM: &str = "batch_normalization";

/// Models within models that are looked into.
const DEEPEST: usize = 8;

/// Weights that a layer of a backbone has at most.
const MOST_WEIGHTS: usize = 4;

/// A model's group of layers, and its convolutions by their numbers.
struct Container {
    path: String,
    group: Group,
    convolutions: usize,
}

/// The name of the group of layers in a model's group, if there is one.
pub(super) fn layers_of(model: &Group) -> Result<Option<&'static str>, Error> {
    let (groups, _) = model.member_names()?;
    let names = [LAYERS, KERAS_2_LAYERS].into_iter();
    Ok(names
        .into_iter()
        .find(|name| groups.iter().any(|group| group == name)))
}

/// Layers and tensors of the model, or model within the model, that has the most convolutions.
pub(super) fn read(root: &Group) -> Result<(KerasModel, StateDict), Problem> {
    let mut containers = Vec::new();
    let mut met = BTreeSet::new();
    find(root, "", DEEPEST, &mut met, &mut containers)?;
    // Of equals the first.
    let largest = containers
        .into_iter()
        .rev()
        .max_by_key(|container| container.convolutions)
        .filter(|container| container.convolutions > 0);
    let Some(Container { path, group, .. }) = largest else {
        return Err(Problem::Layout(
            "it is in the layout of .keras and .weights.h5, but has no conv2d among its layers, nor a model \
             with one"
                .to_owned(),
        ));
    };
    let mut model = KerasModel::default();
    let mut tensors = Vec::new();
    let members = group.member_names()?.0;
    push(
        &group,
        &path,
        numbered(&members, CONVOLUTION),
        &mut model,
        &mut tensors,
    )?;
    let convolutions = model.layers.len();
    push(
        &group,
        &path,
        numbered(&members, NORM),
        &mut model,
        &mut tensors,
    )?;
    model.order = Order::Kind {
        convolutions,
        container: path,
    };
    Ok((model, tensors))
}

/// The containers in a group and below. A group that was met is passed over: links may lead back.
fn find(
    parent: &Group,
    path: &str,
    deeper: usize,
    met: &mut BTreeSet<u64>,
    found: &mut Vec<Container>,
) -> Result<(), Problem> {
    let Some(layers) = layers_of(parent)? else {
        return Ok(());
    };
    let group = parent.group(layers)?;
    if !met.insert(group.address()) {
        return Ok(());
    }
    let path = match path {
        "" => layers.to_owned(),
        path => format!("{path}/{layers}"),
    };
    let members = group.member_names()?.0;
    found.push(Container {
        path: path.clone(),
        convolutions: numbered(&members, CONVOLUTION).len(),
        group: group.clone(),
    });
    let Some(deeper) = deeper.checked_sub(1) else {
        return Ok(());
    };
    for name in &members {
        let is_layer = number(name, CONVOLUTION).or(number(name, NORM)).is_some();
        if !is_layer {
            let layer = group.group(name)?;
            find(&layer, &format!("{path}/{name}"), deeper, met, found)?;
        }
    }
    Ok(())
}

/// Where a layer is, from 0 among those of its kind.
pub(super) fn layer(container: &str, kind: Kind, number: usize) -> String {
    format!("{container}/{}", member(class(kind), number))
}

/// The class of the layers of a kind.
pub(super) fn class(kind: Kind) -> &'static str {
    match kind {
        Kind::Conv => CONVOLUTION,
        Kind::Norm => NORM,
    }
}

/// The group of a layer of a class with this number, from 0.
pub(super) fn member(class: &str, number: usize) -> String {
    match number {
        0 => class.to_owned(),
        number => format!("{class}_{number}"),
    }
}

/// The members of a class in the order of their numbers.
fn numbered<'a>(members: &'a [String], class: &str) -> Vec<&'a str> {
    let numbers = members
        .iter()
        .filter_map(|name| Some((number(name, class)?, name.as_str())));
    numbers.collect::<BTreeMap<_, _>>().into_values().collect()
}

/// Which layer of a class a group is, from 0.
fn number(name: &str, class: &str) -> Option<usize> {
    match name.strip_prefix(class)? {
        "" => Some(0),
        rest => rest
            .strip_prefix('_')?
            .parse()
            .ok()
            .filter(|number| *number > 0),
    }
}

fn push(
    container: &Group,
    path: &str,
    names: Vec<&str>,
    model: &mut KerasModel,
    tensors: &mut StateDict,
) -> Result<(), Problem> {
    for name in names {
        let layer = container.group(name)?;
        let first = tensors.len();
        let mut known = None;
        if layer
            .member_names()?
            .0
            .iter()
            .any(|member| member == "vars")
        {
            let vars = layer.group("vars")?;
            known = strings(&vars, "name")?.and_then(|names| names.into_iter().next());
            let (_, datasets) = vars.member_names()?;
            for index in (0..MOST_WEIGHTS).map(|index| index.to_string()) {
                if datasets.contains(&index) {
                    let dataset = vars.dataset(&index)?;
                    tensors.push(tensor(dataset, format!("{path}/{name}/vars/{index}"))?);
                }
            }
        }
        model.names.extend(known.clone());
        model.layers.push(KerasLayer {
            name: known.unwrap_or_else(|| format!("{path}/{name}")),
            weights: first..tensors.len(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_numbered_from_one_on() {
        let names = [
            "conv2d",
            "conv2d_10",
            "conv2d_2",
            "conv2d_transpose",
            "conv2d_0",
            "dense",
        ];
        let names = names.map(str::to_owned);
        assert_eq!(
            numbered(&names, CONVOLUTION),
            ["conv2d", "conv2d_2", "conv2d_10"]
        );
    }
}

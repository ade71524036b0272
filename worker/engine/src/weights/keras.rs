//! Keras' files: the legacy layout of HDF5 here, Keras 3's own one in `keras3`.
//!
//! In the legacy layout, the attribute `layer_names` lists the layers in the model's order; each is a group
//! whose attribute `weight_names` lists its datasets. In a file of `model.save()` all this lies in the group
//! `model_weights`, beside the optimizer's. A model within a model is one layer there, with all weights of
//! its layers.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use hdf5_reader::error::Error;
use hdf5_reader::group::Group;
use hdf5_reader::storage::{DynStorage, FileStorage};
use hdf5_reader::{Attribute, Dataset, Datatype, Hdf5File, OpenOptions};

use super::archive;
use super::keras3;
use super::state_dict::{Numbers, Place, StateDict, StoredTensor};

/// Decoded bytes of the largest chunk that is read. Keras writes no chunks; the largest kernel of the four
/// backbones has 13 MB.
const LARGEST_CHUNK: usize = 64 << 20;

/// A file's layers.
#[derive(Clone, Debug, Default)]
pub(super) struct KerasModel {
    /// The names of all layers that the file names.
    pub(super) names: Vec<String>,
    /// The layers with weights, in [`Self::order`].
    pub(super) layers: Vec<KerasLayer>,
    pub(super) order: Order,
}

/// How the layers of a file are sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Order {
    /// As in the model.
    #[default]
    Model,
    /// So many convolutions as in the model, then the batch normalisations as in the model.
    Kind {
        convolutions: usize,
        /// The group of the file that has them.
        container: String,
    },
}

/// A layer with weights.
#[derive(Clone, Debug)]
pub(super) struct KerasLayer {
    pub(super) name: String,
    /// Where its weights are among the file's tensors, in Keras' order.
    pub(super) weights: Range<usize>,
}

/// Layers and tensors of a file.
///
/// # Errors
/// What is wrong.
pub(super) fn open(path: &Path) -> Result<(KerasModel, StateDict), String> {
    read(path).map_err(Problem::reason)
}

pub(super) enum Problem {
    Hdf5(Error),
    Layout(String),
}

impl Problem {
    fn reason(self) -> String {
        match self {
            Self::Hdf5(error) => error.to_string(),
            Self::Layout(reason) => reason,
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self::Hdf5(error)
    }
}

/// As [`open`], of `model.weights.h5` in a `.keras` archive.
///
/// # Errors
/// What is wrong.
pub(super) fn open_archive(path: &Path) -> Result<(KerasModel, StateDict), String> {
    let storage = archive::stored(path, WEIGHTS)?;
    read_from(storage).map_err(|problem| format!("its {WEIGHTS}: {}", problem.reason()))
}

/// The weights in a `.keras` archive.
const WEIGHTS: &str = "model.weights.h5";

fn read(path: &Path) -> Result<(KerasModel, StateDict), Problem> {
    // Reads, no memory map: a file that shrinks meanwhile is an error then, not a signal.
    read_from(Arc::new(FileStorage::open(path)?))
}

fn read_from(storage: DynStorage) -> Result<(KerasModel, StateDict), Problem> {
    let options = OpenOptions::default().with_max_chunk_bytes(LARGEST_CHUNK);
    let root = Hdf5File::from_storage_with_options(storage, options)?.root_group()?;
    if let Some(names) = strings(&root, "layer_names")? {
        return legacy(&root, names);
    }
    if root
        .member_names()?
        .0
        .iter()
        .any(|name| name == "model_weights")
    {
        let group = root.group("model_weights")?;
        if let Some(names) = strings(&group, "layer_names")? {
            return legacy(&group, names);
        }
    }
    match keras3::layers_of(&root)? {
        Some(_) => keras3::read(&root),
        None => Err(Problem::Layout(NO_LAYERS.to_owned())),
    }
}

/// HDF5 of something else.
const NO_LAYERS: &str = "it is HDF5, but has neither layer_names, as Keras' .h5 files have, nor a group \
    layers, as its .weights.h5 files have";

fn legacy(group: &Group, names: Vec<String>) -> Result<(KerasModel, StateDict), Problem> {
    let mut model = KerasModel::default();
    let mut tensors = Vec::new();
    for name in names {
        let layer = descend(group, &name)?;
        for (inner, paths) in by_layer(strings(&layer, "weight_names")?.unwrap_or_default()) {
            let first = tensors.len();
            for path in &paths {
                tensors.push(stored(&layer, &name, path)?);
            }
            let inner = inner.unwrap_or_else(|| name.clone());
            if inner != name {
                model.names.push(inner.clone());
            }
            model.layers.push(KerasLayer {
                name: inner,
                weights: first..tensors.len(),
            });
        }
        model.names.push(name);
    }
    if model.layers.is_empty() {
        return Err(Problem::Layout("none of its layers has weights".to_owned()));
    }
    Ok((model, tensors))
}

/// The paths of a layer's weights, or those of each layer of a model that is one layer of another, by its own
/// name. Such a model lists first what can be trained in all its layers.
fn by_layer(paths: Vec<String>) -> Vec<(Option<String>, Vec<String>)> {
    fn parent(path: &str) -> &str {
        path.rsplit_once('/').map_or("", |(parent, _)| parent)
    }
    let mut layers: Vec<(Option<String>, Vec<String>)> = Vec::new();
    let mut places = BTreeMap::new();
    for path in paths {
        let place = *places.entry(parent(&path).to_owned()).or_insert_with(|| {
            layers.push((None, Vec::new()));
            layers.len() - 1
        });
        layers[place].1.push(path);
    }
    if layers.len() > 1 {
        for (name, paths) in &mut layers {
            let parent = parent(&paths[0]);
            let last = parent.rsplit('/').next().unwrap_or_default();
            *name = (!last.is_empty()).then(|| last.to_owned());
        }
    }
    layers
}

/// The group below `group` that a path with slashes names.
fn descend(group: &Group, path: &str) -> Result<Group, Error> {
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    parts.try_fold(group.clone(), |group, part| group.group(part))
}

fn stored(layer: &Group, layer_name: &str, path: &str) -> Result<StoredTensor, Error> {
    let (group, dataset) = match path.rsplit_once('/') {
        Some((parents, last)) => (descend(layer, parents)?, last),
        None => (layer.clone(), path),
    };
    // Files of Keras 1 have names such as `conv1_W_1:0`, later ones `conv1/kernel:0`.
    let name = match path.strip_prefix(layer_name) {
        Some(rest) if rest.starts_with('/') => path.to_owned(),
        _ => format!("{layer_name}/{path}"),
    };
    tensor(group.dataset(dataset)?, name)
}

/// What a dataset holds, under this name.
pub(super) fn tensor(dataset: Dataset, name: String) -> Result<StoredTensor, Error> {
    let shape = dataset
        .shape()
        .iter()
        .map(|&extent| usize::try_from(extent).map_err(|_| Error::InvalidData(name.clone())));
    Ok(StoredTensor {
        shape: shape.collect::<Result<_, _>>()?,
        numbers: numbers(dataset.dtype()),
        name,
        place: Place::Hdf5(Box::new(dataset)),
    })
}

fn numbers(kind: &Datatype) -> Numbers {
    match kind {
        Datatype::FloatingPoint { size: 2, .. } => Numbers::F16,
        Datatype::FloatingPoint { size: 4, .. } => Numbers::F32,
        Datatype::FloatingPoint { size: 8, .. } => Numbers::F64,
        other => Numbers::Other(format!("{other:?}")),
    }
}

/// The strings of an attribute, or of `<name>0`, `<name>1`, .., into which Keras splits what is too large for
/// one.
pub(super) fn strings(group: &Group, name: &str) -> Result<Option<Vec<String>>, Error> {
    let attributes = group.attributes()?;
    let find = |name: &str| attributes.iter().find(|attribute| attribute.name == name);
    if let Some(attribute) = find(name) {
        return strings_of(attribute).map(Some);
    }
    let mut all = None;
    for index in 0.. {
        let Some(attribute) = find(&format!("{name}{index}")) else {
            break;
        };
        all.get_or_insert_with(Vec::new)
            .extend(strings_of(attribute)?);
    }
    Ok(all)
}

fn strings_of(attribute: &Attribute) -> Result<Vec<String>, Error> {
    // An empty list is one of floats.
    match attribute.num_elements()? {
        0 => Ok(Vec::new()),
        _ => attribute.read_strings(),
    }
}

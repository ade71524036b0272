//! Keras' legacy HDF5 files of weights.
//!
//! The attribute `layer_names` lists the layers in the model's order; each is a group whose attribute
//! `weight_names` lists its datasets. In a file of `model.save()` all this lies in the group `model_weights`.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use hdf5_reader::error::Error;
use hdf5_reader::group::Group;
use hdf5_reader::storage::FileStorage;
use hdf5_reader::{Attribute, Datatype, Hdf5File, OpenOptions};

use super::state_dict::{Numbers, Place, StateDict, StoredTensor};

/// Decoded bytes of the largest chunk that is read. Keras writes no chunks; the largest kernel of the four
/// backbones has 13 MB.
const LARGEST_CHUNK: usize = 64 << 20;

/// A file's layers.
#[derive(Clone, Debug, Default)]
pub(super) struct KerasModel {
    /// All layers, in the model's order.
    pub(super) names: Vec<String>,
    /// Those with weights.
    pub(super) layers: Vec<KerasLayer>,
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
    read(path).map_err(|problem| match problem {
        Problem::Hdf5(error) => error.to_string(),
        Problem::Layout(reason) => reason,
    })
}

enum Problem {
    Hdf5(Error),
    Layout(String),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self::Hdf5(error)
    }
}

fn read(path: &Path) -> Result<(KerasModel, StateDict), Problem> {
    let options = OpenOptions::default().with_max_chunk_bytes(LARGEST_CHUNK);
    // Reads, no memory map: a file that shrinks meanwhile is an error then, not a signal.
    let storage = Arc::new(FileStorage::open(path)?);
    let root = Hdf5File::from_storage_with_options(storage, options)?.root_group()?;
    let (group, names) = match strings(&root, "layer_names")? {
        Some(names) => (root, names),
        None => model_weights(&root)?,
    };
    let mut model = KerasModel::default();
    let mut tensors = Vec::new();
    for name in names {
        let layer = descend(&group, &name)?;
        let first = tensors.len();
        for weight in strings(&layer, "weight_names")?.unwrap_or_default() {
            tensors.push(stored(&layer, &name, &weight)?);
        }
        if tensors.len() > first {
            model.layers.push(KerasLayer {
                name: name.clone(),
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

fn model_weights(root: &Group) -> Result<(Group, Vec<String>), Problem> {
    let (groups, _) = root.member_names()?;
    let has = |name: &str| groups.iter().any(|group| group == name);
    if has("model_weights") {
        let group = root.group("model_weights")?;
        if let Some(names) = strings(&group, "layer_names")? {
            return Ok((group, names));
        }
    }
    let reason = match has("layers") || has("_layer_checkpoint_dependencies") {
        true => KERAS_3,
        false => "it is HDF5, but has no layer_names as Keras' files of weights do",
    };
    Err(Problem::Layout(reason.to_owned()))
}

/// What to do with a file in Keras 3's own layout.
pub(super) const KERAS_3: &str = "it is in the layout of Keras 3, where layers have no names to go by; \
    load it in Keras and convert it with model.save(\"model.h5\"), which writes the legacy HDF5 layout";

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
    let dataset = group.dataset(dataset)?;
    let shape = dataset
        .shape()
        .iter()
        .map(|&extent| usize::try_from(extent).map_err(|_| Error::InvalidData(path.to_owned())));
    // Files of Keras 1 have names such as `conv1_W_1:0`, later ones `conv1/kernel:0`.
    let name = match path.strip_prefix(layer_name) {
        Some(rest) if rest.starts_with('/') => path.to_owned(),
        _ => format!("{layer_name}/{path}"),
    };
    Ok(StoredTensor {
        name,
        shape: shape.collect::<Result<_, _>>()?,
        numbers: numbers(dataset.dtype()),
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
fn strings(group: &Group, name: &str) -> Result<Option<Vec<String>>, Error> {
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

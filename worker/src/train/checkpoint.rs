//! Checkpoint files: safetensors, as Python's `safetensors` reads them too.
//!
//! - Weights: one f32 tensor per parameter and running statistic, named by its path in the network
//!   (`head.hidden1.dense.weight`), in burn's layouts (a dense kernel is `[in, out]`, a convolution's `[out, in, h, w]`).
//! - Training state: `adam.m.<path>` and `adam.v.<path>` of each trainable parameter, and the metadata entry
//!   [`METADATA`] with counters as JSON. With the weights and the spec it is all that a resume needs: random numbers
//!   are functions of (seed, epoch, step).
//!
//! The same state makes the same bytes. (That is why the metadata is one entry: safetensors writes several in random order.)

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};
use quartet_shared::checkpoint::{Blob, Checksum};
use quartet_shared::ids::Epoch;
use safetensors::tensor::View;
use safetensors::{Dtype, SafeTensorError, SafeTensors};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::adam::{Adam, Moments};
use crate::models::Network;

/// The key of the training state's metadata.
pub const METADATA: &str = "quartet";

/// Version of the training state's contents.
const FORMAT: u32 = 1;

const _: () = assert!(
    cfg!(target_endian = "little"),
    "safetensors are little endian, as tensors in memory are here"
);

/// Why a checkpoint cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: SafeTensorError,
    },
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file is not in the safetensors format.
    #[error("{path} is not a safetensors file")]
    Format {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: SafeTensorError,
    },
    /// The file is of another network or of another run.
    #[error("{path} does not fit: {reason}")]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// What is wrong, such as `tensor head.hidden1.dense.weight is missing`.
        reason: String,
    },
}

/// A file with the size and checksum of its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenFile {
    /// The file.
    pub path: PathBuf,
    /// Size and checksum.
    pub blob: Blob,
}

/// The two files of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointFiles {
    /// The weights.
    pub weights: WrittenFile,
    /// The training state.
    pub training_state: WrittenFile,
}

/// The state of training at the end of an epoch.
///
/// It shares its tensors with the training that goes on, so that making one costs next to nothing; it is meant to be
/// written on another thread.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub(super) network: Network,
    pub(super) adam: Adam,
    pub(super) seed: u64,
    pub(super) epoch: Epoch,
}

impl Snapshot {
    /// Writes `<stem>.safetensors` and `<stem>.state.safetensors` to `folder`, each whole or not at all.
    ///
    /// # Errors
    /// The files cannot be written or read back.
    pub fn write(self, folder: &Path, stem: &str) -> Result<CheckpointFiles, CheckpointError> {
        let weights = save_weights(&self.network, &folder.join(format!("{stem}.safetensors")))?;
        let path = folder.join(format!("{stem}.state.safetensors"));
        let training_state = save_training_state(&self.adam, self.seed, self.epoch, &path)?;
        Ok(CheckpointFiles {
            weights,
            training_state,
        })
    }
}

/// Writes all parameters and running statistics of `module`.
///
/// # Errors
/// The file cannot be written or read back.
pub fn save_weights<M: Module>(module: &M, path: &Path) -> Result<WrittenFile, CheckpointError> {
    let mut collect = Collect::default();
    // A plain copy also takes in the last update of the running statistics, which burn keeps aside.
    module.valid().visit(&mut collect);
    save(collect.tensors, None, path)
}

/// Puts the weights of a file into `module`, on the devices of its parameters.
///
/// # Errors
/// The file cannot be read, or its tensors are not exactly those of `module`.
pub fn load_weights<M: Module>(module: M, path: &Path) -> Result<M, CheckpointError> {
    let bytes = read(path)?;
    let (_, tensors) = parse(&bytes, path)?;
    let mut apply = Apply {
        tensors,
        path: Vec::new(),
        problem: None,
    };
    let module = module.map(&mut apply);
    let extra = apply
        .tensors
        .keys()
        .next()
        .map(|name| format!("tensor {name} is not one of this network's"));
    match apply.problem.or(extra) {
        Some(reason) => Err(mismatch(path, reason)),
        None => Ok(module),
    }
}

/// Counters of the training state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct StateMetadata {
    format: u32,
    /// Seed of the run.
    seed: u64,
    /// The epoch that this is the end of.
    epoch: Epoch,
    /// Updates of the optimizer, which its learning rate decays with.
    updates: u64,
}

fn save_training_state(
    adam: &Adam,
    seed: u64,
    epoch: Epoch,
    path: &Path,
) -> Result<WrittenFile, CheckpointError> {
    let mut tensors = BTreeMap::new();
    for (name, Moments { shape, m, v }) in &adam.moments {
        for (kind, values) in [("m", m), ("v", v)] {
            let stored = Stored {
                shape: shape.clone(),
                values: values.clone(),
            };
            tensors.insert(format!("adam.{kind}.{name}"), stored);
        }
    }
    let metadata = StateMetadata {
        format: FORMAT,
        seed,
        epoch,
        updates: adam.updates,
    };
    let json = serde_json::to_string(&metadata).expect("numbers can be written as JSON");
    save(
        tensors,
        Some(HashMap::from([(METADATA.to_owned(), json)])),
        path,
    )
}

/// Puts the training state of a file into a new `adam`.
///
/// # Errors
/// The file cannot be read, is of another seed or epoch, or its tensors are not exactly those of `adam`.
pub(super) fn load_training_state(
    adam: &mut Adam,
    seed: u64,
    epoch: Epoch,
    path: &Path,
) -> Result<(), CheckpointError> {
    let bytes = read(path)?;
    let (metadata, mut tensors) = parse(&bytes, path)?;
    let json = metadata
        .get(METADATA)
        .ok_or_else(|| mismatch(path, "it has no counters".to_owned()))?;
    let found: StateMetadata =
        serde_json::from_str(json).map_err(|e| mismatch(path, format!("its counters: {e}")))?;
    let expected = StateMetadata {
        format: FORMAT,
        seed,
        epoch,
        updates: found.updates,
    };
    if found != expected {
        return Err(mismatch(
            path,
            format!("it is of {found:?} instead of {expected:?}"),
        ));
    }
    for (name, moments) in &mut adam.moments {
        for (kind, values) in [("m", &mut moments.m), ("v", &mut moments.v)] {
            let data = take(&mut tensors, &format!("adam.{kind}.{name}"), &moments.shape);
            let data = data.map_err(|reason| mismatch(path, reason))?;
            *values =
                Tensor::from_data(TensorData::new(data, [values.dims()[0]]), &values.device());
        }
    }
    if let Some(name) = tensors.keys().next() {
        return Err(mismatch(
            path,
            format!("tensor {name} belongs to no parameter"),
        ));
    }
    adam.updates = found.updates;
    Ok(())
}

/// A tensor that is read from its device when its turn comes.
struct Stored {
    shape: Vec<usize>,
    values: Tensor<1>,
}

impl View for Stored {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned(
            self.values
                .clone()
                .into_data_as::<f32>()
                .into_bytes()
                .to_vec(),
        )
    }

    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * size_of::<f32>()
    }
}

#[derive(Default)]
struct Collect {
    path: Vec<String>,
    tensors: BTreeMap<String, Stored>,
}

impl ModuleVisitor for Collect {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        let shape = value.dims().to_vec();
        self.tensors.insert(
            self.path.join("."),
            Stored {
                shape,
                values: value.reshape([-1]),
            },
        );
    }
}

type Tensors<'a> = BTreeMap<String, safetensors::tensor::TensorView<'a>>;

struct Apply<'a> {
    tensors: Tensors<'a>,
    path: Vec<String>,
    problem: Option<String>,
}

impl ModuleMapper for Apply<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (shape, device) = (param.lazy_shape(), param.lazy_device());
        let trained = param.is_require_grad();
        match take(&mut self.tensors, &self.path.join("."), &shape) {
            Ok(data) => {
                let (id, _, mapper) = param.consume();
                let value = Tensor::<D>::from_data(TensorData::new(data, shape), &device);
                Param::from_mapped_value(id, value.set_require_grad(trained), mapper)
            }
            Err(reason) => {
                self.problem.get_or_insert(reason);
                param
            }
        }
    }
}

/// Removes a tensor and checks that it is f32 of this shape.
fn take(tensors: &mut Tensors<'_>, name: &str, shape: &[usize]) -> Result<Vec<f32>, String> {
    let tensor = tensors
        .remove(name)
        .ok_or_else(|| format!("tensor {name} is missing"))?;
    if tensor.shape() != shape {
        return Err(format!(
            "tensor {name} has shape {:?} instead of {shape:?}",
            tensor.shape()
        ));
    }
    if tensor.dtype() != Dtype::F32 {
        return Err(format!(
            "tensor {name} is {:?} instead of F32",
            tensor.dtype()
        ));
    }
    let value = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().expect("chunks of four"));
    Ok(tensor.data().chunks_exact(4).map(value).collect())
}

fn mismatch(path: &Path, reason: String) -> CheckpointError {
    CheckpointError::Mismatch {
        path: path.to_owned(),
        reason,
    }
}

/// Writes to a temporary file beside `path`, renames it, and reads it back for its checksum.
fn save(
    tensors: BTreeMap<String, Stored>,
    metadata: Option<HashMap<String, String>>,
    path: &Path,
) -> Result<WrittenFile, CheckpointError> {
    safetensors::serialize_to_file(tensors, metadata, path).map_err(|source| {
        CheckpointError::Write {
            path: path.to_owned(),
            source,
        }
    })?;
    let blob = checksum(path).map_err(|source| CheckpointError::Read {
        path: path.to_owned(),
        source,
    })?;
    Ok(WrittenFile {
        path: path.to_owned(),
        blob,
    })
}

/// Size and checksum of a file.
pub(crate) fn checksum(path: &Path) -> io::Result<Blob> {
    let mut file = File::open(path)?;
    let (mut hash, mut size) = (Sha256::new(), 0);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok(Blob {
                size,
                sha256: Checksum(hash.finalize().into()),
            });
        }
        hash.update(&buffer[..n]);
        size += n as u64;
    }
}

fn read(path: &Path) -> Result<Vec<u8>, CheckpointError> {
    std::fs::read(path).map_err(|source| CheckpointError::Read {
        path: path.to_owned(),
        source,
    })
}

fn parse<'a>(
    bytes: &'a [u8],
    path: &Path,
) -> Result<(HashMap<String, String>, Tensors<'a>), CheckpointError> {
    let format = |source| CheckpointError::Format {
        path: path.to_owned(),
        source,
    };
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(format)?;
    let tensors = SafeTensors::deserialize(bytes).map_err(format)?;
    Ok((
        metadata.metadata().clone().unwrap_or_default(),
        tensors.tensors().into_iter().collect(),
    ))
}

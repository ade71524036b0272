//! Safetensors files of f32 tensors, with one metadata entry of ours.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use quartet_shared::checkpoint::{Blob, Checksum};
use safetensors::tensor::{TensorView, View};
use safetensors::{Dtype, SafeTensorError, SafeTensors};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::models::params::Parameter;

/// The key of the metadata, which is one JSON object: safetensors writes several entries in random order, and the same
/// state is to make the same bytes.
pub const METADATA: &str = "quartet";

const _: () = assert!(
    cfg!(target_endian = "little"),
    "safetensors are little endian, as tensors in memory are here"
);

/// Why a checkpoint cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file cannot be written.
    #[error("cannot write {}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file is not in the safetensors format.
    #[error("{} is not a safetensors file", .path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: SafeTensorError,
    },
    /// The file is of another network or of another run.
    #[error("{} does not fit: {reason}", .path.display())]
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

/// Tensors on their way to a file: each is read from its device when its turn comes.
impl View for Parameter {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let values = self.values.clone().into_data_as::<f32>();
        Cow::Owned(values.into_bytes().to_vec())
    }

    fn data_len(&self) -> usize {
        self.shape.iter().product::<usize>() * size_of::<f32>()
    }
}

/// Writes to a temporary file beside `path`, renames it, and reads it back for its checksum.
pub(super) fn save(
    tensors: BTreeMap<String, Parameter>,
    metadata: &impl Serialize,
    path: &Path,
) -> Result<WrittenFile, CheckpointError> {
    let json = serde_json::to_string(metadata).expect("the metadata can be written as JSON");
    let metadata = HashMap::from([(METADATA.to_owned(), json)]);
    safetensors::serialize_to_file(tensors, Some(metadata), path).map_err(|error| {
        let source = match error {
            SafeTensorError::IoError(error) => error,
            error => io::Error::other(error),
        };
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

/// The bytes of a file.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, CheckpointError> {
    std::fs::read(path).map_err(|source| CheckpointError::Read {
        path: path.to_owned(),
        source,
    })
}

/// The tensors of a file that are still to be taken.
pub(super) struct Tensors<'a> {
    path: &'a Path,
    tensors: BTreeMap<String, TensorView<'a>>,
}

impl<'a> Tensors<'a> {
    /// The tensors and the metadata in the bytes of a file.
    pub(super) fn parse<M: DeserializeOwned>(
        bytes: &'a [u8],
        path: &'a Path,
    ) -> Result<(M, Self), CheckpointError> {
        let format = |source| CheckpointError::Format {
            path: path.to_owned(),
            source,
        };
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(format)?;
        let tensors = SafeTensors::deserialize(bytes).map_err(format)?;
        let tensors = Self {
            path,
            tensors: tensors.tensors().into_iter().collect(),
        };
        let json = header.metadata().as_ref().and_then(|m| m.get(METADATA));
        let json = json.ok_or_else(|| tensors.mismatch("it is no checkpoint of Quartet's"))?;
        let metadata = serde_json::from_str(json)
            .map_err(|e| tensors.mismatch(&format!("its metadata: {e}")))?;
        Ok((metadata, tensors))
    }

    /// Removes a tensor, which must be f32 of this shape.
    pub(super) fn take(
        &mut self,
        name: &str,
        shape: &[usize],
    ) -> Result<Vec<f32>, CheckpointError> {
        let Some(tensor) = self.tensors.remove(name) else {
            return Err(self.mismatch(&format!("tensor {name} is missing")));
        };
        if tensor.shape() != shape {
            let found = tensor.shape();
            let reason = format!("tensor {name} has shape {found:?} instead of {shape:?}");
            return Err(self.mismatch(&reason));
        }
        if tensor.dtype() != Dtype::F32 {
            let reason = format!("tensor {name} is {:?} instead of F32", tensor.dtype());
            return Err(self.mismatch(&reason));
        }
        let value = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().expect("chunks of four"));
        Ok(tensor.data().chunks_exact(4).map(value).collect())
    }

    /// Fails if a tensor was not taken.
    pub(super) fn finish(self) -> Result<(), CheckpointError> {
        match self.tensors.keys().next() {
            Some(name) => {
                Err(self.mismatch(&format!("tensor {name} is not one of this network's")))
            }
            None => Ok(()),
        }
    }

    pub(super) fn mismatch(&self, reason: &str) -> CheckpointError {
        mismatch(self.path, reason)
    }
}

pub(crate) fn mismatch(path: &Path, reason: &str) -> CheckpointError {
    CheckpointError::Mismatch {
        path: path.to_owned(),
        reason: reason.to_owned(),
    }
}

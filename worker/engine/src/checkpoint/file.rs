//! Safetensors files of f32 tensors, with one metadata entry of ours.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;

use quartet_agent::executor::{SnapshotError, WrittenFile};
use quartet_shared::blob::Blob;
use safetensors::tensor::{TensorView, View};
use safetensors::{Dtype, SafeTensorError, SafeTensors};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::{CheckpointError, mismatch};
use crate::models::parameters::Parameter;

/// The key of the metadata, which is one JSON object: safetensors writes several entries in random order, and
/// the same state is to make the same bytes.
pub const METADATA: &str = "quartet";

const _: () = assert!(
    cfg!(target_endian = "little"),
    "safetensors are little endian, as tensors in memory are here"
);

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
) -> Result<WrittenFile, SnapshotError> {
    let failed = |action, source| SnapshotError {
        action,
        path: path.to_owned(),
        source,
    };
    let json = serde_json::to_string(metadata).expect("the metadata can be written as JSON");
    let metadata = HashMap::from([(METADATA.to_owned(), json)]);
    safetensors::serialize_to_file(tensors, Some(metadata), path).map_err(|error| match error {
        SafeTensorError::IoError(error) => failed("write", error),
        error => failed("write", io::Error::other(error)),
    })?;
    let blob = Blob::of_file(path).map_err(|error| failed("read", error))?;
    Ok(WrittenFile {
        path: path.to_owned(),
        blob,
    })
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

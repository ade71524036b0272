//! PyTorch's own files, and safetensors.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use pytorch_reader::{DType, PytorchReader};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use super::key_mapping::MARKS;
use super::state_dict::{Numbers, Place, StateDict, StoredTensor};

/// Largest header of a safetensors file, as in the `safetensors` crate.
const LARGEST_HEADER: u64 = 100_000_000;

/// Keys under which training scripts keep the state dict of the model, the one to be preferred first.
const WRAPPERS: [&str; 4] = ["state_dict.", "model.", "model_state_dict.", "net."];

/// What `DataParallel` and `torch.compile` put before every name.
const PARALLEL: [&str; 2] = ["module.", "_orig_mod."];

/// The tensors of a file that `torch.save` wrote. No code in it is run: its pickle is only looked at.
///
/// # Errors
/// What is wrong.
pub(super) fn open_pytorch(path: &Path) -> Result<StateDict, String> {
    let reader = PytorchReader::new(path).map_err(|error| error.to_string())?;
    let tensors: BTreeMap<String, pytorch_reader::Tensor> =
        reader.into_tensors().into_iter().collect();
    if tensors.is_empty() {
        return Err("it holds no tensors".to_owned());
    }
    let tensors = tensors.into_iter().map(|(name, tensor)| StoredTensor {
        name,
        shape: tensor.shape().to_vec(),
        numbers: match tensor.dtype() {
            DType::F16 => Numbers::F16,
            DType::BF16 => Numbers::Bf16,
            DType::F32 => Numbers::F32,
            DType::F64 => Numbers::F64,
            other => Numbers::Other(format!("{other:?}")),
        },
        place: Place::Pytorch(tensor),
    });
    unwrapped(tensors.collect())
}

/// The state dict of the backbone, by its own names: without the key that it is kept under, and without the
/// attribute that it is in a larger network.
fn unwrapped(mut tensors: StateDict) -> Result<StateDict, String> {
    for wrapper in WRAPPERS {
        if tensors
            .iter()
            .any(|tensor| tensor.name.starts_with(wrapper))
        {
            tensors.retain(|tensor| tensor.name.starts_with(wrapper));
            strip(&mut tensors, wrapper);
        }
    }
    while let Some(prefix) = PARALLEL
        .into_iter()
        .find(|prefix| tensors.iter().all(|tensor| tensor.name.starts_with(prefix)))
    {
        strip(&mut tensors, prefix);
    }
    let prefixes: BTreeSet<&str> = tensors
        .iter()
        .filter_map(|tensor| prefix(&tensor.name))
        .collect();
    let prefix = match prefixes.into_iter().collect::<Vec<_>>()[..] {
        [] | ["", ..] => return Ok(tensors),
        [prefix] => prefix.to_owned(),
        [first, second, ..] => {
            return Err(format!(
                "it holds several networks, such as {first:?} and {second:?}: save one of them by itself, \
                 as torch.save(network.state_dict(), \"x.pth\") does"
            ));
        }
    };
    tensors.retain(|tensor| tensor.name.starts_with(&prefix));
    strip(&mut tensors, &prefix);
    Ok(tensors)
}

/// What stands before a name of which it is clear how it begins.
fn prefix(name: &str) -> Option<&str> {
    let begins = |at: usize| MARKS.iter().any(|(mark, _)| name[at..].starts_with(mark));
    let after_dots = name.match_indices('.').map(|(dot, _)| dot + 1);
    let mut places = std::iter::once(0).chain(after_dots);
    places.find(|&at| begins(at)).map(|at| &name[..at])
}

fn strip(tensors: &mut [StoredTensor], prefix: &str) {
    for tensor in tensors {
        tensor.name.drain(..prefix.len());
    }
}

/// Tensors and metadata of a safetensors file.
///
/// # Errors
/// What is wrong.
pub(super) fn open_safetensors(
    path: &Path,
) -> Result<(StateDict, BTreeMap<String, String>), String> {
    let (header, data_start, data_length) = header(path).map_err(|error| error.to_string())?;
    let metadata: Metadata = serde_json::from_slice(&header)
        .map_err(|error| format!("its header of safetensors is wrong: {error}"))?;
    if metadata.data_len() as u64 != data_length {
        let expected = metadata.data_len();
        return Err(format!(
            "it is cut short or has more than its tensors: {data_length} bytes of data instead of {expected}"
        ));
    }
    let tensors: BTreeMap<String, &TensorInfo> = metadata.tensors().into_iter().collect();
    let tensors = tensors.into_iter().map(|(name, info)| StoredTensor {
        name,
        shape: info.shape.clone(),
        numbers: match info.dtype {
            Dtype::F16 => Numbers::F16,
            Dtype::BF16 => Numbers::Bf16,
            Dtype::F32 => Numbers::F32,
            Dtype::F64 => Numbers::F64,
            other => Numbers::Other(format!("{other:?}")),
        },
        place: Place::Plain(data_start + info.data_offsets.0 as u64),
    });
    let entries = metadata.metadata().clone().unwrap_or_default();
    Ok((unwrapped(tensors.collect())?, entries.into_iter().collect()))
}

/// The header, and where the data after it begins and how long it is.
fn header(path: &Path) -> io::Result<(Vec<u8>, u64, u64)> {
    let invalid = |reason: String| io::Error::new(io::ErrorKind::InvalidData, reason);
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut bytes = [0; 8];
    file.read_exact(&mut bytes)?;
    let header = u64::from_le_bytes(bytes);
    let data_start = header.saturating_add(8);
    if header > LARGEST_HEADER || data_start > length {
        return Err(invalid(format!(
            "its header of safetensors claims {header} bytes in a file of {length}"
        )));
    }
    let mut buffer = vec![0; header as usize];
    file.read_exact(&mut buffer)?;
    Ok((buffer, data_start, length - data_start))
}

//! The tensors of a file, whatever its format.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use burn::tensor::{bf16, f16};

/// The tensors in the order of the file, or by name.
pub(super) type StateDict = Vec<StoredTensor>;

/// A tensor of which only name, shape and type have been read.
#[derive(Clone)]
pub(super) struct StoredTensor {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) numbers: Numbers,
    pub(super) place: Place,
}

/// What a tensor consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Numbers {
    F16,
    Bf16,
    F32,
    F64,
    /// No floats.
    Other(String),
}

/// Where the bytes are.
#[derive(Clone)]
pub(super) enum Place {
    Hdf5(Box<hdf5_reader::Dataset>),
    Pytorch(pytorch_reader::Tensor),
    /// At this offset in the file.
    Plain(u64),
}

impl Numbers {
    /// Bytes of one number.
    fn size(&self) -> usize {
        match self {
            Self::F16 | Self::Bf16 => 2,
            Self::F32 => 4,
            Self::F64 | Self::Other(_) => 8,
        }
    }

    /// # Panics
    /// If the number of bytes is not a multiple of the size.
    fn decode(&self, bytes: &[u8]) -> Vec<f32> {
        fn each<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> f32) -> Vec<f32> {
            let (chunks, rest) = bytes.as_chunks();
            assert!(rest.is_empty(), "whole numbers only");
            chunks.iter().map(|chunk| number(*chunk)).collect()
        }
        // HDF5 and PyTorch give the machine's order, which is safetensors' order on the machines that this
        // runs on.
        match self {
            Self::F16 => each(bytes, |bytes| f16::from_ne_bytes(bytes).to_f32()),
            Self::Bf16 => each(bytes, |bytes| bf16::from_ne_bytes(bytes).to_f32()),
            Self::F32 => each(bytes, f32::from_ne_bytes),
            Self::F64 => each(bytes, |bytes| f64::from_ne_bytes(bytes) as f32),
            Self::Other(_) => Vec::new(),
        }
    }
}

impl StoredTensor {
    /// The numbers, row-major. To be called only where the shape is known to be the right one: it decides how
    /// much is allocated.
    ///
    /// # Errors
    /// What is wrong.
    pub(super) fn read(&self, path: &Path) -> Result<Vec<f32>, String> {
        if let Numbers::Other(kind) = &self.numbers {
            return Err(format!("it holds {kind}"));
        }
        let length = self.shape.iter().product::<usize>() * self.numbers.size();
        let bytes = match &self.place {
            Place::Hdf5(dataset) => dataset.read_native_bytes().map_err(|e| e.to_string())?,
            Place::Pytorch(tensor) => tensor.read().map_err(|e| e.to_string())?,
            Place::Plain(offset) => {
                read_at(path, *offset, length).map_err(|error| error.to_string())?
            }
        };
        if bytes.len() == length {
            Ok(self.numbers.decode(&bytes))
        } else {
            Err(format!("it has {} bytes instead of {length}", bytes.len()))
        }
    }
}

fn read_at(path: &Path, offset: u64, length: usize) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = vec![0; length];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_float_becomes_f32() {
        let values = [1.5f32, -2.0, f32::NAN];
        let same = |numbers: Numbers, bytes: Vec<u8>| {
            let found = numbers.decode(&bytes);
            assert_eq!(found[..2], values[..2], "{numbers:?}");
            assert!(found[2].is_nan(), "{numbers:?}");
        };
        let bytes = |number: fn(f32) -> Vec<u8>| values.map(number).concat();
        let half = bytes(|v| f16::from_f32(v).to_ne_bytes().to_vec());
        same(Numbers::F16, half);
        let brain = bytes(|v| bf16::from_f32(v).to_ne_bytes().to_vec());
        same(Numbers::Bf16, brain);
        same(Numbers::F32, bytes(|v| v.to_ne_bytes().to_vec()));
        same(Numbers::F64, bytes(|v| f64::from(v).to_ne_bytes().to_vec()));
    }
}

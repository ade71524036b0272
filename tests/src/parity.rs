//! References that Keras, timm, numpy and scikit-learn made, for the tests that compare with them.

pub mod operations;
pub mod training;

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
pub use quartet_engine::devices::cpus;
use quartet_shared::spec::Backbone;
use safetensors::{Dtype, SafeTensors};
use serde::de::DeserializeOwned;

/// The folder of references.
///
/// # Panics
/// If the environment variable `QUARTET_PARITY` does not name one.
#[must_use]
pub fn references() -> PathBuf {
    let folder = std::env::var_os("QUARTET_PARITY");
    let folder = PathBuf::from(
        folder
            .expect("QUARTET_PARITY names the folder of references, which tests/parity/run makes"),
    );
    assert!(folder.is_dir(), "{} is no folder", folder.display());
    folder
}

/// A Python that has the libraries.
///
/// # Panics
/// If the environment variable `QUARTET_PYTHON` does not name one.
#[must_use]
pub fn python() -> PathBuf {
    let python = std::env::var_os("QUARTET_PYTHON");
    PathBuf::from(
        python
            .expect("QUARTET_PYTHON names a Python with the libraries, as tests/parity/run has it"),
    )
}

/// timm's model of the same structure, with the weights `imagenet`.
///
/// # Panics
/// If these weights are not timm's.
#[must_use]
pub fn timm_name(backbone: Backbone) -> &'static str {
    let repository = backbone.facts().imagenet;
    let name = repository.strip_prefix("timm/");
    name.expect("the weights are timm's")
}

/// The value of a JSON file.
///
/// # Panics
/// If it cannot be read.
#[must_use]
pub fn json<T: DeserializeOwned>(path: &Path) -> T {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// All values of a tensor in order.
///
/// # Panics
/// If the tensor has no numbers of 32 bits.
#[must_use]
pub fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor
        .into_data_as::<f32>()
        .try_to_vec()
        .expect("converted")
}

/// Largest difference relative to the largest value of the reference. NaN if any value is.
///
/// # Panics
/// If there are not as many values.
#[must_use]
pub fn relative(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let largest = |values: &mut dyn Iterator<Item = f64>| {
        values.fold(0.0, |largest: f64, value| {
            match value.is_nan() || largest.is_nan() {
                true => f64::NAN,
                false => largest.max(value.abs()),
            }
        })
    };
    let pairs = found.iter().zip(expected);
    let difference = largest(&mut pairs.map(|(a, b)| a - b));
    difference / largest(&mut expected.iter().copied()).max(f64::MIN_POSITIVE)
}

/// The tensors of a safetensors file.
#[derive(Debug)]
pub struct Tensors {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Tensors {
    /// Reads a file.
    ///
    /// # Panics
    /// If it cannot be read.
    #[must_use]
    pub fn read(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Self {
            path: path.to_owned(),
            bytes,
        }
    }

    fn parse(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.bytes)
            .unwrap_or_else(|e| panic!("{}: {e}", self.path.display()))
    }

    /// The names of all tensors.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.parse()
            .names()
            .into_iter()
            .map(str::to_owned)
            .collect()
    }

    /// A tensor's shape.
    #[must_use]
    pub fn shape(&self, name: &str) -> Vec<usize> {
        self.tensor(name).0
    }

    fn tensor(&self, name: &str) -> (Vec<usize>, Dtype, Vec<u8>) {
        let tensors = self.parse();
        let tensor = tensors
            .tensor(name)
            .unwrap_or_else(|e| panic!("{}: {name}: {e}", self.path.display()));
        (
            tensor.shape().to_vec(),
            tensor.dtype(),
            tensor.data().to_vec(),
        )
    }

    /// The values of a tensor of floats.
    #[must_use]
    pub fn f64(&self, name: &str) -> Vec<f64> {
        let (_, dtype, data) = self.tensor(name);
        match dtype {
            Dtype::F32 => data
                .chunks_exact(4)
                .map(|b| f64::from(f32::from_le_bytes(b.try_into().expect("four"))))
                .collect(),
            Dtype::F64 => data
                .chunks_exact(8)
                .map(|b| f64::from_le_bytes(b.try_into().expect("eight")))
                .collect(),
            other => panic!("{name} is {other:?}"),
        }
    }

    /// The values of a tensor of floats, rounded to 32 bits.
    #[must_use]
    pub fn f32(&self, name: &str) -> Vec<f32> {
        self.f64(name)
            .into_iter()
            .map(|value| value as f32)
            .collect()
    }

    /// The values of a tensor of 64-bit integers.
    #[must_use]
    pub fn i64(&self, name: &str) -> Vec<i64> {
        let (_, dtype, data) = self.tensor(name);
        assert_eq!(dtype, Dtype::I64, "{name}");
        data.chunks_exact(8)
            .map(|b| i64::from_le_bytes(b.try_into().expect("eight")))
            .collect()
    }

    /// The values of a tensor of bytes.
    #[must_use]
    pub fn u8(&self, name: &str) -> Vec<u8> {
        let (_, dtype, data) = self.tensor(name);
        assert_eq!(dtype, Dtype::U8, "{name}");
        data
    }

    /// A tensor of floats on a device.
    #[must_use]
    pub fn on<const D: usize>(&self, name: &str, device: &Device) -> Tensor<D> {
        Tensor::from_data(TensorData::new(self.f32(name), self.shape(name)), device)
    }
}

//! No file makes the program panic, allocate what it claims, or run what it says.

use std::path::Path;

use burn::tensor::Device;
use quartet_shared::spec::Backbone;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::files::{
    Style, keras_file, keras_layers, legacy_file, safetensors_file, torch_tensors, write, zip_file,
};
use super::{config, network, refusal};
use crate::models::{Network, NetworkConfig, Variant};
use crate::weights::WeightsFile;

fn smallest() -> NetworkConfig {
    NetworkConfig {
        width: 0.01,
        ..config(Backbone::Vgg16, Variant::Keras)
    }
}

/// Reads a file as far as possible. A refusal names the file.
fn attempt(path: &Path, network: &Network) {
    let file = WeightsFile::open(path);
    let loaded = file.and_then(|file| {
        file.variant(Backbone::Vgg16)?;
        file.load(network.clone())
    });
    if let Err(error) = loaded {
        let message = error.to_string();
        assert!(message.contains("damaged"), "{message}");
    }
}

#[test]
fn damaged_files_are_refused_or_read_but_never_panic() {
    let folder = tempfile::tempdir().unwrap();
    let config = smallest();
    let network = network(&config, 1);
    let (layers, tensors) = (keras_layers(&network), torch_tensors(&network));
    let variable = Style {
        variable: true,
        ..Style::default()
    };
    let files = [
        keras_file(&layers, Style::default()),
        keras_file(&layers, variable),
        safetensors_file(&tensors),
        legacy_file(&tensors, "state_dict"),
        zip_file(&tensors, ""),
    ];
    let target = config.init(&Device::flex(), 2);
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    for bytes in files {
        let below = |rng: &mut ChaCha8Rng, limit: usize| (rng.next_u64() % limit as u64) as usize;
        for _ in 0..150 {
            let cut = below(&mut rng, bytes.len());
            attempt(&write(folder.path(), "damaged", &bytes[..cut]), &target);
        }
        // Headers lie at both ends; most bytes are numbers, where any value is fine.
        for round in 0..450 {
            let mut bytes = bytes.clone();
            let reach = match round % 3 {
                0 => bytes.len(),
                _ => 3000.min(bytes.len()),
            };
            for _ in 0..=round % 4 {
                let offset = match round % 3 {
                    2 => bytes.len() - 1 - below(&mut rng, reach),
                    _ => below(&mut rng, reach),
                };
                bytes[offset] = match round % 5 {
                    0 => 0xff,
                    1 => 0,
                    _ => rng.next_u32() as u8,
                };
            }
            attempt(&write(folder.path(), "damaged", &bytes), &target);
        }
    }
}

#[test]
fn files_of_other_kinds_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let long = b"<!DOCTYPE html><html>not found</html>".repeat(100);
    let keras_3 = [&b"PK\x03\x04"[..], &[0; 26], b"metadata.json{}"].concat();
    let absurd = [&u64::MAX.to_le_bytes()[..], b"{\"a\":"].concat();
    let overflow =
        br#"{"a":{"dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,0]}}"#;
    let overflow = [&(overflow.len() as u64).to_le_bytes()[..], overflow].concat();
    let cases: [(&[u8], &str); 6] = [
        (b"", "neither HDF5 of Keras nor safetensors nor"),
        (&long, "neither HDF5 of Keras nor safetensors nor"),
        (&keras_3, "the layout of Keras 3"),
        (&absurd, "claims 18446744073709551615 bytes in a file of 13"),
        (&overflow, "overflow"),
        (b"\x89HDF\r\n\x1a\n", "not a usable file of weights"),
    ];
    for (bytes, expected) in cases {
        let path = write(folder.path(), "file.h5", bytes);
        let message = refusal(&path, &smallest());
        assert!(message.contains(expected), "{message}");
    }
    let missing = folder.path().join("missing.h5");
    assert!(refusal(&missing, &smallest()).starts_with("cannot read "));
}

#[test]
fn hdf5_of_something_else_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = hdf5_pure::FileBuilder::new();
    file.create_dataset("temperature").with_f32_data(&[1.0]);
    let path = write(folder.path(), "other.h5", &file.finish().unwrap());
    assert!(refusal(&path, &smallest()).contains("has no layer_names"));

    let mut file = hdf5_pure::FileBuilder::new();
    let layers = file.create_group("layers").finish();
    file.add_group(layers);
    let path = write(folder.path(), "new.weights.h5", &file.finish().unwrap());
    assert!(refusal(&path, &smallest()).contains("layout of Keras 3"));
}

#[test]
fn code_in_a_pickle_is_not_run() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("EXECUTED");
    let code = format!("cposix\nsystem\n(S'touch {}'\ntR", mark.display());
    let bare = [b"\x80\x02", code.as_bytes(), b"."].concat();
    let tensors = torch_tensors(&network(&smallest(), 1));
    // In place of an entry's value, after the dictionary begins.
    let beside = legacy_file(&tensors[..1], "");
    let begin = beside.windows(3).rposition(|w| w == b"\x80\x02}").unwrap() + 3;
    let entry = [b"X\x04\x00\x00\x00code", code.as_bytes(), b"s"].concat();
    let beside = [&beside[..begin], &entry, &beside[begin..]].concat();
    for bytes in [bare, beside] {
        let path = write(folder.path(), "code.pth", &bytes);
        refusal(&path, &smallest());
        assert!(!mark.exists());
    }
}

//! Files of other kinds are refused, and no file has its code run. Damaged files are in `mutated`.

use burn::tensor::Device;
use quartet_shared::spec::Backbone;

use super::files::{legacy_file, torch_tensors, write};
use super::{config, network, refusal};
use crate::checkpoint::{load_network, load_run, save_network};
use crate::models::{NetworkConfig, Variant};

pub(super) fn smallest() -> NetworkConfig {
    NetworkConfig {
        width: 0.01,
        ..config(Backbone::Vgg16, Variant::Keras)
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
        (b"", "neither of Keras (HDF5, .keras) nor safetensors nor"),
        (&long, "neither of Keras (HDF5, .keras) nor safetensors nor"),
        (&keras_3, "as a zip archive: "),
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
    assert!(refusal(&path, &smallest()).contains("has neither layer_names"));

    for group in ["layers", "_layer_checkpoint_dependencies"] {
        let mut file = hdf5_pure::FileBuilder::new();
        let layers = file.create_group(group).finish();
        file.add_group(layers);
        let path = write(folder.path(), "new.weights.h5", &file.finish().unwrap());
        assert!(refusal(&path, &smallest()).contains("has no conv2d among its layers"));
    }
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

#[test]
fn a_checkpoint_takes_no_more_than_it_holds() {
    let folder = tempfile::tempdir().unwrap();
    let (path, config) = (folder.path().join("forged"), smallest());
    save_network(&network(&config, 1), &path).unwrap();
    let saved = std::fs::read(&path).unwrap();
    // In the metadata, whose quotes are escaped in the header.
    let forge = |from: &str, to: &str| {
        let at = saved
            .windows(from.len())
            .position(|found| found == from.as_bytes())
            .unwrap();
        let mut forged = saved.clone();
        forged[at..at + from.len()].copy_from_slice(to.as_bytes());
        write(folder.path(), "forged", &forged);
        let errors = [
            load_network(&path, &Device::flex()).unwrap_err(),
            load_run(&config, &path, &Device::flex()).unwrap_err(),
        ];
        errors.map(|error| error.to_string())
    };
    // A network of 2 GB.
    let [whole, run] = forge(r#"\"width\":0.01"#, r#"\"width\":4.00"#);
    assert!(
        whole.contains("has shape") && whole.contains("forged"),
        "{whole}"
    );
    assert!(
        run.contains("width: 4.0") && run.contains("instead of"),
        "{run}"
    );
    // Larger images than any run has.
    let [whole, _] = forge(
        r#"\"image_size\":32,\"dropout\":0.5"#,
        r#"\"image_size\":4096,\"dropout\":0"#,
    );
    assert!(whole.contains("at most 1024 pixels, not 4096"), "{whole}");
}

#[test]
fn an_error_repeats_only_the_beginning_of_a_name() {
    let folder = tempfile::tempdir().unwrap();
    let name = "x".repeat(1 << 16);
    let code = [b"\x80\x02c", name.as_bytes(), b"\nload\n)R."].concat();
    let path = write(folder.path(), "long.pth", &code);
    assert!(refusal(&path, &smallest()).len() < 2000);
    let path = write(
        folder.path(),
        "long",
        &super::files::safetensors_file(&[(name, vec![1], vec![1.0])]),
    );
    assert!(refusal(&path, &smallest()).len() < 2000);
}

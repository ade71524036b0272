//! No damaged file of weights makes its reader panic, hang, or take what it claims.

use burn::tensor::Device;
use quartet_mutation::{Format, Kind, survives};
use quartet_shared::spec::Backbone;

use super::classic::classic_keras_file;
use super::files::{
    Style, keras_archive, keras_file, keras_layers, keras3_file, legacy_file, safetensors_file,
    torch_tensors, write, zip_file,
};
use super::hostile::smallest;
use super::network;
use crate::checkpoint::{load_network, save_network};
use crate::models::Network;
use crate::weights::WeightsFile;

/// Damages files of a network, whole and of its first layers alone, where less of a file is numbers.
fn damage(name: &str, valid: impl Fn(&Network) -> Vec<Vec<u8>>, mend: fn(&[u8]) -> Vec<u8>) {
    let format = Format {
        name,
        test: &format!("weights::tests::mutated::{name}"),
        kind: Kind::Binary,
        cases: 1000,
    };
    let config = smallest();
    let network = network(&config, 1);
    let target = config.init(&Device::flex(), 2);
    let folder = tempfile::tempdir().unwrap();
    survives(
        &format,
        || valid(&network),
        |bytes| {
            let path = write(folder.path(), "damaged", &mend(bytes));
            let named = |error: String| {
                assert!(error.contains("damaged") && error.len() < 8192, "{error}");
                error
            };
            let file = WeightsFile::open(&path).map_err(|error| named(error.to_string()))?;
            let loaded = file
                .variant(Backbone::Vgg16)
                .and_then(|_| file.load(target.clone()));
            loaded.map_err(|error| named(error.to_string()))?;
            Ok(())
        },
    );
}

/// Leaves bytes as they are.
fn kept(bytes: &[u8]) -> Vec<u8> {
    bytes.to_vec()
}

#[test]
fn hdf5() {
    damage("hdf5", hdf5_files, with_checksums);
}

/// As Keras writes it, which has no checksums.
#[test]
fn classic_hdf5() {
    let files = |network: &Network| vec![classic_keras_file(&keras_layers(network))];
    damage("classic_hdf5", files, kept);
}

/// As [`hdf5`], with the checksums that do not fit any more.
#[test]
fn hdf5_unmended() {
    damage("hdf5_unmended", hdf5_files, kept);
}

fn hdf5_files(network: &Network) -> Vec<Vec<u8>> {
    let layers = keras_layers(network);
    let styles = [
        Style::default(),
        Style {
            variable: true,
            ..Style::default()
        },
        Style {
            split: true,
            whole_model: true,
            ..Style::default()
        },
    ];
    styles.map(|style| keras_file(&layers, style)).to_vec()
}

#[test]
fn keras3() {
    let files = |network: &Network| {
        let layers = keras_layers(network);
        vec![
            keras3_file(&layers, false, true),
            keras3_file(&layers, true, false),
        ]
    };
    damage("keras3", files, with_checksums);
}

#[test]
fn keras_archives() {
    let files = |network: &Network| {
        let weights = keras3_file(&keras_layers(network), false, true);
        vec![keras_archive(&weights, zip::CompressionMethod::Stored)]
    };
    damage("keras_archives", files, kept);
}

#[test]
fn pickles() {
    let files = |network: &Network| {
        let tensors = torch_tensors(network);
        vec![
            legacy_file(&tensors, "state_dict"),
            legacy_file(&tensors, ""),
        ]
    };
    damage("pickles", files, kept);
}

#[test]
fn zips_of_pickles() {
    let files = |network: &Network| {
        let tensors = torch_tensors(network);
        vec![zip_file(&tensors, ""), zip_file(&tensors, "model")]
    };
    damage("zips_of_pickles", files, kept);
}

#[test]
fn safetensors() {
    let files = |network: &Network| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint");
        save_network(network, &path).unwrap();
        vec![
            safetensors_file(&torch_tensors(network)),
            std::fs::read(path).unwrap(),
        ]
    };
    damage("safetensors", files, kept);
}

/// What `predict` and `export` load: a network as large as the file says.
#[test]
fn checkpoints() {
    let format = Format {
        name: "checkpoints",
        test: "weights::tests::mutated::checkpoints",
        kind: Kind::Binary,
        cases: 1000,
    };
    let folder = tempfile::tempdir().unwrap();
    let valid = || {
        let path = folder.path().join("checkpoint");
        save_network(&network(&smallest(), 1), &path).unwrap();
        vec![std::fs::read(path).unwrap()]
    };
    survives(&format, valid, |bytes| {
        let path = write(folder.path(), "damaged", bytes);
        load_network(&path, &Device::flex())
            .map(drop)
            .map_err(|error| {
                let error = error.to_string();
                assert!(error.contains("damaged") && error.len() < 8192, "{error}");
                error
            })
    });
}

/// An HDF5 file with the right checksums of its superblock and of the first part of each object header.
fn with_checksums(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    // Magic and version, three sizes and flags, four addresses of eight bytes.
    if bytes.get(8).is_some_and(|version| *version >= 2) {
        sum(&mut bytes, 0, 44);
    }
    let headers: Vec<usize> = bytes
        .windows(4)
        .enumerate()
        .filter(|(_, four)| four == b"OHDR")
        .map(|(at, _)| at)
        .collect();
    for at in headers {
        let Some(&flags) = bytes.get(at + 5) else {
            break;
        };
        // Four times, and two limits of attributes, if it has them.
        let size_at =
            at + 6 + if flags & 0x20 != 0 { 16 } else { 0 } + if flags & 0x10 != 0 { 4 } else { 0 };
        let width = 1 << (flags & 3);
        let Some(size) = bytes.get(size_at..size_at + width) else {
            break;
        };
        let mut number = [0; 8];
        number[..width].copy_from_slice(size);
        let length = usize::try_from(u64::from_le_bytes(number)).unwrap_or(usize::MAX);
        sum(
            &mut bytes,
            at,
            (size_at + width - at).saturating_add(length),
        );
    }
    bytes
}

/// Puts the checksum of so many bytes after them, if they are there.
fn sum(bytes: &mut [u8], start: usize, length: usize) {
    let end = start.saturating_add(length);
    let Some(sum) = bytes.get(start..end).map(lookup3) else {
        return;
    };
    if let Some(stored) = bytes.get_mut(end..end + 4) {
        stored.copy_from_slice(&sum.to_le_bytes());
    }
}

/// Bob Jenkins' lookup3, `hashlittle` with 0 to begin with.
fn lookup3(bytes: &[u8]) -> u32 {
    let start = 0xdead_beef_u32.wrapping_add(bytes.len() as u32);
    let (mut a, mut b, mut c) = (start, start, start);
    if bytes.is_empty() {
        return c;
    }
    let blocks = bytes.chunks(12);
    let last = blocks.len() - 1;
    for (index, block) in blocks.enumerate() {
        let mut padded = [0; 12];
        padded[..block.len()].copy_from_slice(block);
        let word = |at: usize| {
            u32::from_le_bytes([padded[at], padded[at + 1], padded[at + 2], padded[at + 3]])
        };
        (a, b, c) = (
            a.wrapping_add(word(0)),
            b.wrapping_add(word(4)),
            c.wrapping_add(word(8)),
        );
        if index == last {
            break;
        }
        for turn in [4, 6, 8, 16, 19, 4] {
            let mixed = a.wrapping_sub(c) ^ c.rotate_left(turn);
            // The next of the three words takes this one's place.
            (a, b, c) = (b, c.wrapping_add(b), mixed);
        }
    }
    for (x, y, turn) in [
        (2, 1, 14),
        (0, 2, 11),
        (1, 0, 25),
        (2, 1, 16),
        (0, 2, 4),
        (1, 0, 14),
        (2, 1, 24),
    ] {
        let mut words = [a, b, c];
        words[x] = (words[x] ^ words[y]).wrapping_sub(words[y].rotate_left(turn));
        [a, b, c] = words;
    }
    c
}

#[test]
fn checksums_are_those_of_hdf5() {
    // The author's own check.
    assert_eq!(lookup3(b"Four score and seven years ago"), 0x1777_0551);
    for file in hdf5_files(&network(&smallest(), 1)) {
        assert_eq!(with_checksums(&file), file);
        let mut damaged = file;
        damaged[20] ^= 1;
        assert_ne!(with_checksums(&damaged), damaged);
    }
}

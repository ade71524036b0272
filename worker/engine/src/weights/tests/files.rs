//! Writing small files of every format.

use std::collections::HashMap;
use std::io::{Cursor, Write};
use std::path::Path;

use hdf5_pure::{AttrValue, FileBuilder};

use super::super::families::{files, layers};
use crate::models::Network;
use crate::models::parameters::parameters;

/// Name, shape and numbers of a tensor.
pub(super) type Named = (String, Vec<usize>, Vec<f32>);

/// The state dict that timm has for this backbone, with the entries that say nothing of the backbone.
pub(super) fn torch_tensors(network: &Network) -> Vec<Named> {
    let config = network.config();
    let parameters = parameters(network);
    let mut tensors = Vec::new();
    for layer in layers(config.backbone, config.variant) {
        for names in layer.kind.parameters() {
            if let Some(parameter) = parameters.get(&format!("{}.{}", layer.ours, names.ours)) {
                let values = parameter.values.clone().into_data().try_to_vec().unwrap();
                let name = format!("{}.{}", layer.torch, names.torch);
                tensors.push((name, parameter.shape.clone(), values));
            }
        }
    }
    tensors
}

/// A Keras layer: its name, and its weights.
pub(super) type KerasLayer = (String, Vec<Named>);

/// The layers that Keras has for this backbone, with a layer without weights among them.
pub(super) fn keras_layers(network: &Network) -> Vec<KerasLayer> {
    let config = network.config();
    let parameters = parameters(network);
    let mut all = vec![("input_layer".to_owned(), Vec::new())];
    for (index, layer) in layers(config.backbone, config.variant).iter().enumerate() {
        let name = layer
            .keras
            .clone()
            .unwrap_or_else(|| format!("auto_{index}"));
        let mut weights = Vec::new();
        for names in layer.kind.parameters() {
            let left_out =
                names.ours == "gamma" && !files(config.backbone).has_gamma(config.variant);
            let Some(parameter) = parameters.get(&format!("{}.{}", layer.ours, names.ours)) else {
                continue;
            };
            if left_out {
                continue;
            }
            let values: Vec<f32> = parameter.values.clone().into_data().try_to_vec().unwrap();
            let (shape, values) = match parameter.shape[..] {
                [o, i, h, w] => (vec![h, w, i, o], hwio(&values, [o, i, h, w])),
                _ => (parameter.shape.clone(), values),
            };
            weights.push((format!("{name}/{}:0", names.keras), shape, values));
        }
        all.push((name, weights));
    }
    all
}

fn hwio(values: &[f32], [o, i, h, w]: [usize; 4]) -> Vec<f32> {
    let mut found = vec![0.0; values.len()];
    for (index, value) in values.iter().enumerate() {
        let (rest, x) = (index / w, index % w);
        let (rest, y) = (rest / h, rest % h);
        let (output, input) = (rest / i, rest % i);
        found[((y * w + x) * i + input) * o + output] = *value;
    }
    found
}

/// How an HDF5 file says what it holds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Style {
    /// Strings of variable length instead of fixed.
    pub(super) variable: bool,
    /// `layer_names0`, `layer_names1`, ..
    pub(super) split: bool,
    /// Below `model_weights`.
    pub(super) whole_model: bool,
    /// Datasets right in the layer's group, as in Keras 1.
    pub(super) flat: bool,
}

/// Keras' legacy layout.
pub(super) fn keras_file(layers: &[KerasLayer], style: Style) -> Vec<u8> {
    let strings = |names: Vec<String>| match (names.is_empty(), style.variable) {
        (true, _) => AttrValue::F64Array(Vec::new()),
        (false, true) => AttrValue::VarLenStringArray(names),
        (false, false) => AttrValue::AsciiStringArray(names),
    };
    let names: Vec<String> = layers.iter().map(|(name, _)| name.clone()).collect();
    let names: Vec<(String, AttrValue)> = match style.split {
        true => (names.chunks(10).enumerate())
            .map(|(i, names)| (format!("layer_names{i}"), strings(names.to_vec())))
            .collect(),
        false => vec![("layer_names".to_owned(), strings(names))],
    };
    let mut file = FileBuilder::new();
    let mut model = file.create_group("model_weights");
    for (name, weights) in layers {
        let mut group = match style.whole_model {
            true => model.create_group(name),
            false => file.create_group(name),
        };
        let mut inner = group.create_group(name);
        let mut paths = Vec::new();
        for (path, shape, values) in weights {
            let (last, shape) = (path.rsplit('/').next().unwrap(), shape.iter());
            let shape: Vec<u64> = shape.map(|&extent| extent as u64).collect();
            let flat = path.replace('/', "_");
            let dataset = match style.flat {
                true => group.create_dataset(&flat),
                false => inner.create_dataset(last),
            };
            dataset.with_f32_data(values).with_shape(&shape);
            paths.push(if style.flat { flat } else { path.clone() });
        }
        if !style.flat && !weights.is_empty() {
            group.add_group(inner.finish());
        }
        group.set_attr("weight_names", strings(paths));
        match style.whole_model {
            true => model.add_group(group.finish()),
            false => file.add_group(group.finish()),
        }
    }
    if style.whole_model {
        for (name, value) in names {
            model.set_attr(&name, value);
        }
        file.add_group(model.finish());
    } else {
        for (name, value) in names {
            file.set_attr(&name, value);
        }
    }
    file.finish().unwrap()
}

/// Keras 3's own layout, of the model alone or within another one, with the layers' names or without.
pub(super) fn keras3_file(layers: &[KerasLayer], nested: bool, names: bool) -> Vec<u8> {
    let mut file = FileBuilder::new();
    let mut container = file.create_group("layers");
    let mut counts = HashMap::new();
    for (name, weights) in layers {
        let class = match weights.first() {
            Some((_, shape, _)) if shape.len() == 4 => "conv2d",
            Some(_) => "batch_normalization",
            None => continue,
        };
        let count = counts.entry(class).or_insert(0);
        let mut group = container.create_group(&match *count {
            0 => class.to_owned(),
            count => format!("{class}_{count}"),
        });
        *count += 1;
        let mut vars = group.create_group("vars");
        for (index, (_, shape, values)) in weights.iter().enumerate() {
            let shape: Vec<u64> = shape.iter().map(|&extent| extent as u64).collect();
            let dataset = vars.create_dataset(&index.to_string());
            dataset.with_f32_data(values).with_shape(&shape);
        }
        if names {
            vars.set_attr("name", AttrValue::String(name.clone()));
        }
        group.add_group(vars.finish());
        container.add_group(group.finish());
    }
    if nested {
        let mut model = file.create_group("functional");
        model.add_group(container.finish());
        let mut outer = file.create_group("layers");
        outer.add_group(model.finish());
        let mut own = outer.create_group("conv2d");
        let mut vars = own.create_group("vars");
        vars.create_dataset("0")
            .with_f32_data(&[1.0])
            .with_shape(&[1, 1, 1, 1]);
        own.add_group(vars.finish());
        outer.add_group(own.finish());
        file.add_group(outer.finish());
    } else {
        file.add_group(container.finish());
    }
    file.finish().unwrap()
}

/// A `.keras` archive of these weights.
pub(super) fn keras_archive(weights: &[u8], method: zip::CompressionMethod) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().compression_method(method);
    let entries = [("metadata.json", &b"{}"[..]), ("model.weights.h5", weights)];
    for (name, bytes) in entries {
        archive.start_file(name, options).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

/// Safetensors of f32.
pub(super) fn safetensors_file(tensors: &[Named]) -> Vec<u8> {
    let bytes = tensors.iter().map(|(_, _, values)| le_bytes(values));
    let bytes: Vec<Vec<u8>> = bytes.collect();
    let views = tensors.iter().zip(&bytes).map(|((name, shape, _), bytes)| {
        let kind = safetensors::Dtype::F32;
        let view = safetensors::tensor::TensorView::new(kind, shape.clone(), bytes);
        (name.as_str(), view.unwrap())
    });
    safetensors::serialize(views, Some(HashMap::new())).unwrap()
}

fn le_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// A state dict under `wrapper`, or bare where that is empty, as `torch.save` pickles it.
fn pickled(tensors: &[Named], wrapper: &str) -> Vec<u8> {
    let mut p = b"\x80\x02}".to_vec();
    if !wrapper.is_empty() {
        string(&mut p, "epoch");
        p.extend(b"K\x07s");
        string(&mut p, wrapper);
        p.push(b'}');
    }
    for (index, (name, shape, values)) in tensors.iter().enumerate() {
        string(&mut p, name);
        p.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        string(&mut p, "storage");
        p.extend(b"ctorch\nFloatStorage\n");
        string(&mut p, &index.to_string());
        string(&mut p, "cpu");
        int(&mut p, values.len());
        p.extend(b"tQK\x00(");
        for &extent in shape {
            int(&mut p, extent);
        }
        p.extend(b"t(");
        for axis in 0..shape.len() {
            int(&mut p, shape[axis + 1..].iter().product());
        }
        p.extend(b"t\x89ccollections\nOrderedDict\n)RtRs");
    }
    p.extend(if wrapper.is_empty() { &b"."[..] } else { b"s." });
    p
}

fn string(pickle: &mut Vec<u8>, text: &str) {
    pickle.push(b'X');
    pickle.extend((text.len() as u32).to_le_bytes());
    pickle.extend(text.as_bytes());
}

fn int(pickle: &mut Vec<u8>, value: usize) {
    pickle.push(b'J');
    pickle.extend((value as i32).to_le_bytes());
}

/// `torch.save` before version 1.6.
pub(super) fn legacy_file(tensors: &[Named], wrapper: &str) -> Vec<u8> {
    let mut file =
        b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}".to_vec();
    string(&mut file, "little_endian");
    file.extend(b"\x88s.");
    file.extend(pickled(tensors, wrapper));
    file.extend(b"\x80\x02](");
    for index in 0..tensors.len() {
        string(&mut file, &index.to_string());
    }
    file.extend(b"e.");
    for (_, _, values) in tensors {
        file.extend((values.len() as u64).to_le_bytes());
        file.extend(le_bytes(values));
    }
    file
}

/// `torch.save` since version 1.6: a zip archive without compression, here without checksums.
pub(super) fn zip_file(tensors: &[Named], wrapper: &str) -> Vec<u8> {
    let mut entries = vec![("archive/data.pkl".to_owned(), pickled(tensors, wrapper))];
    let data = tensors.iter().enumerate();
    entries.extend(data.map(|(i, (_, _, values))| (format!("archive/data/{i}"), le_bytes(values))));
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in &entries {
        let offset = file.len() as u32;
        // Version, flags, method, time, date, checksum, sizes, length of the name, none of the extra field.
        let mut common = [20u16, 0, 0, 0, 0x21, 0, 0].map(u16::to_le_bytes).concat();
        common.extend([(bytes.len() as u32).to_le_bytes(); 2].concat());
        common.extend([name.len() as u16, 0].map(u16::to_le_bytes).concat());
        file.extend(b"PK\x03\x04");
        file.extend(&common);
        file.extend(name.as_bytes());
        file.extend(bytes);
        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(&common);
        directory.extend([0; 10]);
        directory.extend(offset.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let (start, count) = (file.len() as u32, entries.len() as u16);
    file.extend(&directory);
    file.extend(b"PK\x05\x06\x00\x00\x00\x00");
    file.extend([count, count].map(u16::to_le_bytes).concat());
    file.extend(
        [directory.len() as u32, start]
            .map(u32::to_le_bytes)
            .concat(),
    );
    file.extend([0; 2]);
    file
}

/// Writes bytes to a file of this name.
pub(super) fn write(folder: &Path, name: &str, bytes: &[u8]) -> std::path::PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

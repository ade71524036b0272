//! Whole networks as ONNX files: from the pixels of the data set to the classes' probabilities.
//!
//! - [`export_onnx`]: one network, or the ensemble of several
//! - `graph`: a forward pass as nodes; `messages`: what an ONNX file consists of

mod graph;
mod messages;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use prost::Message;
use quartet_shared::dataset::{Channels, ImageShape};

use crate::input::AugmentationParams;
use crate::models::Network;
use graph::{Name, Nodes, Writer, int, ints};
use messages::{
    DataType, Dimension, Entry, Extent, Model, OperatorSet, Shape, TensorType, Type, Value,
};

/// Version of the file format, of 2021, and of the operators.
const IR_VERSION: i64 = 8;
const OPERATORS: i64 = 15;

/// Largest file: what protobuf takes.
const LARGEST: usize = i32::MAX as usize;

/// The input and the output.
const IMAGES: &str = "images";
const PROBABILITIES: &str = "probabilities";

/// A network of an ensemble.
#[derive(Debug)]
pub struct Member {
    /// What its values are called by in the file.
    pub name: String,
    /// Its part in the mean, relative to the other members.
    pub weight: f64,
    /// The network.
    pub network: Network,
}

/// Why an ONNX file cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum OnnxError {
    /// The networks tell other classes apart, or there are none.
    #[error("the networks have not the same classes")]
    Classes,
    /// Protobuf has a limit.
    #[error(
        "the networks have {0} bytes together, more than the 2 GiB that an ONNX file may have; export the \
         runs one by one with --run"
    )]
    TooLarge(usize),
    /// The file.
    #[error("cannot write the ONNX file")]
    Write(#[from] io::Error),
}

/// Writes networks to a new ONNX file. Its input `images` is u8, images of the data set's `shape`: `[batch,
/// height, width]` in gray, `[batch, height, width, 3]` in colour, red first; its output `probabilities` is
/// `[batch, classes]`, of several networks their weighted mean. Resize and scaling are in the graph. The
/// metadata has the `classes` as a JSON list.
///
/// # Errors
/// The networks do not fit together or into one file; or the file is there already or cannot be written.
pub fn export_onnx(members: &[Member], shape: ImageShape, path: &Path) -> Result<(), OnnxError> {
    let bytes = encode(members, shape)?;
    let mut file = File::create_new(path)?;
    file.write_all(&bytes)
        .and_then(|()| file.flush())
        .map_err(|error| {
            let _ = fs::remove_file(path);
            error.into()
        })
}

/// The bytes of the file.
fn encode(members: &[Member], shape: ImageShape) -> Result<Vec<u8>, OnnxError> {
    let first = members.first().ok_or(OnnxError::Classes)?;
    let classes = &first.network.config().classes;
    if members
        .iter()
        .any(|member| member.network.config().classes != *classes)
    {
        return Err(OnnxError::Classes);
    }
    let nodes = Nodes::default();
    let pixels = nodes.push(
        "Cast",
        vec![IMAGES.to_owned()],
        vec![int("to", DataType::Float as i64)],
    );
    // Channels before rows and columns.
    let pixels = match shape.channels {
        Channels::Gray => pixels,
        Channels::Rgb => nodes.push("Transpose", vec![pixels], vec![ints("perm", [0, 3, 1, 2])]),
    };
    let channel = (shape.channels == Channels::Gray).then(|| nodes.integers("channel_axis", &[1]));
    let total: f64 = members.iter().map(|member| member.weight).sum();
    let mut mean: Option<Name> = None;
    for member in members {
        let prefix = match members {
            [_] => String::new(),
            _ => format!("{}:", member.name),
        };
        let x = resized(&nodes, &pixels, shape, channel.as_ref(), member, &prefix);
        let writer = Writer::new(&nodes, &member.network, prefix.clone());
        let logits = member.network.interpret(x, &writer);
        let probabilities = nodes.push("Softmax", vec![logits], vec![int("axis", 1)]);
        let part = match members {
            [_] => probabilities,
            _ => {
                let weight = [(member.weight / total) as f32];
                let weight = nodes.floats(&format!("{prefix}weight"), &[], &weight);
                nodes.push("Mul", vec![probabilities, weight], Vec::new())
            }
        };
        mean = Some(match mean {
            Some(mean) => nodes.push("Add", vec![mean, part], Vec::new()),
            None => part,
        });
    }
    nodes.push_output("Identity", Vec::from_iter(mean), PROBABILITIES);
    let model = model(nodes, shape, classes);
    match model.encoded_len() {
        length if length > LARGEST => Err(OnnxError::TooLarge(length)),
        _ => Ok(model.encode_to_vec()),
    }
}

/// What the network of a member sees of the pixels, as [`crate::input::Input`] makes it. Gray pixels have no
/// axis of channels yet, which `channel` names.
fn resized(
    nodes: &Nodes,
    pixels: &str,
    ImageShape { height, width, .. }: ImageShape,
    channel: Option<&Name>,
    member: &Member,
    prefix: &str,
) -> Name {
    let side = member.network.config().image_size;
    let (mut rows, mut columns) = (vec![0.0; side * height], vec![0.0; side * width]);
    AugmentationParams::NONE.rows(side, height, &mut rows);
    AugmentationParams::NONE.columns(side, width, &mut columns);
    let mut transposed = vec![0.0; side * width];
    for (row, values) in columns.chunks_exact(width).enumerate() {
        for (column, value) in values.iter().enumerate() {
            transposed[column * side + row] = *value;
        }
    }
    let rows = nodes.floats(&format!("{prefix}resize.rows"), &[side, height], &rows);
    let columns = format!("{prefix}resize.columns");
    let columns = nodes.floats(&columns, &[width, side], &transposed);
    let x = nodes.push("MatMul", vec![rows, pixels.to_owned()], Vec::new());
    let x = nodes.push("MatMul", vec![x, columns], Vec::new());
    let Some(channel) = channel else {
        return x;
    };
    let gray = nodes.push("Unsqueeze", vec![x, channel.clone()], Vec::new());
    nodes.push("Concat", vec![gray; 3], vec![int("axis", 1)])
}

fn model(nodes: Nodes, shape: ImageShape, classes: &[String]) -> Model {
    let mut graph = nodes.finish();
    graph.name = "quartet".to_owned();
    let extents = [shape.height, shape.width, shape.channels.count()].map(|extent| extent as i64);
    let (extents, doc) = match shape.channels {
        Channels::Gray => (
            &extents[..2],
            "gray values 0 to 255, [batch, height, width]",
        ),
        Channels::Rgb => (
            &extents[..],
            "red, green and blue 0 to 255, [batch, height, width, 3]",
        ),
    };
    graph.input = vec![value(IMAGES, DataType::Uint8, extents, doc)];
    graph.output = vec![value(
        PROBABILITIES,
        DataType::Float,
        &[classes.len() as i64],
        "probabilities of the classes that the metadata lists, [batch, classes]",
    )];
    let json = serde_json::to_string(classes).expect("strings can be written as JSON");
    Model {
        ir_version: IR_VERSION,
        producer_name: "quartet".to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        graph: Some(graph),
        opset_import: vec![OperatorSet {
            domain: String::new(),
            version: OPERATORS,
        }],
        metadata_props: vec![Entry {
            key: "classes".to_owned(),
            value: json,
        }],
    }
}

/// A value of any batch size.
fn value(name: &str, kind: DataType, extents: &[i64], doc: &str) -> Value {
    let batch = Extent::Param("batch".to_owned());
    let extents = extents.iter().map(|&extent| Extent::Value(extent));
    let dim = std::iter::once(batch).chain(extents);
    let dim = dim.map(|extent| Dimension {
        extent: Some(extent),
    });
    Value {
        name: name.to_owned(),
        kind: Some(Type {
            tensor_type: Some(TensorType {
                elem_type: kind as i32,
                shape: Some(Shape { dim: dim.collect() }),
            }),
        }),
        doc_string: doc.to_owned(),
    }
}

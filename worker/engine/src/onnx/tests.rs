//! What is written down; `tests/parity` has it computed.

use std::collections::BTreeSet;

use burn::tensor::Device;
use prost::Message;
use quartet_shared::dataset::{Channels, ImageShape};
use quartet_shared::spec::Backbone;

use super::messages::{Extent, Graph, Model};
use super::{Member, OnnxError, encode, export_onnx};
use crate::models::parameters::parameters;
use crate::models::{NetworkConfig, Variant};

fn config(backbone: Backbone, variant: Variant) -> NetworkConfig {
    NetworkConfig {
        backbone,
        variant,
        width: 0.02,
        image_size: backbone.minimum_image_size() as usize,
        dropout: 0.5,
        batch_norm_momentum: 0.99,
        classes: ["angry", "happy"].map(str::to_owned).to_vec(),
    }
}

fn member(name: &str, config: &NetworkConfig) -> Member {
    Member {
        name: name.to_owned(),
        weight: 1.0,
        network: config.init(&Device::flex(), 3),
    }
}

fn decoded(members: &[Member]) -> Graph {
    let bytes = encode(members, ImageShape::gray([48, 40])).unwrap();
    let model = Model::decode(&bytes[..]).unwrap();
    assert_eq!(model.metadata_props[0].value, r#"["angry","happy"]"#);
    model.graph.unwrap()
}

/// Every value is made once, before it is used; every initializer and all but the output are used.
fn assert_is_sound(graph: &Graph) {
    let names = graph.initializer.iter().map(|tensor| &tensor.name);
    let mut known: BTreeSet<&String> = names.chain([&graph.input[0].name]).collect();
    assert_eq!(known.len(), graph.initializer.len() + 1);
    let mut used = BTreeSet::new();
    for node in &graph.node {
        for input in &node.input {
            assert!(known.contains(input), "{} needs {input}", node.name);
            used.insert(input);
        }
        assert!(known.insert(&node.output[0]), "{}", node.name);
    }
    let unused: Vec<_> = known.difference(&used).collect();
    assert_eq!(unused, [&&graph.output[0].name]);
}

#[test]
fn every_parameter_of_every_network_is_in_its_graph() {
    for backbone in Backbone::ALL {
        for &variant in backbone.facts().variants {
            let member = member("one", &config(backbone, variant));
            let expected = parameters(&member.network);
            let graph = decoded(&[member]);
            assert_is_sound(&graph);
            let found = graph.initializer.iter().filter(|tensor| {
                tensor.name.starts_with("backbone.") || tensor.name.starts_with("head.")
            });
            let mut count = 0;
            for tensor in found {
                let parameter = &expected[&tensor.name];
                let shape = parameter.shape.iter().map(|&extent| extent as i64);
                assert!(shape.eq(tensor.dims.iter().copied()), "{}", tensor.name);
                let values = parameter.values.clone().into_data_as::<f32>().into_bytes();
                assert_eq!(tensor.raw_data, values.to_vec(), "{}", tensor.name);
                count += 1;
            }
            assert_eq!(count, expected.len(), "{backbone} {variant}");
        }
    }
}

#[test]
fn an_ensemble_has_all_its_members() {
    let config = config(Backbone::Vgg16, Variant::Keras);
    let members = [member("a", &config), member("b", &config)];
    let graph = decoded(&members);
    assert_is_sound(&graph);
    for weight in ["a:weight", "b:weight"] {
        let tensor = graph
            .initializer
            .iter()
            .find(|tensor| tensor.name == weight);
        assert_eq!(tensor.unwrap().raw_data, 0.5f32.to_le_bytes());
    }
}

#[test]
fn what_cannot_be_written_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.onnx");
    let one = config(Backbone::Vgg16, Variant::Keras);
    let other = NetworkConfig {
        classes: vec!["only".to_owned()],
        ..one.clone()
    };
    let members = [member("a", &one), member("b", &other)];
    let error = export_onnx(&members, ImageShape::gray([48, 48]), &path).unwrap_err();
    assert!(matches!(error, OnnxError::Classes));
    assert!(!path.exists());
    export_onnx(&members[..1], ImageShape::gray([48, 48]), &path).unwrap();
    let error = export_onnx(&members[..1], ImageShape::gray([48, 48]), &path).unwrap_err();
    assert!(matches!(error, OnnxError::Write(_)), "it is there already");
}

#[test]
fn colours_have_an_axis_at_the_end() {
    let member = member("one", &config(Backbone::Vgg16, Variant::Keras));
    let shape = ImageShape {
        channels: Channels::Rgb,
        ..ImageShape::gray([48, 40])
    };
    let bytes = encode(&[member], shape).unwrap();
    let graph = Model::decode(&bytes[..]).unwrap().graph.unwrap();
    assert_is_sound(&graph);
    let input = graph.input[0].kind.as_ref().unwrap();
    let dims = &input
        .tensor_type
        .as_ref()
        .unwrap()
        .shape
        .as_ref()
        .unwrap()
        .dim;
    let extents: Vec<_> = dims[1..].iter().map(|dim| dim.extent.clone()).collect();
    let expected = [48, 40, 3].map(|extent| Some(Extent::Value(extent)));
    assert_eq!(extents, expected);
    let operations: Vec<&str> = graph.node.iter().map(|node| &*node.op_type).collect();
    assert_eq!(operations[..4], ["Cast", "Transpose", "MatMul", "MatMul"]);
    assert_eq!(graph.node[1].attribute[0].ints, [0, 3, 1, 2]);
    assert!(!operations.contains(&"Unsqueeze"));
}

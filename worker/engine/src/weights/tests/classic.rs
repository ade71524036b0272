//! HDF5 as Keras itself has written it all along: the file format of HDF5 1.0, which knows no checksums.
//!
//! Superblock and object headers of version 0 and 1, groups of a B-tree, symbol nodes and a heap of names,
//! datasets in one piece, attributes of fixed strings.

use super::files::KerasLayer;

/// An address that is none.
const NOWHERE: u64 = u64::MAX;
/// Symbols in a node, and nodes in a B-tree of one level.
const SYMBOLS: usize = 8;
const NODES: usize = 32;

/// Keras' legacy layout.
pub(super) fn classic_keras_file(layers: &[KerasLayer]) -> Vec<u8> {
    let mut file = File(vec![0; 96]);
    let mut children = Vec::new();
    for (name, weights) in layers {
        let mut datasets = Vec::new();
        for (path, shape, values) in weights {
            let (_, last) = path.split_once('/').unwrap();
            datasets.push((last.to_owned(), file.dataset(shape, values)));
        }
        let inner = (!weights.is_empty()).then(|| (name.clone(), file.group(datasets, &[])));
        let paths: Vec<&str> = weights.iter().map(|(path, ..)| path.as_str()).collect();
        let attributes = [attribute("weight_names", &paths)];
        children.push((
            name.clone(),
            file.group(inner.into_iter().collect(), &attributes),
        ));
    }
    let names: Vec<&str> = layers.iter().map(|(name, _)| name.as_str()).collect();
    let root = file.group(children, &[attribute("layer_names", &names)]);
    file.finish(root)
}

/// A message of an object header: its kind and its data.
type Message = (u16, Vec<u8>);

fn dataspace(shape: &[usize]) -> Vec<u8> {
    let mut data = vec![1, shape.len() as u8, 0, 0, 0, 0, 0, 0];
    data.extend(
        shape
            .iter()
            .flat_map(|&extent| (extent as u64).to_le_bytes()),
    );
    data
}

fn attribute(name: &str, strings: &[&str]) -> Message {
    let length = strings.iter().map(|string| string.len()).max().unwrap_or(1);
    // Strings that end with zeros.
    let mut kind = vec![0x13, 1, 0, 0];
    kind.extend((length as u32).to_le_bytes());
    let space = dataspace(&[strings.len()]);
    let mut data = vec![1, 0];
    let sizes = [name.len() + 1, kind.len(), space.len()];
    data.extend(sizes.iter().flat_map(|&size| (size as u16).to_le_bytes()));
    for part in [format!("{name}\0").as_bytes(), &kind, &space] {
        data.extend(part);
        data.resize(data.len().next_multiple_of(8), 0);
    }
    for string in strings {
        data.extend(string.as_bytes());
        data.resize(data.len() + length - string.len(), 0);
    }
    (0x0c, data)
}

/// The bytes so far; an object lies where it was put.
struct File(Vec<u8>);

impl File {
    fn put(&mut self, bytes: &[u8]) -> u64 {
        self.0.resize(self.0.len().next_multiple_of(8), 0);
        let address = self.0.len() as u64;
        self.0.extend(bytes);
        address
    }

    fn object(&mut self, messages: &[Message]) -> u64 {
        let mut body = Vec::new();
        for (kind, data) in messages {
            let size = data.len().next_multiple_of(8);
            body.extend(kind.to_le_bytes());
            body.extend((size as u16).to_le_bytes());
            body.extend([0; 4]);
            body.extend(data);
            body.resize(body.len() + size - data.len(), 0);
        }
        let mut header = vec![1, 0];
        header.extend((messages.len() as u16).to_le_bytes());
        header.extend(1_u32.to_le_bytes());
        header.extend((body.len() as u32).to_le_bytes());
        header.extend([0; 4]);
        self.put(&[header, body].concat())
    }

    fn dataset(&mut self, shape: &[usize], values: &[f32]) -> u64 {
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        let address = self.put(&bytes);
        // IEEE 754 of 32 bits.
        let kind = [
            0x11, 0x20, 31, 0, 4, 0, 0, 0, 0, 0, 32, 0, 23, 8, 0, 23, 127, 0, 0, 0,
        ];
        let mut layout = vec![3, 1];
        layout.extend(address.to_le_bytes());
        layout.extend((bytes.len() as u64).to_le_bytes());
        self.object(&[(1, dataspace(shape)), (3, kind.to_vec()), (8, layout)])
    }

    fn group(&mut self, mut children: Vec<(String, u64)>, attributes: &[Message]) -> u64 {
        children.sort();
        // The empty name comes first.
        let mut names = vec![0; 8];
        let mut symbols = Vec::new();
        for (name, address) in children {
            symbols.push((names.len() as u64, address));
            names.extend(name.as_bytes());
            names.resize((names.len() + 1).next_multiple_of(8), 0);
        }
        let names_at = self.put(&names);
        let heap = [
            b"HEAP\0\0\0\0".to_vec(),
            [names.len() as u64, 1, names_at]
                .map(u64::to_le_bytes)
                .concat(),
        ];
        let heap = self.put(&heap.concat());
        let nodes: Vec<_> = symbols.chunks(SYMBOLS).collect();
        assert!(nodes.len() <= NODES, "a tree of one level");
        let mut tree = b"TREE\0\0".to_vec();
        tree.extend((nodes.len() as u16).to_le_bytes());
        tree.extend([NOWHERE; 2].map(u64::to_le_bytes).concat());
        tree.extend(0_u64.to_le_bytes());
        for symbols in nodes {
            let mut node = b"SNOD\x01\0".to_vec();
            node.extend((symbols.len() as u16).to_le_bytes());
            for (name, address) in symbols {
                node.extend([*name, *address, 0, 0, 0].map(u64::to_le_bytes).concat());
            }
            node.resize(8 + SYMBOLS * 40, 0);
            tree.extend(self.put(&node).to_le_bytes());
            let (last, _) = symbols[symbols.len() - 1];
            tree.extend(last.to_le_bytes());
        }
        tree.resize(24 + (2 * NODES + 1) * 8, 0);
        let tree = self.put(&tree);
        let table = [tree, heap].map(u64::to_le_bytes).concat();
        self.object(&[&[(0x11, table)], attributes].concat())
    }

    fn finish(mut self, root: u64) -> Vec<u8> {
        let mut start = b"\x89HDF\r\n\x1a\n\0\0\0\0\0\x08\x08\0".to_vec();
        start.extend(
            [SYMBOLS as u16 / 2, NODES as u16 / 2, 0, 0]
                .map(u16::to_le_bytes)
                .concat(),
        );
        let end = self.0.len() as u64;
        start.extend(
            [0, NOWHERE, end, NOWHERE, 0, root, 0, 0, 0]
                .map(u64::to_le_bytes)
                .concat(),
        );
        self.0[..start.len()].copy_from_slice(&start);
        self.0
    }
}

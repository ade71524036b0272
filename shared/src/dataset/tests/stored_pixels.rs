//! Data sets whose pixels stay in their file.

use std::fs;
use std::path::PathBuf;

use super::*;

/// A file of its own with these bytes.
fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let name = format!("quartet-{}-{name}.qds", std::process::id());
    let path = std::env::temp_dir().join(name);
    fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn pixels_are_read_when_they_are_needed() {
    // The labels and votes are more than is read at first.
    let many = 700_000;
    let large = Dataset {
        width: 1,
        height: 1,
        channels: Channels::Rgb,
        classes: vec!["a".to_owned(), "b".to_owned()],
        splits: [
            Images {
                labels: (0..many).map(|image| (image % 2) as u8).collect(),
                votes: (0..many)
                    .flat_map(|image| [[1, 0], [3, 9]][image % 2])
                    .collect(),
                pixels: (0..3 * many).map(|at| (at % 251) as u8).collect(),
                ..Images::default()
            },
            Images::default(),
            Images::default(),
        ],
    };
    for (name, dataset) in [("small", sample()), ("large", large)] {
        let path = file(name, &dataset.encode());
        let opened = Dataset::open(&path).unwrap();
        // The name may go.
        fs::remove_file(&path).unwrap();
        assert_eq!(
            (opened.shape(), &opened.classes),
            (dataset.shape(), &dataset.classes)
        );
        for split in Split::ALL {
            let (opened, images) = (opened.split(split), dataset.split(split));
            assert!(opened.labels == images.labels && opened.votes == images.votes);
            assert!(opened.pixels.is_empty());
            let len = dataset.image_len();
            for index in (0..images.len()).rev().take(3) {
                let mut found = vec![7];
                opened.read(index, len, &mut found).unwrap();
                assert_eq!(found[0], 7);
                assert_eq!(found[1..], images.pixels[index * len..][..len]);
            }
        }
        // It is written as it was.
        assert!(opened.encode() == dataset.encode());
    }
}

#[test]
fn a_file_that_is_no_data_set_is_refused() {
    let bytes = sample().encode();
    let longer = [&bytes[..], &[0]].concat();
    let shorter = &bytes[..bytes.len() - 1];
    for (name, bytes, problem) in [
        ("longer", &longer[..], "bytes where its header says"),
        ("shorter", shorter, "bytes where its header says"),
        ("header", &bytes[..10], "truncated in its header"),
        ("other", b"hello, world", "begins with neither"),
    ] {
        let path = file(name, bytes);
        let error = Dataset::open(&path).unwrap_err().to_string();
        fs::remove_file(&path).unwrap();
        assert!(error.contains(problem), "{name}: {error}");
    }
    let missing = Dataset::open(&std::env::temp_dir().join("quartet-is-not-there.qds"));
    assert!(matches!(missing, Err(OpenError::Io(_))));
}

use super::*;

mod second_format;
mod stored_pixels;

fn sample() -> Dataset {
    Dataset {
        width: 3,
        height: 2,
        channels: Channels::Gray,
        classes: vec!["no".into(), "où".into()],
        splits: [
            Images {
                labels: vec![0, 1, 1],
                pixels: (0..18).collect(),
                ..Images::default()
            },
            Images {
                labels: vec![1],
                pixels: vec![255; 6],
                ..Images::default()
            },
            Images::default(),
        ],
    }
}

/// The sample's header up to the counts: 4 + 8 + (2 + 2) + (2 + 3) bytes.
const COUNTS_AT: usize = 21;

#[test]
fn round_trips() {
    let dataset = sample();
    let bytes = dataset.encode();
    assert_eq!(Dataset::decode(&bytes), Ok(dataset));
}

#[test]
fn bytes_are_as_documented() {
    let bytes = sample().encode();
    assert_eq!(&bytes[..12], b"QDS1\x03\0\x02\0\x02\0\0\0");
    assert_eq!(&bytes[12..COUNTS_AT], b"\x02\0no\x03\0o\xc3\xb9");
    assert_eq!(
        &bytes[COUNTS_AT..][..24],
        [3, 0, 0, 0, 0, 0, 0, 0, 1]
            .iter()
            .chain(&[0; 15])
            .copied()
            .collect::<Vec<u8>>()
    );
    assert_eq!(&bytes[COUNTS_AT + 24..][..6], [0, 1, 1, 1, 0, 1]);
}

#[test]
fn an_index_needs_no_pixels() {
    let bytes = sample().encode();
    let labels_end = COUNTS_AT + 24 + 4;
    let index = Index::of_prefix(&bytes[..labels_end]).unwrap();
    let summary = index.summary();
    assert_eq!(summary.classes, sample().classes);
    assert_eq!(summary.images, [vec![1, 2], vec![0, 1], vec![0, 0]]);
    assert_eq!(summary.split(Split::Valid), [0, 1]);
    for (split, image) in [(Split::Train, 0), (Split::Train, 2), (Split::Valid, 0)] {
        let bytes_of =
            |range: std::ops::Range<u64>| &bytes[range.start as usize..range.end as usize];
        let pixels = bytes_of(index.image(split, image as u64));
        assert_eq!(Some(pixels), sample().image(split, image));
        let label = index.labels(split).get(image).copied();
        assert_eq!(label, sample().label(split, image));
    }
    assert_eq!(Index::of_prefix(&bytes), Ok(index));
    for len in 4..labels_end {
        let truncated = Index::of_prefix(&bytes[..len]);
        assert_eq!(truncated, Err(DatasetError::TruncatedHeader { at: len }));
    }
    let mut bad = bytes;
    bad[COUNTS_AT + 24] = 2;
    let error = Index::of_prefix(&bad).unwrap_err();
    assert!(matches!(error, DatasetError::Label { label: 2, .. }));
}

#[test]
fn accessors() {
    let dataset = sample();
    assert_eq!(dataset.len(Split::Train), 3);
    assert!(dataset.is_empty(Split::Test));
    assert_eq!(
        dataset.image(Split::Train, 1),
        Some([6, 7, 8, 9, 10, 11].as_slice())
    );
    assert_eq!(dataset.image(Split::Train, 3), None);
    assert_eq!(dataset.image(Split::Train, usize::MAX), None);
    assert_eq!(dataset.label(Split::Train, 2), Some(1));
    assert_eq!(dataset.label(Split::Test, 0), None);
    assert_eq!(dataset.class_counts(Split::Train), [1, 2]);
    assert_eq!(format!("{:>6}", Split::Valid), " valid");
}

#[test]
fn every_truncation_is_an_error() {
    let bytes = sample().encode();
    for len in 0..bytes.len() {
        assert!(Dataset::decode(&bytes[..len]).is_err(), "{len} bytes");
    }
}

#[test]
fn every_single_byte_change_is_an_error_or_valid() {
    let bytes = sample().encode();
    for at in 0..bytes.len() {
        for value in [0, 1, 2, 127, 128, 255] {
            let mut changed = bytes.clone();
            changed[at] = value;
            if let Ok(dataset) = Dataset::decode(&changed) {
                assert_eq!(dataset.validate(), Ok(()));
                assert_eq!(dataset.encode(), changed);
            }
        }
    }
}

#[test]
fn trailing_bytes_are_an_error() {
    let mut bytes = sample().encode();
    bytes.push(0);
    let found = bytes.len() as u64;
    assert_eq!(
        Dataset::decode(&bytes),
        Err(DatasetError::Length {
            expected: found - 1,
            found
        })
    );
}

#[test]
fn huge_counts_neither_allocate_nor_overflow() {
    for count in [u64::MAX, u64::MAX / 7, u64::MAX / 8, 1 << 40] {
        for split in 0..3 {
            let mut bytes = sample().encode();
            bytes[COUNTS_AT + 8 * split..][..8].copy_from_slice(&count.to_le_bytes());
            assert!(Dataset::decode(&bytes).is_err());
        }
    }
    let mut large = sample().encode();
    large[4..8].fill(255);
    assert!(matches!(
        Dataset::decode(&large),
        Err(DatasetError::Length { .. })
    ));
}

#[test]
fn malformed_headers() {
    let change = |at: usize, value: &[u8]| {
        let mut bytes = sample().encode();
        bytes[at..at + value.len()].copy_from_slice(value);
        Dataset::decode(&bytes).expect_err("malformed")
    };
    assert_eq!(change(0, b"QDS3"), DatasetError::Magic);
    assert_eq!(
        change(4, &[0, 0]),
        DatasetError::Header("images without pixels")
    );
    assert_eq!(
        change(8, &[1, 1]),
        DatasetError::Header("more than 256 classes")
    );
    assert_eq!(
        change(10, &[1]),
        DatasetError::Header("reserved field is not 0")
    );
    assert_eq!(
        change(14, &[0xff]),
        DatasetError::ClassName {
            class: 0,
            problem: "it is not UTF-8"
        }
    );
    let label = DatasetError::Label {
        split: Split::Train,
        index: 2,
        label: 2,
        classes: 2,
    };
    assert_eq!(change(COUNTS_AT + 24 + 2, &[2]), label);
    assert_eq!(
        label.to_string(),
        "label 2 of train image 2 is not one of 2 classes"
    );
}

#[test]
fn invalid_data_sets_are_not_written() {
    let invalid = |change: fn(&mut Dataset)| {
        let mut dataset = sample();
        change(&mut dataset);
        assert!(dataset.pieces().is_err());
        dataset.validate().expect_err("invalid")
    };
    let twice = DatasetError::ClassName {
        class: 1,
        problem: "another class has it",
    };
    assert_eq!(invalid(|d| d.classes[1] = "no".into()), twice);
    assert_eq!(
        invalid(|d| d.classes.clear()),
        DatasetError::Header("no classes")
    );
    assert!(matches!(
        invalid(|d| d.classes[0].clear()),
        DatasetError::ClassName { .. }
    ));
    assert!(matches!(
        invalid(|d| d.splits[1].labels.push(0)),
        DatasetError::Pixels { .. }
    ));
    assert!(matches!(
        invalid(|d| d.splits[0].labels[0] = 9),
        DatasetError::Label { .. }
    ));
}

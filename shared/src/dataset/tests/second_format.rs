//! Colours and votes.

use super::*;

/// Two training images and one for validation, 2x1 pixels in colour, three classes.
fn sample() -> Dataset {
    let images = |votes: &[[u8; 3]], labels: &[u8], first: u8| Images {
        labels: labels.to_vec(),
        votes: votes.concat(),
        pixels: (first..).take(6 * labels.len()).collect(),
        ..Images::default()
    };
    Dataset {
        width: 2,
        height: 1,
        channels: Channels::Rgb,
        classes: ["a", "b", "c"].map(str::to_owned).to_vec(),
        splits: [
            images(&[[0, 7, 3], [5, 0, 5]], &[1, 0], 10),
            images(&[[0, 0, 1]], &[2], 100),
            Images::default(),
        ],
    }
}

fn without_votes(mut dataset: Dataset) -> Dataset {
    for images in &mut dataset.splits {
        images.votes.clear();
    }
    dataset
}

/// The sample with the first channel of each pixel alone.
fn in_gray(mut dataset: Dataset) -> Dataset {
    dataset.channels = Channels::Gray;
    for images in &mut dataset.splits {
        images.pixels = images.pixels.iter().step_by(3).copied().collect();
    }
    dataset
}

/// Where the labels begin.
const LABELS_AT: usize = 12 + 9 + 24;

#[test]
fn bytes_are_as_documented() {
    let bytes = sample().encode();
    assert_eq!(&bytes[..12], b"QDS2\x02\0\x01\0\x03\0\x03\x01");
    assert_eq!(&bytes[LABELS_AT..][..3], [1, 0, 2]);
    let votes = [0, 7, 3, 5, 0, 5, 0, 0, 1];
    assert_eq!(&bytes[LABELS_AT + 3..][..9], votes);
    let pixels: Vec<u8> = (10..22).chain(100..106).collect();
    assert_eq!(&bytes[LABELS_AT + 12..], pixels);
    assert_eq!(&without_votes(sample()).encode()[10..12], [3, 0]);
    assert_eq!(&in_gray(sample()).encode()[10..12], [1, 1]);
    // What the first format can say is said in it.
    let plain = in_gray(without_votes(sample())).encode();
    assert_eq!(&plain[..12], b"QDS1\x02\0\x01\0\x03\0\0\0");
}

#[test]
fn all_kinds_round_trip() {
    let (colour, gray) = (without_votes(sample()), in_gray(sample()));
    let plain = without_votes(gray.clone());
    for dataset in [sample(), colour, gray, plain] {
        let bytes = dataset.encode();
        assert_eq!(Dataset::decode(&bytes).as_ref(), Ok(&dataset));
        let index = Index::of_prefix(&bytes).unwrap();
        assert_eq!(index.shape(), dataset.shape());
        for (split, image) in [(Split::Train, 0), (Split::Train, 1), (Split::Valid, 0)] {
            let range = index.image(split, image as u64);
            let pixels = &bytes[range.start as usize..range.end as usize];
            assert_eq!(dataset.image(split, image), Some(pixels));
        }
    }
    let shown = [sample().shape(), in_gray(sample()).shape()].map(|shape| shape.to_string());
    assert_eq!(shown, ["2x1 rgb", "2x1 gray"]);
}

#[test]
fn votes_are_those_of_an_image() {
    let images = &sample().splits[0];
    assert_eq!(images.votes(1), Some([5, 0, 5].as_slice()));
    assert_eq!(images.votes(2), None);
    assert_eq!(without_votes(sample()).splits[0].votes(0), None);
    assert!(sample().is_soft() && !without_votes(sample()).is_soft());
}

#[test]
fn every_change_is_an_error_or_valid() {
    let bytes = sample().encode();
    for len in 0..bytes.len() {
        assert!(Dataset::decode(&bytes[..len]).is_err(), "{len} bytes");
    }
    for at in 0..bytes.len() {
        for value in [0, 1, 2, 3, 127, 255] {
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
fn what_is_wrong_is_said() {
    let change = |at: usize, values: &[u8]| {
        let mut bytes = sample().encode();
        bytes[at..at + values.len()].copy_from_slice(values);
        Dataset::decode(&bytes).expect_err("malformed")
    };
    for (header, problem) in [
        (
            [1, 0],
            "gray images with labels alone, whose format is `QDS1`",
        ),
        ([3, 2], "neither votes nor none"),
        ([2, 0], "neither 1 nor 3 channels"),
    ] {
        assert_eq!(change(10, &header), DatasetError::Header(problem));
    }
    let no_most = |index, label| DatasetError::Votes {
        split: Split::Train,
        index,
        label,
    };
    // No vote at all; most votes for another class; as many for an earlier class.
    assert_eq!(change(LABELS_AT + 3, &[0, 0, 0]), no_most(0, 1));
    assert_eq!(change(LABELS_AT + 3, &[8]), no_most(0, 1));
    assert_eq!(change(LABELS_AT + 1, &[2]), no_most(1, 2));
    let mut empty = sample();
    empty.splits = Default::default();
    let mut bytes = empty.encode();
    bytes[11] = 1;
    let error = Dataset::decode(&bytes).unwrap_err();
    assert_eq!(error, DatasetError::Header("votes on no image"));

    let mut some = sample();
    some.splits[1].votes.clear();
    let error = some.validate().unwrap_err().to_string();
    assert_eq!(error, "valid has 1 labels of 3 classes but 0 votes");
}

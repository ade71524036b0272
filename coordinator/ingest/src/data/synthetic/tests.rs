use quartet_shared::dataset::Dataset;
use sha2::{Digest, Sha256};

use super::*;

fn faces(seed: u64, train: usize, valid: usize, test: usize) -> Dataset {
    load(&Options {
        synthetic: SyntheticSpec {
            seed,
            train,
            valid,
            test,
        },
        ..Options::default()
    })
    .expect("drawn")
    .dataset
}

/// What the nearest mean of the training images' pixels gets right in the test split.
fn nearest_centroid_accuracy(dataset: &Dataset) -> f64 {
    let (train, test) = (dataset.split(Split::Train), dataset.split(Split::Test));
    let counts = dataset.class_counts(Split::Train);
    let mut means = vec![vec![0.0_f64; IMAGE_LEN]; EMOTIONS.len()];
    for (&label, image) in train
        .labels
        .iter()
        .zip(train.pixels.chunks_exact(IMAGE_LEN))
    {
        let count = counts[usize::from(label)] as f64;
        for (mean, &pixel) in means[usize::from(label)].iter_mut().zip(image) {
            *mean += f64::from(pixel) / count;
        }
    }
    let distance = |mean: &[f64], image: &[u8]| -> f64 {
        mean.iter()
            .zip(image)
            .map(|(mean, &pixel)| (mean - f64::from(pixel)).powi(2))
            .sum()
    };
    let hits = test
        .labels
        .iter()
        .zip(test.pixels.chunks_exact(IMAGE_LEN))
        .filter(|(label, image)| {
            let distances = means.iter().map(|mean| distance(mean, image)).enumerate();
            let nearest = distances
                .min_by(|a, b| a.1.total_cmp(&b.1))
                .map(|(class, _)| class);
            nearest == Some(usize::from(**label))
        });
    hits.count() as f64 / test.len() as f64
}

#[test]
fn the_bytes_never_change() {
    let digest = Sha256::digest(faces(0, 70, 14, 14).encode());
    let hex: String = digest
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(hex, "45a4a9a91f160c35");
}

#[test]
fn a_face_does_not_depend_on_the_counts() {
    let (few, many) = (faces(5, 9, 7, 7), faces(5, 23, 15, 8));
    for split in Split::ALL {
        for index in 0..few.len(split) {
            assert_eq!(few.image(split, index), many.image(split, index));
            assert_eq!(few.label(split, index), many.label(split, index));
        }
    }
}

#[test]
fn seeds_and_splits_differ() {
    let (one, other) = (faces(1, 7, 7, 7), faces(2, 7, 7, 7));
    assert_ne!(one.image(Split::Train, 0), other.image(Split::Train, 0));
    assert_ne!(one.image(Split::Train, 0), one.image(Split::Valid, 0));
    assert_ne!(one.image(Split::Valid, 0), one.image(Split::Test, 0));
}

#[test]
fn classes_are_balanced_and_shuffled() {
    let dataset = faces(4, 700, 7, 9);
    assert_eq!(dataset.class_counts(Split::Train), [100; 7]);
    let labels = &dataset.split(Split::Train).labels;
    assert_ne!(labels[..7], labels[7..14]);
}

#[test]
fn an_impossible_request_is_an_error() {
    let draw = |train, test| {
        load(&Options {
            synthetic: SyntheticSpec {
                seed: 0,
                train,
                valid: 7,
                test,
            },
            ..Options::default()
        })
    };
    let error = draw(7, 0).expect_err("empty").to_string();
    assert_eq!(
        error,
        "synthetic faces: the test split has no image; every split needs at least one"
    );
    assert!(matches!(draw(6, 7), Err(DataError::MissingClass { .. })));
}

#[test]
fn classes_can_be_told_apart_but_not_trivially() {
    let accuracy = nearest_centroid_accuracy(&faces(11, 700, 7, 350));
    assert!(
        (0.2..0.6).contains(&accuracy),
        "nearest centroid: {accuracy}"
    );
}

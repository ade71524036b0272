use burn::tensor::Device;
use quartet_shared::dataset::{Channels, Dataset, Images, Split};
use quartet_shared::ids::Epoch;
use quartet_shared::spec::Augmentation;

#[cfg(feature = "tch")]
use super::matrices::Matrices;
use super::random::{Purpose, stream, uniform};
use super::{AugmentationParams, Input, Maker};

const NOTEBOOK: Augmentation = Augmentation {
    height_shift: 0.1,
    width_shift: 0.1,
    zoom: 0.1,
    horizontal_flip: true,
};

/// Far beyond the edges.
const FAR: AugmentationParams = AugmentationParams {
    tx: 1.5,
    ty: -0.7,
    zx: 2.0,
    zy: 0.3,
    flip: true,
};

fn dataset(images: usize) -> Dataset {
    let mut rng = stream(Purpose::Order, 99, Epoch(0), 0);
    let pixels = (0..images * 48 * 48)
        .map(|_| uniform(&mut rng, 0.0, 256.0) as u8)
        .collect();
    let labels = (0..images).map(|i| (i % 7) as u8).collect();
    let train = Images {
        labels,
        pixels,
        ..Images::default()
    };
    let classes = (0..7).map(|i| i.to_string()).collect();
    Dataset {
        width: 48,
        height: 48,
        channels: Channels::Gray,
        classes,
        splits: [train, Images::default(), Images::default()],
    }
}

/// The notebook's three steps one after the other: nearest resize, scipy's affine_transform (order 1,
/// nearest), flip.
fn reference(image: &[u8], size: usize, params: &AugmentationParams) -> Vec<f64> {
    let index = |i: usize| ((i as f64 + 0.5) * 48.0 / size as f64).floor() as usize;
    let resized: Vec<Vec<f64>> = (0..size)
        .map(|r| {
            (0..size)
                .map(|c| f64::from(image[index(r) * 48 + index(c)]))
                .collect()
        })
        .collect();
    let edge = |i: f64| i.clamp(0.0, size as f64 - 1.0) as usize;
    let pixel = |r: f64, c: f64| resized[edge(r)][edge(c)];
    let centre = size as f64 / 2.0 - 0.5;
    let mut out = Vec::new();
    for r in 0..size {
        for c in 0..size {
            let c = if params.flip { size - 1 - c } else { c };
            let y = params.zx * (r as f64 - centre) + params.tx * size as f64 + centre;
            let x = params.zy * (c as f64 - centre) + params.ty * size as f64 + centre;
            let (y0, x0) = (y.floor(), x.floor());
            let (fy, fx) = (y - y0, x - x0);
            out.push(
                pixel(y0, x0) * (1.0 - fy) * (1.0 - fx)
                    + pixel(y0, x0 + 1.0) * (1.0 - fy) * fx
                    + pixel(y0 + 1.0, x0) * fy * (1.0 - fx)
                    + pixel(y0 + 1.0, x0 + 1.0) * fy * fx,
            );
        }
    }
    out
}

#[track_caller]
fn assert_matches_reference(size: u32, params: &[AugmentationParams]) {
    let dataset = dataset(params.len());
    let images = &dataset.splits[0];
    let indices: Vec<usize> = (0..params.len()).collect();
    let input = Input::new(&dataset, size, &Device::flex());
    let batch = input.augmented(images, &indices, params).unwrap();
    let side = size as usize;
    assert_eq!(batch.images.dims(), [params.len(), 3, side, side]);
    let data = batch.images.into_data();
    let values: &[f32] = data.as_slice().unwrap();
    for (i, params) in params.iter().enumerate() {
        let expected = reference(&images.pixels[i * 2304..(i + 1) * 2304], side, params);
        for channel in 0..3 {
            let from = (i * 3 + channel) * side * side;
            for (&value, expected) in values[from..from + side * side].iter().zip(&expected) {
                assert!(
                    (f64::from(value) * 255.0 - expected).abs() < 0.01,
                    "{params:?}: {value} {expected}"
                );
            }
        }
    }
}

#[test]
fn equals_resize_then_affine_then_flip() {
    let draws: Vec<AugmentationParams> = (0..40)
        .map(|i| AugmentationParams::new(&NOTEBOOK, 5, Epoch(2), i))
        .collect();
    assert!(draws.iter().any(|draw| draw.flip) && draws.iter().any(|draw| !draw.flip));
    for size in [32, 48, 75] {
        assert_matches_reference(size, &draws);
    }
    assert_matches_reference(200, &draws[..8]);
    assert_matches_reference(48, &[FAR, AugmentationParams::NONE]);
}

#[test]
fn validation_images_are_the_unchanged_ones() {
    let dataset = dataset(5);
    let images = &dataset.splits[0];
    for size in [48, 200] {
        let input = Input::new(&dataset, size, &Device::flex());
        let evaluation = input.evaluation_batch(images, 1..4).unwrap();
        let unchanged = input
            .augmented(images, &[1, 2, 3], &[AugmentationParams::NONE; 3])
            .unwrap();
        assert_eq!(evaluation.images.into_data(), unchanged.images.into_data());
        assert_eq!(evaluation.labels.into_data(), unchanged.labels.into_data());
    }
    let same = Input::new(&dataset, 48, &Device::flex())
        .evaluation_batch(images, 0..1)
        .unwrap()
        .images
        .into_data();
    let same: &[f32] = same.as_slice().unwrap();
    assert!(
        same.iter()
            .zip(&images.pixels[..48 * 48])
            .all(|(&a, &b)| (a * 255.0 - f32::from(b)).abs() < 1e-4)
    );
}

#[test]
fn a_draw_depends_on_seed_epoch_and_index_and_stays_in_range() {
    let draw = |seed, epoch, index| AugmentationParams::new(&NOTEBOOK, seed, Epoch(epoch), index);
    assert_eq!(draw(1, 1, 1), draw(1, 1, 1));
    for other in [draw(2, 1, 1), draw(1, 2, 1), draw(1, 1, 2)] {
        assert_ne!(draw(1, 1, 1), other);
    }
    let draws: Vec<AugmentationParams> = (0..2000).map(|i| draw(3, 1, i)).collect();
    assert!(draws.iter().all(|d| d.tx.abs() <= 0.1 && d.ty.abs() <= 0.1));
    assert!(
        draws
            .iter()
            .all(|d| (0.9..=1.1).contains(&d.zx) && (0.9..=1.1).contains(&d.zy))
    );
    let flipped = draws.iter().filter(|d| d.flip).count();
    assert!((900..1100).contains(&flipped), "{flipped}");
}

#[test]
fn nothing_is_drawn_where_nothing_is_asked_for() {
    let none = Augmentation {
        height_shift: 0.0,
        width_shift: 0.0,
        zoom: 0.0,
        horizontal_flip: false,
    };
    assert_eq!(
        AugmentationParams::new(&none, 1, Epoch(1), 1),
        AugmentationParams::NONE
    );
}

/// Three gray data sets, and the colour data set whose channels they are.
fn planes_and_colour(images: usize) -> ([Dataset; 3], Dataset) {
    let all = dataset(3 * images).splits[0].pixels.clone();
    let plane = |channel: usize| {
        let mut plane = dataset(images);
        plane.splits[0].pixels = all[channel * images * 2304..][..images * 2304].to_vec();
        plane
    };
    let planes = [0, 1, 2].map(plane);
    let mut colour = dataset(images);
    colour.channels = Channels::Rgb;
    let pixels = (0..images * 2304).flat_map(|at| {
        let of_plane = |plane: &Dataset| plane.splits[0].pixels[at];
        planes.each_ref().map(of_plane)
    });
    colour.splits[0].pixels = pixels.collect();
    (planes, colour)
}

#[test]
fn each_channel_of_a_colour_image_is_what_a_gray_image_is() {
    let (planes, colour) = planes_and_colour(6);
    let draws: Vec<AugmentationParams> = (0..6)
        .map(|i| AugmentationParams::new(&NOTEBOOK, 5, Epoch(2), i))
        .collect();
    let indices = [4, 0, 5, 1];
    for device in crate::devices::cpus() {
        for size in [32, 75] {
            let values = |dataset: &Dataset| -> [Vec<f32>; 2] {
                let input = Input::new(dataset, size, &device);
                let images = &dataset.splits[0];
                [
                    input.augmented(images, &indices, &draws[..4]).unwrap(),
                    input.evaluation_batch(images, 1..5).unwrap(),
                ]
                .map(|batch| {
                    assert_eq!(batch.images.dims(), [4, 3, size as usize, size as usize]);
                    batch.images.into_data().try_to_vec().unwrap()
                })
            };
            let gray = planes.each_ref().map(values);
            let found = values(&colour);
            let side = (size * size) as usize;
            for kind in 0..2 {
                for (place, found) in found[kind].chunks_exact(side).enumerate() {
                    let expected = &gray[place % 3][kind][place * side..][..side];
                    let differs = found
                        .iter()
                        .zip(expected)
                        .any(|(found, expected)| (found - expected).abs() > 1e-6);
                    assert!(!differs, "{device:?}, {size}, kind {kind}, plane {place}");
                }
            }
        }
    }
}

#[test]
fn votes_become_distributions() {
    let mut dataset = dataset(3);
    let input = Input::new(&dataset, 32, &Device::flex());
    assert!(
        input
            .evaluation_batch(&dataset.splits[0], 0..3)
            .unwrap()
            .distributions
            .is_none()
    );
    let images = &mut dataset.splits[0];
    images.votes = [
        [8, 2, 0, 0, 0, 0, 0],
        [0, 9, 0, 0, 0, 0, 0],
        [1, 1, 2, 0, 0, 0, 0],
    ]
    .concat();
    let none = [AugmentationParams::NONE; 2];
    let batch = input.augmented(images, &[2, 0], &none).unwrap();
    let distributions = batch.distributions.unwrap().into_data();
    let expected = [
        [0.25, 0.25, 0.5, 0.0, 0.0, 0.0, 0.0],
        [0.8, 0.2, 0.0, 0.0, 0.0, 0.0, 0.0f32],
    ];
    assert_eq!(distributions.as_slice::<f32>().unwrap(), expected.concat());
}

/// Changes as of the notebook, none, and a far one.
fn changes() -> Vec<AugmentationParams> {
    let mirrored = AugmentationParams {
        flip: true,
        ..AugmentationParams::NONE
    };
    let draws = (0..6).map(|i| AugmentationParams::new(&NOTEBOOK, 5, Epoch(2), i));
    let all: Vec<_> = draws
        .chain([AugmentationParams::NONE, mirrored, FAR])
        .collect();
    assert!(all[..6].iter().any(|draw| draw.flip));
    all
}

const INDICES: [usize; 9] = [4, 0, 5, 1, 1, 3, 2, 0, 4];

/// Where a device keeps the pixels, it makes the same images out of numbers.
#[test]
fn kept_pixels_make_the_same_images() {
    let (planes, colour) = planes_and_colour(6);
    for device in crate::devices::cpus() {
        for dataset in [&planes[0], &colour] {
            for size in [32, 48, 75, 200] {
                let images = &dataset.splits[0];
                let plain = Input::new(dataset, size, &device);
                let limit = dataset.shape().bytes() as u64 * 6;
                let keep = |limit| {
                    let plain = plain.clone();
                    plain.keeping(dataset, &[Split::Train], limit).unwrap()
                };
                let keeping = keep(limit);
                assert!(!keep(limit - 1).keeps());
                assert_eq!(keeping.keeps(), quartet_kernels::is_native(&device));
                if !keeping.keeps() {
                    continue;
                }
                let other = Input::new(dataset, size + 7, &device);
                let other = other.keeping(dataset, &[Split::Train], limit).unwrap();
                let resized = other.of_size(size);
                assert!(resized.keeps());
                let evaluation = |input: &Input| {
                    let host = input.host_evaluation(images, Split::Train, 1..5).unwrap();
                    input.decode(&input.upload(host))
                };
                // As for a GPU that cannot make them.
                let by_host = Input {
                    maker: Maker::Host,
                    ..plain.clone()
                };
                let by_host = by_host.keeping(dataset, &[Split::Train], limit).unwrap();
                assert!(!by_host.keeps());
                let made = [&plain, &keeping, &resized, &by_host].map(|input| {
                    let training = input.augmented(images, &INDICES, &changes()).unwrap();
                    [training, evaluation(input)].map(|batch| {
                        let values: Vec<f32> = batch.images.into_data().try_to_vec().unwrap();
                        (values, batch.labels.into_data())
                    })
                });
                let same = made.iter().all(|other| other == &made[0]);
                assert!(same, "{device:?}, {size}");
                // What is sent to the addresses of a batch takes its place.
                for input in [&plain, &keeping, &by_host] {
                    let host = |from: usize| {
                        let (indices, changes) = (&INDICES[from..from + 3], &changes()[from..]);
                        input
                            .host_augmented(images, indices, &changes[..3])
                            .unwrap()
                    };
                    let mut batch = input.upload(host(0));
                    batch.write(host(4));
                    let other = input.decode(&input.upload(host(4))).images.into_data();
                    assert_eq!(input.decode(&batch).images.into_data(), other);
                }
            }
        }
    }
}

/// Images that are made in one pass are those of the matrices.
#[cfg(feature = "tch")]
#[test]
fn images_of_numbers_are_those_of_matrices() {
    let (mut planes, mut colour) = planes_and_colour(6);
    // Of another height than width.
    for dataset in [&mut planes[0], &mut colour] {
        dataset.height = 37;
        let bytes = 6 * dataset.shape().bytes();
        dataset.splits[0].pixels.truncate(bytes);
    }
    for device in crate::devices::cpus() {
        if !quartet_kernels::is_native(&device) {
            continue;
        }
        for dataset in [&planes[0], &colour] {
            // Larger, smaller, and of 48 pixels.
            for size in [200, 75, 48, 31] {
                let images = &dataset.splits[0];
                let input = Input::new(dataset, size, &device);
                let matrices = Matrices::new(dataset.shape(), size as usize, &device);
                let by_matrices = Input {
                    maker: Maker::Matrices(Box::new(matrices)),
                    ..input.clone()
                };
                let [made, expected] = [input, by_matrices].map(|input| {
                    let changed = input.augmented(images, &INDICES, &changes()).unwrap();
                    let resized = input.evaluation_batch(images, 0..6).unwrap();
                    [changed, resized]
                        .map(|batch| batch.images.into_data().try_to_vec::<f32>().unwrap())
                });
                for (made, expected) in made.iter().zip(&expected) {
                    let distances = made.iter().zip(expected).map(|(a, b)| (a - b).abs());
                    let most = distances.fold(0.0, f32::max);
                    assert!(most <= 4e-7, "{device:?}, {size}: {most}");
                }
            }
        }
    }
}

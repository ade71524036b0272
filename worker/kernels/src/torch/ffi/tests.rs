//! Of the calls, and of the convolutions behind them.

mod gpu;
mod images;
mod weights;

use tch::{Device, Kind};

use super::*;
use crate::GpuArithmetic;

#[test]
fn an_exception_becomes_an_error_with_its_message() {
    let ones = |shape: &[i64]| Tensor::ones(shape, (Kind::Float, Device::Cpu));
    let window = Window {
        stride: [1, 1],
        padding: [0, 0],
        dilation: [1, 1],
        groups: 1,
    };
    // The weight has three input channels, the input two.
    let (gradient, x, weight) = (
        ones(&[1, 4, 5, 5]),
        ones(&[1, 2, 5, 5]),
        ones(&[4, 3, 1, 1]),
    );
    let error = conv2d_backward(&gradient, &x, &weight, &window, [true; 3]).unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("LibTorch: gradient of a convolution: ") && text.contains("channels"),
        "{text}"
    );
    // It is an ordinary call that fails: the next one works.
    let weight = ones(&[4, 2, 1, 1]);
    let [x_gradient, none, bias] =
        conv2d_backward(&gradient, &x, &weight, &window, [true, false, true]).unwrap();
    assert_eq!(x_gradient.unwrap().size(), [1, 2, 5, 5]);
    assert!(none.is_none());
    assert_eq!(bias.unwrap().size(), [4]);
}

/// Whether there is a GPU to test on; there must be one where `QUARTET_EXPECT_GPU` says so.
pub(in crate::torch) fn has_gpu() -> bool {
    let found = tch::Cuda::is_available();
    assert!(
        found || std::env::var_os("QUARTET_EXPECT_GPU").is_none(),
        "LibTorch finds no GPU"
    );
    found
}

/// The images' number and channels, the output's channels, height, width and padding.
type Shape = (i64, [i64; 2], [i64; 2], [i64; 2]);

/// Winograd's, on CPUs that have it: odd and even sizes, each padding, panels of 16, 32 and 48 output
/// channels.
const WINOGRAD: [Shape; 4] = [
    (16, [16, 32], [13, 13], [1, 1]),
    (2, [32, 80], [33, 47], [0, 1]),
    (4, [64, 48], [24, 25], [2, 2]),
    (1, [48, 112], [60, 46], [1, 0]),
];

/// Evenly distributed in -1 to 1, the same at each call.
fn noise(shape: &[i64]) -> Tensor {
    noise_from(0.0, shape)
}

/// Other values than [`noise`] for each beginning.
fn noise_from(first: f64, shape: &[i64]) -> Tensor {
    let numbers = Tensor::arange(shape.iter().product::<i64>(), (Kind::Double, Device::Cpu));
    let numbers = numbers + first;
    let noise = (numbers * 12.9898).sin() * 43_758.545_3;
    (noise.frac().to_kind(Kind::Float)).reshape(shape)
}

/// Output and gradients of a convolution in `kind`, of the same numbers for each kind.
fn convolution((n, [from, to], [height, width], padding): Shape, kind: Kind) -> [Tensor; 4] {
    let random = |shape: &[i64]| noise(shape).to_kind(kind);
    let images = |shape: &[i64]| match kind {
        Kind::Double => random(shape),
        _ => channels_last(&random(shape), false).unwrap(),
    };
    let window = Window {
        stride: [1, 1],
        padding,
        dilation: [1, 1],
        groups: 1,
    };
    let x = images(&[n, from, height, width]);
    let (weight, bias) = (random(&[to, from, 3, 3]), random(&[to]));
    let y = conv2d(&x, &weight, Some(&bias), &window).unwrap();
    let gradient = images(&y.size());
    let gradients = conv2d_backward(&gradient, &x, &weight, &window, [true; 3]).unwrap();
    let [x, weight, bias] = gradients.map(Option::unwrap);
    [y, x, weight, bias]
}

#[test]
fn convolutions_in_32_bits_are_those_in_64_bits() {
    // The last two are LibTorch's own: for their channels, and for their few pixels.
    let others = [(8, [16, 24], [9, 9], [1, 1]), (1, [16, 16], [9, 9], [1, 1])];
    for shape in WINOGRAD.into_iter().chain(others) {
        let (single, double) = (
            convolution(shape, Kind::Float),
            convolution(shape, Kind::Double),
        );
        for (i, (single, double)) in single.iter().zip(&double).enumerate() {
            assert_eq!(single.size(), double.size());
            let distance = (single.to_kind(Kind::Double) - double).norm() / double.norm();
            let distance = distance.double_value(&[]);
            assert!(distance < 1e-6, "{shape:?}, tensor {i}: {distance}");
        }
    }
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[test]
fn tensors_that_do_not_fit_winograds_are_refused() {
    if !std::is_x86_feature_detected!("avx512f") {
        return;
    }
    let x = channels_last(&noise(&[16, 16, 13, 13]), false).unwrap();
    let weight = noise(&[32, 16, 3, 3]);
    let window = Window {
        stride: [1, 1],
        padding: [1, 1],
        dilation: [1, 1],
        groups: 1,
    };
    let ones = |shape: &[i64], device| Tensor::ones(shape, (Kind::Float, device));
    let backward = |gradient: Tensor| {
        let result = conv2d_backward(&gradient, &x, &weight, &window, [true; 3]);
        result.map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(backward(ones(&[16, 32, 13, 13], Device::Cpu)), Ok(()));
    for shape in [[16, 32, 12, 13], [16, 16, 13, 13], [8, 32, 13, 13]] {
        let error = backward(ones(&shape, Device::Cpu)).unwrap_err();
        assert!(error.contains("another shape"), "{error}");
    }
    if tch::Cuda::is_available() {
        let gpu = Device::Cuda(0);
        let error = backward(ones(&[16, 32, 13, 13], gpu)).unwrap_err();
        assert!(error.contains("another device"), "{error}");
        let bias = ones(&[32], gpu);
        let error = conv2d(&x, &weight, Some(&bias), &window).unwrap_err();
        assert!(error.to_string().contains("another device"), "{error}");
    }
}

#[test]
fn convolutions_do_not_depend_on_the_number_of_threads() {
    let threads = tch::get_num_threads();
    for shape in WINOGRAD {
        let [one, three] = [1, 3].map(|threads| {
            tch::set_num_threads(threads);
            convolution(shape, Kind::Float)
        });
        for (one, three) in one.iter().zip(&three).take(3) {
            assert_eq!(one, three, "{shape:?}");
        }
    }
    tch::set_num_threads(threads);
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[test]
fn convolutions_of_3x3_are_winograds() {
    if !std::is_x86_feature_detected!("avx512f") {
        return;
    }
    for shape in WINOGRAD {
        let (n, [from, to], [height, width], padding) = shape;
        let x = channels_last(&noise(&[n, from, height, width]), false).unwrap();
        let (weight, bias) = (noise(&[to, from, 3, 3]), noise(&[to]));
        let direct = x.conv2d(&weight, Some(&bias), [1, 1], padding, [1, 1], 1);
        // Rounded in another way.
        let [y, ..] = convolution(shape, Kind::Float);
        assert_ne!(y, direct, "{shape:?}");
    }
}

#[test]
fn a_copy_to_a_gpu_that_is_not_there_is_refused() {
    if tch::Cuda::is_available() {
        return;
    }
    let error = to_gpu(&noise(&[3]), 7).unwrap_err().to_string();
    assert!(error.contains("copy to a GPU"), "{error}");
}

#[test]
fn what_is_written_keeps_its_address() {
    let mut target = noise(&[2, 3]);
    let place = target.data_ptr();
    write(
        &mut target,
        &Tensor::ones([2, 3], (Kind::Float, Device::Cpu)),
    )
    .unwrap();
    assert_eq!(target.data_ptr(), place);
    assert_eq!(target.sum(Kind::Float).double_value(&[]), 6.0);
    let error = write(&mut target, &noise(&[3])).unwrap_err().to_string();
    assert!(error.contains("another shape"), "{error}");
}

#[test]
fn how_gpus_compute_can_be_said_where_there_are_none() {
    for deterministic in [true, false] {
        for tf32 in [false, true] {
            let arithmetic = GpuArithmetic {
                tf32,
                deterministic,
            };
            assert_eq!(set_gpu_arithmetic(arithmetic), Ok(()));
        }
    }
}

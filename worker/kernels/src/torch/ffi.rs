//! The functions of `shim/shim.cpp`, made safe.

#![expect(
    unsafe_code,
    reason = "calls into C++ are unsafe; these are all there are in Quartet"
)]

use std::ffi::{CStr, c_char};
use std::ptr::{null, null_mut};

use tch::Tensor;
use torch_sys::C_tensor;

type Ref = *const C_tensor;

/// What LibTorch has to say about a call that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("LibTorch: {operation}: {message}")]
pub(super) struct TorchError {
    operation: &'static str,
    message: String,
}

unsafe extern "C" {
    fn quartet_free(message: *mut c_char);
    fn quartet_conv2d(
        x: Ref,
        weight: Ref,
        bias: Ref,
        stride: *const i64,
        padding: *const i64,
        dilation: *const i64,
        groups: i64,
        out: *mut *mut C_tensor,
        message: *mut *mut c_char,
    ) -> i32;
    fn quartet_conv2d_backward(
        gradient: Ref,
        x: Ref,
        weight: Ref,
        stride: *const i64,
        padding: *const i64,
        dilation: *const i64,
        groups: i64,
        want: *const bool,
        out: *mut *mut C_tensor,
        message: *mut *mut c_char,
    ) -> i32;
    fn quartet_batch_norm_backward(
        gradient: Ref,
        x: Ref,
        gamma: Ref,
        statistics: *const Ref,
        train: bool,
        epsilon: f64,
        want: *const bool,
        out: *mut *mut C_tensor,
        message: *mut *mut c_char,
    ) -> i32;
    fn quartet_convert(
        x: Ref,
        like: Ref,
        out: *mut *mut C_tensor,
        message: *mut *mut c_char,
    ) -> i32;
    fn quartet_channels_last(
        x: Ref,
        bfloat16: bool,
        out: *mut *mut C_tensor,
        message: *mut *mut c_char,
    ) -> i32;
    fn quartet_add_scaled(
        x: Ref,
        y: Ref,
        scale: f64,
        out: *mut *mut C_tensor,
        message: *mut *mut c_char,
    ) -> i32;
    fn quartet_adam(
        value: Ref,
        gradient: Ref,
        m: Ref,
        v: Ref,
        rate: f64,
        beta1: f64,
        beta2: f64,
        epsilon: f64,
        step: f64,
        message: *mut *mut c_char,
    ) -> i32;
    fn quartet_tune_gpus(message: *mut *mut c_char) -> i32;
}

/// Stride, padding, dilation (each of height and width) and groups of a convolution.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) stride: [i64; 2],
    pub(super) padding: [i64; 2],
    pub(super) dilation: [i64; 2],
    pub(super) groups: i64,
}

/// `x` `[n, in, height, width]` convolved with `weight` `[out, in / groups, height, width]`, and the bias `[out]` added.
pub(super) fn conv2d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    window: &Window,
) -> Result<Tensor, TorchError> {
    one("convolution", |out, message| {
        // SAFETY: the tensors and the pairs live through the call, which only reads them; `bias` may be null; `out` has room
        // for one.
        unsafe {
            quartet_conv2d(
                x.as_ptr(),
                weight.as_ptr(),
                bias.map_or(null(), |bias| bias.as_ptr()),
                window.stride.as_ptr(),
                window.padding.as_ptr(),
                window.dilation.as_ptr(),
                window.groups,
                out,
                message,
            )
        }
    })
}

/// Gradients of input, weight and bias, as far as they are wanted.
pub(super) fn conv2d_backward(
    gradient: &Tensor,
    x: &Tensor,
    weight: &Tensor,
    window: &Window,
    want: [bool; 3],
) -> Result<[Option<Tensor>; 3], TorchError> {
    let mut out = [null_mut(); 3];
    call("gradient of a convolution", |message| {
        // SAFETY: the tensors, the pairs and `want` live through the call, which only reads them; `out` has room for three.
        unsafe {
            quartet_conv2d_backward(
                gradient.as_ptr(),
                x.as_ptr(),
                weight.as_ptr(),
                window.stride.as_ptr(),
                window.padding.as_ptr(),
                window.dilation.as_ptr(),
                window.groups,
                want.as_ptr(),
                out.as_mut_ptr(),
                message,
            )
        }
    })?;
    Ok(out.map(own))
}

/// By what a batch normalisation has normalised, each `[channels]`.
#[derive(Clone, Copy, Debug)]
pub(super) enum Normalised<'a> {
    /// Mean and inverse standard deviation of the batch.
    Batch(&'a Tensor, &'a Tensor),
    /// Running mean and variance.
    Running(&'a Tensor, &'a Tensor),
}

/// Gradients of input, gamma and beta, as far as they are wanted.
pub(super) fn batch_norm_backward(
    gradient: &Tensor,
    x: &Tensor,
    gamma: &Tensor,
    by: Normalised<'_>,
    epsilon: f64,
    want: [bool; 3],
) -> Result<[Option<Tensor>; 3], TorchError> {
    let (train, first, second) = match by {
        Normalised::Batch(mean, deviation) => (true, mean, deviation),
        Normalised::Running(mean, variance) => (false, mean, variance),
    };
    let statistics = [first.as_ptr(), second.as_ptr()];
    let mut out = [null_mut(); 3];
    call("gradient of a batch normalisation", |message| {
        // SAFETY: the tensors and the arrays live through the call, which only reads them; `out` has room for three.
        unsafe {
            quartet_batch_norm_backward(
                gradient.as_ptr(),
                x.as_ptr(),
                gamma.as_ptr(),
                statistics.as_ptr(),
                train,
                epsilon,
                want.as_ptr(),
                out.as_mut_ptr(),
                message,
            )
        }
    })?;
    Ok(out.map(own))
}

/// `x` in the memory format and type of `like`. Where it is so already, the result shares the memory of `x`.
pub(super) fn convert(x: &Tensor, like: &Tensor) -> Result<Tensor, TorchError> {
    one("conversion of a layout", |out, message| {
        // SAFETY: the tensors live through the call, which only reads them; `out` has room for one.
        unsafe { quartet_convert(x.as_ptr(), like.as_ptr(), out, message) }
    })
}

/// `x` with its channels innermost, in bfloat16 or in its own type. Where it is so already, the result shares the memory of
/// `x`.
pub(super) fn channels_last(x: &Tensor, bfloat16: bool) -> Result<Tensor, TorchError> {
    one("conversion to channels-last", |out, message| {
        // SAFETY: the tensor lives through the call, which only reads it; `out` has room for one.
        unsafe { quartet_channels_last(x.as_ptr(), bfloat16, out, message) }
    })
}

/// `x + scale * y`.
pub(super) fn add_scaled(x: &Tensor, y: &Tensor, scale: f64) -> Result<Tensor, TorchError> {
    one("sum", |out, message| {
        // SAFETY: the tensors live through the call, which only reads them; `out` has room for one.
        unsafe { quartet_add_scaled(x.as_ptr(), y.as_ptr(), scale, out, message) }
    })
}

/// PyTorch's Adam: learning rate, the decays of both moments, epsilon (inside of the bias correction) and the number of the
/// update, from 1.
#[derive(Clone, Copy, Debug)]
pub(super) struct TorchAdam {
    pub(super) rate: f64,
    pub(super) betas: [f64; 2],
    pub(super) epsilon: f64,
    pub(super) step: f64,
}

/// Updates `value` and its moments, which are contiguous, in place.
pub(super) fn adam(
    value: &mut Tensor,
    gradient: &Tensor,
    [m, v]: [&mut Tensor; 2],
    update: TorchAdam,
) -> Result<(), TorchError> {
    let [beta1, beta2] = update.betas;
    call("Adam", |message| {
        // SAFETY: the tensors live through the call; those that it writes to are borrowed mutably.
        unsafe {
            quartet_adam(
                value.as_ptr(),
                gradient.as_ptr(),
                m.as_ptr(),
                v.as_ptr(),
                update.rate,
                beta1,
                beta2,
                update.epsilon,
                update.step,
                message,
            )
        }
    })
}

/// TF32, and the fastest of cuDNN's algorithms: for GPUs, and for the whole process.
pub(super) fn tune_gpus() -> Result<(), TorchError> {
    call("settings of GPUs", |message| {
        // SAFETY: the call takes nothing but a place for its message.
        unsafe { quartet_tune_gpus(message) }
    })
}

/// A call that stores one tensor.
fn one(
    operation: &'static str,
    body: impl FnOnce(*mut *mut C_tensor, *mut *mut c_char) -> i32,
) -> Result<Tensor, TorchError> {
    let mut out = null_mut();
    call(operation, |message| body(&mut out, message))?;
    Ok(own(out).expect("the shim stores a tensor when it succeeds"))
}

/// Takes over a tensor that the shim has stored.
fn own(tensor: *mut C_tensor) -> Option<Tensor> {
    // SAFETY: the shim allocated it as torch-sys does (`new at::Tensor`), and gives it to the caller alone.
    (!tensor.is_null()).then(|| unsafe { Tensor::from_ptr(tensor) })
}

/// Turns a shim's status and message into a result.
fn call(
    operation: &'static str,
    body: impl FnOnce(*mut *mut c_char) -> i32,
) -> Result<(), TorchError> {
    let mut message = null_mut();
    if body(&mut message) == 0 {
        return Ok(());
    }
    let text = match message.is_null() {
        true => "no memory".to_owned(),
        false => {
            // SAFETY: a message that is not null is a string that ends in 0 and is the caller's.
            let text = unsafe { CStr::from_ptr(message) };
            text.to_string_lossy().into_owned()
        }
    };
    // SAFETY: the message was allocated by the shim, is not used from here on, and may be null.
    unsafe { quartet_free(message) };
    Err(TorchError {
        operation,
        message: text,
    })
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

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

    /// The images' number and channels, the output's channels, height, width and padding.
    type Shape = (i64, [i64; 2], [i64; 2], [i64; 2]);

    /// Winograd's, on CPUs that have it: odd and even sizes, each padding, panels of 16, 32 and 48 output channels.
    const WINOGRAD: [Shape; 4] = [
        (16, [16, 32], [13, 13], [1, 1]),
        (2, [32, 80], [33, 47], [0, 1]),
        (4, [64, 48], [24, 25], [2, 2]),
        (1, [48, 112], [60, 46], [1, 0]),
    ];

    /// Evenly distributed in -1 to 1, the same at each call.
    fn noise(shape: &[i64]) -> Tensor {
        let numbers = Tensor::arange(shape.iter().product::<i64>(), (Kind::Double, Device::Cpu));
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
    fn gpus_can_be_tuned_where_there_are_none() {
        assert_eq!(tune_gpus(), Ok(()));
    }

    #[test]
    fn moments_that_do_not_fit_are_refused() {
        let update = TorchAdam {
            rate: 0.1,
            betas: [0.9, 0.999],
            epsilon: 1e-7,
            step: 1.0,
        };
        for (size, kind, refused) in [
            (4, Kind::Float, None),
            (3, Kind::Float, Some("3 elements instead of 4")),
            (4, Kind::Double, Some("another type")),
        ] {
            let zeros = |n: i64, kind| Tensor::zeros([n], (kind, Device::Cpu));
            let (mut value, gradient) = (zeros(4, Kind::Float), zeros(4, Kind::Float));
            let (mut m, mut v) = (zeros(4, Kind::Float), zeros(size, kind));
            let result = adam(&mut value, &gradient, [&mut m, &mut v], update);
            match refused {
                None => assert_eq!(result, Ok(())),
                Some(reason) => {
                    let error = result.unwrap_err().to_string();
                    assert!(error.contains(reason), "{error}");
                }
            }
        }
    }
}

//! Of all parameters at once.

use super::*;

/// Dense, with the second of four axes innermost.
fn channels_innermost(x: &Tensor) -> Tensor {
    let x = x.permute([0, 2, 3, 1]).contiguous();
    x.permute([0, 3, 1, 2])
}

/// Where there is a GPU, there, too.
fn devices() -> Vec<Device> {
    let gpu = has_gpu().then_some(Device::Cuda(0));
    [Device::Cpu].into_iter().chain(gpu).collect()
}

/// Some of each kind, such as a kernel of one pixel, which is in both orders at once. A multiple of 16
/// elements each: what does not fill a vector of the CPU is rounded in another way.
const SHAPES: [&[i64]; 5] = [&[8, 4, 3, 3], &[4, 8, 1, 1], &[4, 4, 1, 7], &[16], &[9, 16]];

/// Parameters after two updates, and their moments, in row-major order.
fn updated(
    device: Device,
    innermost: bool,
    gradient: impl Fn(&Tensor) -> Tensor,
) -> Vec<[Tensor; 3]> {
    let layout = |x: &Tensor| match innermost && x.dim() == 4 {
        true => channels_innermost(x),
        false => x.contiguous(),
    };
    let values = SHAPES.map(|shape| layout(&noise(shape).to_device(device)));
    let mut values = Vec::from(values);
    let [mut m, mut v] = [(); 2].map(|()| {
        let zeros = values.iter().map(|value| value.flatten(0, -1).zeros_like());
        zeros.collect::<Vec<_>>()
    });
    let rate = Tensor::from_slice(&[0.01_f32]).to_device(device);
    for number in 0..2 {
        let gradients: Vec<Tensor> = SHAPES
            .iter()
            .map(|shape| gradient(&(noise(shape).to_device(device) * (0.5 + f64::from(number)))))
            .collect();
        let update = TorchAdam {
            rate: &rate,
            betas: [0.9, 0.999],
            epsilon: 1e-7,
        };
        adam(&mut values, &gradients, [&mut m, &mut v], update).unwrap();
    }
    let row_major = |moment: &Tensor, value: &Tensor| {
        let size = value.size();
        match (innermost, &size[..]) {
            (true, &[a, b, c, d]) => {
                let last = moment.reshape([a, c, d, b]);
                last.permute([0, 3, 1, 2]).contiguous()
            }
            _ => moment.reshape(&size[..]),
        }
    };
    let all = values.iter().zip(m.iter().zip(&v));
    all.map(|(value, (m, v))| [value.contiguous(), row_major(m, value), row_major(v, value)])
        .collect()
}

#[test]
fn adam_takes_parameters_and_gradients_in_any_order() {
    for device in devices() {
        // Numbers that bfloat16 has.
        let rounded = |x: &Tensor| x.to_kind(Kind::BFloat16);
        let single = |x: &Tensor| rounded(x).to_kind(Kind::Float);
        let last = |x: Tensor| match x.dim() {
            4 => channels_innermost(&x),
            _ => x,
        };
        let expected = updated(device, false, single);
        let found = [
            updated(device, false, |x| last(single(x))),
            updated(device, false, rounded),
            updated(device, true, single),
            updated(device, true, |x| last(single(x))),
            updated(device, true, |x| last(rounded(x))),
            // Some in one type and some in the other.
            updated(device, true, |x| match x.dim() {
                4 => last(rounded(x)),
                _ => single(x),
            }),
            // A part of a larger tensor.
            updated(device, true, |x| {
                let pair = Tensor::stack(&[single(x), x * 3.0], -1);
                pair.select(-1, 0)
            }),
        ];
        for (way, found) in found.iter().enumerate() {
            assert_eq!(found, &expected, "{device:?}, {way}");
        }
    }
}

#[test]
fn weights_are_converted_at_once_as_one_by_one() {
    for device in devices() {
        let weights: Vec<Tensor> = SHAPES
            .iter()
            .filter(|shape| shape.len() == 4)
            .enumerate()
            .map(|(i, shape)| {
                let x = noise(shape).to_device(device);
                // In both orders.
                if i == 0 { x } else { channels_innermost(&x) }
            })
            .collect();
        let converted = bf16_weights(&weights).unwrap();
        assert_eq!(converted.len(), weights.len());
        for (found, x) in converted.iter().zip(&weights) {
            assert_eq!(*found, x.to_kind(Kind::BFloat16));
            let inner = found.permute([0, 2, 3, 1]);
            assert!(inner.is_contiguous(), "{:?}", found.stride());
        }
    }
    assert_eq!(bf16_weights(&[]), Ok(Vec::new()));
    let error = bf16_weights(&[noise(&[3, 3])]).unwrap_err().to_string();
    assert!(error.contains("conversion of weights"), "{error}");
}

#[test]
fn memory_without_gaps_is_seen_as_it_lies() {
    let x = noise(&[2, 3, 4, 5]);
    let inner = channels_innermost(&x);
    let seen = flat(&inner).unwrap();
    assert_eq!(seen.data_ptr(), inner.data_ptr());
    assert_eq!(seen, x.permute([0, 2, 3, 1]).reshape([-1]));
    let error = flat(&x.narrow(3, 0, 2)).unwrap_err().to_string();
    assert!(error.contains("gaps"), "{error}");
}

#[test]
fn moments_that_do_not_fit_are_refused() {
    let rate = Tensor::from_slice(&[0.1_f32]);
    let update = TorchAdam {
        rate: &rate,
        betas: [0.9, 0.999],
        epsilon: 1e-7,
    };
    for (size, kind, refused) in [
        (4, Kind::Float, None),
        (3, Kind::Float, Some("3 elements instead of 4")),
        (4, Kind::Double, Some("another type")),
    ] {
        let zeros = |n: i64, kind| Tensor::zeros([n], (kind, Device::Cpu));
        // The second parameter is the one that may not fit.
        let list = |size, kind| [zeros(2, Kind::Float), zeros(size, kind)];
        let [mut values, gradients, mut m] = [(); 3].map(|()| list(4, Kind::Float));
        let mut v = list(size, kind);
        let result = adam(&mut values, &gradients, [&mut m, &mut v], update);
        match refused {
            None => assert_eq!(result, Ok(())),
            Some(reason) => {
                let error = result.unwrap_err().to_string();
                assert!(error.contains(reason), "{error}");
            }
        }
    }
}

//! What GPUs compute with kernels of our own. Without a GPU there is only what LibTorch computes instead.

use super::*;

/// On a device, of the same values for each type, but of others for each shift: a gradient in proportion to
/// an input is normalised away.
fn on(device: Device, shape: &[i64], kind: Kind, scale: f64, shift: f64) -> Tensor {
    let x = (noise_from(shift * 1e3, shape) * scale + shift).to_kind(kind);
    let x = x.to_device(device);
    match shape.len() {
        4 => channels_last(&x, false).unwrap(),
        _ => x,
    }
}

fn on_gpu(shape: &[i64], kind: Kind, scale: f64, shift: f64) -> Tensor {
    on(Device::Cuda(0), shape, kind, scale, shift)
}

/// As a number of 64 bits on the CPU.
fn exact(x: &Tensor) -> Tensor {
    x.to_device(Device::Cpu).to_kind(Kind::Double)
}

/// How far `found` is from `expected`, relative to the norm of that.
fn distance(found: &Tensor, expected: &Tensor) -> f64 {
    assert_eq!(found.size(), expected.size());
    let difference = exact(found) - expected;
    (difference.norm() / expected.norm().clamp_min(1e-30)).double_value(&[])
}

/// What LibTorch computes in float64 on the CPU: output, mean and variance of the batch, and the gradients of
/// input, gamma, beta and residual. ReLU, if there is one, passes gradients on where its output `after` is
/// above 0, as rounding decides near 0.
fn reference(
    x: &Tensor,
    residual: Option<&Tensor>,
    [gamma, beta]: [&Tensor; 2],
    gradient: &Tensor,
    after: Option<&Tensor>,
) -> [Tensor; 7] {
    let [x, gamma, beta, residual] = [Some(x), Some(gamma), Some(beta), residual].map(|tensor| {
        let tensor = tensor.map_or_else(|| noise(&[1]), Tensor::shallow_clone);
        exact(&tensor).set_requires_grad(true)
    });
    let axes: Vec<i64> = (0..x.dim() as i64).filter(|&axis| axis != 1).collect();
    let shape: Vec<i64> = (0..x.dim())
        .map(|axis| if axis == 1 { -1 } else { 1 })
        .collect();
    let mean = x.mean_dim(&axes[..], true, Kind::Double);
    let variance = x.var_dim(&axes[..], false, true);
    let normal = (&x - &mean) / (&variance + EPSILON).sqrt();
    let y = normal * gamma.reshape(&shape[..]) + beta.reshape(&shape[..]);
    let y = match residual.size() == x.size() {
        true => y + &residual,
        false => y,
    };
    let (passed, output) = match after {
        Some(after) => (exact(gradient) * exact(after).gt(0.0), y.relu()),
        None => (exact(gradient), y.shallow_clone()),
    };
    (&y * passed).sum(Kind::Double).backward();
    let gradient_of = |tensor: &Tensor| match tensor.grad().defined() {
        true => tensor.grad(),
        false => tensor.zeros_like(),
    };
    [
        output.detach(),
        mean.reshape([-1]).detach(),
        variance.reshape([-1]).detach(),
        gradient_of(&x),
        gradient_of(&gamma),
        gradient_of(&beta),
        gradient_of(&residual),
    ]
}

const EPSILON: f64 = 1e-3;
const MOMENTUM: f64 = 0.25;

#[test]
fn fused_normalisation_is_that_of_the_formula() {
    if !has_gpu() {
        return;
    }
    // Images, rows of the head, channels of every kind of grid, fewer rows than a block has, large means.
    let shapes: [&[i64]; 8] = [
        &[8, 64, 25, 25],
        &[4, 80, 17, 19],
        &[32, 1024],
        &[2, 2080, 4, 4],
        &[3, 8, 1, 1],
        &[32, 16, 99, 99],
        &[16, 48, 50, 50],
        &[32, 320, 9, 9],
    ];
    for kind in [Kind::Float, Kind::BFloat16] {
        for shape in shapes {
            for (with_residual, relu, part) in [
                (false, false, false),
                (false, true, true),
                (true, true, false),
                (true, false, true),
            ] {
                let channels = shape[1];
                let x = on_gpu(shape, kind, 2.0, 30.0);
                let residual = on_gpu(shape, kind, 1.0, 0.25);
                let residual = with_residual.then_some(&residual);
                assert!(fused_suits(&x, residual), "{shape:?}");
                let gamma = on_gpu(&[channels], Kind::Float, 0.5, 1.0);
                let beta = on_gpu(&[channels], Kind::Float, 0.5, -0.1);
                let bias =
                    (with_residual == part).then(|| on_gpu(&[channels], Kind::Float, 1.0, 0.5));
                let input = Unbiased {
                    x: &x,
                    bias: bias.as_ref(),
                };
                let mut mean = on_gpu(&[channels], Kind::Float, 1.0, 0.0);
                let mut variance = on_gpu(&[channels], Kind::Float, 0.1, 2.0);
                let before = [exact(&mean), exact(&variance)];
                let [y, batch_mean, deviation] = fused_norm(
                    input,
                    residual,
                    [&gamma, &beta],
                    [&mut mean, &mut variance],
                    [MOMENTUM, EPSILON],
                    relu,
                )
                .unwrap();
                // As the gradient of a branch of joined ones, or a tensor of its own.
                let gradient = match part {
                    true => {
                        let mut joined = shape.to_vec();
                        joined[1] += 16;
                        on_gpu(&joined, kind, 1.0, 0.1).narrow(1, 8, channels)
                    }
                    false => on_gpu(shape, kind, 1.0, 0.1),
                };
                let after = relu.then_some(&y);
                let expected = reference(&x, residual, [&gamma, &beta], &gradient, after);
                let output = (relu && with_residual).then_some(&y);
                let layer = [&gamma, &beta, &batch_mean, &deviation];
                let found = fused_norm_backward(&gradient, input, output, layer, relu).unwrap();
                let [gx, ggamma, gbeta, gresidual, gbias] = found;
                let [gx, ggamma, gbeta, gresidual] =
                    [gx, ggamma, gbeta, gresidual].map(Option::unwrap);
                // The batch's mean takes a bias away.
                assert_eq!(gbias.is_some(), bias.is_some());
                assert!(gbias.is_none_or(|bias| !bool::try_from(bias.any()).unwrap()));
                let running =
                    |before: &Tensor, batch: &Tensor| before * (1.0 - MOMENTUM) + batch * MOMENTUM;
                let biased = match &bias {
                    Some(bias) => &expected[1] + exact(bias),
                    None => expected[1].shallow_clone(),
                };
                let rounding = if kind == Kind::Float { 1e-5 } else { 6e-3 };
                let mut pairs = vec![
                    ("output", &y, expected[0].shallow_clone(), rounding),
                    ("mean", &mean, running(&before[0], &biased), 1e-6),
                    (
                        "variance",
                        &variance,
                        running(&before[1], &expected[2]),
                        1e-5,
                    ),
                    (
                        "gradient of gamma",
                        &ggamma,
                        expected[4].shallow_clone(),
                        1e-4,
                    ),
                    (
                        "gradient of beta",
                        &gbeta,
                        expected[5].shallow_clone(),
                        1e-4,
                    ),
                ];
                // Of three values each: what is left of them is rounding.
                if shape[0] * shape.get(2).unwrap_or(&1) > 3 {
                    pairs.push(("gradient", &gx, expected[3].shallow_clone(), 3.0 * rounding));
                }
                if output.is_some() {
                    let expected = expected[6].shallow_clone();
                    pairs.push(("gradient of the residual", &gresidual, expected, rounding));
                }
                for (what, found, expected, limit) in pairs {
                    let distance = distance(found, &expected);
                    assert!(
                        distance < limit,
                        "{what} of {shape:?} {kind:?}, {with_residual} {relu}: {distance}"
                    );
                }
            }
        }
    }
}

#[test]
fn what_follows_a_convolution_is_that_of_the_formula() {
    let window = Window {
        stride: [1, 1],
        padding: [0, 0],
        dilation: [1, 1],
        groups: 1,
    };
    for device in [Device::Cpu, Device::Cuda(0)] {
        if device != Device::Cpu && !has_gpu() {
            continue;
        }
        // With our own kernels, and with channels that these do not have.
        for (kind, channels) in [
            (Kind::Float, 80),
            (Kind::BFloat16, 320),
            (Kind::BFloat16, 20),
        ] {
            for (with_residual, scale, relu, narrow) in [
                (false, 1.0, true, false),
                (false, 1.0, true, true),
                (true, 0.25, true, false),
                (true, 0.25, false, true),
                (true, 1.0, true, false),
                (true, 1.0, false, false),
            ] {
                let shape = [4, channels, 15, 13];
                let x = on(device, &[4, 16, 15, 13], kind, 1.0, 0.0);
                let weight = on(device, &[channels, 16, 1, 1], kind, 1.0, 0.0);
                let bias = on(device, &[channels], Kind::Float, 1.0, 0.1);
                let residual = on(device, &shape, kind, 2.0, 0.3);
                let residual = with_residual.then_some(&residual);
                let tail = Tail { scale, relu };
                let y = conv2d_combined(&x, &weight, &bias, residual, &window, tail).unwrap();
                let gradient = match narrow {
                    true => on(device, &[4, channels + 16, 15, 13], kind, 1.0, 0.1)
                        .narrow(1, 8, channels),
                    false => on(device, &shape, kind, 1.0, 0.1),
                };
                let output = relu.then_some(&y);
                let [product, sums, rest] =
                    part(&gradient, &bias, output, with_residual, scale).unwrap();

                let mut expected = exact(&x).conv2d(&exact(&weight), None::<Tensor>, 1, 0, 1, 1);
                expected = (expected + exact(&bias).reshape([1, -1, 1, 1])) * scale;
                let added = residual.map(exact);
                if let Some(added) = added {
                    expected += added;
                }
                if relu {
                    expected = expected.relu();
                }
                let mask = match relu {
                    true => exact(&y).gt(0.0).to_kind(Kind::Double),
                    false => expected.ones_like(),
                };
                let passed = exact(&gradient) * mask;
                let scaled = &passed * scale;
                let rounding = if kind == Kind::Float { 2e-3 } else { 1e-2 };
                let mut pairs = vec![
                    ("output", &y, expected, rounding),
                    (
                        "gradient of the product",
                        &product,
                        scaled.shallow_clone(),
                        rounding,
                    ),
                    (
                        "gradient of the bias",
                        &sums,
                        scaled.sum_dim_intlist([0i64, 2, 3].as_slice(), false, Kind::Double),
                        rounding,
                    ),
                ];
                if with_residual {
                    pairs.push(("gradient of the residual", &rest, passed, rounding));
                }
                for (what, found, expected, limit) in pairs {
                    let distance = distance(found, &expected);
                    assert!(
                        distance < limit,
                        "{what}, {kind:?} {channels} {with_residual} {scale} {relu}: {distance}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_graph_does_again_what_was_recorded() {
    if !has_gpu() || !Graph::available() {
        return;
    }
    let mut x = on_gpu(&[4], Kind::Float, 1.0, 0.0);
    let total = Tensor::zeros([4], (Kind::Float, Device::Cuda(0)));
    let body = |total: &Tensor| {
        let mut total = total.shallow_clone();
        let _ = total.g_add_(&(&x * 2.0));
        Ok(())
    };
    body(&total).unwrap();
    let _ = total.shallow_clone().zero_();
    let family = Family::new().unwrap();
    let (mut graph, ()) = Graph::record(0, family, || body(&total)).unwrap();
    let sum = |total: &Tensor| total.sum(Kind::Double).double_value(&[]);
    assert_eq!(sum(&total), 0.0, "what is recorded is not done");
    write(&mut x, &Tensor::ones([4], (Kind::Float, Device::Cpu))).unwrap();
    graph.replay().unwrap();
    graph.replay().unwrap();
    assert_eq!(sum(&total), 16.0);
    // What waits for the GPU cannot be recorded, and leaves everything as it was.
    let error = Graph::record(0, family, || {
        std::panic::catch_unwind(|| sum(&total)).map_err(|_| "it waits".to_owned())
    });
    assert_eq!(error.unwrap_err(), "it waits");
    graph.replay().unwrap();
    assert_eq!(sum(&total), 24.0);
    assert!(peak_bytes(0).unwrap() > 0);
}

#[test]
fn memory_that_nobody_has_is_given_back() {
    if !has_gpu() || !Graph::available() {
        return;
    }
    // LibTorch has no memory of a GPU, and knows none, before it has done something there.
    drop(Tensor::zeros([1], (Kind::Uint8, Device::Cuda(0))));
    let before = release_memory(0).unwrap();
    let bytes = 64 << 20;
    let kept = Tensor::zeros([bytes], (Kind::Uint8, Device::Cuda(0)));
    assert_eq!(release_memory(0).unwrap(), before + bytes as u64);
    drop(kept);
    assert_eq!(release_memory(0).unwrap(), before);
}

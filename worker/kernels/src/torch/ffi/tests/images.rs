//! Images out of bytes. That they are those of two matrices is tested where these are.

use super::*;

/// Small, of odd sizes.
fn pixels(n: i64, [height, width]: [i64; 2], channels: i64, device: Device) -> Tensor {
    let numbers = Tensor::arange(n * height * width * channels, (Kind::Int64, device));
    let bytes = (numbers * 41).remainder(251).to_kind(Kind::Uint8);
    bytes.reshape([n, height, width * channels])
}

/// Of `n` images: shifts of up to the whole image, zooms of 0.5 to 2.5, half of them mirrored.
fn changes(n: i64, device: Device) -> Tensor {
    let wave = (noise(&[n, 5]).to_kind(Kind::Double)).to_device(device);
    let [shifts, zooms, mirrored] = [(0, 2), (2, 2), (4, 1)].map(|(at, n)| wave.narrow(1, at, n));
    let mirrored = mirrored.gt(0.0).to_kind(Kind::Double);
    Tensor::cat(&[shifts, zooms + 1.5, mirrored], 1).contiguous()
}

#[test]
fn an_unchanged_image_of_its_own_size_is_its_bytes() {
    for channels in [1, 3] {
        let pixels = pixels(2, [7, 7], channels, Device::Cpu);
        let all = Pictures {
            pixels: &pixels,
            indices: None,
            parameters: None,
        };
        let made = images(all, channels as usize, 7).unwrap();
        assert_eq!(made.size(), [2, 3, 7, 7]);
        // The channels are the innermost axis.
        assert_eq!(made.stride(), [147, 1, 21, 3]);
        let expected = pixels.reshape([2, 7, 7, channels]).permute([0, 3, 1, 2]);
        let expected = expected.expand([2, 3, 7, 7], false).to_kind(Kind::Float)
            * Tensor::from(1.0f32 / 255.0);
        assert_eq!(made, expected, "{channels}");
    }
}

#[test]
fn what_images_cannot_be_made_of_is_refused() {
    let pixels = pixels(2, [5, 6], 1, Device::Cpu);
    let numbers = |values: &[i64]| Tensor::from_slice(values);
    let (good, bad) = (numbers(&[1, 0, 1]), [numbers(&[2]), numbers(&[-1])]);
    let parameters = changes(3, Device::Cpu);
    let make = |pixels: &Tensor, indices: &Tensor, parameters: &Tensor, channels| {
        let of = Pictures {
            pixels,
            indices: Some(indices),
            parameters: Some(parameters),
        };
        images(of, channels, 9)
            .map(|made| made.size())
            .map_err(|error| error.to_string())
    };
    assert_eq!(make(&pixels, &good, &parameters, 1), Ok(vec![3, 3, 9, 9]));
    for bad in bad {
        let error = make(&pixels, &bad, &changes(1, Device::Cpu), 1).unwrap_err();
        assert!(error.contains("of 2"), "{error}");
    }
    let floats = parameters.to_kind(Kind::Float);
    let few = changes(2, Device::Cpu);
    let cases = [
        (
            make(&pixels.to_kind(Kind::Float), &good, &parameters, 1),
            "bytes",
        ),
        (
            make(&pixels, &good.to_kind(Kind::Int), &parameters, 1),
            "int64",
        ),
        (make(&pixels, &good, &floats, 1), "float64"),
        (make(&pixels, &good, &few, 1), "five for each"),
        (make(&pixels, &good, &parameters, 2), "2 channels"),
        (make(&pixels, &good, &parameters, 4), "4 channels"),
        (
            make(&pixels.narrow(2, 0, 4), &good, &parameters, 1),
            "bytes",
        ),
    ];
    for (result, reason) in cases {
        let error = result.unwrap_err();
        assert!(error.contains(reason), "{error}");
    }
}

/// On a GPU they are the same, bit for bit.
#[test]
fn gpu_images_are_those_of_a_cpu() {
    if !has_gpu() {
        return;
    }
    if !makes_images(Some(0)) {
        let expected = std::env::var_os("QUARTET_EXPECT_GPU").is_some();
        assert!(!expected, "there is no kernel for the GPU");
        return;
    }
    for (channels, sides, size) in [(1, [48, 48], 200), (3, [37, 53], 75), (1, [224, 224], 96)] {
        let [here, there] = [Device::Cpu, Device::Cuda(0)].map(|device| {
            let (pixels, changes) = (pixels(40, sides, channels, device), changes(32, device));
            let indices = (Tensor::arange(32, (Kind::Int64, device)) * 7).remainder(40);
            [
                (Some(&indices), Some(&changes)),
                (Some(&indices), None),
                (None, None),
            ]
            .map(|(indices, parameters)| {
                let of = Pictures {
                    pixels: &pixels,
                    indices,
                    parameters,
                };
                let made = images(of, channels as usize, size).unwrap();
                made.to_device(Device::Cpu)
            })
        });
        assert_eq!(here, there, "{channels} channels, {size}");
    }
}

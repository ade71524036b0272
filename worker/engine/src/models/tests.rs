use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::{Device, Int, Tensor, TensorData, Tolerance};
use quartet_shared::dataset::EMOTIONS;
use quartet_shared::spec::{Backbone, Preset};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::init::Init;
use super::ops::{self, Mode};
use super::{DropoutMasks, Network, NetworkConfig, parameter_count};
use quartet_kernels::Addresses;

const WIDTH: f64 = 0.0625;
const BATCH: usize = 8;

fn config(backbone: Backbone) -> NetworkConfig {
    NetworkConfig {
        backbone,
        variant: backbone.facts().variants[0],
        width: WIDTH,
        image_size: backbone.minimum_image_size() as usize,
        dropout: 0.5,
        batch_norm_momentum: 0.99,
        classes: EMOTIONS.map(str::to_owned).to_vec(),
    }
}

/// Noise in `[0, 1)`, always the same.
fn images(batch: usize, size: usize, device: &Device) -> Tensor<4> {
    let shape = [batch, 3, size, size];
    let count = shape.iter().product::<usize>();
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let values: Vec<f32> = (0..count)
        .map(|_| (rng.next_u32() >> 8) as f32 / (1 << 24) as f32)
        .collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// Every float of a module in order, as a record has them.
fn snapshot<M: Module>(module: &M) -> Vec<(u64, TensorData)> {
    struct Snapshot(Vec<(u64, TensorData)>);
    impl ModuleVisitor for Snapshot {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.push((param.id.val(), param.val().into_data()));
        }
    }
    let mut snapshot = Snapshot(Vec::new());
    module.visit(&mut snapshot);
    snapshot.0
}

#[test]
fn parameter_counts_are_keras() {
    let count = |backbone| {
        let device = Device::flex();
        let config = NetworkConfig {
            width: 1.0,
            ..config(backbone)
        };
        let mut init = Init::new(&device, 0, &config);
        let (net, channels) = super::network::BackboneNet::new(&mut init, backbone.facts().family);
        (parameter_count(&net).total(), channels)
    };
    assert_eq!(count(Backbone::Vgg16), (14_714_688, 512));
    assert_eq!(count(Backbone::Resnet50), (23_587_712, 2048));
    assert_eq!(count(Backbone::InceptionV3), (21_802_784, 2048));
    assert_eq!(count(Backbone::InceptionResnetV2), (54_336_736, 1536));
    // torchvision's 25,557,032 less its classifier, and the running statistics of 26,560 channels.
    let torchvision = 25_557_032 - 1000 * 2049 + 2 * 26_560;
    assert_eq!(count(Backbone::Resnet50V1_5), (torchvision, 2048));
    for backbone in Backbone::ALL {
        assert_eq!(count(backbone).0 as u64, backbone.facts().parameters);
    }
}

/// The coordinator takes no larger file: Adam has two moments for each parameter.
#[test]
fn a_training_state_is_within_the_limit_of_checkpoints() {
    for backbone in Backbone::ALL {
        for width in [0.01, 0.07, 1.0] {
            let config = NetworkConfig {
                width,
                ..config(backbone)
            };
            let count = parameter_count(&config.init(&Device::flex(), 0)).total();
            let mut run = Preset::Demo.spec().runs.remove(0);
            (run.backbone, run.width) = (backbone, width);
            let state = 2 * 4 * count as u64;
            assert!(
                state < run.checkpoint_limit(),
                "{backbone} {width}: {state}"
            );
        }
    }
}

#[test]
fn head_has_the_notebook_s_parameters() {
    let network = NetworkConfig {
        width: 1.0,
        ..config(Backbone::Vgg16)
    };
    let count = parameter_count(&network.init(&Device::flex(), 0));
    let head = 4 * 512 + 513 * 1024 + 4 * 1024 + 1025 * 1024 + 4 * 1024 + 1025 * 7;
    assert_eq!(count.total(), 14_714_688 + head);
    assert_eq!(count.statistics, 2 * (512 + 1024 + 1024));
}

#[test]
fn feature_maps_have_keras_sides() {
    // At the notebook's 200, at the smallest input, and at an odd size.
    let sides = [
        (Backbone::Vgg16, 512, [(200, 6), (32, 1), (97, 3)]),
        (Backbone::Resnet50, 2048, [(200, 7), (32, 1), (97, 4)]),
        (Backbone::Resnet50V1_5, 2048, [(200, 7), (32, 1), (97, 4)]),
        (Backbone::InceptionV3, 2048, [(200, 4), (75, 1), (97, 1)]),
        (
            Backbone::InceptionResnetV2,
            1536,
            [(200, 4), (75, 1), (97, 1)],
        ),
    ];
    let device = Device::flex();
    for (backbone, channels, sides) in sides {
        let net = config(backbone).init(&device, 1);
        let channels = (f64::from(channels) * WIDTH) as usize;
        for (input, side) in sides {
            let map = net.features(images(1, input, &device));
            assert_eq!(map.dims(), [1, channels, side, side], "{backbone} {input}");
        }
        let logits = net.forward(images(3, backbone.minimum_image_size() as usize, &device));
        assert_eq!(logits.dims(), [3, 7], "{backbone}");
    }
}

#[test]
fn any_width_fits_together() {
    let device = Device::flex();
    for backbone in Backbone::ALL {
        for width in [0.01, 0.07, 0.3] {
            let config = NetworkConfig {
                width,
                ..config(backbone)
            };
            let x = images(1, config.image_size, &device);
            assert_eq!(config.init(&device, 1).forward(x).dims(), [1, 7]);
        }
    }
}

#[test]
#[should_panic(expected = "inception_v3 needs images of 75 pixels")]
fn too_small_images_are_refused() {
    let config = NetworkConfig {
        image_size: 74,
        ..config(Backbone::InceptionV3)
    };
    drop(config.init(&Device::flex(), 0));
}

#[test]
fn weights_follow_the_seed_alone() {
    for backbone in Backbone::ALL {
        let config = config(backbone);
        let plain = snapshot(&config.init(&Device::flex(), 5));
        let elsewhere = std::thread::spawn({
            let config = config.clone();
            move || snapshot(&config.init(&Device::flex().autodiff(), 5))
        });
        assert_eq!(plain, elsewhere.join().unwrap(), "{backbone}");
        assert_ne!(plain, snapshot(&config.init(&Device::flex(), 6)));
    }
}

#[test]
fn kernels_are_glorot_uniform() {
    let device = Device::flex();
    let linear = Init::new(
        &device,
        3,
        &NetworkConfig {
            width: 1.0,
            ..config(Backbone::Vgg16)
        },
    )
    .linear(300, 200);
    let limit = (6.0f32 / 500.0).sqrt();
    let weights = linear.weight.val();
    assert!(weights.clone().abs().max().into_scalar::<f32>() <= limit);
    let mean: f32 = weights.clone().mean().into_scalar();
    let variance: f32 = weights.powi_scalar(2).mean().into_scalar();
    assert!(mean.abs() < 0.01 * limit, "{mean}");
    assert!(
        (variance / (limit * limit / 3.0) - 1.0).abs() < 0.02,
        "{variance}"
    );
}

#[test]
fn every_parameter_has_a_gradient_and_the_loss_follows_it() {
    let device = Device::flex().autodiff();
    for backbone in Backbone::ALL {
        let config = config(backbone);
        let net = config.init(&device, 2);
        let count = parameter_count(&net);
        assert_eq!(count, parameter_count(&net.valid()), "{backbone}");

        // Twice the smallest size: with one pixel per map and few images the loss is too rough to follow.
        let x = images(BATCH, 2 * config.image_size, &device);
        let loss = |net: &Network| {
            let mut rng = ChaCha8Rng::seed_from_u64(9);
            let masks = DropoutMasks::draw(net, BATCH, &mut rng, &device);
            cross_entropy(net.forward_train(x.clone(), masks), &device)
        };
        let before = loss(&net);
        let gradients = GradientsParams::from_grads(before.backward(), &net);
        assert_eq!(gradients.len(), count.trainable_tensors, "{backbone}");
        let mut sgd = SgdConfig::new().init();
        let norm = squared_norm(&net, &gradients);
        // To first order the loss falls by this much along the gradient.
        let fall = 0.01;
        let net = sgd.step(fall / norm, net, gradients);

        let (before, after): (f32, f32) = (before.into_scalar(), loss(&net).into_scalar());
        let ratio = f64::from(before - after) / fall;
        assert!((0.75..1.25).contains(&ratio), "{backbone}: {ratio}");
    }
}

/// The sum of squares of all gradients.
fn squared_norm(net: &Network, gradients: &GradientsParams) -> f64 {
    struct Norm<'a>(&'a GradientsParams, f64);
    impl ModuleVisitor for Norm<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = self.0.get::<D>(param.id) {
                self.1 += gradient.powi_scalar(2).sum().into_scalar::<f32>() as f64;
            }
        }
    }
    let mut norm = Norm(gradients, 0.0);
    net.visit(&mut norm);
    norm.1
}

fn cross_entropy(logits: Tensor<2>, device: &Device) -> Tensor<1> {
    let labels = Tensor::<1, Int>::from_data([0, 1, 2, 6, 3, 4, 5, 3], device);
    let log = burn::tensor::activation::log_softmax(logits, 1);
    log.gather(1, labels.unsqueeze_dim(1)).mean().neg()
}

#[test]
fn inference_leaves_the_network_as_it_is() {
    let device = Device::flex().autodiff();
    for backbone in Backbone::ALL {
        let config = config(backbone);
        let net = config.init(&device, 4);
        let fresh = snapshot(&net);
        let x = images(2, config.image_size, &device);

        // On an autodiff device without `valid`, and with it.
        let logits = net.forward(x.clone()).into_data();
        assert_eq!(snapshot(&net), fresh, "{backbone}");
        let valid = net.valid();
        let plain = valid.forward(x.clone().inner()).into_data();
        plain.assert_approx_eq::<f32>(&logits, Tolerance::default());

        drop(net.forward_train(x, DropoutMasks::none()));
        assert_ne!(snapshot(&net), fresh, "{backbone}");
        assert_eq!(snapshot(&valid), snapshot(&config.init(&Device::flex(), 4)));
    }
}

#[test]
fn running_statistics_move_as_in_keras_3() {
    let device = Device::flex().autodiff();
    let norm = Init::new(&device, 0, &config(Backbone::Vgg16)).batch_norm(1, 1e-3);
    let x = Tensor::<2>::from_data([[1.0], [2.0], [6.0]], &device);
    ops::bn(&norm, x, Mode::Training(Addresses::Free));
    let statistics: Vec<f32> = snapshot(&norm)[2..]
        .iter()
        .flat_map(|(_, data)| data.try_to_vec::<f32>().unwrap())
        .collect();
    // Batch mean 3, biased variance (4 + 1 + 9) / 3.
    let expected = [0.01 * 3.0, 0.99 + 0.01 * 14.0 / 3.0];
    for (found, expected) in statistics.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-6, "{statistics:?}");
    }
    assert_eq!(statistics.len(), 2);
}

#[test]
fn same_average_does_not_count_the_padding() {
    let ones = Tensor::<4>::ones([1, 1, 4, 5], &Device::flex());
    let pooled = ops::avg_pool_3x3_same(ones.clone(), false);
    pooled
        .into_data()
        .assert_approx_eq::<f32>(&ones.into_data(), Tolerance::default());
}

#[test]
fn dropout_keeps_the_mean_and_follows_the_generator() {
    let device = Device::flex();
    let data = |seed| {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let masks = DropoutMasks::draw_widths([500, 300, 200], 0.2, 20, &mut rng);
        let masks = DropoutMasks::upload(masks, &device);
        masks.masks.unwrap().map(Tensor::into_data)
    };
    let masks = data(1);
    assert_eq!(masks, data(1));
    assert_ne!(masks, data(2));
    for (mask, width) in masks.iter().zip([500, 300, 200]) {
        assert_eq!(mask.shape().as_slice(), [20, width]);
        let values = mask.try_to_vec::<f32>().unwrap();
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        assert!((mean - 1.0).abs() < 0.05, "{mean}");
        assert!(values.iter().all(|v| *v == 0.0 || *v == 1.25));
    }
    let net = NetworkConfig {
        dropout: 0.0,
        ..config(Backbone::Vgg16)
    };
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let none = DropoutMasks::draw(&net.init(&device, 0), 20, &mut rng, &device);
    assert!(none.masks.is_none());
    assert_eq!(rng, ChaCha8Rng::seed_from_u64(1));
}

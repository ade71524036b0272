//! A backbone and the head.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use quartet_kernels::Addresses;
use quartet_shared::spec::{Family, Freeze, Precision};
use rand::Rng;

use super::config::NetworkConfig;
use super::head::{DropoutMasks, Head, HostMasks};
use super::inception_resnet_v2::InceptionResnetV2;
use super::inception_v3::InceptionV3;
use super::init::Init;
use super::interpreter::{Eager, Interpreter};
use super::ops;
use super::resnet50::Resnet50;
use super::vgg16::Vgg16;

impl NetworkConfig {
    /// The network with random weights: kernels `glorot_uniform`, all else as Keras starts it.
    ///
    /// The weights depend on the configuration and `seed` only, not on the device, on threads or on burn's
    /// generator; parameter ids too.
    ///
    /// # Panics
    /// If the configuration is not valid.
    #[must_use]
    pub fn init(&self, device: &Device, seed: u64) -> Network {
        self.build(Init::new(device, seed, self))
    }

    /// The network for the values of a file, which [`with_values`](super::parameters::with_values) puts in:
    /// its kernels are 0 and take no memory before. So a file that claims to be of a large network costs no
    /// more than it has bytes.
    ///
    /// # Panics
    /// If the configuration is not valid.
    #[must_use]
    pub fn blank(&self, device: &Device) -> Network {
        self.build(Init::blank(device, self))
    }

    fn build(&self, mut init: Init<'_>) -> Network {
        if let Err(reason) = self.validate() {
            panic!("{reason}");
        }
        let (backbone, channels) = BackboneNet::new(&mut init, self.backbone.facts().family);
        Network {
            backbone,
            head: Head::new(&mut init, channels, self.classes.len()),
            config: self.clone(),
            precision: Precision::F32,
        }
    }
}

/// A backbone with the notebook's head.
///
/// Made on an autodiff device ([`Device::autodiff`]) it can be trained. For inference take
/// [`Module::valid`], whose passes keep no graph; [`Network::forward`] gives the same result without it, at
/// the cost of the graph's memory.
///
/// Clones share their running statistics, as burn's modules do: training one changes the other's.
/// [`Module::valid`] makes an independent copy.
#[derive(Module, Debug)]
pub struct Network {
    backbone: BackboneNet,
    head: Head,
    #[module(skip)]
    config: NetworkConfig,
    /// Not part of what the network is: its weights are the same in each.
    #[module(skip)]
    precision: Precision,
}

impl Network {
    /// The network computing in this precision instead of its own, which is [`Precision::F32`] at first. The
    /// device must be one that does: see [`check_precision`](super::check_precision).
    #[must_use]
    pub fn with_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// The network with the first blocks of its backbone frozen: they get no gradients, and normalise by
    /// their running statistics, which stay as they are. What is before them in a training step keeps no
    /// graph.
    ///
    /// # Panics
    /// If the backbone has no block of that name.
    #[must_use]
    pub fn freeze_through(self, freeze: &Freeze) -> Self {
        let backbone = self.config.backbone;
        let count = freeze.blocks(backbone);
        let count = count.unwrap_or_else(|| panic!("{backbone} has no block {freeze}"));
        Self {
            backbone: self.backbone.freeze_blocks(count),
            ..self
        }
    }

    /// What the network was built from.
    #[must_use]
    pub fn config(&self) -> &NetworkConfig {
        &self.config
    }

    /// The backbone's feature map `[batch, channels, height, width]`, by running statistics.
    #[must_use]
    pub fn features(&self, x: Tensor<4>) -> Tensor<4> {
        self.backbone(x, &Eager::inference())
    }

    /// The feature map as a training step computes it.
    #[cfg(test)]
    pub(crate) fn features_in_training(&self, x: Tensor<4>) -> Tensor<4> {
        self.backbone(x, &Eager::training(DropoutMasks::none(), Addresses::Free))
    }

    fn backbone(&self, x: Tensor<4>, eager: &Eager) -> Tensor<4> {
        let x = ops::images(x, self.precision);
        let y = match self.precision {
            Precision::F32 | Precision::Tf32 => self.backbone.forward(x, eager),
            Precision::Bf16 => ops::bf16_weights(self.backbone.clone()).forward(x, eager),
        };
        ops::feature_map(y, self.precision)
    }

    /// The logits of images, in whatever way `interpreter` computes or notes them.
    pub(crate) fn interpret<I: Interpreter>(&self, x: I::Map, interpreter: &I) -> I::Row {
        let x = self.backbone.forward(x, interpreter);
        self.head.forward(x, interpreter)
    }

    /// Logits `[batch, classes]` for inference: running statistics, no dropout.
    #[must_use]
    pub fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = self.features(x);
        self.head.forward(x, &Eager::inference())
    }

    /// Logits `[batch, classes]` for training: statistics of the batch, which move the running ones.
    ///
    /// # Panics
    /// If `x` is on a device without autodiff, where burn would not use the batch's statistics.
    #[must_use]
    pub fn forward_train(&self, x: Tensor<4>, masks: DropoutMasks) -> Tensor<2> {
        self.forward_train_at(x, masks, Addresses::Free)
    }

    /// [`forward_train`](Self::forward_train) with running statistics that have these addresses.
    pub(crate) fn forward_train_at(
        &self,
        x: Tensor<4>,
        masks: DropoutMasks,
        addresses: Addresses,
    ) -> Tensor<2> {
        assert!(x.is_autodiff(), "training needs an autodiff device");
        let eager = Eager::training(masks, addresses);
        let x = self.backbone(x, &eager);
        self.head.forward(x, &eager)
    }
}

impl DropoutMasks {
    /// Masks for one step of `network` with `batch` images, drawn from `rng` row by row, the head's first
    /// dropout first.
    ///
    /// A network without dropout takes nothing from `rng`.
    #[must_use]
    pub fn draw(network: &Network, batch: usize, rng: &mut impl Rng, device: &Device) -> Self {
        Self::upload(Self::on_host(network, batch, rng), device)
    }

    /// [`draw`](Self::draw), while they are still on the host.
    pub(crate) fn on_host(network: &Network, batch: usize, rng: &mut impl Rng) -> HostMasks {
        Self::draw_widths(network.head.widths(), network.config.dropout, batch, rng)
    }
}

/// One of the backbones.
#[derive(Module, Debug)]
pub(super) enum BackboneNet {
    InceptionResnetV2(InceptionResnetV2),
    Vgg16(Vgg16),
    /// Any variant.
    Resnet50(Resnet50),
    InceptionV3(InceptionV3),
}

impl BackboneNet {
    /// The backbone and its output channels.
    pub(super) fn new(init: &mut Init<'_>, family: Family) -> (Self, usize) {
        match family {
            Family::InceptionResnetV2 => {
                let (net, channels) = InceptionResnetV2::new(init);
                (Self::InceptionResnetV2(net), channels)
            }
            Family::Vgg16 => {
                let (net, channels) = Vgg16::new(init);
                (Self::Vgg16(net), channels)
            }
            Family::Resnet50 => {
                let (net, channels) = Resnet50::new(init);
                (Self::Resnet50(net), channels)
            }
            Family::InceptionV3 => {
                let (net, channels) = InceptionV3::new(init);
                (Self::InceptionV3(net), channels)
            }
        }
    }

    fn freeze_blocks(self, count: usize) -> Self {
        match self {
            Self::InceptionResnetV2(net) => Self::InceptionResnetV2(net.freeze_blocks(count)),
            Self::Vgg16(net) => Self::Vgg16(net.freeze_blocks(count)),
            Self::Resnet50(net) => Self::Resnet50(net.freeze_blocks(count)),
            Self::InceptionV3(net) => Self::InceptionV3(net.freeze_blocks(count)),
        }
    }

    fn forward<I: Interpreter>(&self, x: I::Map, ops: &I) -> I::Map {
        match self {
            Self::InceptionResnetV2(net) => net.forward(x, ops),
            Self::Vgg16(net) => net.forward(x, ops),
            Self::Resnet50(net) => net.forward(x, ops),
            Self::InceptionV3(net) => net.forward(x, ops),
        }
    }
}

//! A layer with weights, by our path, by timm's name, and by Keras' name or its place in Keras' order.

/// Where the backbone's parameters begin in a network's names.
pub(super) const BACKBONE: &str = "backbone.";

/// A layer with weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layer {
    pub(super) kind: Kind,
    /// Its path in our networks, such as `backbone.stages.0.blocks.0.conv1`.
    pub(super) ours: String,
    /// Its name in torchvision and timm, such as `layer1.0.conv1`.
    pub(super) torch: String,
    /// Its name in Keras, such as `conv2_block1_1_conv`; none where Keras numbers layers by itself, so that
    /// only the order tells.
    pub(super) keras: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Convolution, with bias or without.
    Conv,
    /// Batch normalisation, in Keras with gamma or without.
    Norm,
}

/// A parameter's last name in each world.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names {
    pub(super) ours: &'static str,
    pub(super) torch: &'static str,
    pub(super) keras: &'static str,
}

impl Kind {
    /// The parameters in Keras' order.
    pub(super) fn parameters(self) -> &'static [Names] {
        const fn names(ours: &'static str, torch: &'static str, keras: &'static str) -> Names {
            Names { ours, torch, keras }
        }
        const CONV: &[Names] = &[
            names("weight", "weight", "kernel"),
            names("bias", "bias", "bias"),
        ];
        const NORM: &[Names] = &[
            names("gamma", "weight", "gamma"),
            names("beta", "bias", "beta"),
            names("running_mean", "running_mean", "moving_mean"),
            names("running_var", "running_var", "moving_variance"),
        ];
        match self {
            Self::Conv => CONV,
            Self::Norm => NORM,
        }
    }
}

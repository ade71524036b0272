//! Adam over all parameters of a network.

use burn::tensor::Tensor;

use crate::Addresses;
#[cfg(feature = "tch")]
use crate::is_native;

/// One update of Adam as Keras computes it, with epsilon outside of the bias correction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamUpdate {
    /// Learning rate of this update.
    pub learning_rate: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// What is added to the root of the second moment.
    pub epsilon: f64,
    /// Number of this update, from 1.
    pub number: u64,
}

impl AdamUpdate {
    /// The learning rate with the corrections of both moments' bias.
    #[must_use]
    pub fn rate(&self) -> f64 {
        let t = self.number as f64;
        self.learning_rate * (1.0 - self.beta2.powf(t)).sqrt() / (1.0 - self.beta1.powf(t))
    }
}

/// A parameter with its moments, which are flat. On LibTorch their elements are in the order in which those
/// of the parameter lie in memory.
#[derive(Clone, Debug)]
pub struct AdamState<const D: usize> {
    /// The parameter, without autodiff.
    pub value: Tensor<D>,
    /// First moment, `[elements]`.
    pub m: Tensor<1>,
    /// Second moment, `[elements]`.
    pub v: Tensor<1>,
}

/// One update of all parameters of a network, of which LibTorch computes all at once.
#[derive(Debug)]
pub struct Adam {
    update: AdamUpdate,
    #[cfg_attr(not(feature = "tch"), expect(dead_code, reason = "LibTorch reads it"))]
    rate: Option<Tensor<1>>,
    #[cfg_attr(not(feature = "tch"), expect(dead_code, reason = "LibTorch reads it"))]
    addresses: Addresses,
    #[cfg(feature = "tch")]
    native: crate::torch::AdamList,
}

impl Adam {
    /// An update of no parameter yet. On LibTorch `rate`, `[1]`, is read when the update is computed, in
    /// place of [`AdamUpdate::rate`].
    #[must_use]
    pub fn new(update: AdamUpdate, rate: Option<Tensor<1>>, addresses: Addresses) -> Self {
        Self {
            update,
            rate,
            addresses,
            #[cfg(feature = "tch")]
            native: crate::torch::AdamList::default(),
        }
    }

    /// A parameter to update by its `gradient`. What is returned has its new values once
    /// [`finish`](Self::finish) was called.
    #[must_use]
    pub fn add<const D: usize>(
        &mut self,
        state: AdamState<D>,
        gradient: Tensor<D>,
    ) -> AdamState<D> {
        #[cfg(feature = "tch")]
        if is_native(&state.value.device()) {
            return self.native.add(state, gradient, self.addresses);
        }
        crate::fallback::adam(state, gradient, self.update)
    }

    /// Updates what was added.
    pub fn finish(self) {
        #[cfg(feature = "tch")]
        self.native.update(self.update, self.rate);
    }
}

//! What is added in an operation.

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::ops::NodeGuard;
use burn::backend::libtorch::TchTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, ExtensionType, LibTorch};
use burn::tensor::Tensor;

/// A tensor that is added, if there is one.
#[derive(ExtensionType)]
pub(super) enum Added<B: Backend> {
    Nothing,
    Tensor(FloatTensor<B>),
}

impl Added<Dispatch> {
    pub(super) fn of<const D: usize>(tensor: Option<Tensor<D>>) -> Self {
        match tensor {
            Some(tensor) => Self::Tensor(tensor.into_dispatch()),
            None => Self::Nothing,
        }
    }
}

impl Added<LibTorch> {
    pub(super) fn tensor(self) -> Option<TchTensor> {
        match self {
            Self::Nothing => None,
            Self::Tensor(tensor) => Some(tensor),
        }
    }
}

impl<C: CheckpointStrategy> Added<Autodiff<LibTorch, C>> {
    /// The tensor, and its node in the graph.
    pub(super) fn into_parts(self) -> (Option<TchTensor>, Option<NodeGuard>) {
        match self {
            Self::Nothing => (None, None),
            Self::Tensor(tensor) => {
                let (tensor, node) = tensor.into_parts();
                (Some(tensor), Some(node))
            }
        }
    }
}

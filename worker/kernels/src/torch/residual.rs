//! What is added to an operation's result.

use burn::backend::libtorch::TchTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, ExtensionType, LibTorch};
use burn::tensor::Tensor;

/// A tensor that is added, if there is one.
#[derive(ExtensionType)]
pub(super) enum Residual<B: Backend> {
    Nothing,
    Tensor(FloatTensor<B>),
}

impl Residual<Dispatch> {
    pub(super) fn of<const D: usize>(tensor: Option<Tensor<D>>) -> Self {
        match tensor {
            Some(tensor) => Self::Tensor(tensor.into_dispatch()),
            None => Self::Nothing,
        }
    }
}

impl Residual<LibTorch> {
    pub(super) fn tensor(self) -> Option<TchTensor> {
        match self {
            Self::Nothing => None,
            Self::Tensor(tensor) => Some(tensor),
        }
    }
}

//! Cross-entropy.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::libtorch::TchTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, LibTorch, backend_extension};
use burn::tensor::Tensor;
use tch::Kind;

use super::{fresh, graph};

#[backend_extension(LibTorch, Autodiff)]
trait Loss: Backend {
    fn native_cross_entropy(
        logits: FloatTensor<Self>,
        distributions: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

pub(crate) fn cross_entropy(logits: Tensor<2>, distributions: Tensor<2>) -> Tensor<1> {
    let (logits, distributions) = (logits.into_dispatch(), distributions.into_dispatch());
    Tensor::from_dispatch(Dispatch::native_cross_entropy(logits, distributions))
}

/// The logarithms of their softmax, and the loss `[1]`.
fn forward(logits: &TchTensor, distributions: &TchTensor) -> (TchTensor, TchTensor) {
    let logarithms = logits.tensor.log_softmax(1, None::<Kind>);
    // Row by row, so that the sum does not depend on the number of threads.
    let rows = (&logarithms * &distributions.tensor).sum_dim_intlist(1, false, None::<Kind>);
    let loss = rows.sum(None::<Kind>) * factor(distributions);
    (fresh(logarithms), fresh(loss.reshape([1])))
}

/// Of the sum of the products of all distributions and logarithms, which makes it the loss.
fn factor(distributions: &TchTensor) -> f64 {
    -1.0 / distributions.tensor.size()[0] as f64
}

impl Loss for LibTorch {
    fn native_cross_entropy(logits: TchTensor, distributions: TchTensor) -> TchTensor {
        forward(&logits, &distributions).1
    }
}

#[derive(Debug)]
struct CrossEntropy;

impl Backward<LibTorch, 1> for CrossEntropy {
    /// Logarithms of what softmax makes of the logits, and the distributions.
    type State = (TchTensor, TchTensor);

    fn backward(self, ops: Ops<Self::State, 1>, found: &mut Gradients, _: &mut Checkpointer) {
        graph::backward(
            ops,
            found,
            |(logarithms, distributions), gradient, _: [bool; 1]| {
                let each = gradient.tensor * factor(&distributions);
                let of_logarithms = &distributions.tensor * each;
                let kind = logarithms.tensor.kind();
                let of_logits = tch::Tensor::internal_log_softmax_backward_data(
                    &of_logarithms,
                    &logarithms.tensor,
                    1,
                    kind,
                );
                [Some(fresh(of_logits))]
            },
        );
    }
}

impl<C: CheckpointStrategy> Loss for Autodiff<LibTorch, C> {
    /// The distributions get no gradient.
    fn native_cross_entropy(
        logits: FloatTensor<Self>,
        distributions: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let ((logits, node), (distributions, _)) =
            (logits.into_parts(), distributions.into_parts());
        graph::node::<C, _, 1>(CrossEntropy, [node], |_| {
            let (logarithms, loss) = forward(&logits, &distributions);
            (loss, Some((logarithms, distributions)))
        })
    }
}

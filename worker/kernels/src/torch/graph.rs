//! Nodes of burn's autodiff graph.

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, NodeGuard, Ops, OpsKind};
use burn::backend::libtorch::TchTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, LibTorch};

/// An operation as a node of the graph. `compute` is told whether a parent wants a gradient, and then also
/// returns what the backward pass needs.
pub(super) fn node<C, S, const N: usize>(
    step: S,
    parents: [NodeGuard; N],
    compute: impl FnOnce(bool) -> (TchTensor, Option<S::State>),
) -> FloatTensor<Autodiff<LibTorch, C>>
where
    C: CheckpointStrategy,
    S: Backward<LibTorch, N>,
{
    match step.prepare::<C>(parents).compute_bound().stateful() {
        OpsKind::Tracked(node) => {
            let (output, state) = compute(true);
            node.finish(state.expect("it was asked for"), output)
        }
        OpsKind::UnTracked(node) => node.finish(compute(false).0),
    }
}

/// The backward pass of a node: hands the gradients that `compute` makes of state and output gradient to the
/// parents that want one, which it is told. It may make more gradients than there are parents.
pub(super) fn backward<S, const N: usize, const M: usize>(
    ops: Ops<S, N>,
    gradients: &mut Gradients,
    compute: impl FnOnce(S, TchTensor, [bool; M]) -> [Option<TchTensor>; M],
) {
    const { assert!(N <= M) }
    let gradient = gradients.consume::<LibTorch>(&ops.node);
    let want = std::array::from_fn(|i| ops.parents.get(i).is_some_and(Option::is_some));
    let found = compute(ops.state, gradient, want);
    for (parent, gradient) in ops.parents.into_iter().zip(found) {
        if let Some(parent) = parent {
            let gradient = gradient.expect("it was wanted");
            gradients.register::<LibTorch>(parent.id, gradient);
        }
    }
}

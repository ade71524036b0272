//! All parameters of a network at once.

use std::ptr::null_mut;

use tch::Tensor;

use super::{Ref, TorchError, call, one, own, quartet_adam, quartet_bf16_weights, quartet_flat};

/// All elements in the order in which they lie in memory, which the result shares.
pub(in crate::torch) fn flat(x: &Tensor) -> Result<Tensor, TorchError> {
    one("view of a tensor's memory", |out, message| {
        // SAFETY: the tensor lives through the call, which only reads it; `out` has room for one.
        unsafe { quartet_flat(x.as_ptr(), out, message) }
    })
}

/// Tensors of four axes in bfloat16, with the second axis as the innermost one in memory.
pub(in crate::torch) fn bf16_weights(weights: &[Tensor]) -> Result<Vec<Tensor>, TorchError> {
    let references = references(weights);
    let mut out = vec![null_mut(); weights.len()];
    call("conversion of weights", |message| {
        // SAFETY: the tensors and their list live through the call, which only reads them; `out` has room for
        // as many.
        unsafe {
            quartet_bf16_weights(
                references.len(),
                references.as_ptr(),
                out.as_mut_ptr(),
                message,
            )
        }
    })?;
    let tensors = out.into_iter().map(own);
    Ok(tensors
        .map(|tensor| tensor.expect("the shim stores all when it succeeds"))
        .collect())
}

fn references(tensors: &[Tensor]) -> Vec<Ref> {
    tensors.iter().map(Tensor::as_ptr).collect()
}

/// Adam without a correction of bias, which is in the rate, of one element.
#[derive(Clone, Copy, Debug)]
pub(in crate::torch) struct TorchAdam<'a> {
    pub(in crate::torch) rate: &'a Tensor,
    pub(in crate::torch) betas: [f64; 2],
    pub(in crate::torch) epsilon: f64,
}

/// Updates parameters, whose memory has no gaps, and their moments, `[elements]` in the order of that memory,
/// in place. Gradients have any order and type.
pub(in crate::torch) fn adam(
    values: &mut [Tensor],
    gradients: &[Tensor],
    [m, v]: [&mut [Tensor]; 2],
    update: TorchAdam<'_>,
) -> Result<(), TorchError> {
    let [beta1, beta2] = update.betas;
    let lists = [&*values, gradients, &*m, &*v].map(references);
    let [values, gradients, m, v] = &lists;
    let count = values.len();
    assert!(
        lists.iter().all(|list| list.len() == count),
        "a gradient and two moments for each parameter"
    );
    call("Adam", |message| {
        // SAFETY: the tensors and the lists, of which each has `count`, live through the call; those tensors
        // that it writes to are borrowed mutably.
        unsafe {
            quartet_adam(
                count,
                values.as_ptr(),
                gradients.as_ptr(),
                m.as_ptr(),
                v.as_ptr(),
                update.rate.as_ptr(),
                beta1,
                beta2,
                update.epsilon,
                message,
            )
        }
    })
}

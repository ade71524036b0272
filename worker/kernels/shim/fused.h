// Batch normalisation with what follows it in few passes over memory, on GPUs: kernels of our own, which are
// compiled for the GPU when the program runs, by the NVRTC that comes with PyTorch.

#pragma once

#include <ATen/core/Tensor.h>
#include <array>

namespace fused {

// Whether the kernels compute this: images, or rows, on a GPU, whose channels are the innermost axis in
// memory and a multiple of 16 bytes, in float32 or bfloat16.
bool suits(const at::Tensor &x, const at::Tensor *residual);

struct Layer {
  const at::Tensor &gamma, &beta;
};

// What is normalised.
struct Input {
  const at::Tensor &x;
  // Of the convolution that made `x`, which is short of it, unless it is null. It is in the running mean
  // alone: the batch's takes it away.
  const at::Tensor *bias;
};

struct Normalised {
  at::Tensor y, mean, deviation;
};

// By the batch's statistics, plus the residual if it is not null, then ReLU if so wanted. Moves the running
// statistics; the variance is biased.
Normalised forward(Input input, const at::Tensor *residual, Layer layer, const at::Tensor &mean,
                   const at::Tensor &variance, double momentum, double epsilon, bool relu);

// Gradients of input, gamma, beta, residual, and bias, if there was one. `output` is null unless there was a
// residual and ReLU.
std::array<at::Tensor, 5> backward(const at::Tensor &gradient, Input input, const at::Tensor *output,
                                   Layer layer, const at::Tensor &mean, const at::Tensor &deviation,
                                   bool relu);

// Images `x` that the kernels do not compute on are LibTorch's to compute on, in the same way.

// residual + scale * (x + bias), without the residual if it is null, then ReLU if so wanted. Writes over `x`.
at::Tensor combine(const at::Tensor &x, const at::Tensor &bias, const at::Tensor *residual, double scale,
                   bool relu);

// The gradients of that: of `x`, bias and residual. `output` is null if there was no ReLU.
std::array<at::Tensor, 3> part(const at::Tensor &gradient, const at::Tensor &bias, const at::Tensor *output,
                               bool residual, double scale);

} // namespace fused

// Convolutions of 3x3 with stride 1 by Winograd's minimal filtering F(2x2, 3x3), for float32 on CPUs with
// AVX-512.
//
// A tile of 2x2 outputs needs 16 products for each pair of channels instead of 36. With Y = A' [(G w G') *
// (B' d B)] A (A. Lavin and S. Gray, "Fast Algorithms for Convolutional Neural Networks", 2015, section 4.1),
// where * is the product of each of the 16 points, summed over the input's channels: 16 products of matrices.
// The gradient of the input is such a convolution, too; that of the weights is the adjoint, G' [(B' d B) * (A
// y A')] G, summed over the tiles.
//
// Results do not depend on the number of threads.

#pragma once

#include <ATen/core/Tensor.h>
#include <cstdint>

namespace winograd {

// Whether these functions compute the convolution of `x` `[n, in, height, width]` with `weight` `[out, in, 3,
// 3]`, and gain by it. `stride`, `padding` and `dilation` are pairs.
bool suits(const at::Tensor &x, const at::Tensor &weight, const int64_t *stride, const int64_t *padding,
           const int64_t *dilation, int64_t groups);

// `bias` `[out]` may be null.
at::Tensor convolution(const at::Tensor &x, const at::Tensor &weight, const at::Tensor *bias,
                       const int64_t *padding);

at::Tensor gradient_of_input(const at::Tensor &gradient, const at::Tensor &weight, const int64_t *padding);

at::Tensor gradient_of_weight(const at::Tensor &gradient, const at::Tensor &x, const int64_t *padding);

} // namespace winograd

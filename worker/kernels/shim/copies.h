// Copies of many tensors at once, whatever the types and the orders of their elements in memory.

#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace copies {

// All elements of `x` in the order in which they lie in memory, which it shares. Fails if there are gaps.
at::Tensor flat(const at::Tensor &x);

// Whether the elements of two tensors of the same shape lie in the same order, without gaps.
bool same_order(const at::Tensor &x, const at::Tensor &y);

// `targets[i] = sources[i]`, of the same shapes: in one call for those whose elements lie in the same order.
// Targets have one type, and are on one device.
void copy(const std::vector<at::Tensor> &targets, const std::vector<at::Tensor> &sources);

} // namespace copies

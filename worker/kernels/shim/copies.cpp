#include "copies.h"

#include <ATen/ops/_foreach_copy.h>
#include <c10/util/Exception.h>

using at::Tensor;

namespace copies {

Tensor flat(const Tensor &x) {
  TORCH_CHECK(x.is_non_overlapping_and_dense(), "a tensor whose memory has gaps");
  return x.as_strided({x.numel()}, {1});
}

bool same_order(const Tensor &x, const Tensor &y) {
  if (x.sizes() != y.sizes() || !x.is_non_overlapping_and_dense() || !y.is_non_overlapping_and_dense()) {
    return false;
  }
  for (int64_t axis = 0; axis < x.dim(); ++axis) {
    // Along an axis of one element nothing is ever stepped.
    if (x.size(axis) != 1 && x.stride(axis) != y.stride(axis)) {
      return false;
    }
  }
  return true;
}

void copy(const std::vector<Tensor> &targets, const std::vector<Tensor> &sources) {
  TORCH_CHECK(targets.size() == sources.size(), "as many targets as sources");
  std::vector<Tensor> to, from;
  for (size_t i = 0; i < targets.size(); ++i) {
    TORCH_CHECK(targets[i].sizes() == sources[i].sizes(), "a tensor of another shape");
    const bool together = same_order(targets[i], sources[i]) && targets[i].device() == sources[i].device() &&
                          (from.empty() || from.front().scalar_type() == sources[i].scalar_type());
    if (together) {
      to.push_back(flat(targets[i]));
      from.push_back(flat(sources[i]));
    } else {
      targets[i].copy_(sources[i], true);
    }
  }
  if (!to.empty()) {
    at::_foreach_copy_(to, from);
  }
}

} // namespace copies

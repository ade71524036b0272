// LibTorch functions that torch-sys does not bind.
//
// Tensors cross as torch-sys' `C_tensor *`, which are `at::Tensor *`. A function borrows the tensors that it
// is given; those that it stores through `out` belong to the caller, and null stands for a tensor that was
// not asked for. Each returns 0, or 1 when LibTorch failed: then nothing is stored through `out`, and
// `*message` is a string for `quartet_free`, or null when there is no memory for one.

#include "copies.h"
#include "fused.h"
#include "graph.h"
#include "images.h"
#include "observe.h"
#include "winograd.h"

#include <ATen/Context.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/_fused_adam.h>
#include <ATen/ops/add.h>
#include <ATen/ops/convolution.h>
#include <ATen/ops/convolution_backward.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/full.h>
#include <ATen/ops/native_batch_norm_backward.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/util/Exception.h>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <optional>
#include <tuple>
#include <vector>

using at::Tensor;

namespace {

template <typename Body> int32_t guarded(char **message, Body &&body) noexcept {
  *message = nullptr;
  try {
    at::NoGradGuard no_grad;
    body();
    return 0;
  } catch (const c10::Error &error) {
    *message = strdup(error.what_without_backtrace());
  } catch (const std::exception &error) {
    *message = strdup(error.what());
  } catch (...) {
    *message = strdup("an exception of an unknown type");
  }
  return 1;
}

std::optional<Tensor> optional(const Tensor *tensor) {
  return tensor ? std::optional<Tensor>(*tensor) : std::nullopt;
}

std::vector<Tensor> list(size_t count, const Tensor *const *tensors) {
  std::vector<Tensor> list;
  for (size_t i = 0; i < count; ++i) {
    list.push_back(*tensors[i]);
  }
  return list;
}

std::unique_ptr<Tensor> boxed(Tensor &tensor) {
  return tensor.defined() ? std::make_unique<Tensor>(std::move(tensor)) : nullptr;
}

void give(std::tuple<Tensor, Tensor, Tensor> tensors, Tensor **out) {
  // All are allocated before the first is given away.
  std::array<std::unique_ptr<Tensor>, 3> owned = {boxed(std::get<0>(tensors)), boxed(std::get<1>(tensors)),
                                                  boxed(std::get<2>(tensors))};
  for (size_t i = 0; i < owned.size(); ++i) {
    out[i] = owned[i].release();
  }
}

} // namespace

extern "C" {

void quartet_free(char *message) { std::free(message); }

// `bias` may be null. `stride`, `padding` and `dilation` are pairs.
int32_t quartet_conv2d(const Tensor *x, const Tensor *weight, const Tensor *bias, const int64_t *stride,
                       const int64_t *padding, const int64_t *dilation, int64_t groups, Tensor **out,
                       char **message) {
  return guarded(message, [&] {
    const std::array<int64_t, 2> none = {0, 0};
    Tensor y = winograd::suits(*x, *weight, stride, padding, dilation, groups)
                   ? winograd::convolution(*x, *weight, bias, padding)
                   : at::convolution(*x, *weight, optional(bias), {stride, 2}, {padding, 2}, {dilation, 2},
                                     false, none, groups);
    *out = boxed(y).release();
  });
}

// Gradients of input, weight and bias, as far as `want` has them. `stride`, `padding` and `dilation` are
// pairs.
int32_t quartet_conv2d_backward(const Tensor *gradient, const Tensor *x, const Tensor *weight,
                                const int64_t *stride, const int64_t *padding, const int64_t *dilation,
                                int64_t groups, const bool *want, Tensor **out, char **message) {
  return guarded(message, [&] {
    if (winograd::suits(*x, *weight, stride, padding, dilation, groups)) {
      // Winograd's takes these for granted.
      const int64_t height = x->size(2) + 2 * padding[0] - 2, width = x->size(3) + 2 * padding[1] - 2;
      TORCH_CHECK(gradient->sizes() == at::IntArrayRef({x->size(0), weight->size(0), height, width}),
                  "a gradient of another shape than the output's");
      TORCH_CHECK(gradient->device() == x->device(), "a gradient on another device than the input's");
      give({want[0] ? winograd::gradient_of_input(*gradient, *weight, padding) : Tensor(),
            want[1] ? winograd::gradient_of_weight(*gradient, *x, padding) : Tensor(),
            want[2] ? gradient->sum({0, 2, 3}) : Tensor()},
           out);
      return;
    }
    const std::array<int64_t, 1> bias = {weight->size(0)};
    const std::array<int64_t, 2> none = {0, 0};
    give(at::convolution_backward(*gradient, *x, *weight, at::OptionalIntArrayRef(bias), {stride, 2},
                                  {padding, 2}, {dilation, 2}, false, none, groups,
                                  {want[0], want[1], want[2]}),
         out);
  });
}

// Gradients of input, gamma and beta, as far as `want` has them. With `train` by the batch's mean and inverse
// standard deviation `statistics[0]` and `[1]`, else by running mean and variance there.
int32_t quartet_batch_norm_backward(const Tensor *gradient, const Tensor *x, const Tensor *gamma,
                                    const Tensor *const *statistics, bool train, double epsilon,
                                    const bool *want, Tensor **out, char **message) {
  return guarded(message, [&] {
    const auto first = optional(statistics[0]), second = optional(statistics[1]);
    const std::optional<Tensor> none;
    give(at::native_batch_norm_backward(*gradient, *x, optional(gamma), train ? none : first,
                                        train ? none : second, train ? first : none, train ? second : none,
                                        train, epsilon, {want[0], want[1], want[2]}),
         out);
  });
}

// Whether our own kernels normalise `x`, plus `residual`, which may be null.
bool quartet_fused_suits(const Tensor *x, const Tensor *residual) {
  try {
    return fused::suits(*x, residual);
  } catch (...) {
    return false;
  }
}

// See fused.h. `bias` may be null; `layer` is gamma, beta, running mean and running variance, of which the
// latter two are moved; `out` gets the output, and the batch's mean and inverse standard deviation.
int32_t quartet_fused_norm(const Tensor *x, const Tensor *bias, const Tensor *residual,
                           const Tensor *const *layer, double momentum, double epsilon, bool relu,
                           Tensor **out, char **message) {
  return guarded(message, [&] {
    auto found = fused::forward({*x, bias}, residual, {*layer[0], *layer[1]}, *layer[2], *layer[3], momentum,
                                epsilon, relu);
    give({std::move(found.y), std::move(found.mean), std::move(found.deviation)}, out);
  });
}

// Gradients of input, gamma, beta, residual and bias; the bias may be null, and then its gradient is. `layer`
// is gamma, beta and the batch's mean and inverse standard deviation; `output` is null unless there was a
// residual and ReLU.
int32_t quartet_fused_norm_backward(const Tensor *gradient, const Tensor *x, const Tensor *bias,
                                    const Tensor *output, const Tensor *const *layer, bool relu, Tensor **out,
                                    char **message) {
  return guarded(message, [&] {
    auto [input, gamma, beta, residual, constant] =
        fused::backward(*gradient, {*x, bias}, output, {*layer[0], *layer[1]}, *layer[2], *layer[3], relu);
    auto of_residual = boxed(residual), of_constant = boxed(constant);
    give({std::move(input), std::move(gamma), std::move(beta)}, out);
    out[3] = of_residual.release();
    out[4] = of_constant.release();
  });
}

// A convolution without bias, then residual + scale * (it + bias), without the residual if it is null, then
// ReLU if so wanted.
int32_t quartet_conv2d_combined(const Tensor *x, const Tensor *weight, const Tensor *bias,
                                const Tensor *residual, const int64_t *stride, const int64_t *padding,
                                const int64_t *dilation, int64_t groups, double scale, bool relu,
                                Tensor **out, char **message) {
  return guarded(message, [&] {
    const std::array<int64_t, 2> none = {0, 0};
    const Tensor product = at::convolution(*x, *weight, std::nullopt, {stride, 2}, {padding, 2},
                                           {dilation, 2}, false, none, groups);
    Tensor y = fused::combine(product, *bias, residual, scale, relu);
    *out = boxed(y).release();
  });
}

// The gradients of what follows the convolution there: of it, of the bias and of the residual. `output` is
// null if there was no ReLU.
int32_t quartet_part(const Tensor *gradient, const Tensor *bias, const Tensor *output, bool residual,
                     double scale, Tensor **out, char **message) {
  return guarded(message, [&] {
    auto [of_product, of_bias, of_residual] = fused::part(*gradient, *bias, output, residual, scale);
    give({std::move(of_product), std::move(of_bias), std::move(of_residual)}, out);
  });
}

// See images.h. `indices` and `parameters` may be null.
bool quartet_makes_images(int64_t gpu) {
  try {
    return images::suits(gpu < 0 ? at::Device(at::kCPU)
                                 : at::Device(at::kCUDA, static_cast<at::DeviceIndex>(gpu)));
  } catch (...) {
    return false;
  }
}
int32_t quartet_images(const Tensor *pixels, const Tensor *indices, const Tensor *parameters,
                       int64_t channels, int64_t size, Tensor **out, char **message) {
  return guarded(message, [&] {
    Tensor made = images::made(*pixels, indices, parameters, channels, size);
    *out = boxed(made).release();
  });
}

// `x` in the order of memory and of the type of `like`; an alias of `x` where it is so already.
int32_t quartet_convert(const Tensor *x, const Tensor *like, Tensor **out, char **message) {
  return guarded(message, [&] {
    const auto format = like->suggest_memory_format();
    Tensor y =
        x->scalar_type() == like->scalar_type() ? *x : x->to(like->scalar_type(), false, false, format);
    *out = boxed(y = y.contiguous(format)).release();
  });
}

// Images `x` with the channels as the innermost axis in memory, in bfloat16 if so wanted; an alias of `x`
// where it is so already. float64 keeps its order: LibTorch's CPU kernels have no other for it.
int32_t quartet_channels_last(const Tensor *x, bool bfloat16, Tensor **out, char **message) {
  return guarded(message, [&] {
    const auto type = bfloat16 ? at::kBFloat16 : x->scalar_type();
    const auto format = type == at::kDouble ? at::MemoryFormat::Contiguous : at::MemoryFormat::ChannelsLast;
    Tensor y = x->scalar_type() == type ? *x : x->to(type, false, false, format);
    *out = boxed(y = y.contiguous(format)).release();
  });
}

// x + scale * y.
int32_t quartet_add_scaled(const Tensor *x, const Tensor *y, double scale, Tensor **out, char **message) {
  return guarded(message, [&] {
    Tensor sum = at::add(*x, *y, scale);
    *out = boxed(sum).release();
  });
}

// All elements of `x` in the order in which they lie in memory, which it shares.
int32_t quartet_flat(const Tensor *x, Tensor **out, char **message) {
  return guarded(message, [&] {
    Tensor y = copies::flat(*x);
    *out = boxed(y).release();
  });
}

// `count` tensors of four axes in bfloat16, with the second axis as the innermost one in memory.
int32_t quartet_bf16_weights(size_t count, const Tensor *const *weights, Tensor **out, char **message) {
  return guarded(message, [&] {
    std::vector<Tensor> to;
    for (size_t i = 0; i < count; ++i) {
      const auto options = weights[i]->options().dtype(at::kBFloat16);
      to.push_back(at::empty(weights[i]->sizes(), options, at::MemoryFormat::ChannelsLast));
    }
    copies::copy(to, list(count, weights));
    // All are allocated before the first is given away.
    std::vector<std::unique_ptr<Tensor>> owned;
    for (Tensor &tensor : to) {
      owned.push_back(boxed(tensor));
    }
    for (size_t i = 0; i < count; ++i) {
      out[i] = owned[i].release();
    }
  });
}

// PyTorch's Adam, in place, of `count` parameters of one type on one device, whose elements lie in memory
// without gaps, and of their flat moments, which have the same order: `value -= rate * m / (sqrt(v) +
// epsilon)`. Gradients have the shapes of the parameters. `rate`, of one element, is read when the update is
// computed.
int32_t quartet_adam(size_t count, const Tensor *const *values, const Tensor *const *gradients,
                     const Tensor *const *m, const Tensor *const *v, const Tensor *rate, double beta1,
                     double beta2, double epsilon, char **message) {
  return guarded(message, [&] {
    if (count == 0) {
      return;
    }
    const auto type = values[0]->scalar_type();
    const auto device = values[0]->device();
    std::array<std::vector<Tensor>, 4> flat;
    std::vector<Tensor> converted, unconverted;
    for (size_t i = 0; i < count; ++i) {
      const Tensor &value = *values[i];
      // LibTorch takes sizes, types and order for granted here.
      for (const Tensor *other : {&value, gradients[i], m[i], v[i]}) {
        TORCH_CHECK(other->numel() == value.numel(), "a tensor of ", other->numel(), " elements instead of ",
                    value.numel());
        TORCH_CHECK(other->scalar_type() == type || other == gradients[i],
                    "a tensor of another type than the parameter's");
        TORCH_CHECK(other->device() == device, "a tensor on another device than the parameter's");
      }
      Tensor gradient = *gradients[i];
      TORCH_CHECK(gradient.sizes() == value.sizes(), "a gradient of another shape than the parameter's");
      if (gradient.scalar_type() != type || !copies::same_order(gradient, value)) {
        converted.push_back(at::empty_like(value));
        unconverted.push_back(gradient);
        gradient = converted.back();
      }
      flat[0].push_back(copies::flat(value));
      flat[1].push_back(copies::flat(gradient));
      // `view` fails where it would have to copy.
      flat[2].push_back(m[i]->view(-1));
      flat[3].push_back(v[i]->view(-1));
    }
    copies::copy(converted, unconverted);
    TORCH_CHECK(rate->numel() == 1, "a rate of ", rate->numel(), " elements");
    // So late that LibTorch corrects no bias any more: the caller's rate has the correction.
    const std::vector<Tensor> steps(count, at::full({}, 1e9, values[0]->options().dtype(at::kFloat)));
    // GPUs take it as they take the parameters.
    const Tensor lr = rate->is_cuda() ? rate->to(at::kFloat) : *rate;
    at::_fused_adam_(flat[0], flat[1], flat[2], flat[3], {}, steps, lr.squeeze(), beta1, beta2, 0.0, epsilon,
                     false, false);
  });
}

// Copies `x`, which is the host's, into `target`, whatever the device of it: for a GPU by way of page-locked
// memory, so that nobody waits.
int32_t quartet_write(const Tensor *target, const Tensor *x, char **message) {
  return guarded(message, [&] {
    TORCH_CHECK(x->sizes() == target->sizes(), "a tensor of another shape");
    target->copy_(target->is_cuda() ? x->pin_memory() : *x, true);
  });
}

// A copy of `x` on a GPU, by way of page-locked memory: it is queued, and nobody waits for it. LibTorch takes
// that memory for something else only when the copy is done.
int32_t quartet_to_gpu(const Tensor *x, int64_t gpu, Tensor **out, char **message) {
  return guarded(message, [&] {
    const at::Device device(at::kCUDA, static_cast<at::DeviceIndex>(gpu));
    // From version 2.11 on `pin_memory` warns of a device that it is told.
    Tensor copy = x->pin_memory().to(device, x->scalar_type(), true);
    *out = boxed(copy).release();
  });
}

// See graph.h.
bool quartet_graph_available() { return graph::available(); }
int32_t quartet_graph_family(uint64_t *out, char **message) {
  return guarded(message, [&] { std::tie(out[0], out[1]) = graph::family(); });
}
int32_t quartet_graph_begin(int64_t gpu, const uint64_t *family, graph::Graph **out, char **message) {
  return guarded(message, [&] { *out = graph::begin(gpu, {family[0], family[1]}); });
}
int32_t quartet_graph_end(graph::Graph *graph, char **message) {
  return guarded(message, [&] { graph::end(graph); });
}
int32_t quartet_graph_replay(graph::Graph *graph, char **message) {
  return guarded(message, [&] { graph::replay(graph); });
}
void quartet_graph_free(graph::Graph *graph) { graph::destroy(graph); }
// Whether GPU `gpu` has done all that this thread has told it.
int32_t quartet_is_idle(int64_t gpu, bool *out, char **message) {
  return guarded(message, [&] {
    const auto *device = c10::impl::getDeviceGuardImpl(at::kCUDA);
    const at::Device which(at::kCUDA, static_cast<at::DeviceIndex>(gpu));
    *out = device->queryStream(device->getStream(which));
  });
}
int32_t quartet_peak_bytes(int64_t gpu, int64_t *out, char **message) {
  return guarded(message, [&] { *out = graph::peak_bytes(gpu); });
}
int32_t quartet_release_gpu_memory(int64_t gpu, int64_t *out, char **message) {
  return guarded(message, [&] { *out = graph::release_memory(gpu); });
}

// See observe.h. `*lines` is a string for `quartet_free`.
int32_t quartet_observe_begin(char **message) { return guarded(message, observe::begin); }
int32_t quartet_observe_end(char **lines, char **message) {
  return guarded(message, [&] { *lines = strdup(observe::end().c_str()); });
}

// For the whole process: whether GPUs compute products and convolutions of float32 in TF32, as TensorFlow has
// them do, and whether in the same way each time. Else cuDNN takes the fastest of its algorithms for each
// shape, which it finds by trying them. The CPU's results do not depend on it.
int32_t quartet_set_gpu_arithmetic(bool tf32, bool deterministic, char **message) {
  return guarded(message, [&] {
    auto &context = at::globalContext();
    context.setAllowTF32CuBLAS(tf32);
    context.setAllowTF32CuDNN(tf32);
    context.setBenchmarkCuDNN(!deterministic);
    context.setDeterministicCuDNN(deterministic);
    // An operation that has no deterministic form warns of it.
    context.setDeterministicAlgorithms(deterministic, true);
    context.setDeterministicFillUninitializedMemory(false);
  });
}

} // extern "C"

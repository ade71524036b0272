#include "fused.h"

#include <ATen/ops/add.h>
#include <ATen/ops/threshold_backward.h>
#include <c10/util/Exception.h>

using at::Tensor;

namespace {

Tensor combined_by_libtorch(const Tensor &x, const Tensor &bias, const Tensor *residual, double scale,
                            bool relu) {
  Tensor y = x;
  y.add_(bias.to(x.scalar_type()).view({1, -1, 1, 1}));
  if (residual) {
    y = at::add(*residual, y, scale);
  } else if (scale != 1) {
    y.mul_(scale);
  }
  return relu ? y.relu_() : y;
}

std::array<Tensor, 3> parted_by_libtorch(const Tensor &gradient, const Tensor &bias, const Tensor *output,
                                         double scale) {
  const Tensor passed = output ? at::threshold_backward(gradient, *output, 0) : gradient;
  const Tensor scaled = scale == 1 ? passed : passed.mul(scale);
  return {scaled, scaled.sum({0, 2, 3}, false, bias.scalar_type()), passed};
}

} // namespace

#ifndef QUARTET_CUDA

// Never called: nothing suits.
namespace fused {
bool suits(const Tensor &, const Tensor *) { return false; }
Normalised forward(Input, const Tensor *, Layer, const Tensor &, const Tensor &, double, double, bool) {
  return {};
}
std::array<Tensor, 5> backward(const Tensor &, Input, const Tensor *, Layer, const Tensor &, const Tensor &,
                               bool) {
  return {};
}
Tensor combine(const Tensor &x, const Tensor &bias, const Tensor *residual, double scale, bool relu) {
  return combined_by_libtorch(x, bias, residual, scale, relu);
}
std::array<Tensor, 3> part(const Tensor &gradient, const Tensor &bias, const Tensor *output, bool,
                           double scale) {
  return parted_by_libtorch(gradient, bias, output, scale);
}
} // namespace fused

#else

#include "nvrtc.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <algorithm>
#include <c10/cuda/CUDAStream.h>
#include <map>

namespace fused {
namespace {

void check(int gpu, at::ScalarType type);

constexpr int64_t THREADS = 512, VECTOR_BYTES = 16;
// Blocks of a sum: each costs its last one a little, and these fill the GPUs that there are.
constexpr int64_t SUM_BLOCKS = 264;
// Rows of a thread that only reads and writes.
constexpr int64_t ROWS = 8;
constexpr int64_t MAX_GROUPS = 1024, PARTIAL_WIDTH = 2 * 256;

// Those of norm.cu and sum.cu.
struct Kernels {
  nvrtc::Handle statistics, normalise, sums, gradient_of_input, combine, part;
};

const char SOURCE[] =
#include "kernels_source.h"
    ;

Kernels load(int gpu, bool bfloat16) {
  // bfloat16's rounding is an instruction from 8.0 on.
  const auto found =
      nvrtc::load(gpu, 80, SOURCE, {bfloat16 ? "-DBF16=1" : "-DBF16=0"},
                  {"statistics", "normalise", "sums", "gradient_of_input", "combine", "part"});
  return {found[0], found[1], found[2], found[3], found[4], found[5]};
}

// Those of a GPU, which is the current one; none if they cannot be had or are wrong.
const Kernels *kernels(int gpu, bool bfloat16) {
  static nvrtc::Known<std::pair<int, bool>, Kernels> known;
  return known.get(
      {gpu, bfloat16}, "batch normalisation is LibTorch's", [&] { return load(gpu, bfloat16); },
      [&](const Kernels &) { check(gpu, bfloat16 ? at::kBFloat16 : at::kFloat); });
}

// What sums are made in: one for each thread and GPU, whose work follows one after the other.
struct Workspace {
  Tensor partial, counters;
};

Workspace &workspace(const Tensor &x) {
  thread_local std::map<int, Workspace> all;
  Workspace &found = all[x.get_device()];
  if (!found.partial.defined()) {
    found.partial = at::empty({MAX_GROUPS * PARTIAL_WIDTH}, x.options().dtype(at::kFloat));
    found.counters = at::zeros({MAX_GROUPS}, x.options().dtype(at::kInt));
  }
  return found;
}

bool is_bfloat16(const Tensor &x) { return x.scalar_type() == at::kBFloat16; }

// How the threads lie over `[rows, channels]`.
struct Grid {
  int64_t rows, channels;
  unsigned groups, threads_x, threads_y;

  explicit Grid(const Tensor &x) : rows(x.numel() / x.size(1)), channels(x.size(1)) {
    const int64_t vectors = channels * x.element_size() / VECTOR_BYTES;
    double best = 0;
    // Few lanes without channels; rows that are read in pieces of 128 bytes where that costs nothing.
    for (const auto &[lanes, cost] : {std::pair(32, 1.0), std::pair(16, 1.0), std::pair(8, 1.0),
                                      std::pair(4, 1.1), std::pair(2, 1.25)}) {
      const int64_t covering = (vectors + lanes - 1) / lanes;
      const double score = covering * lanes * cost;
      if (best == 0 || score < best) {
        best = score;
        groups = static_cast<unsigned>(covering);
        threads_x = static_cast<unsigned>(lanes);
      }
    }
    threads_y = static_cast<unsigned>(THREADS / threads_x);
  }

  unsigned blocks_of(int64_t rows_per_thread) const {
    const int64_t per_block = threads_y * rows_per_thread;
    return static_cast<unsigned>(std::clamp<int64_t>((rows + per_block - 1) / per_block, 1, 65535));
  }
  unsigned summing() const {
    return std::clamp<unsigned>(static_cast<unsigned>(SUM_BLOCKS) / groups, 1, blocks_of(4));
  }
};

template <typename... Arguments>
void launch(nvrtc::Handle kernel, const Grid &grid, unsigned blocks, Arguments... arguments) {
  void *pointers[] = {&arguments...};
  nvrtc::launch(kernel, {grid.groups, blocks, grid.threads_x, grid.threads_y},
                c10::cuda::getCurrentCUDAStream().stream(), pointers);
}

void *data(const Tensor *tensor) { return tensor && tensor->defined() ? tensor->data_ptr() : nullptr; }

// Whether the channels are innermost in memory.
bool is_rows(const Tensor &x) {
  return x.dim() == 4 ? x.is_contiguous(at::MemoryFormat::ChannelsLast) : x.dim() == 2 && x.is_contiguous();
}

Tensor as_rows(const Tensor &x) {
  return x.contiguous(x.dim() == 4 ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous);
}

bool is_aligned(const Tensor &x) {
  return reinterpret_cast<uintptr_t>(x.data_ptr()) % VECTOR_BYTES == 0;
}

// How far rows lie apart in memory, if `x` is a part of the channels of such images; else 0.
int64_t row_stride(const Tensor &x) {
  const int64_t pixel = x.dim() == 4 ? x.stride(3) : x.stride(0);
  const bool whole =
      x.dim() == 2 || (x.stride(2) == x.size(3) * pixel && x.stride(0) == x.size(2) * x.stride(2));
  const int64_t vector = VECTOR_BYTES / x.element_size();
  const bool aligned = pixel % vector == 0 && is_aligned(x);
  return x.stride(1) == 1 && whole && aligned && pixel >= x.size(1) ? pixel : 0;
}

// Whether there are kernels for such values, wherever they lie.
bool is_for_kernels(const Tensor &x) {
  const auto type = x.scalar_type();
  if (!x.is_cuda() || (type != at::kFloat && type != at::kBFloat16) || x.numel() == 0 ||
      x.size(1) * x.element_size() % VECTOR_BYTES != 0 || Grid(x).groups > MAX_GROUPS) {
    return false;
  }
  const nvrtc::Current current(x.get_device());
  return kernels(x.get_device(), type == at::kBFloat16) != nullptr;
}

void expect_like_layer(const Tensor &tensor, const Tensor &x) {
  TORCH_CHECK(tensor.numel() == x.size(1) && tensor.scalar_type() == at::kFloat &&
                  tensor.device() == x.device() && tensor.is_contiguous(),
              "a layer of ", tensor.numel(), " channels for ", x.size(1));
}

} // namespace

bool suits(const Tensor &x, const Tensor *residual) {
  if (residual && (residual->scalar_type() != x.scalar_type() || residual->sizes() != x.sizes())) {
    return false;
  }
  return is_for_kernels(x) && is_rows(x) && is_aligned(x);
}

Normalised forward(Input input, const Tensor *residual, Layer layer, const Tensor &mean,
                   const Tensor &variance, double momentum, double epsilon, bool relu) {
  const Tensor &x = input.x;
  const nvrtc::Current current(x.get_device());
  const Kernels &kernel = *kernels(x.get_device(), is_bfloat16(x));
  const Workspace &space = workspace(x);
  const Grid grid(x);
  for (const Tensor *tensor : {&layer.gamma, &layer.beta, &mean, &variance}) {
    expect_like_layer(*tensor, x);
  }
  if (input.bias) {
    expect_like_layer(*input.bias, x);
  }
  const auto options = x.options().dtype(at::kFloat);
  Normalised out{at::empty_like(x), at::empty({grid.channels}, options), at::empty({grid.channels}, options)};
  const int channels = static_cast<int>(grid.channels);
  launch(kernel.statistics, grid, grid.summing(), x.data_ptr(), data(input.bias), grid.rows, channels,
         static_cast<float>(momentum), static_cast<float>(epsilon), out.mean.data_ptr(),
         out.deviation.data_ptr(), mean.data_ptr(), variance.data_ptr(), space.partial.data_ptr(),
         space.counters.data_ptr());
  const Tensor added = residual ? as_rows(*residual) : Tensor();
  launch(kernel.normalise, grid, grid.blocks_of(ROWS), x.data_ptr(), data(&added), out.y.data_ptr(),
         grid.rows, channels, out.mean.data_ptr(), out.deviation.data_ptr(), layer.gamma.data_ptr(),
         layer.beta.data_ptr(), static_cast<int>(relu));
  return out;
}

std::array<Tensor, 5> backward(const Tensor &gradient, Input input, const Tensor *output, Layer layer,
                               const Tensor &mean, const Tensor &deviation, bool relu) {
  const Tensor &x = input.x;
  const nvrtc::Current current(x.get_device());
  const Kernels &kernel = *kernels(x.get_device(), is_bfloat16(x));
  const Workspace &space = workspace(x);
  const Grid grid(x);
  TORCH_CHECK(gradient.sizes() == x.sizes() && gradient.scalar_type() == x.scalar_type() &&
                  gradient.device() == x.device(),
              "a gradient that is not like the input");
  int64_t stride = row_stride(gradient);
  const Tensor rows = stride ? gradient : as_rows(gradient);
  stride = stride ? stride : grid.channels;
  const Tensor gamma_gradient = at::empty_like(layer.gamma), beta_gradient = at::empty_like(layer.beta);
  const Tensor bias_gradient = input.bias ? at::empty_like(*input.bias) : Tensor();
  const Tensor passed = output ? at::empty_like(x) : Tensor();
  const int channels = static_cast<int>(grid.channels);
  launch(kernel.sums, grid, grid.summing(), rows.data_ptr(), stride, x.data_ptr(), data(output),
         data(&passed), grid.rows, channels, mean.data_ptr(), deviation.data_ptr(), layer.gamma.data_ptr(),
         layer.beta.data_ptr(), static_cast<int>(relu), gamma_gradient.data_ptr(), beta_gradient.data_ptr(),
         data(&bias_gradient), space.partial.data_ptr(), space.counters.data_ptr());
  const Tensor of_x = at::empty_like(x);
  launch(kernel.gradient_of_input, grid, grid.blocks_of(ROWS), output ? passed.data_ptr() : rows.data_ptr(),
         output ? grid.channels : stride, x.data_ptr(), of_x.data_ptr(), grid.rows, channels,
         mean.data_ptr(), deviation.data_ptr(), layer.gamma.data_ptr(), layer.beta.data_ptr(),
         static_cast<int>(relu && !output), gamma_gradient.data_ptr(), beta_gradient.data_ptr());
  return {of_x, gamma_gradient, beta_gradient, output ? passed : gradient, bias_gradient};
}

Tensor combine(const Tensor &x, const Tensor &bias, const Tensor *residual, double scale, bool relu) {
  TORCH_CHECK(bias.numel() == x.size(1), "a bias of ", bias.numel(), " elements for ", x.size(1),
              " channels");
  if (!suits(x, residual) || bias.scalar_type() != at::kFloat) {
    return combined_by_libtorch(x, bias, residual, scale, relu);
  }
  const nvrtc::Current current(x.get_device());
  const Grid grid(x);
  const Tensor added = residual ? as_rows(*residual) : Tensor(), offsets = bias.contiguous();
  launch(kernels(x.get_device(), is_bfloat16(x))->combine, grid, grid.blocks_of(ROWS), x.data_ptr(),
         offsets.data_ptr(), data(&added), x.data_ptr(), grid.rows, static_cast<int>(grid.channels),
         static_cast<float>(scale), static_cast<int>(relu));
  return x;
}

std::array<Tensor, 3> part(const Tensor &gradient, const Tensor &bias, const Tensor *output, bool residual,
                           double scale) {
  if (bias.scalar_type() != at::kFloat || gradient.dim() != 4 || !is_for_kernels(gradient) ||
      (output && !suits(*output, &gradient))) {
    return parted_by_libtorch(gradient, bias, output, scale);
  }
  int64_t stride = row_stride(gradient);
  const Tensor rows = stride ? gradient : as_rows(gradient);
  const nvrtc::Current current(gradient.get_device());
  stride = stride ? stride : gradient.size(1);
  const Grid grid(gradient);
  const Workspace &space = workspace(gradient);
  const auto like = at::TensorOptions().memory_format(at::MemoryFormat::ChannelsLast);
  // What ReLU has let through is the gradient itself without it, and the input's unless that is scaled.
  const bool both = residual && scale != 1;
  const Tensor passed = output && both ? at::empty_like(rows, like) : Tensor();
  const Tensor scaled = output || scale != 1 ? at::empty_like(rows, like) : Tensor();
  const Tensor sums = at::empty_like(bias);
  launch(kernels(gradient.get_device(), is_bfloat16(gradient))->part, grid, grid.summing(), rows.data_ptr(),
         stride, data(output), data(&passed), data(&scaled), grid.rows, static_cast<int>(grid.channels),
         static_cast<float>(scale), sums.data_ptr(), space.partial.data_ptr(), space.counters.data_ptr());
  const Tensor of_input = scaled.defined() ? scaled : gradient;
  const Tensor of_residual = passed.defined() ? passed : both || !output ? gradient : of_input;
  return {of_input, sums, of_residual};
}

namespace {

// Whether `found` is `expected`, of float64, but for rounding.
void expect(const char *what, const Tensor &found, const Tensor &expected, double tolerance) {
  const double distance = (found.to(at::kDouble) - expected).norm().item<double>() /
                          std::max(expected.norm().item<double>(), 1e-30);
  // NaN is not near, either.
  TORCH_CHECK(distance < tolerance, "a kernel computes ", what, " wrong, by ", distance);
}

// The kernels on small images, against the formulas: with a residual and with a gradient that is a part of
// another.
void check(int gpu, at::ScalarType type) {
  const auto options = at::TensorOptions().device(at::kCUDA, static_cast<c10::DeviceIndex>(gpu));
  const double tolerance = type == at::kFloat ? 1e-4 : 1e-2, momentum = 0.25, epsilon = 1e-3;
  constexpr int64_t images = 3, channels = 40, height = 13, width = 11;
  const auto noise = [&](at::IntArrayRef shape, double phase) {
    const int64_t n = c10::multiply_integers(shape);
    const Tensor wave = (at::arange(n, options.dtype(at::kDouble)) * 12.9898 + phase).sin();
    return (wave * 43758.5453).frac().view(shape);
  };
  const auto map = [&](int64_t wide, double phase) {
    return noise({images, wide, height, width}, phase).to(type).contiguous(at::MemoryFormat::ChannelsLast);
  };
  const auto of_channels = [&](double phase) { return noise({channels}, phase).to(at::kFloat) + 1; };
  const auto shaped = [](const Tensor &x) { return x.to(at::kDouble).view({1, -1, 1, 1}); };
  constexpr std::array<int64_t, 3> axes = {0, 2, 3};
  const Tensor gamma = of_channels(1), beta = of_channels(2);
  for (const bool part_of_other : {false, true}) {
    const Tensor x = map(channels, 3) * 2 + 1, residual = map(channels, 4);
    const Tensor gradient = part_of_other ? map(channels + 16, 5).narrow(1, 8, channels) : map(channels, 5);
    TORCH_CHECK(suits(x, &residual), "a kernel does not take images that it is for");
    const Tensor exact = x.to(at::kDouble), mean = exact.mean(axes, true), centred = exact - mean;
    const Tensor variance = (centred * centred).mean(axes, true), inverse = (variance + epsilon).rsqrt();
    const Tensor *added = part_of_other ? nullptr : &residual;
    const Tensor running_mean = of_channels(6), running_variance = of_channels(7);
    const Tensor bias = of_channels(8), *constant = part_of_other ? &bias : nullptr;
    const Tensor biased = constant ? mean.view(-1) + bias.to(at::kDouble) : mean.view(-1);
    const Tensor means = running_mean.to(at::kDouble) * (1 - momentum) + biased * momentum;
    const Tensor variances = running_variance.to(at::kDouble) * (1 - momentum) + variance.view(-1) * momentum;
    const auto found =
        forward({x, constant}, added, {gamma, beta}, running_mean, running_variance, momentum, epsilon, true);
    const Tensor normal = centred * inverse;
    Tensor y = normal * shaped(gamma) + shaped(beta);
    y = (added ? y + added->to(at::kDouble) : y).relu();
    expect("an output", found.y, y, tolerance);
    expect("a running mean", running_mean, means, 1e-4);
    expect("a running variance", running_variance, variances, 1e-4);
    const auto [of_x, of_gamma, of_beta, of_residual, of_constant] =
        backward(gradient, {x, constant}, added ? &found.y : nullptr, {gamma, beta}, found.mean,
                 found.deviation, true);
    TORCH_CHECK(!constant || !of_constant.any().item<bool>(),
                "a kernel computes a gradient of a bias that has none");
    const Tensor passed = gradient.to(at::kDouble) * (found.y > 0);
    const Tensor slope = (passed * normal).mean(axes, true), level = passed.mean(axes, true);
    expect("a gradient", of_x, (passed - level - normal * slope) * inverse * shaped(gamma), 3 * tolerance);
    expect("a gradient of gamma", of_gamma, (passed * normal).sum(axes), tolerance);
    expect("a gradient of beta", of_beta, passed.sum(axes), tolerance);
    if (added) {
      expect("a gradient of a residual", of_residual, passed, tolerance);
    }
    Tensor sum = (exact + shaped(beta)) * 0.5;
    sum = (added ? sum + added->to(at::kDouble) : sum).relu();
    const Tensor combined = combine(x.clone(), beta, added, 0.5, true);
    expect("a sum", combined, sum, tolerance);
    const Tensor through = gradient.to(at::kDouble) * (combined > 0);
    const auto [of_sum, of_bias, rest] = part(gradient, beta, &combined, added, 0.5);
    expect("a gradient of a sum", of_sum, through * 0.5, tolerance);
    expect("a gradient of a bias", of_bias, (through * 0.5).sum(axes), tolerance);
    if (added) {
      expect("a gradient of what was added", rest, through, tolerance);
    }
    // Without ReLU.
    const auto [of_linear, of_offset, whole] = part(gradient, beta, nullptr, true, 0.5);
    expect("a scaled gradient", of_linear, gradient.to(at::kDouble) * 0.5, tolerance);
    expect("a gradient of an offset", of_offset, (gradient.to(at::kDouble) * 0.5).sum(axes), tolerance);
    expect("a gradient that is passed on", whole, gradient.to(at::kDouble), tolerance);
  }
}

} // namespace
} // namespace fused

#endif

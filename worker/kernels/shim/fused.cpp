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
Normalised forward(const Tensor &, const Tensor *, Layer, const Tensor &, const Tensor &, double, double,
                   bool) {
  return {};
}
std::array<Tensor, 4> backward(const Tensor &, const Tensor &, const Tensor *, Layer, const Tensor &,
                               const Tensor &, bool) {
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

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <algorithm>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAStream.h>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace fused {
namespace {

const char SOURCE[] =
#include "norm_source.h"
    ;

constexpr int64_t THREADS = 512, VECTOR_BYTES = 16;
// Blocks of a sum: each costs its last one a little, and these fill the GPUs that there are.
constexpr int64_t SUM_BLOCKS = 264;
// Rows of a thread that only reads and writes.
constexpr int64_t ROWS = 8;
constexpr int64_t MAX_GROUPS = 1024, PARTIAL_WIDTH = 2 * 256;

// The driver and NVRTC, of which there are no headers everywhere. Handles are pointers; 0 is success.
struct Library {
  using Handle = void *;
  int (*create)(Handle *, const char *, const char *, int, const char *const *, const char *const *);
  int (*compile)(Handle, int, const char *const *);
  int (*log_size)(Handle, size_t *);
  int (*log)(Handle, char *);
  int (*code_size)(Handle, size_t *);
  int (*code)(Handle, char *);
  int (*destroy)(Handle *);
  int (*load)(Handle *, const void *);
  int (*function)(Handle *, Handle, const char *);
  int (*device)(int *, int);
  int (*attribute)(int *, int, int);
  int (*launch)(Handle, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, Handle, void **,
                void **);

  Library() {
    // PyTorch's own way to NVRTC and the driver.
    void *library = dlopen("libcaffe2_nvrtc.so", RTLD_LAZY | RTLD_LOCAL);
    TORCH_CHECK(library, "no NVRTC: ", dlerror());
    const auto find = [&](auto &to, const char *name) {
      void *symbol = dlsym(library, name);
      TORCH_CHECK(symbol, "NVRTC and the driver have no ", name);
      std::memcpy(&to, &symbol, sizeof to);
    };
    find(create, "nvrtcCreateProgram");
    find(compile, "nvrtcCompileProgram");
    find(log_size, "nvrtcGetProgramLogSize");
    find(log, "nvrtcGetProgramLog");
    find(code_size, "nvrtcGetCUBINSize");
    find(code, "nvrtcGetCUBIN");
    find(destroy, "nvrtcDestroyProgram");
    find(load, "cuModuleLoadData");
    find(function, "cuModuleGetFunction");
    find(device, "cuDeviceGet");
    find(attribute, "cuDeviceGetAttribute");
    find(launch, "cuLaunchKernel");
  }
};

const Library &library() {
  static const Library library;
  return library;
}

// The machine code of the kernels for a GPU.
std::vector<char> compiled(int gpu, bool bfloat16) {
  const Library &lib = library();
  int device = 0, major = 0, minor = 0;
  TORCH_CHECK(!lib.device(&device, gpu) && !lib.attribute(&major, 75, device) &&
                  !lib.attribute(&minor, 76, device),
              "the driver does not say what GPU ", gpu, " can do");
  // bfloat16's rounding is an instruction from 8.0 on.
  TORCH_CHECK(major >= 8, "GPU ", gpu, " has compute capability ", major, ".", minor, ", less than 8.0");
  const std::string architecture = "--gpu-architecture=sm_" + std::to_string(major) + std::to_string(minor);
  const std::array<const char *, 3> options = {architecture.c_str(), bfloat16 ? "-DBF16=1" : "-DBF16=0",
                                               "--std=c++17"};
  Library::Handle program = nullptr;
  TORCH_CHECK(!lib.create(&program, SOURCE, "norm.cu", 0, nullptr, nullptr), "NVRTC takes no program");
  std::vector<char> code;
  std::string text;
  size_t size = 0;
  if (lib.compile(program, options.size(), options.data()) == 0) {
    if (lib.code_size(program, &size) == 0) {
      code.resize(size);
      lib.code(program, code.data());
    }
  } else if (lib.log_size(program, &size) == 0) {
    text.resize(size);
    lib.log(program, text.data());
  }
  lib.destroy(&program);
  TORCH_CHECK(!code.empty(), "NVRTC: ", text);
  return code;
}

// Makes a GPU the current one of this thread while it lives. (LibTorch's own guard needs CUDA's runtime at link
// time.)
struct Current {
  c10::DeviceIndex before;

  explicit Current(const at::Device &gpu) : before(c10::cuda::current_device()) {
    c10::cuda::set_device(gpu.index());
  }
  ~Current() { c10::cuda::set_device(before); }
  Current(const Current &) = delete;
  Current &operator=(const Current &) = delete;
};

struct Kernels {
  Library::Handle statistics, normalise, sums, gradient_of_input, combine, part;
};

// Those of a GPU, which is the current one; none if they cannot be had, which is said once.
const Kernels *kernels(int gpu, bool bfloat16) {
  static std::mutex mutex;
  static std::map<std::pair<int, bool>, std::optional<Kernels>> known;
  const std::lock_guard<std::mutex> lock(mutex);
  const auto [at, added] = known.try_emplace({gpu, bfloat16});
  if (added) {
    const char *wanted = std::getenv("QUARTET_CUDA_KERNELS");
    if (wanted && std::strcmp(wanted, "0") == 0) {
      return nullptr;
    }
    try {
      const auto code = compiled(gpu, bfloat16);
      const Library &lib = library();
      Library::Handle module = nullptr;
      TORCH_CHECK(!lib.load(&module, code.data()), "the driver does not load the kernels");
      Kernels found{};
      for (const auto &[kernel, name] :
           {std::pair(&found.statistics, "statistics"), std::pair(&found.normalise, "normalise"),
            std::pair(&found.sums, "sums"), std::pair(&found.gradient_of_input, "gradient_of_input"),
            std::pair(&found.combine, "combine"), std::pair(&found.part, "part")}) {
        TORCH_CHECK(!lib.function(kernel, module, name), "the driver does not find ", name);
      }
      at->second = found;
    } catch (const c10::Error &error) {
      TORCH_WARN("batch normalisation is LibTorch's: ", error.what_without_backtrace());
    }
  }
  return at->second ? &*at->second : nullptr;
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
void launch(Library::Handle kernel, const Grid &grid, unsigned blocks, Arguments... arguments) {
  void *pointers[] = {&arguments...};
  const int error =
      library().launch(kernel, grid.groups, blocks, 1, grid.threads_x, grid.threads_y, 1, 0,
                       c10::cuda::getCurrentCUDAStream().stream(), pointers, nullptr);
  TORCH_CHECK(error == 0, "a kernel cannot be launched: CUDA error ", error);
}

void *data(const Tensor *tensor) { return tensor && tensor->defined() ? tensor->data_ptr() : nullptr; }

// Whether the channels are innermost in memory.
bool is_rows(const Tensor &x) {
  return x.dim() == 4 ? x.is_contiguous(at::MemoryFormat::ChannelsLast) : x.dim() == 2 && x.is_contiguous();
}

Tensor as_rows(const Tensor &x) {
  return x.contiguous(x.dim() == 4 ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous);
}

// How far rows lie apart in memory, if `x` is a part of the channels of such images; else 0.
int64_t row_stride(const Tensor &x) {
  const int64_t pixel = x.dim() == 4 ? x.stride(3) : x.stride(0);
  const bool whole = x.dim() == 2 || (x.stride(2) == x.size(3) * pixel && x.stride(0) == x.size(2) * x.stride(2));
  const int64_t vector = VECTOR_BYTES / x.element_size();
  const bool aligned = pixel % vector == 0 && reinterpret_cast<uintptr_t>(x.data_ptr()) % VECTOR_BYTES == 0;
  return x.stride(1) == 1 && whole && aligned && pixel >= x.size(1) ? pixel : 0;
}

} // namespace

bool suits(const Tensor &x, const Tensor *residual) {
  const auto type = x.scalar_type();
  if (!x.is_cuda() || (type != at::kFloat && type != at::kBFloat16) || x.numel() == 0 || !is_rows(x) ||
      x.size(1) * x.element_size() % VECTOR_BYTES != 0 || Grid(x).groups > MAX_GROUPS) {
    return false;
  }
  if (residual && (residual->scalar_type() != type || residual->sizes() != x.sizes())) {
    return false;
  }
  const Current current(x.device());
  return kernels(x.get_device(), type == at::kBFloat16) != nullptr;
}

Normalised forward(const Tensor &x, const Tensor *residual, Layer layer, const Tensor &mean,
                   const Tensor &variance, double momentum, double epsilon, bool relu) {
  const Current current(x.device());
  const Kernels &kernel = *kernels(x.get_device(), is_bfloat16(x));
  const Workspace &space = workspace(x);
  const Grid grid(x);
  for (const Tensor *tensor : {&layer.gamma, &layer.beta, &mean, &variance}) {
    TORCH_CHECK(tensor->numel() == grid.channels && tensor->scalar_type() == at::kFloat &&
                    tensor->device() == x.device() && tensor->is_contiguous(),
                "a layer of ", tensor->numel(), " channels for ", grid.channels);
  }
  const auto options = x.options().dtype(at::kFloat);
  Normalised out{at::empty_like(x), at::empty({grid.channels}, options), at::empty({grid.channels}, options)};
  const int channels = static_cast<int>(grid.channels);
  launch(kernel.statistics, grid, grid.summing(), x.data_ptr(), grid.rows, channels,
         static_cast<float>(momentum), static_cast<float>(epsilon), out.mean.data_ptr(),
         out.deviation.data_ptr(), mean.data_ptr(), variance.data_ptr(), space.partial.data_ptr(),
         space.counters.data_ptr());
  const Tensor added = residual ? as_rows(*residual) : Tensor();
  launch(kernel.normalise, grid, grid.blocks_of(ROWS), x.data_ptr(), data(&added), out.y.data_ptr(),
         grid.rows, channels, out.mean.data_ptr(), out.deviation.data_ptr(), layer.gamma.data_ptr(),
         layer.beta.data_ptr(), static_cast<int>(relu));
  return out;
}

std::array<Tensor, 4> backward(const Tensor &gradient, const Tensor &x, const Tensor *output, Layer layer,
                               const Tensor &mean, const Tensor &deviation, bool relu) {
  const Current current(x.device());
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
  const Tensor passed = output ? at::empty_like(x) : Tensor();
  const int channels = static_cast<int>(grid.channels);
  launch(kernel.sums, grid, grid.summing(), rows.data_ptr(), stride, x.data_ptr(), data(output),
         data(&passed), grid.rows, channels, mean.data_ptr(), deviation.data_ptr(), layer.gamma.data_ptr(),
         layer.beta.data_ptr(), static_cast<int>(relu), gamma_gradient.data_ptr(), beta_gradient.data_ptr(),
         space.partial.data_ptr(), space.counters.data_ptr());
  const Tensor input = at::empty_like(x);
  launch(kernel.gradient_of_input, grid, grid.blocks_of(ROWS), output ? passed.data_ptr() : rows.data_ptr(),
         output ? grid.channels : stride, x.data_ptr(), input.data_ptr(), grid.rows, channels,
         mean.data_ptr(), deviation.data_ptr(), layer.gamma.data_ptr(), layer.beta.data_ptr(),
         static_cast<int>(relu && !output), gamma_gradient.data_ptr(), beta_gradient.data_ptr());
  return {input, gamma_gradient, beta_gradient, output ? passed : gradient};
}

Tensor combine(const Tensor &x, const Tensor &bias, const Tensor *residual, double scale, bool relu) {
  TORCH_CHECK(bias.numel() == x.size(1), "a bias of ", bias.numel(), " elements for ", x.size(1), " channels");
  if (!suits(x, residual) || bias.scalar_type() != at::kFloat) {
    return combined_by_libtorch(x, bias, residual, scale, relu);
  }
  const Current current(x.device());
  const Grid grid(x);
  const Tensor added = residual ? as_rows(*residual) : Tensor(), offsets = bias.contiguous();
  launch(kernels(x.get_device(), is_bfloat16(x))->combine, grid, grid.blocks_of(ROWS), x.data_ptr(),
         offsets.data_ptr(), data(&added), x.data_ptr(), grid.rows, static_cast<int>(grid.channels),
         static_cast<float>(scale), static_cast<int>(relu));
  return x;
}

std::array<Tensor, 3> part(const Tensor &gradient, const Tensor &bias, const Tensor *output, bool residual,
                           double scale) {
  if (bias.scalar_type() != at::kFloat || (output && !suits(*output, &gradient))) {
    return parted_by_libtorch(gradient, bias, output, scale);
  }
  int64_t stride = row_stride(gradient);
  const Tensor rows = stride ? gradient : as_rows(gradient);
  if (!suits(rows, nullptr) && !stride) {
    return parted_by_libtorch(gradient, bias, output, scale);
  }
  const Current current(gradient.device());
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

} // namespace fused

#endif

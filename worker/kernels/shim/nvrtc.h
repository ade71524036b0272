// Kernels that are compiled for a GPU when the program runs, by the NVRTC that comes with PyTorch.

#pragma once

#include <c10/cuda/CUDAFunctions.h>
#include <c10/util/Exception.h>
#include <exception>
#include <initializer_list>
#include <map>
#include <mutex>
#include <optional>
#include <vector>

namespace nvrtc {

using Handle = void *;

// Makes a GPU the current one of this thread while it lives. (LibTorch's own guard needs CUDA's runtime at
// link time.)
struct Current {
  c10::DeviceIndex before;

  explicit Current(int gpu) : before(c10::cuda::current_device()) {
    // By force: the driver, whose functions we call, is to have it from a new thread, too.
    c10::cuda::set_device(static_cast<c10::DeviceIndex>(gpu), true);
  }
  ~Current() {
    // Where nothing has been done yet, it gets no context.
    (void)c10::cuda::MaybeSetDevice(before);
  }
  Current(const Current &) = delete;
  Current &operator=(const Current &) = delete;
};

struct Grid {
  unsigned blocks_x, blocks_y, threads_x, threads_y;
};

// The functions of these names in a source, compiled with these definitions (`-DNAME=VALUE`) for a GPU, which
// is the current one, and has at least this compute capability, in tenths. Throws if they cannot be had.
std::vector<Handle> load(int gpu, int capability, const char *source,
                         std::initializer_list<const char *> definitions,
                         std::initializer_list<const char *> names);

// Queues a kernel; `arguments` are pointers to its arguments.
void launch(Handle kernel, Grid grid, Handle stream, Handle *arguments);

// Whether the user wants kernels of our own: not with QUARTET_CUDA_KERNELS=0.
bool wanted();

// Kernels of each GPU, or type and GPU, that are loaded and checked when they are first asked for.
template <typename Key, typename Found> class Known {
  // The check asks for them, too.
  std::recursive_mutex mutex;
  std::map<Key, std::optional<Found>> known;

public:
  // None if they cannot be had or are wrong, of which a warning says what is done instead. Not tried again:
  // that takes a second, and cannot be done while a graph is recorded.
  template <typename Load, typename Check>
  const Found *get(const Key &key, const char *instead, Load load, Check check) {
    const std::lock_guard<std::recursive_mutex> lock(mutex);
    const auto [at, added] = known.try_emplace(key);
    if (added && wanted()) {
      try {
        at->second = load();
        check(*at->second);
      } catch (const c10::Error &error) {
        at->second.reset();
        TORCH_WARN(instead, ": ", error.what_without_backtrace());
      } catch (const std::exception &error) {
        at->second.reset();
        TORCH_WARN(instead, ": ", error.what());
      }
    }
    return at->second ? &*at->second : nullptr;
  }
};

} // namespace nvrtc

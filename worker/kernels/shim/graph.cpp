#include "graph.h"

#include <c10/util/Exception.h>

#ifndef QUARTET_CUDA

namespace graph {
bool available() { return false; }
Family family() { return {}; }
Graph *begin(int64_t, Family) { TORCH_CHECK(false, "this build has no CUDA graphs"); }
void end(Graph *) {}
void replay(Graph *) {}
void destroy(Graph *) noexcept {}
int64_t peak_bytes(int64_t) { return 0; }
int64_t release_memory(int64_t) { return 0; }
} // namespace graph

#else

#include <ATen/core/CachingHostAllocator.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAStream.h>

#include <exception>
#include <memory>
#include <optional>
#include <type_traits>

namespace at::cuda {
// Of ATen/cuda/CUDAContextLight.h, which needs headers of more than CUDA's runtime.
TORCH_CUDA_CPP_API void clearCublasWorkspaces();
} // namespace at::cuda

namespace graph {

namespace allocator = c10::cuda::CUDACachingAllocator;

namespace {

struct Recording : at::cuda::CUDAGraph {
  // From then on it gives its memory back by itself.
  bool ended() const { return capture_ended_; }
};

} // namespace

struct Graph {
  Recording graph;
  c10::MempoolId_t pool;
  c10::DeviceIndex gpu;
  // The stream and the GPU that were current before the recording, while it lasts.
  std::optional<c10::cuda::CUDAStream> before;
  c10::DeviceIndex gpu_before;
};

namespace {

template <typename Body> void attempt(Body &&body) noexcept {
  try {
    body();
  } catch (const std::exception &) {
  }
}

// From version 2.11 on page-locked memory has pools, too.
template <typename Allocator, typename = void> struct HostPools {
  static void end(Allocator *, c10::MempoolId_t) {}
};
template <typename Allocator>
using ReleasePool = decltype(std::declval<Allocator>().release_pool(c10::MempoolId_t()));
template <typename Allocator> struct HostPools<Allocator, std::void_t<ReleasePool<Allocator>>> {
  static void end(Allocator *host, c10::MempoolId_t pool) {
    attempt([&] { host->end_allocate_to_pool(pool); });
    attempt([&] { host->release_pool(pool); });
  }
};

// What was current is so again.
void back(Graph *graph) {
  if (graph->before) {
    // What products need was allocated for the recording's stream, which nobody uses again.
    attempt([] { at::cuda::clearCublasWorkspaces(); });
    c10::cuda::setCurrentCUDAStream(*graph->before);
    graph->before.reset();
    c10::cuda::set_device(graph->gpu_before);
  }
}

// LibTorch leaves its allocators as they are when a recording has become invalid.
void abandon(Graph *graph) {
  if (!graph->graph.ended()) {
    attempt([&] { allocator::endAllocateToPool(graph->gpu, graph->pool); });
    attempt([&] { allocator::releasePool(graph->gpu, graph->pool); });
    HostPools<at::HostAllocator>::end(at::getHostAllocator(at::kCUDA), graph->pool);
  }
  back(graph);
}

} // namespace

bool available() { return true; }

Family family() { return at::cuda::graph_pool_handle(); }

Graph *begin(int64_t gpu, Family family) {
  auto graph = std::make_unique<Graph>();
  graph->gpu = static_cast<c10::DeviceIndex>(gpu);
  graph->pool = family;
  graph->gpu_before = c10::cuda::current_device();
  graph->before = c10::cuda::getCurrentCUDAStream(graph->gpu);
  bool begun = false;
  try {
    c10::cuda::set_device(graph->gpu);
    // What was begun may still use memory that the recording takes, and what is cached is of no use to it.
    c10::cuda::device_synchronize();
    allocator::emptyCache();
    // The default stream cannot be recorded.
    c10::cuda::setCurrentCUDAStream(c10::cuda::getStreamFromPool(true, graph->gpu));
    begun = true;
    // Other threads, which read checkpoints, may go on.
    graph->graph.capture_begin(graph->pool, cudaStreamCaptureModeThreadLocal);
  } catch (...) {
    begun ? abandon(graph.get()) : back(graph.get());
    throw;
  }
  return graph.release();
}

void end(Graph *graph) {
  try {
    graph->graph.capture_end();
  } catch (...) {
    abandon(graph);
    throw;
  }
  back(graph);
}

void replay(Graph *graph) { graph->graph.replay(); }

void destroy(Graph *graph) noexcept {
  if (graph && graph->before) {
    attempt([&] { end(graph); });
  }
  attempt([&] { delete graph; });
}

int64_t peak_bytes(int64_t gpu) {
  const auto device = static_cast<c10::DeviceIndex>(gpu);
  const auto stats = allocator::getDeviceStats(device);
  allocator::resetPeakStats(device);
  return stats.allocated_bytes[0].peak;
}

int64_t release_memory(int64_t gpu) {
  allocator::emptyCache();
  return allocator::getDeviceStats(static_cast<c10::DeviceIndex>(gpu)).reserved_bytes[0].current;
}

} // namespace graph

#endif

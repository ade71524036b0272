#include "graph.h"

#include <c10/util/Exception.h>

#ifndef QUARTET_CUDA

namespace graph {
bool available() { return false; }
Graph *begin(int64_t, Graph *) { TORCH_CHECK(false, "this build has no CUDA graphs"); }
void end(Graph *) {}
void replay(Graph *) {}
void destroy(Graph *) noexcept {}
int64_t peak_bytes(int64_t) { return 0; }
} // namespace graph

#else

#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAStream.h>

#include <exception>
#include <memory>
#include <optional>

namespace graph {

namespace allocator = c10::cuda::CUDACachingAllocator;

struct Graph {
  at::cuda::CUDAGraph graph;
  c10::MempoolId_t pool;
  c10::DeviceIndex gpu;
  // The stream and the GPU that were current before the recording, while it lasts.
  std::optional<c10::cuda::CUDAStream> before;
  c10::DeviceIndex gpu_before;
};

namespace {

void back(Graph *graph) {
  if (graph->before) {
    c10::cuda::setCurrentCUDAStream(*graph->before);
    graph->before.reset();
    c10::cuda::set_device(graph->gpu_before);
  }
}

} // namespace

bool available() { return true; }

Graph *begin(int64_t gpu, Graph *sibling) {
  auto graph = std::make_unique<Graph>();
  graph->gpu = static_cast<c10::DeviceIndex>(gpu);
  graph->pool = sibling ? sibling->pool : at::cuda::graph_pool_handle();
  graph->gpu_before = c10::cuda::current_device();
  graph->before = c10::cuda::getCurrentCUDAStream(graph->gpu);
  try {
    c10::cuda::set_device(graph->gpu);
    // What was begun may still use memory that the recording takes, and what is cached is of no use to it.
    c10::cuda::device_synchronize();
    allocator::emptyCache();
    // The default stream cannot be recorded.
    c10::cuda::setCurrentCUDAStream(c10::cuda::getStreamFromPool(true, graph->gpu));
    // Other threads, which read checkpoints, may go on.
    graph->graph.capture_begin(graph->pool, cudaStreamCaptureModeThreadLocal);
  } catch (...) {
    back(graph.get());
    throw;
  }
  return graph.release();
}

void end(Graph *graph) {
  try {
    graph->graph.capture_end();
  } catch (...) {
    // LibTorch leaves its allocator as it is when a recording has become invalid.
    try {
      allocator::endAllocateToPool(graph->gpu, graph->pool);
    } catch (const std::exception &) {
    }
    back(graph);
    throw;
  }
  back(graph);
}

void replay(Graph *graph) { graph->graph.replay(); }

void destroy(Graph *graph) noexcept {
  try {
    if (graph && graph->before) {
      end(graph);
    }
  } catch (const std::exception &) {
  }
  try {
    delete graph;
  } catch (const std::exception &) {
  }
}

int64_t peak_bytes(int64_t gpu) {
  const auto device = static_cast<c10::DeviceIndex>(gpu);
  const auto stats = allocator::getDeviceStats(device);
  allocator::resetPeakStats(device);
  return stats.allocated_bytes[0].peak;
}

} // namespace graph

#endif

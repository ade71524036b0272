// What the parts of the emulated runtime have in common.

#pragma once

#include <cuda_runtime_api.h>

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

struct CUgraph_st {
  struct Node {
    std::string name;
    std::function<void()> work;
  };
  std::vector<Node> nodes;
  cudaStreamCaptureMode mode;
  CUstream_st *origin;
  std::set<CUstream_st *> others = {};
  void *thread;
  unsigned long long id;
  bool invalid = false, active = true;
};

struct CUstream_st {
  std::shared_ptr<CUgraph_st> capture;
  // Of the work that a recording has put here, and of that which its first stream waits for.
  unsigned long long sequence = 0, joined = 0;
};

struct CUevent_st {
  std::shared_ptr<CUgraph_st> capture;
  CUstream_st *stream = nullptr;
  unsigned long long sequence = 0;
};

struct CUgraphExec_st {
  std::vector<CUgraph_st::Node> nodes;
};

namespace runtime {

// Of everything below.
extern std::recursive_mutex mutex;
using Lock = std::lock_guard<std::recursive_mutex>;

// The last failure, and the current GPU, of this thread.
extern thread_local cudaError_t last;
extern thread_local int device;

// A number that the environment says.
size_t said(const char *name, size_t otherwise);

// How much memory each GPU has.
size_t memory();

// Remembers a failure, which is returned.
cudaError_t fail(cudaError_t error, const char *what);

CUstream_st *stream_of(cudaStream_t stream);

// Whether a call is not for a recording, and this thread, or another, makes one, which then is invalid.
bool unsafe(const char *what);

// Does work on a stream, or records it.
cudaError_t enqueue(cudaStream_t on, std::string name, std::function<void()> work);

} // namespace runtime

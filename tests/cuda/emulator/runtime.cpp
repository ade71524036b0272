// A CUDA runtime without a GPU: memory is the host's, and kernels are not run, only named.
//
// It keeps the rules of stream capture: what must not be done while a graph is recorded fails with CUDA's
// error and makes the recording invalid; what was recorded is not done until it is replayed.
//
// EMULATOR_GPUS and EMULATOR_MEMORY_MIB say how many GPUs there are and how much memory each has,
// EMULATOR_NO_CAPTURE=1 that none can record; EMULATOR_VERBOSE=1 tells each failure. Each graph's operations
// are written to a file in the folder EMULATOR_GRAPHS.

#include <cuda_runtime_api.h>

#include <cxxabi.h>
#include <dlfcn.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "emulator.h"

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

namespace {

std::recursive_mutex mutex;
using Lock = std::lock_guard<std::recursive_mutex>;

thread_local cudaError_t last = cudaSuccess;
thread_local int device = 0;
thread_local cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
thread_local char here;

CUstream_st legacy, per_thread;
std::set<std::shared_ptr<CUgraph_st>> captures;
// Each block's size, and its GPU.
using Blocks = std::map<uintptr_t, std::pair<size_t, int>>;
Blocks device_memory, host_memory;
std::map<const void *, std::string> functions;
unsigned long long ids = 1;
std::map<int, size_t> used;

// A number that the environment says.
size_t said(const char *name, size_t otherwise) {
  const char *text = std::getenv(name);
  return text ? std::strtoull(text, nullptr, 10) : otherwise;
}

size_t memory() {
  static const size_t bytes = said("EMULATOR_MEMORY_MIB", 80 * 1024) << 20;
  return bytes;
}

int devices() {
  static const int count = static_cast<int>(said("EMULATOR_GPUS", 1));
  return count;
}

cudaError_t fail(cudaError_t error, const char *what) {
  last = error;
  if (said("EMULATOR_VERBOSE", 0)) {
    std::fprintf(stderr, "emulator: %s fails with %d\n", what, error);
  }
  return error;
}

CUstream_st *stream_of(cudaStream_t stream) {
  if (stream == nullptr || stream == cudaStreamLegacy) {
    return &legacy;
  }
  return stream == cudaStreamPerThread ? &per_thread : stream;
}

// A call that is not for a recording: while one is made by this thread it becomes invalid.
bool unsafe(const char *what) {
  if (mode == cudaStreamCaptureModeRelaxed) {
    return false;
  }
  for (const auto &capture : captures) {
    const bool mine = capture->thread == &here;
    const bool forbidden =
        (mine && capture->mode != cudaStreamCaptureModeRelaxed) ||
        (!mine && mode == cudaStreamCaptureModeGlobal && capture->mode == cudaStreamCaptureModeGlobal);
    if (forbidden) {
      capture->invalid = true;
      fail(cudaErrorStreamCaptureUnsupported, what);
      return true;
    }
  }
  return false;
}

// Waits for a stream, or for all of them.
cudaError_t wait_for(CUstream_st *stream, const char *what) {
  for (const auto &capture : captures) {
    // By whichever thread.
    if (!stream || stream->capture == capture) {
      capture->invalid = true;
      return fail(cudaErrorStreamCaptureUnsupported, what);
    }
  }
  return cudaSuccess;
}

// Does work on a stream, or records it.
cudaError_t enqueue(cudaStream_t on, std::string name, std::function<void()> work) {
  const Lock lock(mutex);
  CUstream_st *stream = stream_of(on);
  if (stream->capture) {
    if (stream->capture->invalid) {
      return fail(cudaErrorStreamCaptureInvalidated, name.c_str());
    }
    ++stream->sequence;
    stream->capture->nodes.push_back({std::move(name), std::move(work)});
    return cudaSuccess;
  }
  for (const auto &capture : captures) {
    if (capture->thread == &here) {
      // CUDA would do it: a graph that lacks it is not what was meant.
      std::fprintf(stderr, "emulator: %s is done beside a recording that this thread makes\n", name.c_str());
      capture->invalid = true;
    }
  }
  if (work) {
    work();
  }
  return cudaSuccess;
}

bool within(const Blocks &blocks, const void *at) {
  const auto address = reinterpret_cast<uintptr_t>(at);
  auto block = blocks.upper_bound(address);
  return block != blocks.begin() && (--block, address < block->first + block->second.first);
}

cudaError_t copy(void *to, const void *from, size_t size, cudaStream_t stream, bool async) {
  const Lock lock(mutex);
  const auto pageable = [](const void *at) { return !within(device_memory, at) && !within(host_memory, at); };
  const bool to_device = within(device_memory, to), from_device = within(device_memory, from);
  const char *name = to_device     ? from_device ? "copy on the device" : "copy to the device"
                     : from_device ? "copy from the device"
                                   : "copy on the host";
  if (!async && unsafe(name)) {
    return cudaErrorStreamCaptureUnsupported;
  }
  CUstream_st *on = stream_of(stream);
  if (on->capture && (pageable(to) || pageable(from))) {
    on->capture->invalid = true;
    return fail(cudaErrorStreamCaptureUnsupported, name);
  }
  return enqueue(stream, name, [=] { std::memmove(to, from, size); });
}

std::string demangled(const char *name) {
  int status = 0;
  std::unique_ptr<char, void (*)(void *)> text(abi::__cxa_demangle(name, nullptr, nullptr, &status),
                                               std::free);
  return status == 0 ? text.get() : name;
}

cudaError_t take(void **at, size_t size, Blocks &blocks, const char *what) {
  const Lock lock(mutex);
  if (unsafe(what)) {
    return cudaErrorStreamCaptureUnsupported;
  }
  *at = nullptr;
  if (size == 0) {
    return cudaSuccess;
  }
  const bool on_device = &blocks == &device_memory;
  if (on_device && used[device] + size > memory()) {
    return fail(cudaErrorMemoryAllocation, what);
  }
  void *found =
      mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (found == MAP_FAILED) {
    return fail(cudaErrorMemoryAllocation, what);
  }
  *at = found;
  blocks[reinterpret_cast<uintptr_t>(found)] = {size, device};
  used[device] += on_device ? size : 0;
  return cudaSuccess;
}

cudaError_t give(void *at, Blocks &blocks, const char *what) {
  const Lock lock(mutex);
  if (unsafe(what)) {
    return cudaErrorStreamCaptureUnsupported;
  }
  const auto found = blocks.find(reinterpret_cast<uintptr_t>(at));
  if (!at) {
    return cudaSuccess;
  }
  if (found == blocks.end()) {
    return fail(cudaErrorInvalidValue, what);
  }
  const auto [size, of] = found->second;
  munmap(at, size);
  used[of] -= &blocks == &device_memory ? size : 0;
  blocks.erase(found);
  return cudaSuccess;
}

struct Configuration {
  dim3 grid, block;
  size_t shared;
  cudaStream_t stream;
};
thread_local std::vector<Configuration> configurations;

cudaError_t launch(const void *function, cudaStream_t stream) {
  std::string name;
  {
    const Lock lock(mutex);
    const auto found = functions.find(function);
    name = found == functions.end() ? "a kernel without a name" : found->second;
  }
  return enqueue(stream, name, nullptr);
}

int not_there() { return 801; }

} // namespace

extern "C" {

// For the other libraries.
void emulator_enqueue(void *stream, const char *name, void (*work)(void *), void *of, size_t size) {
  std::vector<char> kept(static_cast<char *>(of), static_cast<char *>(of) + size);
  std::function<void()> body;
  if (work) {
    body = [work, kept]() mutable { work(kept.data()); };
  }
  enqueue(static_cast<cudaStream_t>(stream), name, std::move(body));
}

// Kernels.
void **__cudaRegisterFatBinary(void *) {
  static void *handle;
  return &handle;
}
void __cudaRegisterFatBinaryEnd(void **) {}
char __cudaInitModule(void **) { return 1; }
void __cudaUnregisterFatBinary(void **) {}
void __cudaRegisterFunction(void **, const char *function, char *, const char *name, int, uint3 *, uint3 *,
                            dim3 *, dim3 *, int *) {
  const Lock lock(mutex);
  functions[function] = demangled(name);
}
void __cudaRegisterVar(void **, char *, char *, const char *, int, size_t, int, int) {}
unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, CUstream_st *stream) {
  configurations.push_back({grid, block, shared, stream});
  return 0;
}
cudaError_t __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared, void *stream) {
  const auto [g, b, s, t] = configurations.back();
  configurations.pop_back();
  *grid = g, *block = b, *shared = s, *static_cast<cudaStream_t *>(stream) = t;
  return cudaSuccess;
}
cudaError_t __cudaGetKernel(cudaKernel_t *kernel, const void *function) {
  *kernel = reinterpret_cast<cudaKernel_t>(const_cast<void *>(function));
  return cudaSuccess;
}
cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3, dim3, void **, size_t, cudaStream_t stream) {
  return launch(kernel, stream);
}
cudaError_t cudaLaunchKernel(const void *function, dim3, dim3, void **, size_t, cudaStream_t stream) {
  return launch(function, stream);
}
cudaError_t cudaLaunchCooperativeKernel(const void *function, dim3, dim3, void **, size_t,
                                        cudaStream_t stream) {
  return launch(function, stream);
}
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t *config, const void *function, void **) {
  return launch(function, config->stream);
}
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void *data) {
  return enqueue(stream, "a function of the host", [=] { function(data); });
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *attributes, const void *) {
  *attributes = {};
  attributes->maxThreadsPerBlock = 1024;
  attributes->numRegs = 32;
  attributes->ptxVersion = attributes->binaryVersion = 90;
  return cudaSuccess;
}
cudaError_t cudaFuncSetAttribute(const void *, cudaFuncAttribute, int) { return cudaSuccess; }
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, const void *, int threads, size_t) {
  *blocks = std::max(1, 2048 / std::max(1, threads));
  return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, const void *of, int threads,
                                                                   size_t shared, unsigned) {
  return cudaOccupancyMaxActiveBlocksPerMultiprocessor(blocks, of, threads, shared);
}
cudaError_t cudaGetSymbolAddress(void **at, const void *) {
  static char symbol[1 << 20];
  *at = symbol;
  return cudaSuccess;
}
cudaError_t cudaMemcpyToSymbol(const void *, const void *, size_t, size_t, cudaMemcpyKind) {
  return cudaSuccess;
}

// Devices.
cudaError_t cudaGetDeviceCount(int *count) {
  *count = devices();
  return *count > 0 ? cudaSuccess : fail(cudaErrorNoDevice, "cudaGetDeviceCount");
}
cudaError_t cudaGetDevice(int *which) {
  *which = device;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int which) {
  if (which < 0 || which >= devices()) {
    return fail(cudaErrorInvalidDevice, "cudaSetDevice");
  }
  device = which;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *is, int) {
  *is = {};
  std::strcpy(is->name, "NVIDIA that there is not");
  is->totalGlobalMem = memory();
  is->major = 9;
  is->multiProcessorCount = 132;
  is->warpSize = 32;
  is->maxThreadsPerBlock = 1024;
  is->maxThreadsPerMultiProcessor = 2048;
  is->maxBlocksPerMultiProcessor = 32;
  is->maxThreadsDim[0] = is->maxThreadsDim[1] = 1024, is->maxThreadsDim[2] = 64;
  is->maxGridSize[0] = 2147483647, is->maxGridSize[1] = is->maxGridSize[2] = 65535;
  is->sharedMemPerBlock = 48 << 10;
  is->sharedMemPerBlockOptin = 227 << 10;
  is->sharedMemPerMultiprocessor = 228 << 10;
  is->regsPerBlock = is->regsPerMultiprocessor = 65536;
  is->l2CacheSize = 50 << 20;
  is->totalConstMem = 64 << 10;
  is->textureAlignment = 512;
  is->unifiedAddressing = 1;
  is->concurrentKernels = 1;
  is->memoryBusWidth = 5120;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int) {
  switch (attribute) {
  case cudaDevAttrMaxSharedMemoryPerBlockOptin:
    *value = 227 << 10;
    break;
  case cudaDevAttrMaxSharedMemoryPerBlock:
    *value = 48 << 10;
    break;
  case cudaDevAttrMultiProcessorCount:
    *value = 132;
    break;
  case cudaDevAttrComputeCapabilityMajor:
    *value = 9;
    break;
  case cudaDevAttrComputeCapabilityMinor:
    *value = 0;
    break;
  case cudaDevAttrMaxThreadsPerBlock:
    *value = 1024;
    break;
  case cudaDevAttrMaxThreadsPerMultiProcessor:
    *value = 2048;
    break;
  case cudaDevAttrWarpSize:
    *value = 32;
    break;
  default:
    *value = 1;
  }
  return cudaSuccess;
}
cudaError_t cudaDeviceGetPCIBusId(char *id, int length, int which) {
  std::snprintf(id, length, "0000:%02x:00.0", which + 1);
  return cudaSuccess;
}
cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest) {
  *least = 0, *greatest = -5;
  return cudaSuccess;
}
cudaError_t cudaDeviceCanAccessPeer(int *can, int, int) {
  *can = 0;
  return cudaSuccess;
}
cudaError_t cudaDeviceEnablePeerAccess(int, unsigned) { return cudaSuccess; }
cudaError_t cudaDeviceSynchronize() {
  const Lock lock(mutex);
  return wait_for(nullptr, "cudaDeviceSynchronize");
}
cudaError_t cudaDriverGetVersion(int *version) {
  *version = 13000;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int *version) {
  *version = 13000;
  return cudaSuccess;
}
cudaError_t cudaGetDriverEntryPointByVersion(const char *name, void **function, unsigned, unsigned long long,
                                             cudaDriverEntryPointQueryResult *found) {
  *function = dlsym(RTLD_DEFAULT, name);
  if (!*function) {
    *function = reinterpret_cast<void *>(&not_there);
  }
  if (found) {
    *found = cudaDriverEntryPointSuccess;
  }
  return cudaSuccess;
}
cudaError_t cudaProfilerStart() { return cudaSuccess; }
cudaError_t cudaProfilerStop() { return cudaSuccess; }

// Errors.
const char *cudaGetErrorName(cudaError_t) { return "an error of the emulator"; }
const char *cudaGetErrorString(cudaError_t error) {
  switch (error) {
  case cudaErrorMemoryAllocation:
    return "out of memory";
  case cudaErrorStreamCaptureUnsupported:
    return "operation not permitted when stream is capturing";
  case cudaErrorStreamCaptureInvalidated:
    return "operation failed due to a previous error during capture";
  case cudaErrorStreamCaptureUnjoined:
    return "capturing stream has unjoined work";
  case cudaErrorStreamCaptureIsolation:
    return "dependency created on uncaptured work in another stream";
  default:
    return "an error of the emulator";
  }
}
cudaError_t cudaGetLastError() { return std::exchange(last, cudaSuccess); }
cudaError_t cudaPeekAtLastError() { return last; }

// Memory.
cudaError_t cudaMalloc(void **at, size_t size) { return take(at, size, device_memory, "cudaMalloc"); }
cudaError_t cudaFree(void *at) { return give(at, device_memory, "cudaFree"); }
cudaError_t cudaHostAlloc(void **at, size_t size, unsigned) {
  return take(at, size, host_memory, "cudaHostAlloc");
}
cudaError_t cudaFreeHost(void *at) { return give(at, host_memory, "cudaFreeHost"); }
cudaError_t cudaHostRegister(void *at, size_t size, unsigned) {
  const Lock lock(mutex);
  host_memory[reinterpret_cast<uintptr_t>(at)] = {size, device};
  return cudaSuccess;
}
cudaError_t cudaHostUnregister(void *at) {
  const Lock lock(mutex);
  host_memory.erase(reinterpret_cast<uintptr_t>(at));
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t *free, size_t *total) {
  const Lock lock(mutex);
  *free = memory() - used[device], *total = memory();
  return cudaSuccess;
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *is, const void *at) {
  const Lock lock(mutex);
  *is = {};
  is->type = within(device_memory, at) ? cudaMemoryTypeDevice
             : within(host_memory, at) ? cudaMemoryTypeHost
                                       : cudaMemoryTypeUnregistered;
  is->devicePointer = is->hostPointer = const_cast<void *>(at);
  return cudaSuccess;
}
cudaError_t cudaMemcpy(void *to, const void *from, size_t size, cudaMemcpyKind) {
  return copy(to, from, size, nullptr, false);
}
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t size, cudaMemcpyKind, cudaStream_t stream) {
  return copy(to, from, size, stream, true);
}
cudaError_t cudaMemcpyPeerAsync(void *to, int, const void *from, int, size_t size, cudaStream_t stream) {
  return copy(to, from, size, stream, true);
}
cudaError_t cudaMemset(void *at, int value, size_t size) {
  return enqueue(nullptr, "set memory", [=] { std::memset(at, value, size); });
}
cudaError_t cudaMemsetAsync(void *at, int value, size_t size, cudaStream_t stream) {
  return enqueue(stream, "set memory", [=] { std::memset(at, value, size); });
}

// Streams and events.
cudaError_t cudaStreamCreate(cudaStream_t *stream) {
  *stream = new CUstream_st;
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned, int) {
  return cudaStreamCreate(stream);
}
cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamGetPriority(cudaStream_t, int *priority) {
  *priority = 0;
  return cudaSuccess;
}
cudaError_t cudaStreamQuery(cudaStream_t stream) {
  const Lock lock(mutex);
  if (unsafe("cudaStreamQuery")) {
    return cudaErrorStreamCaptureUnsupported;
  }
  return wait_for(stream_of(stream), "cudaStreamQuery");
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  const Lock lock(mutex);
  // Of another stream, too: a call that is not for recordings.
  if (unsafe("cudaStreamSynchronize")) {
    return cudaErrorStreamCaptureUnsupported;
  }
  return wait_for(stream_of(stream), "cudaStreamSynchronize");
}
cudaError_t cudaStreamWaitEvent(cudaStream_t on, cudaEvent_t event, unsigned) {
  const Lock lock(mutex);
  CUstream_st *stream = stream_of(on);
  if (event->capture && event->capture->active) {
    if (stream->capture && stream->capture != event->capture) {
      return fail(cudaErrorStreamCaptureMerge, "cudaStreamWaitEvent");
    }
    if (!stream->capture) {
      stream->capture = event->capture;
      stream->capture->others.insert(stream);
      stream->sequence = 1, stream->joined = 0;
    }
    event->stream->joined = std::max(event->stream->joined, event->sequence);
  } else if (stream->capture && event->stream) {
    stream->capture->invalid = true;
    return fail(cudaErrorStreamCaptureIsolation, "cudaStreamWaitEvent");
  }
  return cudaSuccess;
}
cudaError_t cudaStreamAddCallback(cudaStream_t stream, cudaStreamCallback_t callback, void *data, unsigned) {
  return enqueue(stream, "a callback", [=] { callback(stream, cudaSuccess, data); });
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned) {
  *event = new CUevent_st;
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t *event) { return cudaEventCreateWithFlags(event, 0); }
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t on, unsigned) {
  const Lock lock(mutex);
  CUstream_st *stream = stream_of(on);
  event->stream = stream;
  event->capture = stream->capture;
  event->sequence = stream->sequence;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t on) {
  return cudaEventRecordWithFlags(event, on, 0);
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  const Lock lock(mutex);
  if (unsafe("cudaEventQuery")) {
    return cudaErrorStreamCaptureUnsupported;
  }
  return event->capture && event->capture->active ? fail(cudaErrorCapturedEvent, "cudaEventQuery")
                                                  : cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const Lock lock(mutex);
  if (unsafe("cudaEventSynchronize")) {
    return cudaErrorStreamCaptureUnsupported;
  }
  return event->capture && event->capture->active ? fail(cudaErrorCapturedEvent, "cudaEventSynchronize")
                                                  : cudaSuccess;
}
cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t, cudaEvent_t) {
  *milliseconds = 1;
  return cudaSuccess;
}

// Graphs.
cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode *to) {
  std::swap(*to, mode);
  return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t on, cudaStreamCaptureStatus *status) {
  const Lock lock(mutex);
  const auto *stream = stream_of(on);
  *status = !stream->capture           ? cudaStreamCaptureStatusNone
            : stream->capture->invalid ? cudaStreamCaptureStatusInvalidated
                                       : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}
cudaError_t cudaStreamGetCaptureInfo(cudaStream_t on, cudaStreamCaptureStatus *status, unsigned long long *id,
                                     cudaGraph_t *graph, const cudaGraphNode_t **nodes,
                                     const cudaGraphEdgeData **edges, size_t *count) {
  cudaStreamIsCapturing(on, status);
  const Lock lock(mutex);
  const auto *stream = stream_of(on);
  if (stream->capture) {
    if (id)
      *id = stream->capture->id;
    if (graph)
      *graph = stream->capture.get();
  }
  if (nodes)
    *nodes = nullptr;
  if (edges)
    *edges = nullptr;
  if (count)
    *count = 0;
  return cudaSuccess;
}
cudaError_t cudaStreamBeginCapture(cudaStream_t on, cudaStreamCaptureMode how) {
  const Lock lock(mutex);
  CUstream_st *stream = stream_of(on);
  if (stream == &legacy) {
    return fail(cudaErrorStreamCaptureUnsupported, "cudaStreamBeginCapture");
  }
  if (stream->capture) {
    return fail(cudaErrorIllegalState, "cudaStreamBeginCapture");
  }
  if (said("EMULATOR_NO_CAPTURE", 0)) {
    return fail(cudaErrorStreamCaptureUnsupported, "cudaStreamBeginCapture");
  }
  auto graph = std::make_shared<CUgraph_st>();
  graph->mode = how, graph->origin = stream, graph->thread = &here, graph->id = ids++;
  stream->capture = graph;
  stream->sequence = stream->joined = 0;
  captures.insert(graph);
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t on, cudaGraph_t *out) {
  const Lock lock(mutex);
  CUstream_st *stream = stream_of(on);
  *out = nullptr;
  const auto graph = stream->capture;
  if (!graph || graph->origin != stream) {
    return fail(cudaErrorIllegalState, "cudaStreamEndCapture");
  }
  graph->active = false;
  captures.erase(graph);
  stream->capture.reset();
  bool joined = true;
  for (CUstream_st *other : graph->others) {
    joined = joined && other->joined == other->sequence;
    other->capture.reset();
  }
  if (graph->thread != &here && graph->mode != cudaStreamCaptureModeRelaxed) {
    return fail(cudaErrorStreamCaptureWrongThread, "cudaStreamEndCapture");
  }
  if (graph->invalid) {
    return fail(cudaErrorStreamCaptureInvalidated, "cudaStreamEndCapture");
  }
  if (!joined) {
    return fail(cudaErrorStreamCaptureUnjoined, "cudaStreamEndCapture");
  }
  *out = new CUgraph_st(*graph);
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *out, cudaGraph_t graph, unsigned long long) {
  *out = new CUgraphExec_st{graph->nodes};
  static int number = 0;
  if (const char *folder = std::getenv("EMULATOR_GRAPHS")) {
    const Lock lock(mutex);
    const std::string path = std::string(folder) + "/" + std::to_string(number++) + ".txt";
    if (FILE *file = std::fopen(path.c_str(), "w")) {
      for (const auto &node : graph->nodes) {
        std::fprintf(file, "%s\n", node.name.c_str());
      }
      std::fclose(file);
    }
  }
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) {
  return enqueue(stream, "a graph of " + std::to_string(graph->nodes.size()) + " nodes", [=] {
    for (const auto &node : graph->nodes) {
      if (node.work) {
        node.work();
      }
    }
  });
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *, size_t *count) {
  *count = graph->nodes.size();
  return cudaSuccess;
}
} // extern "C"

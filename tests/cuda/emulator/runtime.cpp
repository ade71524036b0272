// A CUDA runtime without a GPU: memory is the host's, and kernels are not run, only named.
//
// It keeps the rules of stream capture: what must not be done while a graph is recorded fails with CUDA's
// error and makes the recording invalid; what was recorded is not done until it is replayed.
//
// EMULATOR_GPUS and EMULATOR_MEMORY_MIB say how many GPUs there are and how much memory each has,
// EMULATOR_NO_CAPTURE=1 that none can record; EMULATOR_VERBOSE=1 tells each failure. Each graph's operations
// are written to a file in the folder EMULATOR_GRAPHS.

#include "runtime.h"

#include <cxxabi.h>
#include <dlfcn.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace runtime {

thread_local cudaError_t last = cudaSuccess;
thread_local int device = 0;

size_t said(const char *name, size_t otherwise) {
  const char *text = std::getenv(name);
  return text ? std::strtoull(text, nullptr, 10) : otherwise;
}

size_t memory() {
  static const size_t bytes = said("EMULATOR_MEMORY_MIB", 80 * 1024) << 20;
  return bytes;
}

cudaError_t fail(cudaError_t error, const char *what) {
  last = error;
  if (said("EMULATOR_VERBOSE", 0)) {
    std::fprintf(stderr, "emulator: %s fails with %d\n", what, error);
  }
  return error;
}

} // namespace runtime

using namespace runtime;

namespace {

std::map<const void *, std::string> functions;

int devices() {
  static const int count = static_cast<int>(said("EMULATOR_GPUS", 1));
  return count;
}

std::string demangled(const char *name) {
  int status = 0;
  std::unique_ptr<char, void (*)(void *)> text(abi::__cxa_demangle(name, nullptr, nullptr, &status),
                                               std::free);
  return status == 0 ? text.get() : name;
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
}

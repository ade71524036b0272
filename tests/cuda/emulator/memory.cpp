// Memory of GPUs, and page-locked memory: both are the host's.

#include "runtime.h"

#include <sys/mman.h>

#include <cstring>

using namespace runtime;

namespace {

// Each block's size, and its GPU.
using Blocks = std::map<uintptr_t, std::pair<size_t, int>>;
Blocks device_memory, host_memory;
std::map<int, size_t> used;

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

} // namespace

extern "C" {

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
}

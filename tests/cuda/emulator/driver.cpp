// What LibTorch and our own kernels call of CUDA's driver and of NVRTC. What NVRTC makes of a program is the
// text of its options.
#include <cuda.h>

#include <cstring>
#include <dlfcn.h>
#include <map>
#include <mutex>
#include <string>

#include "emulator.h"

bool run_kernel(const std::string &name, bool bfloat16, unsigned grid_x, void **arguments, void *stream);

namespace {
std::mutex mutex;
struct Module {
  bool bfloat16;
};
struct Function {
  std::string name;
  bool bfloat16;
};
// Only where LibTorch's operations are computed do ours need to be: all else counts.
bool computes() {
  static const bool found = dlsym(RTLD_DEFAULT, "emulator_computes");
  return found;
}
} // namespace

extern "C" {
CUresult cuInit(unsigned) { return CUDA_SUCCESS; }
// Whoever asks finds a table of nothing.
CUresult cuGetExportTable(const void **table, const CUuuid *) {
  static const size_t size = sizeof size;
  *table = &size;
  return CUDA_SUCCESS;
}
CUresult cuDriverGetVersion(int *version) {
  *version = 13000;
  return CUDA_SUCCESS;
}
CUresult cuDeviceGet(CUdevice *device, int which) {
  *device = which;
  return CUDA_SUCCESS;
}
CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice) {
  *value = attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR   ? 9
           : attribute == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR ? 0
                                                                       : 1;
  return CUDA_SUCCESS;
}
CUresult cuCtxGetCurrent(CUcontext *context) {
  static int one;
  *context = reinterpret_cast<CUcontext>(&one);
  return CUDA_SUCCESS;
}
CUresult cuCtxSetCurrent(CUcontext) { return CUDA_SUCCESS; }
CUresult cuDevicePrimaryCtxGetState(CUdevice, unsigned *flags, int *active) {
  *flags = 0, *active = 1;
  return CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice) { return cuCtxGetCurrent(context); }
CUresult cuGetErrorString(CUresult, const char **text) {
  *text = "an error of the emulator";
  return CUDA_SUCCESS;
}
CUresult cuModuleLoadData(CUmodule *module, const void *data) {
  const bool bfloat16 = std::strstr(static_cast<const char *>(data), "-DBF16=1");
  *module = reinterpret_cast<CUmodule>(new Module{bfloat16});
  return CUDA_SUCCESS;
}
CUresult cuModuleUnload(CUmodule) { return CUDA_SUCCESS; }
CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name) {
  *function = reinterpret_cast<CUfunction>(new Function{name, reinterpret_cast<Module *>(module)->bfloat16});
  return CUDA_SUCCESS;
}
CUresult cuLaunchKernel(CUfunction of, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                        unsigned bz, unsigned, CUstream stream, void **arguments, void **) {
  const auto *function = reinterpret_cast<const Function *>(of);
  if (gx == 0 || gy == 0 || gy > 65535 || gz > 65535 || bx * by * bz == 0 || bx * by * bz > 1024) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  const bool counts = !computes() && function->name != "images";
  if (counts || !run_kernel(function->name, function->bfloat16, gx, arguments, stream)) {
    emulator_enqueue(stream, ("quartet " + function->name).c_str(), nullptr, nullptr, 0);
  }
  return CUDA_SUCCESS;
}

int nvrtcCreateProgram(void **program, const char *, const char *, int, const char *const *,
                       const char *const *) {
  *program = new std::string;
  return 0;
}
int nvrtcDestroyProgram(void **program) {
  delete static_cast<std::string *>(*program);
  return 0;
}
int nvrtcCompileProgram(void *program, int count, const char *const *options) {
  for (int i = 0; i < count; ++i) {
    *static_cast<std::string *>(program) += std::string(options[i]) + " ";
  }
  return 0;
}
int nvrtcGetCUBINSize(void *program, size_t *size) {
  *size = static_cast<std::string *>(program)->size() + 1;
  return 0;
}
int nvrtcGetCUBIN(void *program, char *code) {
  std::strcpy(code, static_cast<std::string *>(program)->c_str());
  return 0;
}
int nvrtcVersion(int *major, int *minor) {
  *major = 13, *minor = 0;
  return 0;
}
}

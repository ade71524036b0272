#ifdef QUARTET_CUDA

#include "nvrtc.h"

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <string>

namespace nvrtc {
namespace {

// The driver and NVRTC, of which there are no headers everywhere. Handles are pointers; 0 is success.
struct Library {
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
    Dl_info place;
    if (!library && dladdr(reinterpret_cast<void *>(&c10::cuda::current_device), &place) && place.dli_fname) {
      // Beside LibTorch's other libraries, wherever these were found.
      const std::string beside(place.dli_fname);
      const std::string folder = beside.substr(0, beside.rfind('/') + 1);
      library = dlopen((folder + "libcaffe2_nvrtc.so").c_str(), RTLD_LAZY | RTLD_LOCAL);
    }
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

// The machine code for a GPU.
std::vector<char> compiled(int gpu, int capability, const char *source,
                           std::initializer_list<const char *> definitions) {
  const Library &lib = library();
  int device = 0, major = 0, minor = 0;
  TORCH_CHECK(!lib.device(&device, gpu) && !lib.attribute(&major, 75, device) &&
                  !lib.attribute(&minor, 76, device),
              "the driver does not say what GPU ", gpu, " can do");
  TORCH_CHECK(10 * major + minor >= capability, "GPU ", gpu, " has compute capability ", major, ".", minor,
              ", less than ", capability / 10, ".", capability % 10);
  const std::string architecture = "--gpu-architecture=sm_" + std::to_string(major) + std::to_string(minor);
  std::vector<const char *> options = {architecture.c_str(), "--std=c++17"};
  options.insert(options.end(), definitions.begin(), definitions.end());
  Handle program = nullptr;
  TORCH_CHECK(!lib.create(&program, source, "kernels.cu", 0, nullptr, nullptr), "NVRTC takes no program");
  std::vector<char> code;
  std::string text;
  size_t size = 0;
  if (lib.compile(program, static_cast<int>(options.size()), options.data()) == 0) {
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

} // namespace

std::vector<Handle> load(int gpu, int capability, const char *source,
                         std::initializer_list<const char *> definitions,
                         std::initializer_list<const char *> names) {
  const auto code = compiled(gpu, capability, source, definitions);
  const Library &lib = library();
  Handle module = nullptr;
  TORCH_CHECK(!lib.load(&module, code.data()), "the driver does not load the kernels");
  std::vector<Handle> found(names.size());
  auto to = found.begin();
  for (const char *name : names) {
    TORCH_CHECK(!lib.function(&*to++, module, name), "the driver does not find ", name);
  }
  return found;
}

void launch(Handle kernel, Grid grid, Handle stream, Handle *arguments) {
  const int error = library().launch(kernel, grid.blocks_x, grid.blocks_y, 1, grid.threads_x, grid.threads_y,
                                     1, 0, stream, arguments, nullptr);
  TORCH_CHECK(error == 0, "a kernel cannot be launched: CUDA error ", error);
}

bool wanted() {
  const char *said = std::getenv("QUARTET_CUDA_KERNELS");
  return !(said && std::strcmp(said, "0") == 0);
}

} // namespace nvrtc

#endif

// The handles of cuDNN, cuBLAS and cuBLASLt. What these libraries compute is only counted: where LibTorch's
// operations are emulated nobody calls them. Handles and descriptors are pointers; 0 is success.

#include <cstdint>
#include <cstdlib>

#include "emulator.h"

namespace {

struct Handle {
  void *stream = nullptr;
  int math = 0, pointers = 0;
};

Handle &of(void *handle) { return *static_cast<Handle *>(handle); }

// cuDNN's types of descriptors, and of attributes.
constexpr int FORWARD = 10, GRADIENT_OF_WEIGHT = 11, GRADIENT_OF_INPUT = 12;
constexpr int INTEGER = 3, DESCRIPTOR = 15;

// `operation` is the type of the operation that it is about, if that is known.
struct Descriptor {
  int operation;
};

const char *name_of(int operation) {
  switch (operation) {
  case FORWARD:
    return "cuDNN: convolution";
  case GRADIENT_OF_WEIGHT:
    return "cuDNN: gradient of a weight";
  case GRADIENT_OF_INPUT:
    return "cuDNN: gradient of an input";
  default:
    return "cuDNN";
  }
}

int created(void **out) {
  *out = std::calloc(1, 256);
  return 0;
}

int destroyed(void *object) {
  std::free(object);
  return 0;
}

} // namespace

extern "C" {

void *emulator_stream_of(void *handle) { return of(handle).stream; }

size_t cudnnGetVersion() { return 92000; }
size_t cudnnGetCudartVersion() { return 13000; }
const char *cudnnGetErrorString(int) { return "an error of the emulator"; }
void cudnnGetLastErrorString(char *text, size_t size) {
  if (size > 0) {
    *text = 0;
  }
}
int cudnnCreate(void **handle) {
  *handle = new Handle;
  return 0;
}
int cudnnSetStream(void *handle, void *stream) {
  of(handle).stream = stream;
  return 0;
}
int cudnnGetStream(void *handle, void **stream) {
  *stream = of(handle).stream;
  return 0;
}

int cudnnBackendCreateDescriptor(int type, void **descriptor) {
  *descriptor = new Descriptor{FORWARD <= type && type <= GRADIENT_OF_INPUT ? type : 0};
  return 0;
}
int cudnnBackendDestroyDescriptor(void *descriptor) {
  delete static_cast<Descriptor *>(descriptor);
  return 0;
}
int cudnnBackendFinalize(void *) { return 0; }
int cudnnBackendSetAttribute(void *descriptor, int, int type, int64_t count, const void *elements) {
  if (type == DESCRIPTOR && count > 0 && elements) {
    const auto *part = *static_cast<Descriptor *const *>(elements);
    if (part && part->operation) {
      static_cast<Descriptor *>(descriptor)->operation = part->operation;
    }
  }
  return 0;
}
// One descriptor where such are asked for, 0 where numbers are, and of everything else nothing.
int cudnnBackendGetAttribute(void *descriptor, int, int type, int64_t asked, int64_t *count, void *elements) {
  const bool found = type == DESCRIPTOR || type == INTEGER;
  if (count) {
    *count = found;
  }
  if (!found || !elements || asked <= 0) {
    return 0;
  }
  if (type == INTEGER) {
    *static_cast<int64_t *>(elements) = 0;
  } else if (auto *to = *static_cast<Descriptor *const *>(elements)) {
    to->operation = static_cast<Descriptor *>(descriptor)->operation;
  }
  return 0;
}
int cudnnBackendExecute(void *handle, void *plan, void *) {
  const char *name = name_of(static_cast<Descriptor *>(plan)->operation);
  emulator_enqueue(of(handle).stream, name, nullptr, nullptr, 0);
  return 0;
}

// What PyTorch itself normalises float32 with.
int cudnnCreateTensorDescriptor(void **out) { return created(out); }
int cudnnDestroyTensorDescriptor(void *object) { return destroyed(object); }
int cudnnCreateActivationDescriptor(void **out) { return created(out); }
int cudnnDestroyActivationDescriptor(void *object) { return destroyed(object); }
int cudnnSetTensorNdDescriptor() { return 0; }
int cudnnGetBatchNormalizationForwardTrainingExWorkspaceSize(void *, int, int, void *, void *, void *, void *,
                                                             void *, size_t *size) {
  *size = 0;
  return 0;
}
int cudnnGetBatchNormalizationTrainingExReserveSpaceSize(void *, int, int, void *, void *, size_t *size) {
  *size = 0;
  return 0;
}
int cudnnGetBatchNormalizationBackwardExWorkspaceSize(void *, int, int, void *, void *, void *, void *,
                                                      void *, void *, void *, size_t *size) {
  *size = 0;
  return 0;
}
int cudnnBatchNormalizationForwardTrainingEx(void *handle) {
  emulator_enqueue(of(handle).stream, "cuDNN: batch normalisation", nullptr, nullptr, 0);
  return 0;
}
int cudnnBatchNormalizationBackwardEx(void *handle) {
  emulator_enqueue(of(handle).stream, "cuDNN: gradient of a batch normalisation", nullptr, nullptr, 0);
  return 0;
}

int cublasCreate_v2(void **handle) { return cudnnCreate(handle); }
int cublasDestroy_v2(void *handle) {
  delete &of(handle);
  return 0;
}
int cublasSetStream_v2(void *handle, void *stream) { return cudnnSetStream(handle, stream); }
int cublasSetWorkspace_v2() { return 0; }
int cublasSetMathMode(void *handle, int mode) {
  of(handle).math = mode;
  return 0;
}
int cublasGetMathMode(void *handle, int *mode) {
  *mode = of(handle).math;
  return 0;
}
int cublasSetPointerMode_v2(void *handle, int mode) {
  of(handle).pointers = mode;
  return 0;
}
int cublasGetPointerMode_v2(void *handle, int *mode) {
  *mode = of(handle).pointers;
  return 0;
}

size_t cublasLtGetVersion() { return 130000; }
int cublasLtMatmulDescCreate(void **out) { return created(out); }
int cublasLtMatmulPreferenceCreate(void **out) { return created(out); }
int cublasLtMatrixLayoutCreate(void **out) { return created(out); }
int cublasLtMatmulDescDestroy(void *object) { return destroyed(object); }
int cublasLtMatmulPreferenceDestroy(void *object) { return destroyed(object); }
int cublasLtMatrixLayoutDestroy(void *object) { return destroyed(object); }
int cublasLtMatmulDescSetAttribute() { return 0; }
int cublasLtMatmulPreferenceSetAttribute() { return 0; }
int cublasLtMatrixLayoutSetAttribute() { return 0; }
int cublasLtMatmulAlgoGetHeuristic(void *, void *, void *, void *, void *, void *, void *, int, void *,
                                   int *count) {
  *count = 1;
  return 0;
}
int cublasLtMatmul(void *, void *, const void *, const void *, void *, const void *, void *, const void *,
                   const void *, void *, void *, void *, const void *, void *, size_t, void *stream) {
  emulator_enqueue(stream, "cublasLtMatmul", nullptr, nullptr, 0);
  return 0;
}
}

// Images out of bytes, as images.cu says: on CPUs, and by a kernel on GPUs. Both compute the same, bit for
// bit.

#pragma once

#include <ATen/core/Tensor.h>

namespace images {

// Whether they are made on this device. A kernel for a GPU is compiled and checked when this is first asked.
bool suits(const at::Device &device);

// `[N, 3, size, size]` in 0 to 1, float32, whose channels are the innermost axis in memory; where it `suits`.
// `pixels` are bytes, `[images, height, width * channels]`, with one channel or three. `indices`, `[N]`, say
// which of the images; all, if it is null. On a CPU it is an error if there is no such image; a GPU makes
// one of no numbers. `parameters`, float64 `[N, 5]`, are shifts of rows and columns, their zooms, and 1 for
// what is mirrored; nothing but the size is changed if it is null.
at::Tensor made(const at::Tensor &pixels, const at::Tensor *indices, const at::Tensor *parameters,
                int64_t channels, int64_t size);

} // namespace images

// Kernels that are compiled for a GPU when the program runs, by the NVRTC that comes with PyTorch.

#pragma once

namespace nvrtc {

using Handle = void *;

// Those of norm.cu and sum.cu.
struct Kernels {
  Handle statistics, normalise, sums, gradient_of_input, combine, part;
};

struct Grid {
  unsigned blocks_x, blocks_y, threads_x, threads_y;
};

// Those for float32 or bfloat16 on a GPU, which is the current one. Throws if they cannot be had.
Kernels kernels(int gpu, bool bfloat16);

// Queues a kernel; `arguments` are pointers to its arguments.
void launch(Handle kernel, Grid grid, Handle stream, Handle *arguments);

} // namespace nvrtc

// What the kernels have in common. They are of rows
// `[rows, channels]`: of images whose channels are the innermost axis in memory. Compiled when the program
// runs, with BF16 defined as 0 or 1.
//
// A thread has V channels of every so-manieth row; a block has a group of channels. What the blocks of a
// group have summed is added by the last of them to end, in the order of the blocks, so that the same is
// computed each time. Sums are of differences from a value of the channel, so that large means cost no
// digits.

typedef unsigned int u32;
typedef long long i64;

#if BF16
#define V 8
typedef unsigned short T;
// Both rounded to bfloat16, the second in the upper half.
#ifndef EMULATED
__device__ __forceinline__ u32 rounded(float low, float high) {
  u32 word;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  return word;
}
#endif
__device__ __forceinline__ void load(const T *p, float *f) {
  const uint4 w = *reinterpret_cast<const uint4 *>(p);
  const u32 words[4] = {w.x, w.y, w.z, w.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    f[2 * i] = __uint_as_float(words[i] << 16);
    f[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
  }
}
__device__ __forceinline__ void store(T *p, const float *f) {
  u32 words[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    words[i] = rounded(f[2 * i], f[2 * i + 1]);
  }
  *reinterpret_cast<uint4 *>(p) = make_uint4(words[0], words[1], words[2], words[3]);
}
#else
#define V 4
typedef float T;
__device__ __forceinline__ void load(const T *p, float *f) {
  const float4 w = *reinterpret_cast<const float4 *>(p);
  f[0] = w.x, f[1] = w.y, f[2] = w.z, f[3] = w.w;
}
__device__ __forceinline__ void store(T *p, const float *f) {
  *reinterpret_cast<float4 *>(p) = make_float4(f[0], f[1], f[2], f[3]);
}
#endif

#define THREADS 512
// Rows that a thread has on their way at the same time: in a gradient it has two or three values of each.
#define U 4
#if BF16
#define W 2
#else
#define W 4
#endif

struct Place {
  int channel;
  i64 row, step;
  bool inside;
  __device__ __forceinline__ Place(int channels)
      : channel((blockIdx.x * blockDim.x + threadIdx.x) * V), row(blockIdx.y * (i64)blockDim.y + threadIdx.y),
        step((i64)gridDim.y * blockDim.y), inside(channel < channels) {}
};

__device__ __forceinline__ void channelwise(const float *from, int channel, bool inside, float *to) {
#pragma unroll
  for (int i = 0; i < V; ++i) {
    to[i] = inside ? from[channel + i] : 0.f;
  }
}

// Adds the two sums of all threads of a block that have the same channels, and of all blocks of the group.
// True in the threads of the last block that have the sums of a channel, `channel`, in `sum`.
__device__ bool total(float *a, float *b, int channels, float *partial, u32 *counters, int *channel,
                      float *sum) {
  __shared__ float shared[2 * V * THREADS];
  __shared__ bool last;
  const int thread = threadIdx.y * blockDim.x + threadIdx.x, width = blockDim.x * V;
#pragma unroll
  for (int i = 0; i < V; ++i) {
    shared[threadIdx.y * width + threadIdx.x * V + i] = a[i];
    shared[V * THREADS + threadIdx.y * width + threadIdx.x * V + i] = b[i];
  }
  for (int half = blockDim.y / 2; half > 0; half /= 2) {
    __syncthreads();
    for (int i = thread; i < half * width; i += THREADS) {
      shared[i] += shared[i + half * width];
      shared[V * THREADS + i] += shared[V * THREADS + i + half * width];
    }
  }
  __syncthreads();
  // [group][2][block, width]
  float *mine = partial + (i64)blockIdx.x * 2 * gridDim.y * width;
  for (int i = thread; i < 2 * width; i += THREADS) {
    const int which = i / width, at = i % width;
    mine[((i64)which * gridDim.y + blockIdx.y) * width + at] = shared[which * V * THREADS + at];
  }
  __threadfence();
  __syncthreads();
  if (thread == 0) {
    last = atomicAdd(&counters[blockIdx.x], 1u) == gridDim.y - 1;
  }
  __syncthreads();
  if (!last) {
    return false;
  }
  __threadfence();
  // `width` is at most 256: at least two threads for each channel, which add every so-manieth block.
  const int at = thread % width, part = thread / width, parts = THREADS / width;
  float sums[2] = {0.f, 0.f};
  if (part < parts) {
    for (int which = 0; which < 2; ++which) {
      const float *from = mine + (i64)which * gridDim.y * width + at;
      float s = 0.f;
#pragma unroll 8
      for (u32 block = part; block < gridDim.y; block += parts) {
        s += __ldcg(from + (i64)block * width);
      }
      sums[which] = s;
    }
  }
  shared[thread] = sums[0];
  shared[THREADS + thread] = sums[1];
  __syncthreads();
  if (thread == 0) {
    counters[blockIdx.x] = 0;
  }
  *channel = blockIdx.x * width + at;
  if (part != 0 || *channel >= channels) {
    return false;
  }
  sum[0] = sum[1] = 0.f;
  for (int i = 0; i < parts; ++i) {
    sum[0] += shared[i * width + at];
    sum[1] += shared[THREADS + i * width + at];
  }
  return true;
}

// Has `read` fill `values[0]`, `values[1]`, ... for each row of this thread, N rows at once, and then calls
// `use` with what it has read.
template <int N, int STREAMS, typename Read, typename Use>
__device__ __forceinline__ void each_row(const Place &place, i64 rows, Read read, Use use) {
  if (!place.inside) {
    return;
  }
  for (i64 row = place.row; row < rows; row += N * place.step) {
    float values[N][STREAMS][V];
#pragma unroll
    for (int u = 0; u < N; ++u) {
      if (row + u * place.step < rows) {
        read(row + u * place.step, values[u]);
      }
    }
#pragma unroll
    for (int u = 0; u < N; ++u) {
      if (row + u * place.step < rows) {
        use(row + u * place.step, values[u]);
      }
    }
  }
}

// What ReLU makes of a value, and of the gradient of a value that it has made: NaN stays NaN.
__device__ __forceinline__ float rectified(float value) { return value <= 0.f ? 0.f : value; }
__device__ __forceinline__ float passed_on(float output, float gradient) {
  return output <= 0.f ? 0.f : gradient;
}

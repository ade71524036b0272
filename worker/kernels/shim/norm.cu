// Batch normalisation by the batch's statistics, and sums with a bias, with a residual and ReLU, of rows
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

// Mean and inverse standard deviation of the batch; the running ones move towards it.
extern "C" __global__ __launch_bounds__(THREADS) void statistics(
    const T *x, i64 rows, int channels, float momentum, float epsilon, float *mean, float *deviation,
    float *running_mean, float *running_variance, float *partial, u32 *counters) {
  Place place(channels);
  float origin[V], a[V], b[V];
#pragma unroll
  for (int i = 0; i < V; ++i) {
    origin[i] = a[i] = b[i] = 0.f;
  }
  if (place.inside) {
    load(x + place.channel, origin);
    const T *from = x + place.channel;
    i64 row = place.row;
    for (; row + (U - 1) * place.step < rows; row += U * place.step) {
      float f[U][V];
#pragma unroll
      for (int u = 0; u < U; ++u) {
        load(from + (row + u * place.step) * channels, f[u]);
      }
#pragma unroll
      for (int u = 0; u < U; ++u) {
#pragma unroll
        for (int i = 0; i < V; ++i) {
          const float d = f[u][i] - origin[i];
          a[i] += d;
          b[i] += d * d;
        }
      }
    }
    for (; row < rows; row += place.step) {
      float f[V];
      load(from + row * channels, f);
#pragma unroll
      for (int i = 0; i < V; ++i) {
        const float d = f[i] - origin[i];
        a[i] += d;
        b[i] += d * d;
      }
    }
  }
  int channel;
  float sum[2];
  if (!total(a, b, channels, partial, counters, &channel, sum)) {
    return;
  }
#if BF16
  const float from = __uint_as_float((u32)x[channel] << 16);
#else
  const float from = x[channel];
#endif
  const float n = (float)rows, shift = sum[0] / n;
  const float m = from + shift, variance = fmaxf(sum[1] / n - shift * shift, 0.f);
  mean[channel] = m;
  deviation[channel] = rsqrtf(variance + epsilon);
  running_mean[channel] = running_mean[channel] * (1.f - momentum) + m * momentum;
  running_variance[channel] = running_variance[channel] * (1.f - momentum) + variance * momentum;
}

// The normalised value; the gradient asks for its sign in the same words.
__device__ __forceinline__ float normal(float x, float mean, float factor, float beta) {
  return __fmaf_rn(x - mean, factor, beta);
}

extern "C" __global__ __launch_bounds__(THREADS) void normalise(
    const T *x, const T *residual, T *y, i64 rows, int channels, const float *mean, const float *deviation,
    const float *gamma, const float *beta, int relu) {
  Place place(channels);
  if (!place.inside) {
    return;
  }
  float m[V], factor[V], summand[V];
  channelwise(mean, place.channel, true, m);
  channelwise(beta, place.channel, true, summand);
#pragma unroll
  for (int i = 0; i < V; ++i) {
    factor[i] = gamma[place.channel + i] * deviation[place.channel + i];
  }
  for (i64 row = place.row; row < rows; row += U * place.step) {
    float f[U][V], r[U][V];
#pragma unroll
    for (int u = 0; u < U; ++u) {
      const i64 at = row + u * place.step;
      if (at < rows) {
        load(x + at * channels + place.channel, f[u]);
        if (residual) {
          load(residual + at * channels + place.channel, r[u]);
        }
      }
    }
#pragma unroll
    for (int u = 0; u < U; ++u) {
      const i64 at = row + u * place.step;
      if (at < rows) {
#pragma unroll
        for (int i = 0; i < V; ++i) {
          float value = normal(f[u][i], m[i], factor[i], summand[i]);
          if (residual) {
            value += r[u][i];
          }
          // NaN stays NaN.
          f[u][i] = relu && value <= 0.f ? 0.f : value;
        }
        store(y + at * channels + place.channel, f[u]);
      }
    }
  }
}

// Gradients of gamma and beta, and what the gradient of the input needs of both: the means over the rows.
// Rows of `gradient` lie `stride` apart. With `output`, which has a residual in it, its sign says what ReLU
// has let through, and `passed` gets that; else the sign of the normalised value does if `relu`.
extern "C" __global__ __launch_bounds__(THREADS) void sums(
    const T *gradient, i64 stride, const T *x, const T *output, T *passed, i64 rows, int channels,
    const float *mean, const float *deviation, const float *gamma, const float *beta, int relu,
    float *gamma_gradient, float *beta_gradient, float *partial, u32 *counters) {
  Place place(channels);
  float m[V], factor[V], summand[V], a[V], b[V];
  channelwise(mean, place.channel, place.inside, m);
  channelwise(beta, place.channel, place.inside, summand);
  channelwise(gamma, place.channel, place.inside, factor);
#pragma unroll
  for (int i = 0; i < V; ++i) {
    factor[i] *= place.inside ? deviation[place.channel + i] : 0.f;
    a[i] = b[i] = 0.f;
  }
  if (place.inside) {
    for (i64 row = place.row; row < rows; row += W * place.step) {
      float g[W][V], f[W][V], y[W][V];
#pragma unroll
      for (int u = 0; u < W; ++u) {
        const i64 at = row + u * place.step;
        if (at < rows) {
          load(gradient + at * stride + place.channel, g[u]);
          load(x + at * channels + place.channel, f[u]);
          if (output) {
            load(output + at * channels + place.channel, y[u]);
          }
        }
      }
#pragma unroll
      for (int u = 0; u < W; ++u) {
        const i64 at = row + u * place.step;
        if (at < rows) {
#pragma unroll
          for (int i = 0; i < V; ++i) {
            if (relu) {
              const float value = output ? y[u][i] : normal(f[u][i], m[i], factor[i], summand[i]);
              g[u][i] = value <= 0.f ? 0.f : g[u][i];
            }
            a[i] += g[u][i];
            b[i] += g[u][i] * (f[u][i] - m[i]);
          }
          if (passed) {
            store(passed + at * channels + place.channel, g[u]);
          }
        }
      }
    }
  }
  int channel;
  float sum[2];
  if (total(a, b, channels, partial, counters, &channel, sum)) {
    beta_gradient[channel] = sum[0];
    gamma_gradient[channel] = sum[1] * deviation[channel];
  }
}

// The gradient of the input. `relu` as in `sums`, but for rows that were passed already.
extern "C" __global__ __launch_bounds__(THREADS) void gradient_of_input(
    const T *gradient, i64 stride, const T *x, T *out, i64 rows, int channels, const float *mean,
    const float *deviation, const float *gamma, const float *beta, int relu, const float *gamma_gradient,
    const float *beta_gradient) {
  Place place(channels);
  if (!place.inside) {
    return;
  }
  float m[V], factor[V], summand[V], mean_gradient[V], slope[V];
  channelwise(mean, place.channel, true, m);
  channelwise(beta, place.channel, true, summand);
  const float n = (float)rows;
#pragma unroll
  for (int i = 0; i < V; ++i) {
    const float d = deviation[place.channel + i];
    factor[i] = gamma[place.channel + i] * d;
    mean_gradient[i] = beta_gradient[place.channel + i] / n;
    slope[i] = gamma_gradient[place.channel + i] * d / n;
  }
  for (i64 row = place.row; row < rows; row += W * place.step) {
    float g[W][V], f[W][V];
#pragma unroll
    for (int u = 0; u < W; ++u) {
      const i64 at = row + u * place.step;
      if (at < rows) {
        load(gradient + at * stride + place.channel, g[u]);
        load(x + at * channels + place.channel, f[u]);
      }
    }
#pragma unroll
    for (int u = 0; u < W; ++u) {
      const i64 at = row + u * place.step;
      if (at < rows) {
#pragma unroll
        for (int i = 0; i < V; ++i) {
          if (relu && normal(f[u][i], m[i], factor[i], summand[i]) <= 0.f) {
            g[u][i] = 0.f;
          }
          f[u][i] = (g[u][i] - mean_gradient[i] - (f[u][i] - m[i]) * slope[i]) * factor[i];
        }
        store(out + at * channels + place.channel, f[u]);
      }
    }
  }
}

// y = residual + scale * (x + bias), then ReLU; without a residual, if it is null. `y` may be `x`.
extern "C" __global__ __launch_bounds__(THREADS) void combine(const T *x, const float *bias,
                                                              const T *residual, T *y, i64 rows,
                                                              int channels, float scale, int relu) {
  Place place(channels);
  if (!place.inside) {
    return;
  }
  float b[V];
  channelwise(bias, place.channel, true, b);
  for (i64 row = place.row; row < rows; row += U * place.step) {
    float f[U][V], r[U][V];
#pragma unroll
    for (int u = 0; u < U; ++u) {
      const i64 at = row + u * place.step;
      if (at < rows) {
        load(x + at * channels + place.channel, f[u]);
        if (residual) {
          load(residual + at * channels + place.channel, r[u]);
        }
      }
    }
#pragma unroll
    for (int u = 0; u < U; ++u) {
      const i64 at = row + u * place.step;
      if (at < rows) {
#pragma unroll
        for (int i = 0; i < V; ++i) {
          float value = (f[u][i] + b[i]) * scale;
          if (residual) {
            value += r[u][i];
          }
          f[u][i] = relu && value <= 0.f ? 0.f : value;
        }
        store(y + at * channels + place.channel, f[u]);
      }
    }
  }
}

// The gradients of `combine`: `passed`, what ReLU has let through, which is the residual's; `scaled`, that
// times the scale, which is the input's; and the sum of that, which is the bias'. Without ReLU `output` is
// null; what is not wanted is null.
extern "C" __global__ __launch_bounds__(THREADS) void part(const T *gradient, i64 stride, const T *output,
                                                           T *passed, T *scaled, i64 rows, int channels,
                                                           float scale, float *bias_gradient,
                                                           float *partial, u32 *counters) {
  Place place(channels);
  float a[V], b[V];
#pragma unroll
  for (int i = 0; i < V; ++i) {
    a[i] = b[i] = 0.f;
  }
  if (place.inside) {
    for (i64 row = place.row; row < rows; row += W * place.step) {
      float g[W][V], y[W][V];
#pragma unroll
      for (int u = 0; u < W; ++u) {
        const i64 at = row + u * place.step;
        if (at < rows) {
          load(gradient + at * stride + place.channel, g[u]);
          if (output) {
            load(output + at * channels + place.channel, y[u]);
          }
        }
      }
#pragma unroll
      for (int u = 0; u < W; ++u) {
        const i64 at = row + u * place.step;
        if (at < rows) {
          if (output) {
#pragma unroll
            for (int i = 0; i < V; ++i) {
              g[u][i] = y[u][i] <= 0.f ? 0.f : g[u][i];
            }
          }
          if (passed) {
            store(passed + at * channels + place.channel, g[u]);
          }
#pragma unroll
          for (int i = 0; i < V; ++i) {
            g[u][i] *= scale;
            a[i] += g[u][i];
          }
          if (scaled) {
            store(scaled + at * channels + place.channel, g[u]);
          }
        }
      }
    }
  }
  int channel;
  float sum[2];
  if (total(a, b, channels, partial, counters, &channel, sum)) {
    bias_gradient[channel] = sum[0];
  }
}

// Batch normalisation by the batch's statistics, with a residual and ReLU.

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

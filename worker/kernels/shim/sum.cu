// Sums with a bias, with a scale, a residual and ReLU.

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

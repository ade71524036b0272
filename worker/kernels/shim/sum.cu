// Sums with a bias, with a scale, a residual and ReLU.

// y = residual + scale * (x + bias), then ReLU; without a residual, if it is null. `y` may be `x`.
extern "C" __global__ __launch_bounds__(THREADS) void combine(const T *x, const float *bias,
                                                              const T *residual, T *y, i64 rows,
                                                              int channels, float scale, int relu) {
  Place place(channels);
  float b[V];
  channelwise(bias, place.channel, place.inside, b);
  each_row<U, 2>(
      place, rows,
      [&](i64 row, float(*f)[V]) {
        load(x + row * channels + place.channel, f[0]);
        if (residual) {
          load(residual + row * channels + place.channel, f[1]);
        }
      },
      [&](i64 row, float(*f)[V]) {
#pragma unroll
        for (int i = 0; i < V; ++i) {
          const float value = (f[0][i] + b[i]) * scale + (residual ? f[1][i] : 0.f);
          f[0][i] = relu ? rectified(value) : value;
        }
        store(y + row * channels + place.channel, f[0]);
      });
}

// The gradients of `combine`: `passed`, what ReLU has let through, which is the residual's; `scaled`, that
// times the scale, which is the input's; and the sum of that, which is the bias'. Without ReLU `output` is
// null; what is not wanted is null.
extern "C" __global__ __launch_bounds__(THREADS) void part(const T *gradient, i64 stride, const T *output,
                                                           T *passed, T *scaled, i64 rows, int channels,
                                                           float scale, float *bias_gradient,
                                                           float *partial, u32 *counters) {
  Place place(channels);
  float a[V] = {}, b[V] = {};
  each_row<W, 2>(
      place, rows,
      [&](i64 row, float(*f)[V]) {
        load(gradient + row * stride + place.channel, f[0]);
        if (output) {
          load(output + row * channels + place.channel, f[1]);
        }
      },
      [&](i64 row, float(*f)[V]) {
        if (output) {
#pragma unroll
          for (int i = 0; i < V; ++i) {
            f[0][i] = passed_on(f[1][i], f[0][i]);
          }
        }
        if (passed) {
          store(passed + row * channels + place.channel, f[0]);
        }
#pragma unroll
        for (int i = 0; i < V; ++i) {
          f[0][i] *= scale;
          a[i] += f[0][i];
        }
        if (scaled) {
          store(scaled + row * channels + place.channel, f[0]);
        }
      });
  int channel;
  float sum[2];
  if (total(a, b, channels, partial, counters, &channel, sum)) {
    bias_gradient[channel] = sum[0];
  }
}

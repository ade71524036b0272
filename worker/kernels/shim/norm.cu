// Batch normalisation by the batch's statistics, with a residual and ReLU.

// Mean and inverse standard deviation of the batch. The running ones move towards mean and variance, the mean
// towards that plus `bias`, which `x` is short of, unless that is null. Two blocks at a time on a
// multiprocessor, as a thread has little on its way.
extern "C" __global__ __launch_bounds__(THREADS, 2) void statistics(
    const T *x, const float *bias, i64 rows, int channels, float momentum, float epsilon, float *mean,
    float *deviation, float *running_mean, float *running_variance, float *partial, u32 *counters) {
  Place place(channels);
  float origin[V] = {}, a[V] = {}, b[V] = {};
  if (place.inside) {
    load(x + place.channel, origin);
  }
  each_row<W, 1>(
      place, rows, [&](i64 row, float(*f)[V]) { load(x + row * channels + place.channel, f[0]); },
      [&](i64, float(*f)[V]) {
#pragma unroll
        for (int i = 0; i < V; ++i) {
          const float d = f[0][i] - origin[i];
          a[i] += d;
          b[i] += d * d;
        }
      });
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
  const float biased = bias ? m + bias[channel] : m;
  running_mean[channel] = running_mean[channel] * (1.f - momentum) + biased * momentum;
  running_variance[channel] = running_variance[channel] * (1.f - momentum) + variance * momentum;
}

// What a thread's channels are normalised by.
struct Layer {
  float mean[V], factor[V], summand[V];

  __device__ __forceinline__ Layer(const Place &place, const float *means, const float *deviation,
                                   const float *gamma, const float *beta) {
    channelwise(means, place.channel, place.inside, mean);
    channelwise(beta, place.channel, place.inside, summand);
    channelwise(gamma, place.channel, place.inside, factor);
#pragma unroll
    for (int i = 0; i < V; ++i) {
      factor[i] *= place.inside ? deviation[place.channel + i] : 0.f;
    }
  }

  // The normalised value; the gradient asks for its sign in the same words.
  __device__ __forceinline__ float normal(int i, float x) const {
    return __fmaf_rn(x - mean[i], factor[i], summand[i]);
  }
};

extern "C" __global__ __launch_bounds__(THREADS) void normalise(
    const T *x, const T *residual, T *y, i64 rows, int channels, const float *mean, const float *deviation,
    const float *gamma, const float *beta, int relu) {
  Place place(channels);
  const Layer layer(place, mean, deviation, gamma, beta);
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
          const float value = layer.normal(i, f[0][i]) + (residual ? f[1][i] : 0.f);
          f[0][i] = relu ? rectified(value) : value;
        }
        store(y + row * channels + place.channel, f[0]);
      });
}

// Gradients of gamma and beta, and what the gradient of the input needs of both: the means over the rows; and
// that of a bias, unless it is null, which is 0, as the batch's mean takes a bias away. Rows of `gradient`
// lie `stride` apart. With `output`, which has a residual in it, its sign says what ReLU has let through, and
// `passed` gets that; else the sign of the normalised value does if `relu`.
extern "C" __global__ __launch_bounds__(THREADS) void sums(
    const T *gradient, i64 stride, const T *x, const T *output, T *passed, i64 rows, int channels,
    const float *mean, const float *deviation, const float *gamma, const float *beta, int relu,
    float *gamma_gradient, float *beta_gradient, float *bias_gradient, float *partial, u32 *counters) {
  Place place(channels);
  const Layer layer(place, mean, deviation, gamma, beta);
  float a[V] = {}, b[V] = {};
  each_row<W, 3>(
      place, rows,
      [&](i64 row, float(*f)[V]) {
        load(gradient + row * stride + place.channel, f[0]);
        load(x + row * channels + place.channel, f[1]);
        if (output) {
          load(output + row * channels + place.channel, f[2]);
        }
      },
      [&](i64 row, float(*f)[V]) {
#pragma unroll
        for (int i = 0; i < V; ++i) {
          if (relu) {
            f[0][i] = passed_on(output ? f[2][i] : layer.normal(i, f[1][i]), f[0][i]);
          }
          a[i] += f[0][i];
          b[i] += f[0][i] * (f[1][i] - layer.mean[i]);
        }
        if (passed) {
          store(passed + row * channels + place.channel, f[0]);
        }
      });
  int channel;
  float sum[2];
  if (total(a, b, channels, partial, counters, &channel, sum)) {
    beta_gradient[channel] = sum[0];
    gamma_gradient[channel] = sum[1] * deviation[channel];
    if (bias_gradient) {
      bias_gradient[channel] = 0.f;
    }
  }
}

// The gradient of the input. `relu` as in `sums`, but for rows that were passed already.
extern "C" __global__ __launch_bounds__(THREADS) void gradient_of_input(
    const T *gradient, i64 stride, const T *x, T *out, i64 rows, int channels, const float *mean,
    const float *deviation, const float *gamma, const float *beta, int relu, const float *gamma_gradient,
    const float *beta_gradient) {
  Place place(channels);
  const Layer layer(place, mean, deviation, gamma, beta);
  float level[V], slope[V];
  channelwise(beta_gradient, place.channel, place.inside, level);
  channelwise(gamma_gradient, place.channel, place.inside, slope);
#pragma unroll
  for (int i = 0; i < V; ++i) {
    level[i] /= (float)rows;
    slope[i] *= (place.inside ? deviation[place.channel + i] : 0.f) / (float)rows;
  }
  each_row<W, 2>(
      place, rows,
      [&](i64 row, float(*f)[V]) {
        load(gradient + row * stride + place.channel, f[0]);
        load(x + row * channels + place.channel, f[1]);
      },
      [&](i64 row, float(*f)[V]) {
#pragma unroll
        for (int i = 0; i < V; ++i) {
          const float g = relu ? passed_on(layer.normal(i, f[1][i]), f[0][i]) : f[0][i];
          f[0][i] = (g - level[i] - (f[1][i] - layer.mean[i]) * slope[i]) * layer.factor[i];
        }
        store(out + row * channels + place.channel, f[0]);
      });
}

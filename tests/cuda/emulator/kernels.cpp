// What our own kernels compute, by their formulas, on the host. (That the kernels compute the same is shown
// in worker/kernels/tests/emulated.cpp.)

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "emulator.h"

namespace {
#define HOST_ONLY
#include "images.cu"

struct Bfloat16 {
  uint16_t bits;
  operator float() const {
    const uint32_t wide = uint32_t(bits) << 16;
    float value;
    std::memcpy(&value, &wide, sizeof value);
    return value;
  }
  Bfloat16 &operator=(float value) {
    uint32_t wide;
    std::memcpy(&wide, &value, sizeof wide);
    bits = std::isnan(value) ? 0x7fc0 : uint16_t((wide + 0x7fff + (wide >> 16 & 1)) >> 16);
    return *this;
  }
};

float rectified(float x) { return x < 0 ? 0 : x; }
float passed_on(float output, float gradient) { return output > 0 ? gradient : 0; }

void images(const unsigned char *all, int total, const long long *indices, const double *parameters,
            float *out, int height, int width, int channels, int size, int count) {
  for (int n = 0; n < count; ++n) {
    float *to = out + int64_t(n) * size * size * 3;
    if (indices && (indices[n] < 0 || indices[n] >= total)) {
      std::fill(to, to + size * size * 3, std::numeric_limits<float>::quiet_NaN());
      continue;
    }
    const Picture picture(all, indices, parameters, n, height, width, channels, size);
    for (int r = 0; r < size; ++r) {
      const Taps row = picture.rows.taps(r);
      for (int c = 0; c < size; ++c, to += 3) {
        picture.write([&](int at) { return picture.value(row, at); }, picture.columns.taps(c), to);
      }
    }
  }
}

template <typename T> struct Kernels {
  static void statistics(const T *x, const float *bias, int64_t rows, int channels, float momentum,
                         float epsilon, float *mean, float *deviation, float *running_mean,
                         float *running_variance, float *, uint32_t *) {
    std::vector<double> sum(channels), squares(channels);
    for (int64_t row = 0; row < rows; ++row) {
      for (int c = 0; c < channels; ++c) {
        sum[c] += float(x[row * channels + c]);
      }
    }
    for (int c = 0; c < channels; ++c) {
      sum[c] /= rows;
    }
    for (int64_t row = 0; row < rows; ++row) {
      for (int c = 0; c < channels; ++c) {
        const double d = float(x[row * channels + c]) - sum[c];
        squares[c] += d * d;
      }
    }
    for (int c = 0; c < channels; ++c) {
      const float variance = squares[c] / rows;
      mean[c] = sum[c];
      deviation[c] = 1 / std::sqrt(variance + epsilon);
      running_mean[c] = running_mean[c] * (1 - momentum) + (mean[c] + (bias ? bias[c] : 0)) * momentum;
      running_variance[c] = running_variance[c] * (1 - momentum) + variance * momentum;
    }
  }
  static float normal(float x, int c, const float *mean, const float *deviation, const float *gamma,
                      const float *beta) {
    return std::fma(x - mean[c], gamma[c] * deviation[c], beta[c]);
  }
  static void normalise(const T *x, const T *residual, T *y, int64_t rows, int channels, const float *mean,
                        const float *deviation, const float *gamma, const float *beta, int relu) {
    for (int64_t at = 0; at < rows * channels; ++at) {
      const float value =
          normal(x[at], at % channels, mean, deviation, gamma, beta) + (residual ? float(residual[at]) : 0);
      y[at] = relu ? rectified(value) : value;
    }
  }
  static void sums(const T *gradient, int64_t stride, const T *x, const T *output, T *passed, int64_t rows,
                   int channels, const float *mean, const float *deviation, const float *gamma,
                   const float *beta, int relu, float *gamma_gradient, float *beta_gradient,
                   float *bias_gradient, float *, uint32_t *) {
    std::vector<double> a(channels), b(channels);
    for (int64_t row = 0; row < rows; ++row) {
      for (int c = 0; c < channels; ++c) {
        const int64_t at = row * channels + c;
        float g = gradient[row * stride + c];
        if (relu) {
          g = passed_on(output ? float(output[at]) : normal(x[at], c, mean, deviation, gamma, beta), g);
        }
        a[c] += g;
        b[c] += double(g) * (float(x[at]) - mean[c]);
        if (passed) {
          passed[at] = g;
        }
      }
    }
    for (int c = 0; c < channels; ++c) {
      beta_gradient[c] = a[c];
      gamma_gradient[c] = b[c] * deviation[c];
      if (bias_gradient) {
        bias_gradient[c] = 0;
      }
    }
  }
  static void gradient_of_input(const T *gradient, int64_t stride, const T *x, T *out, int64_t rows,
                                int channels, const float *mean, const float *deviation, const float *gamma,
                                const float *beta, int relu, const float *gamma_gradient,
                                const float *beta_gradient) {
    for (int64_t row = 0; row < rows; ++row) {
      for (int c = 0; c < channels; ++c) {
        const int64_t at = row * channels + c;
        float g = gradient[row * stride + c];
        if (relu) {
          g = passed_on(normal(x[at], c, mean, deviation, gamma, beta), g);
        }
        const float level = beta_gradient[c] / rows, slope = gamma_gradient[c] * deviation[c] / rows;
        out[at] = (g - level - (float(x[at]) - mean[c]) * slope) * (gamma[c] * deviation[c]);
      }
    }
  }
  static void combine(const T *x, const float *bias, const T *residual, T *y, int64_t rows, int channels,
                      float scale, int relu) {
    for (int64_t at = 0; at < rows * channels; ++at) {
      const float value = (float(x[at]) + bias[at % channels]) * scale + (residual ? float(residual[at]) : 0);
      y[at] = relu ? rectified(value) : value;
    }
  }
  static void part(const T *gradient, int64_t stride, const T *output, T *passed, T *scaled, int64_t rows,
                   int channels, float scale, float *bias_gradient, float *, uint32_t *) {
    std::vector<double> sum(channels);
    for (int64_t row = 0; row < rows; ++row) {
      for (int c = 0; c < channels; ++c) {
        const int64_t at = row * channels + c;
        float g = gradient[row * stride + c];
        if (output) {
          g = passed_on(output[at], g);
        }
        if (passed) {
          passed[at] = g;
        }
        g *= scale;
        sum[c] += g;
        if (scaled) {
          scaled[at] = g;
        }
      }
    }
    std::copy(sum.begin(), sum.end(), bias_gradient);
  }
};

// Queues `kernel` with the arguments that a launch has pointers to.
template <typename... A, size_t... I>
void queue(void (*kernel)(A...), void **arguments, std::index_sequence<I...>, void *stream,
           const char *name) {
  struct Call {
    void (*kernel)(A...);
    std::tuple<A...> arguments;
  } call{kernel, {*static_cast<A *>(arguments[I])...}};
  emulator_enqueue(
      stream, name,
      [](void *of) {
        auto *call = static_cast<Call *>(of);
        std::apply(call->kernel, call->arguments);
      },
      &call, sizeof call);
}
template <typename... A> void queue(void (*kernel)(A...), void **arguments, void *stream, const char *name) {
  queue(kernel, arguments, std::index_sequence_for<A...>(), stream, name);
}

template <typename T> bool of_type(const std::string &name, void **arguments, void *stream) {
  const std::string said = "quartet " + name;
  using K = Kernels<T>;
  if (name == "statistics")
    queue(K::statistics, arguments, stream, said.c_str());
  else if (name == "normalise")
    queue(K::normalise, arguments, stream, said.c_str());
  else if (name == "sums")
    queue(K::sums, arguments, stream, said.c_str());
  else if (name == "gradient_of_input")
    queue(K::gradient_of_input, arguments, stream, said.c_str());
  else if (name == "combine")
    queue(K::combine, arguments, stream, said.c_str());
  else if (name == "part")
    queue(K::part, arguments, stream, said.c_str());
  else
    return false;
  return true;
}
} // namespace

// Whether there is such a kernel; `grid` is of the launch.
bool run_kernel(const std::string &name, bool bfloat16, unsigned grid_x, void **arguments, void *stream) {
  if (name == "images") {
    std::vector<void *> all(arguments, arguments + 9);
    int count = int(grid_x);
    all.push_back(&count);
    queue(images, all.data(), stream, "quartet images");
    return true;
  }
  return bfloat16 ? of_type<Bfloat16>(name, arguments, stream) : of_type<float>(name, arguments, stream);
}

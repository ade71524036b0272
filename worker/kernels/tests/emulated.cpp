// The kernels of shim/*.cu on a CPU, against their formulas in float64: a thread for each of a block's,
// one block after the other. Says what is wrong, and ends with 1.

#include <algorithm>
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#define EMULATED
#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
// One block at a time.
#define __shared__ static

struct Index {
  unsigned x, y, z;
};
struct uint4 {
  unsigned x, y, z, w;
};
struct float4 {
  float x, y, z, w;
};
static uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
static float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

static thread_local Index threadIdx;
static Index blockIdx, blockDim, gridDim;

// All threads of a block wait for each other.
class Barrier {
  std::mutex mutex;
  std::condition_variable all;
  unsigned waiting = 0, round = 0;

public:
  // Threads that have ended are waited for no more.
  unsigned members = 0;
  void wait() {
    std::unique_lock<std::mutex> lock(mutex);
    const unsigned mine = round;
    if (++waiting == members) {
      next();
    } else {
      all.wait(lock, [&] { return round != mine; });
    }
  }
  void leave() {
    const std::lock_guard<std::mutex> lock(mutex);
    --members;
    if (members > 0 && waiting == members) {
      next();
    }
  }

private:
  void next() {
    waiting = 0;
    ++round;
    all.notify_all();
  }
};
static Barrier barrier;

static void __syncthreads() { barrier.wait(); }
static void __threadfence() { std::atomic_thread_fence(std::memory_order_seq_cst); }
static unsigned atomicAdd(unsigned *to, unsigned value) {
  return reinterpret_cast<std::atomic<unsigned> *>(to)->fetch_add(value);
}
static float __ldcg(const float *from) { return *from; }
static float __fmaf_rn(float a, float b, float c) { return std::fmaf(a, b, c); }
static float rsqrtf(float x) { return 1.f / std::sqrt(x); }
static float __uint_as_float(unsigned bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
static unsigned bits_of(float value) {
  unsigned bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}
static unsigned half_of(float value) {
  const unsigned bits = bits_of(value);
  return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}
static unsigned rounded(float low, float high) { return half_of(high) << 16 | half_of(low); }

#include "../shim/images.cu"

#include "../shim/rows.cu"

#include "../shim/norm.cu"
#include "../shim/sum.cu"

static void launch(unsigned groups, unsigned blocks, unsigned x, const std::function<void()> &kernel,
                   unsigned all = THREADS) {
  blockDim = {x, all / x, 1};
  gridDim = {groups, blocks, 1};
  for (unsigned block = 0; block < groups * blocks; ++block) {
    // The last block of a group first now and then: the order is nobody's to choose.
    blockIdx = {block % groups, blocks - 1 - block / groups, 0};
    barrier.members = all;
    std::vector<std::thread> threads;
    for (unsigned thread = 0; thread < all; ++thread) {
      threads.emplace_back([&, thread] {
        threadIdx = {thread % x, thread / x, 0};
        kernel();
        barrier.leave();
      });
    }
    for (auto &thread : threads) {
      thread.join();
    }
  }
}

static uint64_t state = 1;
static double uniform() {
  state = state * 6364136223846793005u + 1442695040888963407u;
  return double(state >> 11) / double(1ull << 53) * 2 - 1;
}

#if BF16
static T stored(double value) { return T(half_of(float(value))); }
static double read(T value) { return __uint_as_float(unsigned(value) << 16); }
static const double ROUNDING = 6e-3;
#else
static T stored(double value) { return float(value); }
static double read(T value) { return value; }
static const double ROUNDING = 1e-5;
#endif

template <typename E> static std::vector<E> random_values(int64_t n, double scale, double shift);
template <> std::vector<T> random_values<T>(int64_t n, double scale, double shift) {
  std::vector<T> values;
  for (int64_t i = 0; i < n; ++i) {
    values.push_back(stored(uniform() * scale + shift));
  }
  return values;
}
static std::vector<float> floats(int64_t n, double scale, double shift) {
  std::vector<float> values;
  for (int64_t i = 0; i < n; ++i) {
    values.push_back(float(uniform() * scale + shift));
  }
  return values;
}

static int failures = 0;
static const char *what_case = "";
template <typename Found>
static void near(const char *what, int64_t n, Found found, const std::vector<double> &expected,
                 double limit) {
  double difference = 0, norm = 0;
  for (int64_t i = 0; i < n; ++i) {
    const double d = found(i) - expected[i];
    difference += d * d;
    norm += expected[i] * expected[i];
  }
  const double distance = std::sqrt(difference) / std::max(std::sqrt(norm), 1e-30);
  if (!(distance < limit)) {
    std::printf("%s of %s: %g\n", what, what_case, distance);
    ++failures;
  }
}

// `part` of wider rows, as of joined branches, has its own stride.
static void check(int64_t rows, int channels, unsigned x, unsigned blocks, bool residual, bool relu,
                  int64_t stride, bool biased) {
  char name[100];
  std::snprintf(name, sizeof name, "[%lld, %d] by %u x %u, residual %d, ReLU %d, stride %lld, bias %d",
                static_cast<long long>(rows), channels, x, blocks, residual, relu,
                static_cast<long long>(stride), biased);
  what_case = name;
  const float momentum = 0.25f, epsilon = 1e-3f;
  const int64_t n = rows * channels;
  const unsigned groups = unsigned((channels / V + x - 1) / x);
  const auto input = random_values<T>(n, 2, 30), added = random_values<T>(n, 1, 0.25);
  const auto gradient = random_values<T>(rows * stride, 1, 0.1);
  const auto gamma = floats(channels, 0.5, 1), beta = floats(channels, 0.5, -0.1);
  // Of the convolution before.
  const auto bias = floats(channels, 1, 0.5);
  std::vector<float> dbias(channels, NAN);
  auto running_mean = floats(channels, 1, 0), running_variance = floats(channels, 0.1, 2);
  const auto mean_before = running_mean, variance_before = running_variance;
  std::vector<float> mean(channels), deviation(channels), dgamma(channels), dbeta(channels);
  std::vector<T> y(n), dx(n), passed(n);
  std::vector<float> partial(groups * 2 * blocks * x * V, NAN);
  std::vector<unsigned> counters(groups, 0);
  launch(groups, blocks, x, [&] {
    statistics(input.data(), biased ? bias.data() : nullptr, rows, channels, momentum, epsilon, mean.data(),
               deviation.data(), running_mean.data(), running_variance.data(), partial.data(),
               counters.data());
  });
  launch(groups, blocks, x, [&] {
    normalise(input.data(), residual ? added.data() : nullptr, y.data(), rows, channels, mean.data(),
              deviation.data(), gamma.data(), beta.data(), relu);
  });
  const T *output = residual && relu ? y.data() : nullptr;
  launch(groups, blocks, x, [&] {
    sums(gradient.data(), stride, input.data(), output, output ? passed.data() : nullptr, rows, channels,
         mean.data(), deviation.data(), gamma.data(), beta.data(), relu, dgamma.data(), dbeta.data(),
         biased ? dbias.data() : nullptr, partial.data(), counters.data());
  });
  launch(groups, blocks, x, [&] {
    gradient_of_input(output ? passed.data() : gradient.data(), output ? channels : stride, input.data(),
                      dx.data(), rows, channels, mean.data(), deviation.data(), gamma.data(), beta.data(),
                      relu && !output, dgamma.data(), dbeta.data());
  });
  std::vector<double> means(channels), variances(channels), run_mean(channels), run_variance(channels);
  std::vector<double> outputs(n), through(n), gammas(channels), betas(channels), inputs(n);
  for (int c = 0; c < channels; ++c) {
    double sum = 0, squares = 0;
    for (int64_t r = 0; r < rows; ++r) {
      sum += read(input[r * channels + c]);
    }
    const double m = sum / double(rows);
    for (int64_t r = 0; r < rows; ++r) {
      const double d = read(input[r * channels + c]) - m;
      squares += d * d;
    }
    const double v = squares / double(rows), inverse = 1 / std::sqrt(v + epsilon);
    means[c] = m;
    run_mean[c] = mean_before[c] * (1 - momentum) + (biased ? m + bias[c] : m) * momentum;
    run_variance[c] = variance_before[c] * (1 - momentum) + v * momentum;
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t i = r * channels + c;
      const double normal = (read(input[i]) - m) * inverse;
      double value = normal * gamma[c] + beta[c] + (residual ? read(added[i]) : 0);
      outputs[i] = relu ? std::max(value, 0.0) : value;
      // The kernels' own sign: near 0 rounding decides.
      through[i] = relu && read(y[i]) <= 0 ? 0 : read(gradient[r * stride + c]);
      betas[c] += through[i];
      gammas[c] += through[i] * normal;
    }
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t i = r * channels + c;
      const double normal = (read(input[i]) - m) * inverse;
      const double level = betas[c] / double(rows), slope = gammas[c] / double(rows);
      inputs[i] = (through[i] - level - normal * slope) * inverse * gamma[c];
    }
  }
  for (int c = 0; biased && c < channels; ++c) {
    if (dbias[c] != 0) {
      std::printf("gradient of a bias before %s: %g\n", what_case, double(dbias[c]));
      ++failures;
    }
  }
  near("mean", channels, [&](int64_t i) { return mean[i]; }, means, 1e-6);
  near("running mean", channels, [&](int64_t i) { return running_mean[i]; }, run_mean, 1e-6);
  near("running variance", channels, [&](int64_t i) { return running_variance[i]; }, run_variance, 1e-5);
  near("output", n, [&](int64_t i) { return read(y[i]); }, outputs, ROUNDING);
  near("gradient of gamma", channels, [&](int64_t i) { return dgamma[i]; }, gammas, 1e-4);
  near("gradient of beta", channels, [&](int64_t i) { return dbeta[i]; }, betas, 1e-4);
  // Of few rows little but rounding is left.
  if (rows > 8) {
    near("gradient", n, [&](int64_t i) { return read(dx[i]); }, inputs, 3 * ROUNDING);
  }
  if (output) {
    near("gradient of the residual", n, [&](int64_t i) { return read(passed[i]); }, through, ROUNDING);
  }

  const float scale = residual ? 0.25f : 1.f;
  std::vector<T> combined = input, parted(n);
  launch(groups, blocks, x, [&] {
    combine(combined.data(), beta.data(), residual ? added.data() : nullptr, combined.data(), rows, channels,
            scale, relu);
  });
  std::vector<double> scaled(n), of_bias(channels);
  for (int64_t i = 0; i < n; ++i) {
    const int c = int(i % channels);
    const double value = (read(input[i]) + beta[c]) * scale + (residual ? read(added[i]) : 0);
    outputs[i] = relu ? std::max(value, 0.0) : value;
    through[i] = relu && read(combined[i]) <= 0 ? 0 : read(gradient[i / channels * stride + c]);
    scaled[i] = through[i] * scale;
    of_bias[c] += scaled[i];
  }
  launch(groups, blocks, x, [&] {
    part(gradient.data(), stride, relu ? combined.data() : nullptr, passed.data(), parted.data(), rows,
         channels, scale, dbeta.data(), partial.data(), counters.data());
  });
  near("sum", n, [&](int64_t i) { return read(combined[i]); }, outputs, ROUNDING);
  near("gradient of a sum", n, [&](int64_t i) { return read(parted[i]); }, scaled, ROUNDING);
  near("gradient of a sum's residual", n, [&](int64_t i) { return read(passed[i]); }, through, ROUNDING);
  near("gradient of a bias", channels, [&](int64_t i) { return dbeta[i]; }, of_bias, 1e-4);
  for (const unsigned counter : counters) {
    if (counter != 0) {
      std::printf("a counter of %s is left at %u\n", what_case, counter);
      ++failures;
    }
  }
}

// Every position of every image is written once, to its place, of the image and the change that are its own.
static void check_images(int channels, int size, unsigned threads) {
  constexpr int height = 6, width = 5, count = 3;
  std::vector<unsigned char> pixels(4 * height * width * channels);
  for (size_t i = 0; i < pixels.size(); ++i) {
    pixels[i] = static_cast<unsigned char>(i * 41 % 251);
  }
  const long long indices[count] = {2, 3, 0}, none[count] = {4, -1, 1ll << 40};
  std::vector<double> parameters(5 * count);
  for (size_t i = 0; i < parameters.size(); ++i) {
    parameters[i] = i % 5 < 2 ? uniform() : i % 5 < 4 ? 1.2 + uniform() / 2 : i % 2;
  }
  for (const bool changed : {false, true}) {
    std::vector<float> out(count * size * size * 3, NAN);
    const double *given = changed ? parameters.data() : nullptr;
    launch(count, unsigned(size), threads, [&] {
      images(pixels.data(), 4, changed ? indices : nullptr, given, out.data(), height, width, channels, size);
    }, threads);
    for (size_t i = 0; i < out.size(); ++i) {
      const int channel = int(i % 3), c = int(i / 3 % size), r = int(i / 3 / size % size);
      const int n = int(i / 3 / size / size);
      const double *mine = parameters.data() + 5 * n;
      const auto at = [&](int p, double shift, double zoom, bool mirrored) {
        const double centre = size / 2.0 - 0.5, q = mirrored ? size - 1 - p : p;
        return changed ? zoom * (q - centre) + shift * size + centre : p;
      };
      const double y = at(r, mine[0], mine[2], false), x = at(c, mine[1], mine[3], mine[4] != 0);
      const auto pixel = [&](double py, double px) {
        const auto source = [&](double p, int side) {
          return int((std::min(std::max(p, 0.0), size - 1.0) + 0.5) * side / size);
        };
        const int image = int(changed ? indices[n] : n), row = image * height + source(py, height);
        return double(pixels[(row * width + source(px, width)) * channels + channel % channels]);
      };
      const double y0 = std::floor(y), x0 = std::floor(x), fy = y - y0, fx = x - x0;
      const double value = (pixel(y0, x0) * (1 - fx) + pixel(y0, x0 + 1) * fx) * (1 - fy) +
                           (pixel(y0 + 1, x0) * (1 - fx) + pixel(y0 + 1, x0 + 1) * fx) * fy;
      if (!(std::abs(out[i] * 255 - value) < 1e-3)) {
        std::printf("image %d of %d channels at %d, %d: %g instead of %g\n", n, channels, r, c,
                    double(out[i] * 255), value);
        ++failures;
        return;
      }
    }
  }
  std::vector<float> out(count * size * size * 3, 0);
  launch(count, unsigned(size), threads, [&] {
    images(pixels.data(), 4, none, nullptr, out.data(), height, width, channels, size);
  }, threads);
  if (!std::all_of(out.begin(), out.end(), [](float value) { return std::isnan(value); })) {
    std::printf("images that there are not have values\n");
    ++failures;
  }
}

int main() {
  // Fewer and more threads than columns.
  check_images(1, 13, 4);
  check_images(3, 7, 32);
  // Rows and channels; lanes; blocks of a group: few and many of each, lanes without channels, more blocks
  // than rows.
  check(700, 8 * V, 8, 3, false, true, 8 * V, true);
  check(333, 10 * V, 4, 5, true, true, 12 * V, true);
  check(100, 3 * V, 2, 1, false, false, 3 * V, false);
  check(1, V, 2, 2, true, false, V, true);
  check(50, 33 * V, 32, 2, true, true, 40 * V, false);
  check(4000, V, 2, 4, false, true, 3 * V, true);
  return failures == 0 ? 0 : 1;
}

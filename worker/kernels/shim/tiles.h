// What `winograd.cpp` does with single tiles, in AVX-512: the transformations, each with a vector of 16
// channels at a time, and the product of matrices.

#pragma once

#include <cstdint>
#include <immintrin.h>

#define AVX512 __attribute__((target("avx512f"))) static inline

namespace winograd {

constexpr int64_t LANES = 16;
// Output channels that are computed together: three vectors for each of eight rows leave room for what is
// multiplied.
constexpr int64_t PANEL = 3 * LANES;
constexpr int64_t ROWS = 8;
// Of the transformed 4x4 tile.
constexpr int64_t POINTS = 16;

AVX512 __m512 load(const float *from) { return _mm512_loadu_ps(from); }
AVX512 void store(float *to, __m512 x) { _mm512_storeu_ps(to, x); }
AVX512 __m512 add(__m512 x, __m512 y) { return _mm512_add_ps(x, y); }
AVX512 __m512 sub(__m512 x, __m512 y) { return _mm512_sub_ps(x, y); }
AVX512 __m512 half(__m512 x) { return _mm512_mul_ps(x, _mm512_set1_ps(0.5f)); }
AVX512 __m512 zero() { return _mm512_setzero_ps(); }

// B' d B of the 4x4 `pixels`, of `channels` each. The points lie `point` apart.
AVX512 void transform_input(const float *const *pixels, int64_t channels, float *out, int64_t point) {
  for (int64_t c = 0; c < channels; c += LANES) {
    __m512 t[4][4];
    for (int j = 0; j < 4; ++j) {
      const __m512 d0 = load(pixels[j] + c), d1 = load(pixels[4 + j] + c);
      const __m512 d2 = load(pixels[8 + j] + c), d3 = load(pixels[12 + j] + c);
      t[0][j] = sub(d0, d2);
      t[1][j] = add(d1, d2);
      t[2][j] = sub(d2, d1);
      t[3][j] = sub(d1, d3);
    }
    for (int i = 0; i < 4; ++i) {
      float *to = out + 4 * i * point + c;
      store(to, sub(t[i][0], t[i][2]));
      store(to + point, add(t[i][1], t[i][2]));
      store(to + 2 * point, sub(t[i][2], t[i][1]));
      store(to + 3 * point, sub(t[i][1], t[i][3]));
    }
  }
}

// A' m A, and the bias, into the 2x2 `pixels`, of `channels` each. The points lie `point` apart.
AVX512 void transform_output(const float *m, int64_t point, int64_t channels, const float *bias,
                             float *const *pixels) {
  for (int64_t c = 0; c < channels; c += LANES) {
    __m512 t[2][4];
    for (int j = 0; j < 4; ++j) {
      const float *from = m + j * point + c;
      const __m512 m1 = load(from + 4 * point), m2 = load(from + 8 * point);
      t[0][j] = add(load(from), add(m1, m2));
      t[1][j] = sub(sub(m1, m2), load(from + 12 * point));
    }
    const __m512 b = bias ? load(bias + c) : zero();
    for (int i = 0; i < 2; ++i) {
      store(pixels[2 * i] + c, add(add(t[i][0], b), add(t[i][1], t[i][2])));
      store(pixels[2 * i + 1] + c, add(sub(t[i][1], t[i][2]), sub(b, t[i][3])));
    }
  }
}

// A y A' of the channels `from` to `from + channels` of the 2x2 `pixels`. The points lie `point` apart.
AVX512 void transform_gradient(const float *const *pixels, int64_t from, int64_t channels, float *out,
                               int64_t point) {
  for (int64_t c = 0; c < channels; c += LANES) {
    __m512 t[4][2];
    for (int j = 0; j < 2; ++j) {
      const __m512 y0 = load(pixels[j] + from + c), y1 = load(pixels[2 + j] + from + c);
      t[0][j] = y0;
      t[1][j] = add(y0, y1);
      t[2][j] = sub(y0, y1);
      t[3][j] = sub(zero(), y1);
    }
    for (int i = 0; i < 4; ++i) {
      float *to = out + 4 * i * point + c;
      store(to, t[i][0]);
      store(to + point, add(t[i][0], t[i][1]));
      store(to + 2 * point, sub(t[i][0], t[i][1]));
      store(to + 3 * point, sub(zero(), t[i][1]));
    }
  }
}

// G w G' of one panel: `weight` is the panel's first column of `[3, 3, in, out]`, `points` `[16, in,
// columns]`.
AVX512 void transform_weight(const float *weight, int64_t in, int64_t out, int64_t columns, float *points) {
  const int64_t plane = in * out, point = in * columns;
  for (int64_t row = 0; row < in; ++row) {
    for (int64_t c = 0; c < columns; c += LANES) {
      const float *from = weight + row * out + c;
      __m512 t[4][3];
      for (int j = 0; j < 3; ++j) {
        const __m512 w0 = load(from + j * plane), w1 = load(from + (3 + j) * plane),
                     w2 = load(from + (6 + j) * plane);
        const __m512 outer = half(add(w0, w2)), inner = half(w1);
        t[0][j] = w0;
        t[1][j] = add(outer, inner);
        t[2][j] = sub(outer, inner);
        t[3][j] = w2;
      }
      for (int i = 0; i < 4; ++i) {
        float *to = points + 4 * i * point + row * columns + c;
        const __m512 outer = half(add(t[i][0], t[i][2])), inner = half(t[i][1]);
        store(to, t[i][0]);
        store(to + point, add(outer, inner));
        store(to + 2 * point, sub(outer, inner));
        store(to + 3 * point, t[i][2]);
      }
    }
  }
}

// G' u G of one panel, the adjoint of `transform_weight`.
AVX512 void transform_weight_back(const float *points, int64_t in, int64_t out, int64_t columns,
                                  float *weight) {
  const int64_t plane = in * out, point = in * columns;
  for (int64_t row = 0; row < in; ++row) {
    for (int64_t c = 0; c < columns; c += LANES) {
      const float *from = points + row * columns + c;
      __m512 t[3][4];
      for (int j = 0; j < 4; ++j) {
        const __m512 u1 = load(from + (4 + j) * point), u2 = load(from + (8 + j) * point);
        const __m512 both = half(add(u1, u2));
        t[0][j] = add(load(from + j * point), both);
        t[1][j] = half(sub(u1, u2));
        t[2][j] = add(both, load(from + (12 + j) * point));
      }
      for (int i = 0; i < 3; ++i) {
        float *to = weight + 3 * i * plane + row * out + c;
        const __m512 both = half(add(t[i][1], t[i][2]));
        store(to, add(t[i][0], both));
        store(to + plane, half(sub(t[i][1], t[i][2])));
        store(to + 2 * plane, add(both, t[i][3]));
      }
    }
  }
}

// Eight rows of a product: c[r][..] = sum over k < `depth` of a[r * row + k * step] * b[k][..], added to `c`
// with ADD. `b` and `c` have VECTORS * 16 columns.
template <int VECTORS, bool ADD>
AVX512 void multiply_panel(const float *a, int64_t row, int64_t step, const float *b, int64_t depth,
                           float *c) {
  __m512 sums[ROWS][VECTORS];
  for (int r = 0; r < ROWS; ++r) {
    for (int v = 0; v < VECTORS; ++v) {
      sums[r][v] = zero();
    }
  }
  // Three pointers reach eight rows without a register for each.
  const float *a0 = a, *a3 = a + 3 * row, *a6 = a + 6 * row;
  for (int64_t k = 0; k < depth; ++k) {
    __m512 right[VECTORS];
    for (int v = 0; v < VECTORS; ++v) {
      right[v] = load(b + v * LANES);
    }
    const float *left[ROWS] = {a0, a0 + row, a0 + 2 * row, a3, a3 + row, a3 + 2 * row, a6, a6 + row};
    for (int r = 0; r < ROWS; ++r) {
      const __m512 factor = _mm512_set1_ps(*left[r]);
      for (int v = 0; v < VECTORS; ++v) {
        sums[r][v] = _mm512_fmadd_ps(factor, right[v], sums[r][v]);
      }
    }
    a0 += step;
    a3 += step;
    a6 += step;
    b += VECTORS * LANES;
  }
  for (int r = 0; r < ROWS; ++r) {
    for (int v = 0; v < VECTORS; ++v) {
      float *to = c + (r * VECTORS + v) * LANES;
      store(to, ADD ? add(load(to), sums[r][v]) : sums[r][v]);
    }
  }
}

// The same for a panel of 16, 32 or 48 `columns`.
template <bool ADD>
AVX512 void multiply(int64_t columns, const float *a, int64_t row, int64_t step, const float *b,
                     int64_t depth, float *c) {
  switch (columns / LANES) {
  case 1:
    return multiply_panel<1, ADD>(a, row, step, b, depth, c);
  case 2:
    return multiply_panel<2, ADD>(a, row, step, b, depth, c);
  default:
    return multiply_panel<3, ADD>(a, row, step, b, depth, c);
  }
}

} // namespace winograd

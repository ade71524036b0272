#include "winograd.h"

#if !defined(__x86_64__) || !defined(__linux__)

// Never called: nothing suits.
namespace winograd {
bool suits(const at::Tensor &, const at::Tensor &, const int64_t *, const int64_t *, const int64_t *,
           int64_t) {
  return false;
}
at::Tensor convolution(const at::Tensor &, const at::Tensor &, const at::Tensor *, const int64_t *) {
  return {};
}
at::Tensor gradient_of_input(const at::Tensor &, const at::Tensor &, const int64_t *) { return {}; }
at::Tensor gradient_of_weight(const at::Tensor &, const at::Tensor &, const int64_t *) { return {}; }
} // namespace winograd

#else

#include "tiles.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <algorithm>
#include <c10/util/Exception.h>

using at::Tensor;

namespace winograd {
namespace {

// Between rows and between points of what is transformed: without it those of 2^n channels share a set of the
// cache.
constexpr int64_t GAP = LANES;
// What the points of the tiles may take that a thread transforms at once, and those for a gradient of
// weights, in bytes.
constexpr int64_t BLOCK_BYTES = 1 << 20, GRADIENT_BLOCK_BYTES = 8 << 20;
// Tiles whose part of a gradient of weights is summed by itself: long sums of float32 lose more.
constexpr int64_t CHAIN = 128;
// Fewer tiles than this are not worth the transformation of the weights.
constexpr int64_t MIN_TILES = 512;

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t panels(int64_t channels) { return ceil_div(channels, PANEL); }
int64_t columns(int64_t channels, int64_t panel) { return std::min(PANEL, channels - panel * PANEL); }

// Tiles of 2x2 that cover the output of a convolution.
struct Grid {
  int64_t rows, tiles_per_row, tiles;

  Grid(int64_t images, int64_t height, int64_t width)
      : rows(ceil_div(height, 2)), tiles_per_row(ceil_div(width, 2)), tiles(images * rows * tiles_per_row) {}

  struct Tile {
    int64_t image, y, x;
  };
  Tile tile(int64_t i) const {
    return {i / tiles_per_row / rows, i / tiles_per_row % rows * 2, i % tiles_per_row * 2};
  }
};

// Images with the channels innermost, surrounded by `outside`, a pixel.
template <typename T> struct Images {
  T *data, *outside;
  int64_t channels, height, width;

  T *pixel(int64_t image, int64_t y, int64_t x) const {
    const bool inside = y >= 0 && y < height && x >= 0 && x < width;
    return inside ? data + ((image * height + y) * width + x) * channels : outside;
  }
};

Images<const float> read(const Tensor &x, const Tensor &zeros) {
  return {x.const_data_ptr<float>(), zeros.const_data_ptr<float>(), x.size(1), x.size(2), x.size(3)};
}

// The points of the input of a tile.
void transform(const Images<const float> &x, const Grid::Tile &tile, int64_t pad_y, int64_t pad_x, float *out,
               int64_t point) {
  const float *pixels[POINTS];
  for (int i = 0; i < POINTS; ++i) {
    pixels[i] = x.pixel(tile.image, tile.y + i / 4 - pad_y, tile.x + i % 4 - pad_x);
  }
  transform_input(pixels, x.channels, out, point);
}

// `weight` `[3, 3, in, out]` as `[panel][16, in, columns]`.
Tensor points_of(const Tensor &weight) {
  const int64_t in = weight.size(2), out = weight.size(3);
  const Tensor points = at::empty({POINTS * in * out}, weight.options());
  const float *from = weight.const_data_ptr<float>();
  float *to = points.mutable_data_ptr<float>();
  at::parallel_for(0, panels(out), 1, [&](int64_t first, int64_t last) {
    for (int64_t p = first; p < last; ++p) {
      transform_weight(from + p * PANEL, in, out, columns(out, p), to + p * PANEL * POINTS * in);
    }
  });
  return points;
}

// `x`, channels last, with `weight` `[3, 3, in, out]`.
Tensor convolve(const Tensor &x, const Tensor &weight, const float *bias, int64_t pad_y, int64_t pad_x) {
  const int64_t in = weight.size(2), out = weight.size(3);
  const int64_t height = x.size(2) + 2 * pad_y - 2, width = x.size(3) + 2 * pad_x - 2;
  const Tensor y =
      at::empty({x.size(0), out, height, width}, x.options().memory_format(at::MemoryFormat::ChannelsLast));
  const Tensor zeros = at::zeros({in}, x.options()), points = points_of(weight);
  const auto source = read(x, zeros);
  const float *u = points.const_data_ptr<float>();
  float *target = y.mutable_data_ptr<float>();
  const Grid grid(x.size(0), height, width);
  // No thread waits for another's block if there are few tiles; no tile depends on the others of its block.
  const int64_t cached = std::clamp<int64_t>(BLOCK_BYTES / (4 * POINTS * in), 64, 256);
  const int64_t share = ceil_div(grid.tiles, at::get_num_threads());
  const int64_t block = ceil_div(std::min(cached, share), ROWS) * ROWS;
  const int64_t row = in + GAP, point = block * row + GAP, product = block * PANEL + GAP;
  at::parallel_for(0, ceil_div(grid.tiles, block), 1, [&](int64_t first, int64_t last) {
    // What is beyond the last tile is multiplied, too.
    const Tensor transformed = at::zeros({POINTS * point}, x.options());
    const Tensor products = at::empty({POINTS * product}, x.options()),
                 beyond = at::empty({out}, x.options());
    float *v = transformed.mutable_data_ptr<float>(), *m = products.mutable_data_ptr<float>();
    const Images<float> results{target, beyond.mutable_data_ptr<float>(), out, height, width};
    for (int64_t start = first * block; start < std::min(last * block, grid.tiles); start += block) {
      const int64_t count = std::min(block, grid.tiles - start);
      for (int64_t t = 0; t < count; ++t) {
        transform(source, grid.tile(start + t), pad_y, pad_x, v + t * row, point);
      }
      for (int64_t p = 0; p < panels(out); ++p) {
        const int64_t wide = columns(out, p);
        const float *panel = u + p * PANEL * POINTS * in;
        for (int64_t i = 0; i < POINTS; ++i) {
          for (int64_t t = 0; t < count; t += ROWS) {
            multiply<false>(wide, v + i * point + t * row, row, 1, panel + i * in * wide, in,
                            m + i * product + t * wide);
          }
        }
        for (int64_t t = 0; t < count; ++t) {
          const auto tile = grid.tile(start + t);
          float *pixels[4];
          for (int i = 0; i < 4; ++i) {
            pixels[i] = results.pixel(tile.image, tile.y + i / 2, tile.x + i % 2) + p * PANEL;
          }
          transform_output(m + t * wide, product, wide, bias ? bias + p * PANEL : nullptr, pixels);
        }
      }
    }
  });
  return y;
}

} // namespace

bool suits(const Tensor &x, const Tensor &weight, const int64_t *stride, const int64_t *padding,
           const int64_t *dilation, int64_t groups) {
  static const bool supported = __builtin_cpu_supports("avx512f");
  const auto is = [](const int64_t *pair, int64_t value) { return pair[0] == value && pair[1] == value; };
  const auto fits = [](int64_t pad) { return pad >= 0 && pad <= 2; };
  if (!supported || groups != 1 || !is(stride, 1) || !is(dilation, 1) || !fits(padding[0]) ||
      !fits(padding[1]) || x.dim() != 4 || weight.dim() != 4 || x.size(1) != weight.size(1) ||
      weight.size(2) != 3 || weight.size(3) != 3) {
    return false;
  }
  for (const Tensor *tensor : {&x, &weight}) {
    if (!tensor->device().is_cpu() || tensor->scalar_type() != at::kFloat) {
      return false;
    }
  }
  const int64_t in = weight.size(1), out = weight.size(0);
  const int64_t height = x.size(2) + 2 * padding[0] - 2, width = x.size(3) + 2 * padding[1] - 2;
  if (in == 0 || out == 0 || in % LANES != 0 || out % LANES != 0 || height < 1 || width < 1 ||
      !x.is_contiguous(at::MemoryFormat::ChannelsLast)) {
    return false;
  }
  const Grid grid(x.size(0), height, width);
  // Tiles that reach beyond small images compute what nobody needs.
  return grid.tiles >= MIN_TILES && grid.tiles * 4 * 5 < x.size(0) * height * width * 8;
}

Tensor convolution(const Tensor &x, const Tensor &weight, const Tensor *bias, const int64_t *padding) {
  TORCH_CHECK(!bias || bias->numel() == weight.size(0), "a bias of ", bias->numel(), " elements for ",
              weight.size(0), " channels");
  TORCH_CHECK(!bias || bias->device() == x.device(), "a bias on another device than the input's");
  const Tensor b = bias ? bias->contiguous() : Tensor();
  return convolve(x, weight.permute({2, 3, 1, 0}).contiguous(), bias ? b.const_data_ptr<float>() : nullptr,
                  padding[0], padding[1]);
}

Tensor gradient_of_input(const Tensor &gradient, const Tensor &weight, const int64_t *padding) {
  const Tensor turned = weight.flip({2, 3}).permute({2, 3, 0, 1}).contiguous();
  return convolve(gradient.contiguous(at::MemoryFormat::ChannelsLast), turned, nullptr, 2 - padding[0],
                  2 - padding[1]);
}

Tensor gradient_of_weight(const Tensor &gradient, const Tensor &x, const int64_t *padding) {
  const Tensor y = gradient.contiguous(at::MemoryFormat::ChannelsLast);
  const int64_t in = x.size(1), out = y.size(1), all = panels(out);
  const Tensor zeros = at::zeros({std::max(in, out)}, x.options());
  const auto source = read(x, zeros), target = read(y, zeros);
  const Grid grid(y.size(0), y.size(2), y.size(3));
  // The same for any number of threads, so that the sums are.
  const int64_t block = std::clamp<int64_t>(GRADIENT_BLOCK_BYTES / (4 * POINTS * (in + out)), 128, 1024);
  const int64_t row = in + GAP, point = block * row + GAP;
  // [16][tile, in], [panel][16][tile, columns], and the sums [panel][16, in, columns].
  const Tensor inputs = at::empty({POINTS * point}, x.options());
  const Tensor outputs = at::empty({POINTS * (block * out + GAP * all)}, x.options());
  const Tensor sums = at::zeros({POINTS * in * out}, x.options());
  float *v = inputs.mutable_data_ptr<float>(), *s = sums.mutable_data_ptr<float>();
  float *d = outputs.mutable_data_ptr<float>();
  const auto panel_of = [&](int64_t p) { return d + p * POINTS * (block * PANEL + GAP); };
  for (int64_t start = 0; start < grid.tiles; start += block) {
    const int64_t count = std::min(block, grid.tiles - start);
    at::parallel_for(0, count, LANES, [&](int64_t first, int64_t last) {
      for (int64_t t = first; t < last; ++t) {
        const auto tile = grid.tile(start + t);
        transform(source, tile, padding[0], padding[1], v + t * row, point);
        const float *pixels[4];
        for (int i = 0; i < 4; ++i) {
          pixels[i] = target.pixel(tile.image, tile.y + i / 2, tile.x + i % 2);
        }
        for (int64_t p = 0; p < all; ++p) {
          const int64_t wide = columns(out, p);
          transform_gradient(pixels, p * PANEL, wide, panel_of(p) + t * wide, block * wide + GAP);
        }
      }
    });
    at::parallel_for(0, POINTS * all, 1, [&](int64_t first, int64_t last) {
      for (int64_t job = first; job < last; ++job) {
        const int64_t p = job / POINTS, i = job % POINTS, wide = columns(out, p);
        const float *panel = panel_of(p) + i * (block * wide + GAP);
        float *sum = s + p * PANEL * POINTS * in + i * in * wide;
        for (int64_t c = 0; c < in; c += ROWS) {
          for (int64_t t = 0; t < count; t += CHAIN) {
            const int64_t depth = std::min(CHAIN, count - t);
            multiply<true>(wide, v + i * point + t * row + c, 1, row, panel + t * wide, depth,
                           sum + c * wide);
          }
        }
      }
    });
  }
  const Tensor weight = at::empty({3, 3, in, out}, x.options());
  float *w = weight.mutable_data_ptr<float>();
  at::parallel_for(0, all, 1, [&](int64_t first, int64_t last) {
    for (int64_t p = first; p < last; ++p) {
      transform_weight_back(s + p * PANEL * POINTS * in, in, out, columns(out, p), w + p * PANEL);
    }
  });
  return weight.permute({3, 2, 0, 1});
}

} // namespace winograd

#endif

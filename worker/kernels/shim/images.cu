// Images out of bytes: nearest resize, one bilinear resampling for shift and zoom, mirroring, and scaling to
// 0..1, none of which mixes rows with columns.
//
// CPUs compute by the same source (images.cpp): each operation that rounds is spelled out, so that all
// compute the same to the last bit.

#ifdef __CUDACC__
#define EVERYWHERE __device__ __forceinline__
EVERYWHERE float times(float a, float b) { return __fmul_rn(a, b); }
EVERYWHERE float plus(float a, float b) { return __fadd_rn(a, b); }
EVERYWHERE double times(double a, double b) { return __dmul_rn(a, b); }
EVERYWHERE double plus(double a, double b) { return __dadd_rn(a, b); }
#else
#define EVERYWHERE inline
// Not contracted: who compiles this for a CPU says so to the compiler.
EVERYWHERE float times(float a, float b) { return a * b; }
EVERYWHERE float plus(float a, float b) { return a + b; }
EVERYWHERE double times(double a, double b) { return a * b; }
EVERYWHERE double plus(double a, double b) { return a + b; }
#endif

// Where a position of an axis takes its value: from two pixels of the source, by two weights.
struct Taps {
  int low, high;
  float at_low, at_high;
};

// How the positions of an axis lie in the source: `size` of them over `side` pixels.
struct Axis {
  int side, size;
  // A fraction of the axis; above 1 more of the source is shown; whether it is mirrored.
  double shift, zoom;
  bool mirrored;
  // A factor of the weights.
  double scale;

  // The pixel of the source that a position of the resized image shows: floor((p + 0.5) * side / size).
  EVERYWHERE int source(double position) const {
    return (int)((2u * (unsigned)position + 1u) * (unsigned)side / (2u * (unsigned)size));
  }

  // Position `p` shows the resized image at `zoom * (p - o) + shift * size + o` with the centre
  // `o = size / 2 - 0.5`, between two neighbours, and beyond the edge the edge (scipy's `affine_transform`
  // with order 1 and mode `nearest`).
  EVERYWHERE Taps taps(int position) const {
    const double centre = size / 2.0 - 0.5, last = size - 1.0;
    const double from = (mirrored ? last - position : position) - centre;
    const double at = plus(plus(times(zoom, from), times(shift, (double)size)), centre);
    // 0 for what is no number.
    const double inside = at > 0.0 ? at < last ? at : last : 0.0;
    const double low = (double)(int)inside, part = inside - low;
    const double high = low < last ? low + 1.0 : low;
    Taps found = {source(low), source(high), (float)times(scale, 1.0 - part), (float)times(scale, part)};
    if (found.low == found.high) {
      found.at_low = plus(found.at_low, found.at_high);
      found.at_high = 0.f;
    }
    return found;
  }
};

// An image and its change.
struct Picture {
  // `[height, width, channels]`.
  const unsigned char *pixels;
  int channels;
  Axis rows, columns;

  // The `n`-th of images `[height, width, channels]`, or the `indices[n]`-th, changed by the `n`-th
  // parameters `[shift of rows, of columns, zoom of rows, of columns, 1 if mirrored]`, or only resized. The
  // weights of the columns have the scale.
  EVERYWHERE Picture(const unsigned char *images, const long long *indices, const double *parameters, int n,
                     int height, int width, int channels, int size)
      : pixels(images + (indices ? indices[n] : n) * height * width * channels), channels(channels),
        rows{height, size, 0.0, 1.0, false, 1.0}, columns{width, size, 0.0, 1.0, false, 1.0 / 255.0} {
    if (parameters) {
      const double *mine = parameters + 5ll * n;
      rows.shift = mine[0], columns.shift = mine[1];
      rows.zoom = mine[2], columns.zoom = mine[3];
      columns.mirrored = mine[4] != 0.0;
    }
  }

  // Of the `at`-th value of the source's rows, between two of them.
  EVERYWHERE float value(const Taps &row, int at) const {
    const int width = columns.side * channels;
    return plus(times(row.at_low, (float)pixels[row.low * width + at]),
                times(row.at_high, (float)pixels[row.high * width + at]));
  }

  // Writes red, green and blue of one position of a row, whose values in the source are `value(at)`; of a
  // gray image all three are the same.
  template <typename Value> EVERYWHERE void write(Value value, const Taps &column, float *to) const {
    const int low = column.low * channels, high = column.high * channels;
    const auto blended = [&](int channel) {
      return plus(times(column.at_low, value(low + channel)), times(column.at_high, value(high + channel)));
    };
    const float red = blended(0), green = channels == 1 ? red : blended(1);
    const float blue = channels == 1 ? red : blended(2);
    to[0] = red, to[1] = green, to[2] = blue;
  }
};

#ifndef HOST_ONLY
// Writes `[N, size, size, 3]`. A block has a row of an image: row `blockIdx.y` of image `blockIdx.x`. An
// image that is none of the `total` is of no numbers.
extern "C" __global__ void images(const unsigned char *all, int total, const long long *indices,
                                  const double *parameters, float *out, int height, int width, int channels,
                                  int size) {
  const int n = (int)blockIdx.x, r = (int)blockIdx.y;
  float *to = out + ((long long)n * size + r) * size * 3;
  if (indices && (indices[n] < 0 || indices[n] >= total)) {
    for (int at = (int)threadIdx.x; at < 3 * size; at += (int)blockDim.x) {
      to[at] = nanf("");
    }
    return;
  }
  const Picture picture(all, indices, parameters, n, height, width, channels, size);
  const Taps row = picture.rows.taps(r);
  const auto value = [&](int at) { return picture.value(row, at); };
  for (int at = (int)threadIdx.x; at < size; at += (int)blockDim.x) {
    picture.write(value, picture.columns.taps(at), to + 3 * at);
  }
}
#endif

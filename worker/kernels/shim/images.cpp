#include "images.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <algorithm>
#include <c10/util/Exception.h>
#include <limits>
#include <vector>

using at::Tensor;

namespace {

#define HOST_ONLY
#include "images.cu"

// What there is to make.
struct Work {
  const unsigned char *pixels;
  int total;
  const long long *indices;
  const double *parameters;
  float *out;
  int count, height, width, channels, size;
};

static_assert(sizeof(long long) == sizeof(int64_t));

// What these say, and images for it in `out`.
Work work(const Tensor &pixels, const Tensor *indices, const Tensor *parameters, int64_t channels,
          int64_t size, Tensor &out) {
  TORCH_CHECK(pixels.dim() == 3 && pixels.scalar_type() == at::kByte && pixels.is_contiguous(),
              "pixels that are not bytes of three axes");
  TORCH_CHECK((channels == 1 || channels == 3) && pixels.size(2) % channels == 0, "pixels of ", channels,
              " channels");
  const int64_t height = pixels.size(1), width = pixels.size(2) / channels;
  const int64_t count = indices ? indices->numel() : pixels.size(0);
  // The kernel counts the values of an image in 32 bits, and both images and their rows are its grid.
  const int64_t longest = std::max({height, width, size}), most = std::numeric_limits<int>::max();
  TORCH_CHECK(size > 0 && height > 0 && width > 0 && longest < 1 << 15 && height * width * channels <= most,
              "images of ", height, "x", width, ", or of ", size, " pixels, which are too large");
  TORCH_CHECK(std::max(count, pixels.size(0)) <= most, "too many images: ", count, " of ", pixels.size(0));
  if (indices) {
    TORCH_CHECK(indices->scalar_type() == at::kLong && indices->is_contiguous() &&
                    indices->device() == pixels.device(),
                "numbers of images that are not int64 beside the pixels");
  }
  if (parameters) {
    TORCH_CHECK(parameters->scalar_type() == at::kDouble && parameters->is_contiguous() &&
                    parameters->numel() == 5 * count && parameters->device() == pixels.device(),
                "parameters that are not float64, five for each image, beside the pixels");
  }
  out = at::empty({count, 3, size, size}, pixels.options().dtype(at::kFloat), at::MemoryFormat::ChannelsLast);
  return {pixels.data_ptr<uint8_t>(),
          static_cast<int>(pixels.size(0)),
          indices ? reinterpret_cast<const long long *>(indices->data_ptr<int64_t>()) : nullptr,
          parameters ? parameters->data_ptr<double>() : nullptr,
          out.data_ptr<float>(),
          static_cast<int>(count),
          static_cast<int>(height),
          static_cast<int>(width),
          static_cast<int>(channels),
          static_cast<int>(size)};
}

void make_on_cpu(const Work &work) {
  at::parallel_for(0, work.count, 1, [&](int64_t begin, int64_t end) {
    std::vector<Taps> columns(work.size);
    std::vector<float> values(work.width * work.channels);
    for (int n = static_cast<int>(begin); n < end; ++n) {
      const Picture picture(work.pixels, work.indices, work.parameters, n, work.height, work.width,
                            work.channels, work.size);
      for (int c = 0; c < work.size; ++c) {
        columns[c] = picture.columns.taps(c);
      }
      float *to = work.out + static_cast<int64_t>(n) * work.size * work.size * 3;
      for (int r = 0; r < work.size; ++r) {
        const Taps row = picture.rows.taps(r);
        for (int at = 0; at < work.width * work.channels; ++at) {
          values[at] = picture.value(row, at);
        }
        const auto value = [&](int at) { return values[at]; };
        for (int c = 0; c < work.size; ++c, to += 3) {
          picture.write(value, columns[c], to);
        }
      }
    }
  });
}

} // namespace

#ifndef QUARTET_CUDA

namespace images {
namespace {
bool suits_gpu(int) { return false; }
void make_on_gpu(int, const Work &) {}
} // namespace
} // namespace images

#else

#include "nvrtc.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <c10/cuda/CUDAStream.h>

namespace images {
namespace {

const char SOURCE[] =
#include "images_source.h"
    ;

void launch(nvrtc::Handle kernel, int gpu, Work work) {
  const nvrtc::Current current(gpu);
  void *arguments[] = {&work.pixels, &work.total, &work.indices,  &work.parameters, &work.out,
                       &work.height, &work.width, &work.channels, &work.size};
  const auto side = static_cast<unsigned>(work.size), count = static_cast<unsigned>(work.count);
  nvrtc::launch(kernel, {count, side, std::min(256u, (side + 31) / 32 * 32), 1},
                c10::cuda::getCurrentCUDAStream().stream(), arguments);
}

// Far shifted and zoomed, gray and colour images are what a CPU makes of them.
void check(nvrtc::Handle kernel, int gpu) {
  const at::Device device(at::kCUDA, static_cast<c10::DeviceIndex>(gpu));
  const Tensor indices = at::arange(3, at::kLong) + 1;
  const Tensor wave = (at::arange(15, at::kDouble) * 12.9898).sin().view({3, 5});
  const Tensor mirrored = (wave.narrow(1, 4, 1) > 0).to(at::kDouble);
  const Tensor parameters = at::cat({wave.narrow(1, 0, 2), wave.narrow(1, 2, 2) + 1.5, mirrored}, 1);
  for (const int64_t channels : {1, 3}) {
    const Tensor numbers = at::arange(4 * 9 * 7 * channels, at::kLong) * 41 % 251;
    const Tensor pixels = numbers.to(at::kByte).view({4, 9, 7 * channels});
    const Tensor there[] = {pixels.to(device), indices.to(device), parameters.to(device)};
    // Fewer positions than a block has threads, and more.
    for (const int64_t size : {23, 300}) {
      const auto same = [&](const Tensor &expected, const Tensor *of, const Tensor *by) {
        Tensor found;
        launch(kernel, gpu, work(there[0], of, by, channels, size, found));
        TORCH_CHECK(found.cpu().equal(expected), "a kernel makes other images than a CPU");
      };
      same(made(pixels, &indices, &parameters, channels, size), &there[1], &there[2]);
      same(made(pixels, nullptr, nullptr, channels, size), nullptr, nullptr);
    }
  }
}

const nvrtc::Handle *kernel(int gpu) {
  static nvrtc::Known<int, nvrtc::Handle> known;
  return known.get(
      gpu, "images are made on the CPU",
      [&] {
        const nvrtc::Current current(gpu);
        return nvrtc::load(gpu, 75, SOURCE, {}, {"images"})[0];
      },
      [&](nvrtc::Handle kernel) { check(kernel, gpu); });
}

bool suits_gpu(int gpu) { return kernel(gpu) != nullptr; }

void make_on_gpu(int gpu, const Work &work) { launch(*kernel(gpu), gpu, work); }

} // namespace
} // namespace images

#endif

namespace images {

bool suits(const at::Device &device) {
  return device.is_cpu() || (device.is_cuda() && suits_gpu(device.index()));
}

Tensor made(const Tensor &pixels, const Tensor *indices, const Tensor *parameters, int64_t channels,
            int64_t size) {
  TORCH_CHECK(suits(pixels.device()), "no images are made on this device");
  Tensor out;
  const Work work = ::work(pixels, indices, parameters, channels, size, out);
  if (work.count == 0) {
    return out;
  }
  if (pixels.is_cuda()) {
    make_on_gpu(pixels.get_device(), work);
    return out;
  }
  for (int n = 0; indices && n < work.count; ++n) {
    TORCH_CHECK(0 <= work.indices[n] && work.indices[n] < pixels.size(0), "image ", work.indices[n], " of ",
                pixels.size(0));
  }
  make_on_cpu(work);
  return out;
}

} // namespace images

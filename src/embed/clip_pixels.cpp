// Coefficients in fp64, then integers, in the order in which Pillow computes them: equal bytes
// depend on it.
#include "embed/clip_pixels.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "core/error.h"

namespace pendulum {
namespace {

constexpr int kFractionBits = 22;  // 32, less 8 of a pixel and 2 for the kernel's overshoot
constexpr double kSupport = 2;     // of the kernel, in pixels of the coarser grid

double bicubic(double x) {
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
  return 0;
}

// How much of which inputs makes one output.
struct Kernel {
  int first = 0;
  std::vector<int32_t> weights;  // times 2^22
};

std::vector<Kernel> kernels(int inputs, int outputs) {
  const double scale = static_cast<double>(inputs) / outputs, width = std::max(scale, 1.0);
  const double support = kSupport * width, shrink = 1.0 / width;
  std::vector<Kernel> out(outputs);
  for (int i = 0; i < outputs; ++i) {
    const double center = (i + 0.5) * scale;
    const int first = std::max(static_cast<int>(center - support + 0.5), 0);
    const int end = std::min(static_cast<int>(center + support + 0.5), inputs);
    std::vector<double> weights;
    double sum = 0;
    for (int x = 0; x < end - first; ++x) {
      weights.push_back(bicubic((x + first - center + 0.5) * shrink));
      sum += weights.back();
    }
    out[i].first = first;
    for (double weight : weights) {
      if (sum != 0) weight /= sum;
      out[i].weights.push_back(
          static_cast<int32_t>((weight < 0 ? -0.5 : 0.5) + weight * (1 << kFractionBits)));
    }
  }
  return out;
}

// A weighted sum of bytes that lie `stride` apart.
uint8_t apply(const Kernel& kernel, const uint8_t* bytes, size_t stride) {
  int32_t sum = 1 << (kFractionBits - 1);
  for (size_t i = 0; i < kernel.weights.size(); ++i) sum += bytes[i * stride] * kernel.weights[i];
  return static_cast<uint8_t>(std::clamp(sum >> kFractionBits, 0, 255));
}

Frames resize_rows(const Frames& in, int width) {
  const std::vector<Kernel> columns = kernels(in.width, width);
  Frames out(1, in.height, width);
  for (int y = 0; y < in.height; ++y) {
    for (int x = 0; x < width; ++x) {
      for (int c = 0; c < 3; ++c)
        out.pixel(0, y, x)[c] = apply(columns[x], in.pixel(0, y, columns[x].first) + c, 3);
    }
  }
  return out;
}

Frames resize_columns(const Frames& in, int height) {
  const std::vector<Kernel> rows = kernels(in.height, height);
  Frames out(1, height, in.width);
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < in.width; ++x) {
      for (int c = 0; c < 3; ++c)
        out.pixel(0, y, x)[c] =
            apply(rows[y], in.pixel(0, rows[y].first, x) + c, size_t{3} * in.width);
    }
  }
  return out;
}

}  // namespace

Frames resize_bicubic(const Frames& frames, int height, int width) {
  check(frames.count >= 1 && frames.height >= 1 && frames.width >= 1 && height >= 1 && width >= 1,
        "a frame, and a size to give it: ", height, "x", width);
  Frames out(1, frames.height, frames.width);
  std::memcpy(out.rgb.data(), frames.rgb.data(), out.rgb.size());
  if (width != out.width) out = resize_rows(out, width);
  if (height != out.height) out = resize_columns(out, height);
  return out;
}

at::Tensor clip_pixels(const Frames& frames, int size) {
  const int shorter = std::min(frames.height, frames.width),
            longer = std::max(frames.height, frames.width);
  const int length = static_cast<int>(static_cast<double>(int64_t{size} * longer) / shorter);
  const bool is_tall = frames.height >= frames.width;
  const Frames resized = resize_bicubic(frames, is_tall ? length : size, is_tall ? size : length);
  const at::Tensor bytes_hwc =
      at::from_blob(const_cast<uint8_t*>(resized.rgb.data()), {resized.height, resized.width, 3},
                    at::TensorOptions().dtype(at::kByte));
  const at::Tensor middle_hwc = bytes_hwc.narrow(0, (resized.height - size) / 2, size)
                                    .narrow(1, (resized.width - size) / 2, size);
  // Scaled in fp64 and then rounded to fp32, as numpy does it there.
  const at::Tensor unit =
      (middle_hwc.permute({2, 0, 1}).to(at::kDouble) * (1 / 255.0)).to(at::kFloat);
  const at::Tensor mean = at::tensor({0.48145466F, 0.4578275F, 0.40821073F});
  const at::Tensor deviation = at::tensor({0.26862954F, 0.26130258F, 0.27577711F});
  return ((unit - mean.view({3, 1, 1})) / deviation.view({3, 1, 1})).contiguous();
}

}  // namespace pendulum

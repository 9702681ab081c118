// What tests/oracle/clip_oracle.py judges: resized pixels, normalised pixels, and states.
//   clip_probe resize IN.safetensors OUT.safetensors    every "<name>.<height>x<width>", (H, W, 3)
//                                    bytes, to that size, under its name
//   clip_probe states WEIGHTS IN.safetensors OUT.safetensors   every image to "pixels.<name>" and
//                                    "states.<name>"
#include <ATen/ATen.h>

#include <cstring>
#include <iostream>

#include "embed/clip_image.h"
#include "embed/clip_pixels.h"
#include "safetensors/safetensors.h"

namespace pendulum {
namespace {

Frames frames_of(const at::Tensor& image) {
  Frames frames(1, static_cast<int>(image.size(0)), static_cast<int>(image.size(1)));
  std::memcpy(frames.rgb.data(), image.data_ptr(), frames.rgb.size());
  return frames;
}

void resize(const std::string& in, const std::string& out) {
  NamedTensors results;
  for (const auto& [name, image] : read_safetensors(in)) {
    const size_t dot = name.rfind('.'), cross = name.rfind('x');
    const Frames resized = resize_bicubic(frames_of(image), std::stoi(name.substr(dot + 1)),
                                          std::stoi(name.substr(cross + 1)));
    at::Tensor bytes = at::empty({resized.height, resized.width, 3}, at::kByte);
    std::memcpy(bytes.data_ptr(), resized.rgb.data(), resized.rgb.size());
    results.emplace_back(name, bytes);
  }
  write_safetensors(out, results);
}

void states(const std::string& weights, const std::string& in, const std::string& out) {
  const ClipImageEncoder encoder({.kind = "clip", .weights = weights});
  const int size = static_cast<int>(ClipVision(weights).config().image);
  NamedTensors results;
  for (const auto& [name, image] : read_safetensors(in)) {
    const Frames frames = frames_of(image);
    results.emplace_back("pixels." + name, clip_pixels(frames, size));
    results.emplace_back("states." + name, encoder.states(frames));
  }
  write_safetensors(out, results);
}

}  // namespace
}  // namespace pendulum

int main(int argc, char** argv) {
  const std::vector<std::string> a(argv + 1, argv + argc);
  try {
    if (a.size() == 3 && a[0] == "resize") return pendulum::resize(a[1], a[2]), 0;
    if (a.size() == 4 && a[0] == "states") return pendulum::states(a[1], a[2], a[3]), 0;
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
  std::cerr << "usage: clip_probe resize|states ...\n";
  return 2;
}

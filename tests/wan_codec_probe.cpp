// Answers to oracle/wan_codec_oracle.py with the VAE of a folder or file:
//   wan_codec_probe run WEIGHTS TILE PIXELS_AT_ONCE CASE.safetensors RESULT.safetensors
//   wan_codec_probe write WEIGHTS FOLDER fp32|bf16|stored     diffusers' folder
//   wan_codec_probe rename WEIGHTS FILE                       a file in the original names
//   wan_codec_probe first WEIGHTS channels|latent FRAMES CASE.safetensors RESULT.safetensors
// A case: "frames" (T, H, W, 3) bytes, "z" (C, F, h, w). The result: "posterior", "decoded" (3, T,
// H, W), and "latent", the posterior's mean as the network is trained on it; of first, whose case
// holds one frame, "start": what a model is given of it.
#include <ATen/ATen.h>

#include <iostream>

#include "embed/first_frame.h"
#include "embed/wan_codec.h"

namespace pendulum {
namespace {

void run(const std::string& weights, const WanVaeOptions& options, const std::string& given,
         const std::string& result) {
  const SafetensorsFile file = SafetensorsFile::open(given);
  const at::Tensor bytes = file.load("frames"), z = file.load("z");
  const WanVae vae(WanVaeWeights::open(weights), options);
  const Shape shape{static_cast<int>(bytes.size(0)), static_cast<int>(bytes.size(1)),
                    static_cast<int>(bytes.size(2))};
  const at::Tensor pixels = (bytes.to(at::kFloat) / 255 * 2 - 1).permute({0, 3, 1, 2});
  const at::Tensor posterior =
      vae.encode(shape, [&](int64_t first, int64_t count, const FrameRegion& r) {
        return pixels.narrow(0, first, count).narrow(2, r.y, r.height).narrow(3, r.x, r.width);
      });
  const WanCodec codec({.kind = "wan", .weights = weights, .sample = false, .device = "cpu"});
  const int64_t edge = codec.spatial();
  at::Tensor decoded =
      at::full({(z.size(1) - 1) * codec.temporal() + 1, 3, z.size(2) * edge, z.size(3) * edge},
               std::nan(""));
  vae.decode(z, [&](int64_t first, const FrameRegion& r, const at::Tensor& found) {
    decoded.narrow(0, first, found.size(0))
        .narrow(2, r.y, r.height)
        .narrow(3, r.x, r.width)
        .copy_(found);
  });
  write_safetensors(result, {{"posterior", posterior},
                             {"decoded", decoded.transpose(0, 1)},
                             {"latent", codec.latent(posterior, 0)}});
}

void write(const std::string& weights, const std::string& folder, const std::string& type) {
  std::optional<at::ScalarType> dtype;
  if (type != "stored") dtype = type == "bf16" ? at::kBFloat16 : at::kFloat;
  WanVaeWeights::open(weights).write_diffusers(folder, dtype);
}

void rename(const std::string& weights, const std::string& path) {
  const WanVaeWeights found = WanVaeWeights::open(weights);
  NamedTensors tensors;
  for (const WanVaeParameter& parameter : found.parameters())
    tensors.emplace_back(parameter.original, found.load(parameter));
  write_safetensors(path, tensors);
}

void give_first(const std::string& weights, const std::string& kind, int frames,
                const std::string& given, const std::string& result) {
  const at::Tensor bytes = SafetensorsFile::open(given).load("frames").contiguous();
  Frames first(1, static_cast<int>(bytes.size(1)), static_cast<int>(bytes.size(2)));
  std::copy_n(bytes.const_data_ptr<uint8_t>(), bytes.numel(), first.rgb.begin());
  const WanCodec codec({.kind = "wan", .weights = weights, .device = "cpu"});
  const FirstFrameEncoder encoder(kind == "latent" ? FirstFrame::latent : FirstFrame::channels,
                                  codec, nullptr);
  write_safetensors(result, {{"start", encoder.start(first, frames)}});
}

}  // namespace
}  // namespace pendulum

int main(int argc, char** argv) {
  const std::vector<std::string> words(argv + 1, argv + argc);
  try {
    if (argc == 7 && words[0] == "run") {
      pendulum::WanVaeOptions options;
      options.tile = std::stoll(words[2]);
      options.pixels_at_once = std::stoll(words[3]);
      pendulum::run(words[1], options, words[4], words[5]);
    } else if (argc == 5 && words[0] == "write") {
      pendulum::write(words[1], words[2], words[3]);
    } else if (argc == 4 && words[0] == "rename") {
      pendulum::rename(words[1], words[2]);
    } else if (argc == 7 && words[0] == "first") {
      pendulum::give_first(words[1], words[2], std::stoi(words[3]), words[4], words[5]);
    } else {
      std::cerr << "usage: wan_codec_probe run|write|rename|first ...; see wan_codec_probe.cpp\n";
      return 2;
    }
  } catch (const std::exception& e) {
    std::cerr << e.what() << '\n';
    return 1;
  }
}

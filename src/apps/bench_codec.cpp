// pendulum bench codec: how long a codec takes to encode a clip or to decode one, and in how much
// memory.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "apps/commands.h"
#include "apps/timing.h"
#include "core/error.h"
#include "core/process_memory.h"
#include "core/random.h"
#include "embed/codec.h"
#include "ops/random_tensor.h"

namespace pendulum {
namespace {

struct CodecOptions {
  CodecConfig codec;
  std::string side = "encode", size = "256x256";
  int frames = 81, steps = 1, threads = 0;
  bool json = false;
};

Frames noise(const Shape& shape) {
  Frames frames(shape.frames, shape.height, shape.width);
  for (size_t i = 0; i < frames.rgb.size(); ++i) frames.rgb[i] = draw(1, i) & 255;
  return frames;
}

void bench_codec(const CodecOptions& options) {
  if (options.threads > 0) at::set_num_threads(options.threads);
  Shape shape{options.frames, 0, 0};
  int end = 0;
  if (std::sscanf(options.size.c_str(), "%6dx%6d%n", &shape.height, &shape.width, &end) != 2 ||
      end != static_cast<int>(options.size.size())) {
    throw ConfigError(text("--size ", options.size, ": expected HEIGHTxWIDTH in pixels"));
  }
  const std::unique_ptr<Codec> codec = make_codec(options.codec);
  const LatentShape grid = codec->latent_shape(shape);
  const int64_t at_start = process_memory("VmHWM");
  const bool encodes = options.side == "encode";
  const Frames frames = encodes ? noise(shape) : Frames();
  const at::Tensor latent =
      encodes ? at::Tensor()
              : random_tensor({codec->channels(), grid.frames, grid.height, grid.width}, 1);
  std::vector<double> seconds;
  for (int step = 0; step < options.steps; ++step) {
    const double start = seconds_now();
    if (encodes) {
      codec->encode(frames);
    } else {
      codec->decode(latent);
    }
    seconds.push_back(seconds_now() - start);
  }
  if (options.json) {
    fmt::print("{}\n",
               nlohmann::json{{"seconds", median(seconds)},
                              {"peak_bytes", process_memory("VmHWM")},
                              {"threads", at::get_num_threads()},
                              {"latent", {codec->channels(), grid.frames, grid.height, grid.width}}}
                   .dump());
    return;
  }
  fmt::print("{} {} with {}: {:.2f} s, {:.2f} GB at most, {:.2f} of them before the first clip\n",
             options.side, shape.name(), codec->key(), median(seconds),
             1e-9 * process_memory("VmHWM"), 1e-9 * at_start);
}

}  // namespace

void add_bench_codec(CLI::App& bench) {
  auto options = std::make_shared<CodecOptions>();
  CLI::App* command = bench.add_subcommand("codec", "encode or decode a clip of noise");
  command->add_option("--kind", options->codec.kind, "haar or wan")->capture_default_str();
  command->add_option("--weights", options->codec.weights, "folder or file of a wan VAE");
  command->add_option("--tile", options->codec.tile, "edge of a tile in pixels; 0: whole frames");
  command->add_option("--device", options->codec.device, "auto, cpu or cuda")
      ->capture_default_str();
  command->add_option("--precision", options->codec.precision, "fp32, or bf16 on a GPU")
      ->capture_default_str();
  command->add_option("--side", options->side, "encode or decode")
      ->check(CLI::IsMember({"encode", "decode"}))
      ->capture_default_str();
  command->add_option("--size", options->size, "HEIGHTxWIDTH in pixels")->capture_default_str();
  const auto positive = [&](const char* name, int& value, const char* help) {
    command->add_option(name, value, help)
        ->check(CLI::Range(1, kMostOfAnything))
        ->capture_default_str();
  };
  positive("--frames", options->frames, "frames of the clip");
  positive("--steps", options->steps, "clips; the median counts");
  command->add_option("--threads", options->threads, "threads; all cores if not given");
  command->add_flag("--json", options->json, "one JSON object instead of a sentence");
  command->callback([options] { bench_codec(*options); });
}

}  // namespace pendulum

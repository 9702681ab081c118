// Draws every sample, writes its file, and then the manifests.
#include "data/synth.h"

#include <fmt/format.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <vector>

#include "core/error.h"
#include "core/publish.h"
#include "data/media_writer.h"
#include "data/parallel.h"
#include "data/scene.h"

namespace pendulum {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kValidationEvery = 50;

bool is_validation(int64_t index) { return index % kValidationEvery == kValidationEvery - 1; }

std::string manifest_line(const std::string& id, const std::string& media,
                          const std::string& caption, int64_t index) {
  nlohmann::ordered_json line = {{"id", id},
                                 {"media", media},
                                 {"caption", caption},
                                 {"licence", "CC0-1.0"},
                                 {"holder", "Pendulum synthetic"},
                                 {"basis", "generated"}};
  if (is_validation(index)) line["split"] = "validation";
  return line.dump() + "\n";
}

// One line per sample, made in any order, written in this one. make(i) writes file i and returns
// its line.
void make_all(const SynthOptions& options, const std::string& kind, int64_t count,
              const std::function<std::string(int64_t)>& make) {
  fs::create_directories(fs::path(options.out) / kind);
  std::vector<std::string> lines(count);
  parallel_for(count, options.threads, [&](int64_t i) { lines[i] = make(i); });
  std::string manifest;
  for (const std::string& line : lines) manifest += line;
  publish_text((fs::path(options.out) / (kind + ".jsonl")).string(), manifest);
}

}  // namespace

SynthReport synthesize(const SynthOptions& options) {
  if (options.out.empty()) throw ConfigError("data synth: name the folder to write with --out");
  if (options.stills < 0 || options.clips < 0 || options.stills + options.clips == 0) {
    throw ConfigError("data synth: ask for at least one still or clip");
  }
  if (options.size < 16 || options.size > 2048 || options.size % 2 != 0) {
    throw ConfigError(
        text("data synth: --size is ", options.size, ", it must be even, 16 to 2048"));
  }
  if (options.frames < 2 || options.frames > 1000 || !(options.fps > 0 && options.fps <= 240)) {
    throw ConfigError(text("data synth: clips have 2 to 1000 frames at up to 240 a second, not ",
                           options.frames, " at ", options.fps));
  }
  const auto begin = std::chrono::steady_clock::now();
  const fs::path out = options.out;
  std::atomic<int64_t> bytes = 0;

  if (options.stills > 0) {
    make_all(options, "stills", options.stills, [&](int64_t i) {
      const Scene scene = still_scene(options.seed, i);
      const std::string media = fmt::format("stills/{:06}.{}", i, i % 2 == 0 ? "png" : "jpg");
      write_image((out / media).string(), draw_scene(scene, 1, options.size));
      bytes += static_cast<int64_t>(fs::file_size(out / media));
      return manifest_line(fmt::format("still-{:06}", i), media, still_caption(scene), i);
    });
  }
  if (options.clips > 0) {
    make_all(options, "clips", options.clips, [&](int64_t i) {
      const Scene scene = clip_scene(options.seed, i);
      const std::string media = fmt::format("clips/{:06}.mp4", i);
      write_video((out / media).string(), draw_scene(scene, options.frames, options.size),
                  options.fps);
      bytes += static_cast<int64_t>(fs::file_size(out / media));
      return manifest_line(fmt::format("clip-{:06}", i), media, clip_caption(scene), i);
    });
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  return {options.stills, options.clips,
          options.stills / kValidationEvery + options.clips / kValidationEvery, bytes,
          took.count()};
}

std::string describe(const SynthReport& report) {
  return fmt::format("{} stills and {} clips ({} for validation), {:.1f} MB, in {:.1f} s",
                     report.stills, report.clips, report.validation,
                     static_cast<double>(report.bytes) / 1e6, report.seconds);
}

}  // namespace pendulum

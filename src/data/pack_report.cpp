// What can be said of a pack: whether it is sound, and what is in it.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <nlohmann/json.hpp>
#include <sstream>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/hash.h"
#include "data/media_reader.h"
#include "data/pack.h"
#include "data/pack_format.h"
#include "data/packed_data.h"
#include "data/parallel.h"

namespace pendulum {
namespace {

template <class Key>
std::string counted(const char* what, const std::map<Key, int64_t>& counts, const char* unit = "") {
  std::string out = fmt::format("{}:", what);
  for (const auto& [value, count] : counts) out += fmt::format("  {}{} ({})", value, unit, count);
  return out + "\n";
}

// Of refused.jsonl, which packing wrote.
std::map<std::string, int64_t> refused_by_reason(const std::string& folder) {
  const std::string path = (std::filesystem::path(folder) / kRefusedFile).string();
  std::ifstream file(path);
  std::map<std::string, int64_t> counts;
  for (std::string line; std::getline(file, line);) {
    const auto record = nlohmann::json::parse(line, nullptr, false);
    if (record.is_discarded() || !record.contains("reason") || !record["reason"].is_string())
      throw DataError(text(path, ": is not what packing wrote"));
    ++counts[record["reason"].get<std::string>()];
  }
  return counts;
}

// The most frequent reasons first.
std::string describe_refused(const std::map<std::string, int64_t>& refused) {
  if (refused.empty()) return "refused when it was packed: none\n";
  std::vector<std::pair<std::string, int64_t>> reasons(refused.begin(), refused.end());
  std::stable_sort(reasons.begin(), reasons.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  int64_t sum = 0;
  for (const auto& [reason, count] : reasons) sum += count;
  std::string out = fmt::format("refused when it was packed: {}\n", sum);
  constexpr size_t kShown = 20;
  for (size_t i = 0; i < std::min(kShown, reasons.size()); ++i)
    out += fmt::format("  {} x {}\n", reasons[i].second, reasons[i].first);
  if (reasons.size() > kShown) {
    out +=
        fmt::format("  and {} other reasons, all in {}\n", reasons.size() - kShown, kRefusedFile);
  }
  return out;
}

}  // namespace

CheckReport check_pack(const std::string& folder, int threads) {
  const PackHead index = read_pack_head(folder);
  const PackedData data = PackedData::open(folder);
  CheckReport report;
  report.samples = data.size();
  for (const ShardRecord& shard : index.shards) {
    report.bytes += shard.bytes;
    if (sha256_of_file((std::filesystem::path(folder) / shard.file).string()) != shard.sha256) {
      report.problems.push_back({shard.file, "is not the file that was packed"});
    }
  }
  std::vector<std::string> reasons(data.size());
  parallel_for(data.size(), threads, [&](int64_t i) {
    const auto media = data.media(i);
    if (auto* failure = std::get_if<ReadFailure>(&media)) {
      reasons[i] = failure->reason;
      return;
    }
    const auto decoded =
        decode_every_frame(std::get<std::vector<uint8_t>>(media), data.sample(i).excerpt);
    if (auto* failure = std::get_if<ReadFailure>(&decoded)) reasons[i] = failure->reason;
  });
  for (int64_t i = 0; i < data.size(); ++i) {
    if (!reasons[i].empty()) report.problems.push_back({data.sample(i).id, reasons[i]});
  }
  return report;
}

std::string describe(const CheckReport& report) {
  if (report.problems.empty()) {
    return fmt::format("{} samples, {:.1f} MB: every checksum holds and every frame decodes\n",
                       report.samples, static_cast<double>(report.bytes) / 1e6);
  }
  std::string out = fmt::format("{} of {} samples or shards are damaged:\n", report.problems.size(),
                                report.samples);
  for (const Refusal& problem : report.problems)
    out += fmt::format("  {}: {}\n", problem.id, problem.reason);
  return out;
}

PackStats pack_stats(const std::string& folder, double fps) {
  if (!(fps > 0 && fps <= 1000))
    throw ConfigError(text("data stats: --fps is ", fps, ", it must be above 0"));
  const PackedData data = PackedData::open(folder);
  PackStats stats;
  stats.fps = fps;
  stats.refused = refused_by_reason(folder);
  for (int64_t i = 0; i < data.size(); ++i) {
    const Sample sample = data.sample(i);
    ++stats.samples;
    stats.validation += sample.split == "validation";
    stats.frames += sample.frames;
    stats.bytes += data.bytes(i);
    ++stats.licences[sample.licence];
    ++stats.holders[sample.holder];
    ++stats.bases[sample.basis];
    ++stats.sizes[fmt::format("{}x{}", sample.width, sample.height)];
    for (const std::string& caption : sample.captions) {
      std::istringstream words(caption);
      int count = 0;
      for (std::string word; words >> word;) ++count;
      ++stats.caption_words[count];
    }
    if (sample.kind == MediaKind::still) {
      ++stats.stills;
      continue;
    }
    ++stats.clips;
    stats.seconds += sample.seconds;
    ++stats.whole_seconds[static_cast<int>(sample.seconds)];
    for (const int frames : {5, 9, 17, 33, 49, 81, 121}) {
      stats.fits[frames] += clip_frames(sample, frames, fps) == frames;
    }
  }
  return stats;
}

std::string describe(const PackStats& stats) {
  std::string out = fmt::format(
      "{} samples: {} stills, {} clips of {:.1f} s in all; {} for validation; {} frames; {:.1f} "
      "MB\n",
      stats.samples, stats.stills, stats.clips, stats.seconds, stats.validation, stats.frames,
      static_cast<double>(stats.bytes) / 1e6);
  out += counted("licence", stats.licences) + counted("holder", stats.holders) +
         counted("basis", stats.bases);
  out += counted("size", stats.sizes) + counted("words in a caption", stats.caption_words);
  if (stats.clips > 0) {
    out += counted("clip length", stats.whole_seconds, " s");
    out += counted(fmt::format("clips that fill, at {:g} frames a second", stats.fps).c_str(),
                   stats.fits, " frames");
  }
  return out + describe_refused(stats.refused);
}

}  // namespace pendulum

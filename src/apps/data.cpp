// pendulum data: make, pack, check and describe data sets.
#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <cstdio>
#include <filesystem>
#include <memory>
#include <set>

#include "apps/commands.h"
#include "apps/embedding_parts.h"
#include "batch/sources.h"
#include "config/config.h"
#include "core/error.h"
#include "data/contact_sheet.h"
#include "data/crop_thumbnail.h"
#include "data/media_writer.h"
#include "data/pack.h"
#include "data/packed_data.h"
#include "data/synth.h"
#include "pendulum/bucket_report.h"
#include "pendulum/plan.h"
#include "rights/frozen.h"

namespace pendulum {
namespace {

void print(const std::string& words) {
  std::fputs(words.c_str(), stdout);
  if (words.empty() || words.back() != '\n') std::fputc('\n', stdout);
}

struct StatsOptions {
  std::string path, thumbnails, rights;
  std::vector<std::string> overrides;
  double fps = 8;
};

// A row per bucket, at most kThumbnails samples evenly chosen of its entries.
Frames crop_sheet(const Plan& plan, const Sources& sources, std::string* rows) {
  constexpr int64_t kThumbnails = 8;
  constexpr int kSide = 128;
  std::vector<Frames> pictures;
  std::set<std::string> seen;
  for (const SegmentPlan& segment : plan.segments) {
    for (const BucketPlan& bucket : segment.buckets) {
      if (!seen.insert(bucket.name).second) continue;
      const PackedData& data = sources[bucket.source].data;
      const auto count = static_cast<int64_t>(bucket.entries.size());
      *rows += text("  row ", seen.size(), ": ", bucket.name, "\n");
      for (int64_t i = 0; i < kThumbnails; ++i) {
        pictures.emplace_back(1, kSide, kSide).rgb.assign(size_t{3} * kSide * kSide, 255);
        if (i >= count) continue;
        const int64_t number = bucket.entries[i * count / std::min(count, kThumbnails)];
        const auto media = data.media(number);
        if (std::holds_alternative<ReadFailure>(media)) continue;
        auto drawn = crop_thumbnail(std::get<std::vector<uint8_t>>(media), data.sample(number),
                                    bucket.shape.height, bucket.shape.width, kSide);
        if (auto* picture = std::get_if<Frames>(&drawn)) pictures.back() = std::move(*picture);
      }
    }
  }
  return contact_sheet(pictures, 1, {.clips_per_row = kThumbnails});
}

std::string bucket_stats(const StatsOptions& options) {
  Config config = load_config(options.path, options.overrides);
  config.embed.cache = "off";  // nothing is embedded
  const Sources sources = open_sources(config, freeze_rights(config.rights, utc_today()));
  const Geometry shapes = geometry(config, EmbeddingParts(config));
  const Plan plan = make_plan(config, catalogues(sources, config, shapes), shapes);
  std::string out = bucket_report(plan);
  for (const RefusedSample& refused : sources.refused)
    out += text("refused by rights: ", refused.source, " ", refused.id, ": ", refused.reason, "\n");
  if (options.thumbnails.empty()) return out;
  std::string rows;
  write_image(options.thumbnails, crop_sheet(plan, sources, &rows));
  return out + "\n" + options.thumbnails + "\n" + rows;
}

void add_synth(CLI::App& data) {
  auto options = std::make_shared<SynthOptions>();
  CLI::App* command =
      data.add_subcommand("synth", "draw captioned clips and stills of moving shapes");
  command->add_option("--out", options->out, "folder to fill")->required();
  command->add_option("--stills", options->stills, "how many")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--clips", options->clips, "how many")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--size", options->size, "pixels a side, even")
      ->check(CLI::Range(16, 2048))
      ->capture_default_str();
  command->add_option("--frames", options->frames, "of each clip")
      ->check(CLI::Range(1, 10000))
      ->capture_default_str();
  command->add_option("--fps", options->fps, "frames per second")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_option("--seed", options->seed, "another seed draws other pictures")
      ->capture_default_str();
  command->callback([options] { print(describe(synthesize(*options))); });
}

void add_pack(CLI::App& data) {
  auto options = std::make_shared<PackOptions>();
  CLI::App* command =
      data.add_subcommand("pack", "validate a folder or a manifest and pack it for training");
  command
      ->add_option(
          "INPUT", options->input,
          "folder of media with .txt captions beside them, .jsonl manifest, WebDataset .tar "
          "or folder of them")
      ->required();
  command->add_option("--out", options->out,
                      "folder to make; must not exist (default: INPUT without ending, + .pack)");
  command->add_option("--licence,--license", options->licence,
                      "SPDX identifier, or LicenseRef-own for your own");
  command->add_option("--holder", options->holder, "who holds the rights");
  command->add_option("--basis", options->basis, "why it may be used")->capture_default_str();
  command->add_flag("--in-place", options->in_place,
                    "leave the media where they are and make their index alone");
  command->add_option("--validation", options->validation, "share of a folder held out")
      ->check(CLI::Range(0.0, 0.5))
      ->capture_default_str();
  command
      ->add_option("--deny", options->deny,
                   "deny-list: lines of id:, sha256: or phash: that are not packed")
      ->allow_extra_args(false);
  command->callback([options] {
    if (options->out.empty()) {
      std::string stem = options->input;
      while (stem.size() > 1 && stem.back() == '/') stem.pop_back();
      if (stem.ends_with(".jsonl")) stem.resize(stem.size() - 6);
      if (stem.ends_with(".tar")) stem.resize(stem.size() - 4);
      options->out = stem + ".pack";
    }
    print(describe(pack(*options)));
  });
}

void add_check(CLI::App& data, int& exit_code) {
  auto folder = std::make_shared<std::string>();
  CLI::App* command = data.add_subcommand(
      "check", "verify every checksum of a packed data set and decode every sample");
  command->add_option("PACK", *folder, "packed data set")->required();
  command->callback([folder, &exit_code] {
    const CheckReport report = check_pack(*folder);
    print(describe(report));
    if (!report.problems.empty()) exit_code = 1;
  });
}

// How a run's rights judge a pack today.
std::string denials(const std::string& folder, const std::string& config_path) {
  const RightsConfig config = load_config(config_path).rights;
  const FrozenRights rights = freeze_rights(config, utc_today());
  const Policy policy(config, rights.as_of);
  Denials denied;
  int64_t count = 0;
  const PackedData data = PackedData::open(folder);
  for (int64_t i = 0; i < data.size(); ++i) {
    const Verdict verdict = judge(data.sample(i), policy, rights.denied);
    if (verdict.allowed) continue;
    ++denied[verdict.rule];
    ++count;
  }
  return fmt::format("rights of {} on {}: {} of {} samples denied\n{}", config_path,
                     print(rights.as_of), count, data.size(), describe(denied));
}

void add_stats(CLI::App& data) {
  auto options = std::make_shared<StatsOptions>();
  CLI::App* command = data.add_subcommand(
      "stats", "what a packed data set holds, or how a run's samples fall into its buckets");
  command->add_option("PACK|CONFIG", options->path, "packed data set, or a run's YAML file")
      ->required();
  command->add_option("--set", options->overrides, "override a key of the YAML")
      ->type_name("KEY=VALUE")
      ->take_all();
  command->add_option("--thumbnails", options->thumbnails,
                      "with CONFIG: a PNG to write, a row per bucket of what is cropped away");
  command->add_option("--fps", options->fps, "rate at which clips would be watched")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_option(
      "--rights", options->rights,
      "with PACK: a run's YAML; say how many samples its rights deny, and by which rule");
  command->callback([options] {
    if (std::filesystem::is_regular_file(options->path)) {
      print(bucket_stats(*options));
    } else if (!options->thumbnails.empty()) {
      throw ConfigError("data stats: --thumbnails needs a run's YAML file, which has buckets");
    } else {
      print(describe(pack_stats(options->path, options->fps)));
      if (!options->rights.empty()) print(denials(options->path, options->rights));
    }
  });
}

}  // namespace

void add_data(CLI::App& app, int& exit_code) {
  CLI::App* data = app.add_subcommand("data", "make, pack, check and describe data sets");
  data->require_subcommand(1);
  add_synth(*data);
  add_pack(*data);
  add_check(*data, exit_code);
  add_stats(*data);
  add_provenance(*data, exit_code);
}

}  // namespace pendulum

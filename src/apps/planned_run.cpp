// Published sizes by kind, and catalogues without data.
#include "apps/planned_run.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <numeric>

#include "apps/embedding_parts.h"
#include "batch/sources.h"
#include "core/error.h"
#include "core/log.h"
#include "rights/frozen.h"
#include "rights/origin.h"

namespace pendulum {
namespace {

bool is_there(const std::string& path) { return std::filesystem::exists(path); }

// all-MiniLM-L6 and the encoder of UMT5-XXL, from their published config.json.
int planned_text_width(const TextConfig& config) {
  if (is_there(config.weights)) return text_width(config);
  if (config.kind == "minilm") return 384;
  if (config.kind == "umt5") return 4096;
  return text_width(config);  // says what is missing
}

// Wan's autoencoders have published sizes: that of Wan 2.2's 5B, and that of all others.
LatentSizes planned_latents(const Config& config) {
  if (config.codec.kind == "wan" && !is_there(config.codec.weights)) {
    if (config.model.preset == "wan-2.2-5b") return {48, 16, 4};
    return {16, 8, 4};
  }
  const std::unique_ptr<Codec> codec = make_codec(config.codec);
  return {codec->channels(), codec->spatial(), codec->temporal()};
}

// ViT-H/14's, as in Wan 2.1's image-to-video models.
int planned_image_width(const ImageConfig& config) {
  if (config.kind == "none") return 0;
  return is_there(config.weights) ? ClipImageEncoder(config).dim() : 1280;
}

// Weights that the run needs and this machine lacks, in one line.
void note_missing(const Config& config) {
  std::string missing;
  const auto look = [&](const char* key, const std::string& path) {
    if (path.empty() || path == "auto" || is_there(path)) return;
    missing += text(missing.empty() ? "" : ", ", key, " ", path);
  };
  look("model.import", config.model.import);
  look("codec.weights", config.codec.weights);
  look("text.weights", config.text.weights);
  look("image.weights", config.image.weights);
  if (missing.empty()) return;
  warn(
      "not there: {}; planned with the sizes of model.preset {} and the published ones of codec "
      "and encoders. Training needs them",
      missing, config.model.preset);
}

SourceCatalogue assumed_catalogue(const std::string& name, const Config& config) {
  SourceCatalogue out{.name = name, .digest = "assumed"};
  out.samples.resize(config.sources.at(name).assume_samples);
  std::iota(out.samples.begin(), out.samples.end(), int64_t{0});
  for (const StageConfig& stage : config.stages) {
    std::vector<int>& frames = out.frames.emplace_back();
    if (stage.sources.contains(name))
      frames.assign(out.samples.size(), stage.shape_of(name).frames);
  }
  return out;
}

}  // namespace

Geometry planned_geometry(const Config& config) {
  note_missing(config);
  Config planned = config;
  // The preset's sizes then, with what stands beside them.
  if (!is_there(config.model.import)) planned.model.import.clear();
  const LatentSizes latents = planned_latents(config);
  const WanConfig wan =
      wan_config(planned.model, {latents.channels, planned_text_width(config.text),
                                 latents.temporal, planned_image_width(config.image)});
  return geometry(planned, latents, wan);
}

PlannedSources planned_sources(const Config& config, const Geometry& geometry) {
  PlannedSources out;
  Config present = config;
  std::erase_if(present.sources, [&](const auto& entry) {
    const auto& folders = entry.second.data;
    const bool is_assumed =
        entry.second.assume_samples > 0 && std::none_of(folders.begin(), folders.end(), is_there);
    if (is_assumed) out.assumed.push_back(entry.first);
    return is_assumed;
  });
  const FrozenRights rights = freeze_rights(present.rights, utc_today());
  const Sources sources = open_sources(present, rights);
  if (!sources.refused.empty()) {
    const RefusedSample& first = sources.refused.front();
    warn("{} samples may not be trained on; the first: {} {}: {}\n{}", sources.refused.size(),
         first.source, first.id, first.reason, describe(sources.denials()));
  }
  for (const Origin& origin : judge_origins(present, rights.as_of)) {
    if (!origin.is_own && !origin.is_declared) warn("{}", describe(origin));
  }
  out.catalogues = catalogues(sources, config, geometry);
  for (const std::string& name : out.assumed) {
    warn("{} is not there: source {} is taken to hold {} samples, each of its stage's shape",
         config.sources.at(name).data.front(), name, config.sources.at(name).assume_samples);
    out.catalogues.push_back(assumed_catalogue(name, config));
  }
  std::sort(out.catalogues.begin(), out.catalogues.end(),
            [](const SourceCatalogue& a, const SourceCatalogue& b) { return a.name < b.name; });
  return out;
}

}  // namespace pendulum

// Opening sources.
#include "batch/sources.h"

#include <algorithm>
#include <map>

#include "core/error.h"
#include "rights/policy.h"

namespace pendulum {
namespace {

// Holds out the `count` samples with the smallest hashes: a rule that additions to the data hardly
// disturb. At most a tenth, so that small fine-tuning sets keep their samples.
void hold_out(OpenSource& source, int64_t count) {
  const std::vector<int64_t>& training = source.training;
  count = std::min<int64_t>(count, static_cast<int64_t>(training.size()) / 10);
  std::vector<int64_t> held = source.data.smallest_hashes(
      count, [&](int64_t i) { return std::binary_search(training.begin(), training.end(), i); });
  std::sort(held.begin(), held.end());
  std::vector<int64_t> kept;
  std::set_difference(training.begin(), training.end(), held.begin(), held.end(),
                      std::back_inserter(kept));
  source.training = std::move(kept);
  source.validation = std::move(held);
}

// By class of samples: what rights say is the same for all of one.
std::vector<Verdict> judge_classes(const Policy& policy, const PackedData& data) {
  std::vector<Verdict> verdicts;
  for (int c = 0; c < data.num_classes(); ++c) {
    const Sample sample = data.representative(c);
    verdicts.push_back(policy.judge(sample.rights()));
  }
  return verdicts;
}

// The deny-list names single samples, the policy judges classes of them.
Verdict judge(const PackedData& data, int64_t index, const std::vector<Verdict>& by_class,
              const DenyList& denied) {
  if (denied.size() > 0) {
    if (const auto verdict = denial(data.sample(index), denied)) return *verdict;
  }
  return by_class[data.class_of(index)];
}

}  // namespace

const OpenSource& Sources::operator[](const std::string& name) const {
  const auto found =
      std::find_if(open.begin(), open.end(), [&](const OpenSource& s) { return s.name == name; });
  check(found != open.end(), "the source is open: ", name);
  return *found;
}

Denials Sources::denials() const {
  Denials out;
  for (const RefusedSample& sample : refused) ++out[sample.rule];
  return out;
}

Sources open_sources(const Config& config, const FrozenRights& rights) {
  Sources sources;
  const Policy policy(config.rights, rights.as_of);
  for (const auto& [name, settings] : config.sources) {
    OpenSource source{name, PackedData::open(settings.data), {}, {}};
    const std::vector<Verdict> verdicts = judge_classes(policy, source.data);
    std::map<std::string, int> reasons;
    for (int64_t i = 0; i < source.data.size(); ++i) {
      const Verdict verdict = judge(source.data, i, verdicts, rights.denied);
      if (!verdict.allowed) {
        sources.refused.push_back({name, source.data.sample(i).id, verdict.reason, verdict.rule});
        ++reasons[verdict.reason];
      } else {
        (source.data.facts(i).is_validation ? source.validation : source.training).push_back(i);
      }
    }
    if (source.training.empty()) {
      const auto commonest = std::max_element(reasons.begin(), reasons.end(),
                                              [](auto& a, auto& b) { return a.second < b.second; });
      throw ConfigError(
          text("sources.", name, ": none of the ", source.data.size(), " samples of ",
               settings.data.front(), settings.data.size() > 1 ? " and others" : "",
               " may be trained on",
               commonest == reasons.end() ? "" : "; the commonest reason: " + commonest->first));
    }
    if (source.validation.empty()) hold_out(source, settings.validation);
    sources.open.push_back(std::move(source));
  }
  return sources;
}

SampleShape shape_of(const SampleFacts& sample, const StageConfig& stage) {
  return {sample.width, sample.height, clip_frames(sample, stage.shape.frames, stage.fps),
          sample.kind == MediaKind::still};
}

std::vector<SourceCatalogue> catalogues(const Sources& sources, const Config& config,
                                        const Geometry& geometry) {
  std::vector<SourceCatalogue> out;
  for (const OpenSource& source : sources.open) {
    SourceCatalogue catalogue{.name = source.name,
                              .digest = source.data.digest(),
                              .samples = source.training,
                              .parts = source.data.parts()};
    for (const StageConfig& stage : config.stages) {
      std::vector<int>& frames = catalogue.frames.emplace_back();
      std::vector<uint8_t>& sizes = catalogue.sizes.emplace_back();
      auto& fits = catalogue.fits.emplace_back();
      auto& refused = catalogue.refused.emplace_back();
      if (!stage.sources.contains(source.name)) continue;
      const StageConfig seen = stage.seen_by(source.name);
      const StageBuckets buckets(seen, geometry);
      for (const int64_t i : source.training) {
        const BucketChoice choice = buckets.choose(shape_of(source.data.facts(i), seen));
        frames.push_back(choice.shape.frames);
        sizes.push_back(choice.size);
        if (choice.shape.frames == 0) {
          ++refused[choice.refusal];
          continue;
        }
        BucketFit& fit = fits[choice.shape];
        fit.crop += choice.crop;
        fit.enlarged += choice.scale < 1;
      }
    }
    out.push_back(std::move(catalogue));
  }
  return out;
}

}  // namespace pendulum

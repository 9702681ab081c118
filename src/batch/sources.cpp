// Opening sources.
#include "batch/sources.h"

#include <algorithm>
#include <map>

#include "core/error.h"
#include "core/hash.h"
#include "rights/policy.h"

namespace pendulum {
namespace {

// Holds out the `count` samples with the smallest hashes: a rule that additions to the data hardly
// disturb. At most a tenth, so that small fine-tuning sets keep their samples.
void hold_out(OpenSource& source, int64_t count) {
  std::vector<int64_t> order = source.training;
  const auto hash = [&](int64_t i) { return hash_name(source.data.sample(i).id); };
  std::sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return hash(a) < hash(b); });
  order.resize(std::min<size_t>(count, order.size() / 10));
  std::sort(order.begin(), order.end());
  std::vector<int64_t> kept;
  std::set_difference(source.training.begin(), source.training.end(), order.begin(), order.end(),
                      std::back_inserter(kept));
  source.training = std::move(kept);
  source.validation = std::move(order);
}

}  // namespace

const OpenSource& Sources::operator[](const std::string& name) const {
  const auto found =
      std::find_if(open.begin(), open.end(), [&](const OpenSource& s) { return s.name == name; });
  check(found != open.end(), "the source is open: ", name);
  return *found;
}

Sources open_sources(const Config& config) {
  Sources sources;
  const Policy policy(config.rights);
  for (const auto& [name, settings] : config.sources) {
    OpenSource source{name, PackedData::open(settings.data), {}, {}};
    std::map<std::string, int> reasons;
    for (int64_t i = 0; i < source.data.size(); ++i) {
      const Sample& sample = source.data.sample(i);
      const Verdict verdict = policy.judge({sample.licence, sample.basis, sample.holder});
      if (!verdict.allowed) {
        sources.refused.push_back({name, sample.id, verdict.reason});
        ++reasons[verdict.reason];
      } else {
        (sample.split == "validation" ? source.validation : source.training).push_back(i);
      }
    }
    if (source.training.empty()) {
      const auto commonest = std::max_element(reasons.begin(), reasons.end(),
                                              [](auto& a, auto& b) { return a.second < b.second; });
      throw ConfigError(
          text("sources.", name, ": none of the ", source.data.size(), " samples of ",
               settings.data, " may be trained on",
               commonest == reasons.end() ? "" : "; the commonest reason: " + commonest->first));
    }
    if (source.validation.empty()) hold_out(source, settings.validation);
    sources.open.push_back(std::move(source));
  }
  return sources;
}

std::vector<SourceCatalogue> catalogues(const Sources& sources, const Config& config) {
  std::vector<SourceCatalogue> out;
  for (const OpenSource& source : sources.open) {
    SourceCatalogue catalogue{source.name, source.data.digest(), source.training, {}};
    for (const StageConfig& stage : config.stages) {
      std::vector<int>& frames = catalogue.frames.emplace_back();
      if (!stage.sources.contains(source.name)) continue;
      for (const int64_t i : source.training) {
        frames.push_back(clip_frames(source.data.sample(i), stage.shape.frames, stage.fps));
      }
    }
    out.push_back(std::move(catalogue));
  }
  return out;
}

}  // namespace pendulum

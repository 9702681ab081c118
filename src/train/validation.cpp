// Validation loss.
#include "train/validation.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/hash.h"
#include "core/random.h"

namespace pendulum {
namespace {

// Enough to fill the cores, little enough that the largest stage fits beside the training state.
constexpr int64_t kBatch = 8;

}  // namespace

double overall(const ValidationLoss& loss) {
  double sum = 0;
  int count = 0;
  for (const auto& [source, by_time] : loss) {
    for (const double value : by_time) {
      if (std::isfinite(value)) sum += value, ++count;
    }
  }
  return count == 0 ? std::numeric_limits<double>::quiet_NaN() : sum / count;
}

Validation::Validation(const Config& config, const Geometry& geometry, const Sources& sources,
                       const Embedder& embedder, Communicator& world)
    : config_(config), geometry_(geometry), sources_(sources), embedder_(embedder), world_(world) {}

ValidationLoss Validation::measure(const StageConfig& stage, const FlowMatching& objective,
                                   const Network& network, at::Device device,
                                   const SequenceGroup& group, const Withdrawals& withdrawals,
                                   const std::function<void()>& forwards_made) const {
  const at::NoGradGuard no_grad;
  const int num_times = std::size(kValidationTimes);
  std::map<std::string, at::Tensor> sums_by_source;
  for (const auto& [name, weight] : stage.sources) {
    const OpenSource& source = sources_[name];
    const int64_t limit =
        std::min<int64_t>(source.validation.size(), config_.sources.at(name).validation);
    // One row per time: sum of losses and number of samples. Samples of one shape share a batch.
    at::Tensor sums = at::zeros({num_times, 2}, at::kDouble);
    const StageConfig seen = stage.seen_by(name);
    const StageBuckets buckets(seen, geometry_);
    std::map<Shape, std::vector<int64_t>> by_shape;
    const int width = group.width();
    for (int64_t i = world_.rank() / width; i < limit; i += world_.size() / width) {
      const int64_t sample = source.validation[i];
      if (withdrawals.holds(name, sample)) continue;
      const Shape shape = buckets.choose(shape_of(source.data.facts(sample), seen)).shape;
      if (shape.frames > 0) by_shape[shape].push_back(sample);
    }
    for (const auto& [shape, samples] : by_shape) {
      const ClipRequest request{shape.frames, stage.fps, shape.height, shape.width};
      for (size_t begin = 0; begin < samples.size(); begin += kBatch) {
        std::vector<at::Tensor> latents;
        std::vector<Conditions> samples_conditions;
        std::vector<SampleKey> keys;
        for (size_t i = begin; i < std::min(samples.size(), begin + kBatch); ++i) {
          const uint64_t id = hash_name(source.data.sample(samples[i]).id);
          auto embedded =
              embedder_.embed(source.data, samples[i], request, 0, draw(Purpose::posterior, id));
          if (!std::holds_alternative<Embedded>(embedded)) continue;
          latents.push_back(std::get<Embedded>(embedded).latent);
          samples_conditions.push_back(std::get<Embedded>(embedded).conditions);
          keys.push_back({id, 0});
        }
        if (keys.empty()) continue;
        const at::Tensor latents_bcfhw = at::stack(latents).to(device);
        const Conditions conditions = stack(samples_conditions).to(device);
        for (int t = 0; t < num_times; ++t) {
          if (!objective.covers(kValidationTimes[t])) continue;
          const at::Tensor losses =
              objective.loss_at(network, latents_bcfhw, conditions, keys, kValidationTimes[t]);
          if (group.rank() != 0) continue;  // all of them hold the same losses
          sums[t][0] += losses.sum().to(at::kDouble).cpu();
          sums[t][1] += static_cast<double>(keys.size());
        }
      }
    }
    sums_by_source[name] = sums;
  }
  forwards_made();
  ValidationLoss loss;
  for (auto& [name, sums] : sums_by_source) {
    world_.all_reduce(sums, Reduce::sum).wait();
    std::vector<double> means;
    for (int t = 0; t < num_times; ++t)
      means.push_back(sums[t][0].item<double>() / sums[t][1].item<double>());
    loss[name] = std::move(means);
  }
  return loss;
}

}  // namespace pendulum

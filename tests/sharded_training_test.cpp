// A transformer trained with gradients and weights dealt over ranks: the gradients of plain sums in
// the order that is promised, to the bit, and no more memory than the level says.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <array>
#include <map>
#include <mutex>
#include <optional>
#include <set>

#include "attention/sequence_group.h"
#include "comm/loopback.h"
#include "core/error.h"
#include "core/random.h"
#include "counting_allocator.h"
#include "model/parameters.h"
#include "model/video_transformer.h"
#include "ops/random_tensor.h"
#include "optim/optimizer.h"
#include "shard/sharded_parameters.h"
#include "tensor_map.h"

namespace pendulum {
namespace {

using Policy = ActivationCheckpointing;
constexpr int kLayers = 3;
constexpr const char* kEverything = ".*";
constexpr const char* kAdapters = "adapters";

VideoTransformer random_model(Policy policy) {
  WanConfig config;
  config.layers = kLayers;
  config.heads = 2;
  config.head_dim = 12;
  config.ffn_dim = 40;
  config.freq_dim = 16;
  config.in_channels = config.out_channels = 3;
  config.text_dim = 10;
  VideoTransformer model(config, std::nullopt);
  randomise(model.parameters(), 5);
  model.set_activation_checkpointing(policy);
  return model;
}

// The loss of one batch. Batches differ; those of one key are the same.
at::Tensor loss(const VideoTransformer& model, uint64_t key, SequenceGroup* group = nullptr) {
  const at::Tensor latents = random_tensor({2, 3, 1, 4, 6}, draw(key, 1));
  const at::Tensor out = model.forward(latents, at::tensor({120.0F, 730.0F}),
                                       random_tensor({2, 4, 10}, draw(key, 2)), group);
  return (out * random_tensor(out.sizes(), draw(key, 3))).sum();
}

// What a rank works on in each pass of a step; nothing: an empty pass.
using Work = std::vector<std::optional<uint64_t>>;
Work work_of(int rank, int passes, int step) {
  Work work;
  for (int pass = 0; pass < passes; ++pass) {
    const bool is_idle = passes > 1 && (rank + pass + step) % 3 == 0;
    work.push_back(is_idle ? std::nullopt : std::optional(draw(rank, pass, step)));
  }
  return work;
}

struct ModelTraining {
  ModelTraining(Communicator& world, Sharding sharding, Policy policy,
                const std::string& trainable = kEverything,
                OptimizerKind kind = OptimizerKind::adamw)
      : model(random_model(policy)) {
    if (trainable == kAdapters) {
      model.add_adapters({.rank = 2, .alpha = 4, .targets = {"to_q", "net.2"}}, 3);
      randomise(model.trainable(), 7);
    } else {
      select_trainable(model.parameters(), trainable);
    }
    sharding.first_block = model.first_trained_block();
    weights.emplace(model.parameters(), world, sharding);
    if (weights->observes()) model.set_observer(weights->observer());
    optimizer.emplace(weights->owned(), kind, true);
  }
  void gradients(const Work& work, SequenceGroup* group = nullptr) {
    weights->zero_gradients();
    for (size_t pass = 0; pass < work.size(); ++pass) {
      weights->begin_pass(pass + 1 == work.size());
      if (work[pass]) {
        loss(model, *work[pass], group).backward();
      } else {
        weights->empty_pass();
      }
      weights->end_pass();
    }
    weights->finish_gradients();
  }
  void step(const Work& work, SequenceGroup* group = nullptr) {
    gradients(work, group);
    const OptimConfig config{.weight_decay = 0.1, .ema = 0.9};
    optimizer->step(config, 1e-2, 1 / (1 + weights->gradient_norm()));
    weights->gather();
  }
  VideoTransformer model;
  std::optional<ShardedParameters> weights;
  std::optional<Optimizer> optimizer;
};

struct TrainedModel {
  TensorMap parameters, state, average;  // collected
  std::vector<double> norms;             // of gradients and parameters, by rank
};

TrainedModel train_model(int size, Sharding sharding, Policy policy, int passes,
                         const std::string& trainable = kEverything,
                         OptimizerKind kind = OptimizerKind::adamw) {
  TrainedModel out;
  out.norms.resize(2 * size);
  run_loopback(size, [&](Communicator& world) {
    ModelTraining training(world, sharding, policy, trainable, kind);
    for (int step = 0; step < 3; ++step) training.step(work_of(world.rank(), passes, step));
    out.norms[2 * world.rank()] = training.weights->gradient_norm();
    out.norms[2 * world.rank() + 1] = training.weights->parameter_norm();
    const auto collect = [&](const NamedTensors& mine) {
      return copied(training.weights->collect(mine));
    };
    TrainedModel mine{collect(training.weights->held()),
                      collect(training.optimizer->state()),
                      collect(training.optimizer->average()),
                      {}};
    if (world.rank() != 0) return;
    out.parameters = std::move(mine.parameters);
    out.state = std::move(mine.state);
    out.average = std::move(mine.average);
  });
  return out;
}

void expect_same_run(const TrainedModel& found, const TrainedModel& want, const std::string& what) {
  expect_same(found.parameters, want.parameters, what);
  expect_same(found.state, want.state, what);
  expect_same(found.average, want.average, what);
  EXPECT_EQ(found.norms, want.norms) << what;
}

std::string words(int size, int level, Policy policy) {
  return text("level ", level, " on ", size, ", policy ", static_cast<int>(policy));
}

// The gradients of one batch, on a network that knows nothing of ranks.
TensorMap plain_gradients(const std::optional<uint64_t>& key) {
  const VideoTransformer model = random_model(Policy::none);
  if (key) loss(model, *key).backward();
  TensorMap out;
  for (const auto& [name, p] : model.parameters())
    out[name] = p.grad().defined() ? p.grad().clone() : at::zeros_like(p.detach());
  return out;
}

TensorMap sum(const std::vector<TensorMap>& terms) {
  TensorMap out = copied({terms[0].begin(), terms[0].end()});
  for (size_t i = 1; i < terms.size(); ++i) {
    for (auto& [name, tensor] : out) tensor.add_(terms[i].at(name));
  }
  return out;
}

// In the order of docs/numerics.md.
TensorMap promised_gradients(int size, const Sharding& sharding, int passes, int step) {
  const int ranks = sharding.ranks;
  std::vector<TensorMap> of_groups;
  for (int first = 0; first < size; first += ranks) {
    std::vector<std::vector<TensorMap>> terms(ranks);  // by rank and pass
    for (int r = 0; r < ranks; ++r) {
      for (const auto& key : work_of(first + r, passes, step))
        terms[r].push_back(plain_gradients(key));
    }
    std::vector<TensorMap> outer;
    if (sharding.level < 2) {
      for (const auto& of_rank : terms) outer.push_back(sum(of_rank));
    } else {
      for (int pass = 0; pass < passes; ++pass) {
        std::vector<TensorMap> of_pass;
        for (int r = 0; r < ranks; ++r) of_pass.push_back(terms[r][pass]);
        outer.push_back(sum(of_pass));
      }
    }
    of_groups.push_back(sum(outer));
  }
  return sum(of_groups);
}

class ShardedTraining : public testing::Test {
 protected:
  void SetUp() override { at::set_num_threads(1); }
};

TEST_F(ShardedTraining, GradientsAreSumsInThePromisedOrder) {
  for (const auto& [size, ranks] : {std::pair(2, 2), {3, 3}, {4, 2}, {4, 4}}) {
    for (const int level : {0, 1, 2, 3}) {
      const Sharding sharding{level, level == 0 ? 1 : ranks};
      const TensorMap want = promised_gradients(size, sharding, 3, 1);
      std::set<std::string> owned;
      std::mutex mutex;
      run_loopback(size, [&](Communicator& world) {
        ModelTraining training(world, sharding, Policy::none);
        training.gradients(work_of(world.rank(), 3, 1));
        const std::scoped_lock lock(mutex);
        for (const auto& [name, p] : training.weights->owned()) {
          owned.insert(name);
          EXPECT_TRUE(at::equal(p.grad(), want.at(name)))
              << "level " << level << " on " << size << " by " << ranks << ": " << name;
        }
      });
      EXPECT_EQ(owned.size(), want.size());
    }
  }
}

TEST_F(ShardedTraining, EqualsUnshardedTrainingToTheBit) {
  for (const int size : {2, 3, 4, 8}) {
    const TrainedModel want = train_model(size, {0, 1}, Policy::none, 1);
    for (const int level : {1, 2, 3})
      expect_same_run(train_model(size, {level, size}, Policy::none, 1), want,
                      words(size, level, Policy::none));
    for (const Policy policy : {Policy::selective, Policy::full})
      expect_same_run(train_model(size, {3, size}, policy, 1), want, words(size, 3, policy));
  }
}

TEST_F(ShardedTraining, LevelsAgreeOverSeveralUnevenPasses) {
  for (const int size : {2, 4}) {
    const TrainedModel plain = train_model(size, {0, 1}, Policy::none, 3);
    expect_same_run(train_model(size, {1, size}, Policy::full, 3), plain,
                    words(size, 1, Policy::full));
    const TrainedModel passes = train_model(size, {2, size}, Policy::none, 3);
    for (const Policy policy : {Policy::none, Policy::selective, Policy::full})
      expect_same_run(train_model(size, {3, size}, policy, 3), passes, words(size, 3, policy));
    // Another order of at most 3 x 4 terms.
    EXPECT_NEAR(passes.norms[1] / plain.norms[1], 1, 1e-5);
  }
}

TEST_F(ShardedTraining, DealsInsideGroups) {
  const TrainedModel want = train_model(4, {1, 2}, Policy::none, 1);
  for (const int level : {2, 3})
    expect_same_run(train_model(4, {level, 2}, Policy::full, 1), want,
                    words(4, level, Policy::full));
  for (int rank = 1; rank < 4; ++rank) {
    EXPECT_EQ(want.norms[2 * rank], want.norms[0]);
    EXPECT_EQ(want.norms[2 * rank + 1], want.norms[1]);
  }
}

TEST_F(ShardedTraining, TakesMuon) {
  const auto kind = OptimizerKind::muon;
  const TrainedModel want = train_model(4, {0, 1}, Policy::none, 1, kEverything, kind);
  for (const int level : {1, 2, 3})
    expect_same_run(train_model(4, {level, 4}, Policy::none, 1, kEverything, kind), want,
                    words(4, level, Policy::none));
}

// What is frozen is dealt as well but has neither gradient nor state: adapters over a base, one
// block alone, the last projection alone, which no block's backward pass serves.
TEST_F(ShardedTraining, TakesFrozenParameters) {
  for (const char* trainable :
       {kAdapters, ".*to_q.*", "blocks\\.1\\..*", "blocks\\.2\\.ffn.*", "proj_out.*", "patch.*"}) {
    const TrainedModel want = train_model(3, {0, 1}, Policy::none, 2, trainable);
    const TrainedModel level2 = train_model(3, {2, 3}, Policy::none, 2, trainable);
    expect_same_run(train_model(3, {1, 3}, Policy::full, 2, trainable), want, trainable);
    for (const Policy policy : {Policy::none, Policy::full})
      expect_same_run(train_model(3, {3, 3}, policy, 2, trainable), level2, trainable);
  }
}

// Pairs share a batch's tokens; the second pair has none in the first pass.
TEST_F(ShardedTraining, SharesSequences) {
  std::array<TensorMap, 4> by_level;
  for (const int level : {0, 1, 2, 3}) {
    run_loopback(4, [&](Communicator& world) {
      const auto members = world.split(world.rank() / 2, world.rank());
      SequenceGroup group(*members, 2);
      ModelTraining training(world, {level, level == 0 ? 1 : 4}, Policy::selective);
      const uint64_t key = world.rank() / 2;
      const Work first =
          world.rank() < 2 ? Work{draw(key, 0), draw(key, 1)} : Work{std::nullopt, draw(key, 1)};
      training.step(first, &group);
      training.step({draw(key, 2)}, &group);
      const TensorMap all = copied(training.weights->collect(training.weights->held()));
      if (world.rank() == 0) by_level[level] = all;
    });
  }
  expect_same(by_level[1], by_level[0], "level 1");
  expect_same(by_level[3], by_level[2], "level 3");
}

// Between steps every rank calls the network as often as it likes, with the averaged weights too.
TEST_F(ShardedTraining, ForwardsAloneMayDifferInNumber) {
  std::array<std::vector<at::Tensor>, 2> found;
  for (const int level : {0, 3}) {
    std::vector<at::Tensor>& outs = found[level / 3];
    outs.resize(12);
    run_loopback(3, [&](Communicator& world) {
      ModelTraining training(world, {level, level == 0 ? 1 : 3}, Policy::none);
      const auto forwards = [&](int first) {
        const at::NoGradGuard no_grad;
        for (int i = 0; i < world.rank() * 2; ++i)
          outs[first + world.rank() * (world.rank() - 1) + i] = loss(training.model, 100 + i);
        training.weights->finish_forwards();
      };
      training.step(work_of(world.rank(), 1, 0));
      forwards(0);
      {
        const AverageScope average(*training.optimizer);
        training.weights->gather();
        forwards(6);
      }
      training.weights->gather();
      training.step(work_of(world.rank(), 1, 1));
    });
  }
  for (size_t i = 0; i < 12; ++i) EXPECT_TRUE(at::equal(found[0][i], found[1][i])) << i;
  EXPECT_FALSE(at::equal(found[0][0], found[0][6]));
}

// Bytes that four ranks hold together when all have made what `until` says.
enum class Until { construction, forward, gradients };
int64_t bytes_held(int level, Until until) {
  const Counting counting;
  int64_t held = 0;
  run_loopback(4, [&](Communicator& world) {
    ModelTraining training(world, {level, level == 0 ? 1 : 4}, Policy::full);
    at::Tensor out;
    if (until == Until::forward) {
      training.weights->begin_pass(true);
      out = loss(training.model, 1);
    }
    if (until == Until::gradients) training.gradients({std::optional<uint64_t>(1)});
    world.barrier();
    if (world.rank() == 0) held = CountingAllocator::held;
    world.barrier();
    if (!out.defined()) return;
    out.backward();
    training.weights->end_pass();
    training.weights->finish_gradients();
  });
  return held;
}

TEST_F(ShardedTraining, HoldsWhatTheLevelSays) {
  int64_t all = 0, ends = 0, last = 0;
  const VideoTransformer model = random_model(Policy::none);
  for (const auto& [name, p] : model.parameters()) {
    const auto bytes = static_cast<int64_t>(p.nbytes());
    all += bytes;
    if (!name.starts_with("blocks.")) ends += bytes;
    if (name.starts_with(text("blocks.", kLayers - 1, "."))) last += bytes;
  }
  // Beside weights, two moments and the average: a step count and an index or two a rank.
  const int64_t small = 4 * 4096;
  // Four of everything; weights alone on all; one of everything.
  EXPECT_NEAR(bytes_held(0, Until::construction), 16 * all, small);
  EXPECT_NEAR(bytes_held(1, Until::construction), 7 * all, small);
  EXPECT_NEAR(bytes_held(2, Until::construction), 7 * all, small);
  EXPECT_NEAR(bytes_held(3, Until::construction), 4 * all, small);
  // Gradients, summed.
  EXPECT_NEAR(bytes_held(0, Until::gradients), 20 * all, small);
  EXPECT_NEAR(bytes_held(2, Until::gradients), 8 * all, small);
  EXPECT_NEAR(bytes_held(3, Until::gradients), 5 * all, small);
  // In the middle of a pass, what it begins and turns round with.
  const int64_t graph = bytes_held(2, Until::forward) - 7 * all;
  EXPECT_GT(graph, 0);
  EXPECT_NEAR(bytes_held(3, Until::forward), 4 * all + 3 * (ends + last) + graph, small);
}

}  // namespace
}  // namespace pendulum

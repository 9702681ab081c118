// What a process holds in training: by hand, and beside the bytes that a small model really holds.
#include "pendulum/memory.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "counting_allocator.h"
#include "model/geometry.h"
#include "model/video_transformer.h"
#include "optim/optimizer.h"
#include "plan_example.h"
#include "support.h"

namespace pendulum {
namespace {

constexpr OptimizerMemory kPlain{}, kAverage{.has_average = true};

// Wide and long enough that what the estimate leaves out is small.
WanConfig measured_wan() {
  WanConfig wan;
  wan.layers = 4;
  wan.heads = 4;
  wan.head_dim = 32;
  wan.ffn_dim = 512;
  wan.freq_dim = 64;
  wan.in_channels = wan.out_channels = 8;
  wan.text_dim = 64;
  return wan;
}

TEST(Memory, ActivationCheckpointingKeepsLess) {
  Geometry g = small_geometry();
  g.layers = 10;
  const auto bytes = [&](const char* policy) {
    g.activation_checkpointing = policy;
    return activation_bytes(g, {5, 16, 16}, 1, 1, 4);
  };
  const double row = 8 * 2 * 4;  // a number for every token and channel
  const double block = bytes("none") / 10;
  EXPECT_EQ(bytes("full"), 10 * row + block);
  EXPECT_EQ(bytes("selective"), 30 * row + block);
  g.offloads = true;
  EXPECT_EQ(bytes("full"), 2 * row + block);
  EXPECT_EQ(bytes("selective"), 22 * row + block);
  EXPECT_EQ(pass_memory(g, kPlain, {}, {5, 16, 16}, 3, 1, 4).host, 3 * 8 * row);
}

TEST(Memory, DealtStateHoldsLess) {
  Geometry g = small_geometry();
  const auto numbers = static_cast<double>(parameter_count(g));
  EXPECT_EQ(state_bytes(g, kAverage), 20 * numbers);  // weights, gradients, two moments, average
  EXPECT_EQ(state_bytes(g, kPlain), 16 * numbers);
  EXPECT_EQ(state_bytes(g, kAverage, {1, 4}), (8 + 3) * numbers);
  g.layers = 10;
  const auto many = static_cast<double>(parameter_count(g));
  const auto block = static_cast<double>(block_parameters(g));
  EXPECT_EQ(state_bytes(g, kAverage, {2, 4}), 4 * many + 16 * many / 4 + 4 * 2 * block);
  EXPECT_EQ(state_bytes(g, kAverage, {3, 4}),
            20 * many / 4 + 4 * (2 * block + many - 10 * block + 2 * block));
}

TEST(Memory, MomentsInEightBitsAndTheAverageElsewhere) {
  Geometry g = small_geometry();
  g.fp32_moments = 20;
  const auto numbers = static_cast<double>(parameter_count(g));
  ProcessMemory memory = state_memory(g, {.has_average = true, .has_8bit_moments = true});
  EXPECT_EQ(memory.moments, 8 * 20 + 2 * (1 + 4.0 / 256) * (numbers - 20));
  EXPECT_EQ(memory.average, 4 * numbers);
  EXPECT_EQ(memory.host, 0);
  memory = state_memory(g, {.has_average = true, .average_on_host = true}, {1, 2});
  EXPECT_EQ(memory.average, 0);
  EXPECT_EQ(memory.host, 2 * numbers);
  EXPECT_EQ(memory.state(), (4 + 4 + 4) * numbers);
}

TEST(Memory, MuonKeepsOneMomentOfHiddenMatrices) {
  Geometry g = small_geometry();
  const auto numbers = static_cast<double>(parameter_count(g));
  const OptimizerMemory muon{.is_muon = true};
  EXPECT_EQ(state_memory(g, muon).moments, 8 * numbers);
  g.hidden_matrices = 20;
  EXPECT_EQ(state_memory(g, muon).moments, 8 * (numbers - 20) + 4 * 20);
  EXPECT_EQ(state_memory(g, muon, {1, 4}).moments, (8 * (numbers - 20) + 4 * 20) / 4);
  EXPECT_EQ(state_memory(g, kPlain).moments, 8 * numbers);  // AdamW keeps both
  Config config = small_config();
  config.optim.kind = "muon";
  const Plan plan = make_plan(config, small_catalogues(), g);
  EXPECT_EQ(plan.memory({1, 16, 16}, 1, 1).moments, 8 * (numbers - 20) + 4 * 20);
}

// What the plan counts is what the optimiser holds, to the byte.
TEST(Memory, MomentsAreThoseOfTheOptimizer) {
  for (const char* kind : {"adamw", "adamw8bit", "muon"}) {
    for (const int rank : {0, 8}) {
      Config config;
      config.lora.rank = rank;
      VideoTransformer model(measured_wan(), 7);
      if (rank > 0) model.add_adapters(config.lora, 7);
      const Optimizer optimizer(select_trainable(model.trainable(), config.model.trainable),
                                parse_optimizer_kind(kind), false);
      double held = -8;  // the count of steps
      for (const auto& [name, tensor] : optimizer.state())
        held += static_cast<double>(tensor.nbytes());
      const Geometry g = geometry(config, {8, 4, 4}, measured_wan());
      const std::string named = kind;
      const OptimizerMemory memory{.has_8bit_moments = named == "adamw8bit",
                                   .is_muon = named == "muon"};
      EXPECT_EQ(state_memory(g, memory).moments, held) << kind << ", rank " << rank;
    }
  }
}

// Ten blocks, of each 50 numbers in frozen matrices; 4 numbers of an adapter train in each.
TEST(Memory, FrozenMatricesTakeWhatTheirStorageSays) {
  Geometry g = small_geometry();
  g.layers = 10;
  g.part = TrainedPart{.parameters = 40,
                       .adapters = 40,
                       .in_block = 4,
                       .frozen_in_block = 50,
                       .frozen_matrices = 500,
                       .forward = {},
                       .backward = {}};
  const auto all = static_cast<double>(parameter_count(g));
  const auto memory = [&](const Dealing& dealing = {}) {
    return state_memory(g, kAverage, dealing);
  };
  EXPECT_EQ(memory().weights, 4 * (all + 40));
  EXPECT_EQ(memory().gradients, 4 * 40);
  EXPECT_EQ(memory().moments, 8 * 40);
  EXPECT_EQ(memory().average, 4 * 40);
  const double kept = 4 * (all + 40 - 500);
  g.frozen_precision = "bf16";
  EXPECT_EQ(memory().weights, kept + 2 * 500);
  for (const char* eight : {"fp8", "int8"}) {
    g.frozen_precision = eight;
    EXPECT_EQ(memory().weights, kept + 500 * (1 + 4.0 / 64));
  }
  // Six blocks wait; two of them are here at a time.
  g.swap_blocks = 6;
  EXPECT_EQ(memory().weights, kept + 300 * (1 + 4.0 / 64));
  EXPECT_EQ(memory().host, 300 * (1 + 4.0 / 64));
  g.frozen_precision = "fp32";
  EXPECT_EQ(memory().weights, kept + 4 * 300);
  // Dealt are the parameters alone.
  EXPECT_LE(memory({3, 4}).weights, kept + 4 * 300);
  EXPECT_GE(memory({3, 4}).weights, kept / 4 + 4 * 300);
  EXPECT_EQ(memory({2, 4}).gradients, 4 * (40 / 4 + 2 * 4));
}

// Blocks that no gradient reaches keep nothing, and are not computed again.
TEST(Memory, ActivationsOfTheBlocksThatTrain) {
  Geometry g = small_geometry();
  g.layers = 10;
  const double all = activation_bytes(g, {5, 16, 16}, 1, 1, 4);
  g.part = TrainedPart{.parameters = 1, .first_block = 6, .forward = {}, .backward = {}};
  EXPECT_EQ(activation_bytes(g, {5, 16, 16}, 1, 1, 4), 0.4 * all);
  g.activation_checkpointing = "full";
  const double row = 8 * 2 * 4;
  EXPECT_EQ(activation_bytes(g, {5, 16, 16}, 1, 1, 4), 4 * row + all / 10);
  // In bf16, copies of frozen fp32 matrices: of the block that is computed again.
  g.part->frozen_in_block = 50;
  EXPECT_EQ(activation_bytes(g, {5, 16, 16}, 1, 1, 2), (4 * row + all / 10) / 2 + 2 * 50);
  g.activation_checkpointing = "none";
  EXPECT_EQ(activation_bytes(g, {5, 16, 16}, 1, 1, 2), 0.2 * all + 4 * 2 * 50);
  // Stored ones are restored one product at a time: query, key and value, 3 x 2 x 2.
  g.frozen_precision = "int8";
  EXPECT_EQ(activation_bytes(g, {5, 16, 16}, 1, 1, 2), 0.2 * all + 2 * 12);
  // An adapter beside the hidden layer: two more gradients of its 4 numbers.
  g.part->adapters = 1;
  EXPECT_EQ(activation_bytes(g, {5, 16, 16}, 1, 1, 2), 0.2 * all + 2 * 12 + 2 * 2 * 8 * 4);
}

constexpr int kMeasuredBatch = 1, kWords = 16;
constexpr Shape kMeasured{9, 96, 128};  // 3 x 12 x 16 tokens

struct MemoryCase {
  const char* name;
  const char* optimizer = "adamw";
  int rank = 0;
  const char* trainable = ".*";
  const char* frozen = "fp32";
};

// Values of weights that are stored are left as they come.
VideoTransformer model_of(const Config& config) {
  const WeightStorage storage = parse_weight_storage(config.model.frozen_precision);
  if (storage == WeightStorage::fp32) return {measured_wan(), 7};
  return {measured_wan(), storage};
}

// The most that a step holds, once the optimiser's state is there.
int64_t measured_bytes(const Config& config) {
  const Counting counting;
  const int64_t before = CountingAllocator::held;
  int64_t most = 0;
  {
    VideoTransformer model = model_of(config);
    if (config.lora.rank > 0) model.add_adapters(config.lora, 7);
    model.set_activation_checkpointing(
        parse_activation_checkpointing(config.model.activation_checkpointing));
    Optimizer optimizer(select_trainable(model.trainable(), config.model.trainable),
                        parse_optimizer_kind(config.optim.kind), true);
    const at::Tensor latents = random_tensor({kMeasuredBatch, 8, 3, 24, 32}, 1),
                     words = random_tensor({kMeasuredBatch, kWords, 64}, 2),
                     time = at::tensor({730.0F});
    for (int step = 0; step < 2; ++step) {
      CountingAllocator::peak = CountingAllocator::held.load();
      optimizer.zero_gradients();
      model.forward(latents, time, words).square().mean().backward();
      optimizer.step(config.optim, 1e-4, 1);
      most = CountingAllocator::peak - before;
    }
  }
  return most;
}

TEST(Memory, EstimateIsWithinAQuarterOfWhatIsHeld) {
  at::set_num_threads(1);
  const MemoryCase cases[] = {{"full training"},
                              {"full training", "adamw8bit"},
                              {"full training", "muon"},
                              {"adapters", "adamw", 8},
                              {"adapters", "adamw8bit", 8},
                              {"adapters", "muon", 8},
                              {"adapters beside int8", "adamw", 8, ".*", "int8"},
                              {"adapters beside bf16", "adamw", 8, ".*", "bf16"},
                              {"the last two blocks", "adamw", 0, "blocks\\.[23]\\..*"}};
  for (const MemoryCase& c : cases) {
    for (const char* policy : {"none", "full"}) {
      Config config;
      config.text.length = kWords;
      config.model.activation_checkpointing = policy;
      config.model.trainable = c.trainable;
      config.model.frozen_precision = c.frozen;
      config.lora.rank = c.rank;
      config.optim.kind = c.optimizer;
      const OptimizerMemory optimizer{.has_average = true,
                                      .has_8bit_moments = config.optim.kind == "adamw8bit",
                                      .is_muon = config.optim.kind == "muon"};
      const Geometry g = geometry(config, {8, 4, 4}, measured_wan());
      const ProcessMemory estimate = pass_memory(g, optimizer, {}, kMeasured, kMeasuredBatch, 1, 4);
      const double share = estimate.total() / static_cast<double>(measured_bytes(config));
      EXPECT_LE(share, 1.25) << c.name << ", " << c.optimizer << ", " << policy;
      EXPECT_GE(share, 0.75) << c.name << ", " << c.optimizer << ", " << policy;
    }
  }
}

}  // namespace
}  // namespace pendulum

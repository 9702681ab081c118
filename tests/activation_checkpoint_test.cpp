// Activation checkpointing: the same bits under every policy, less memory held, and attention not
// computed a second time where its result is kept.
#include "model/activation_checkpoint.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "attention/sequence_group.h"
#include "comm/loopback.h"
#include "core/error.h"
#include "core/hash.h"
#include "counting_allocator.h"
#include "model/video_transformer.h"
#include "support.h"

namespace pendulum {
namespace {

using Policy = ActivationCheckpointing;
constexpr Policy kPolicies[] = {Policy::none, Policy::selective, Policy::full};

constexpr int kLayers = 4;
constexpr int64_t kBatch = 2, kTokens = 384;  // latents 4 x 16 x 24

VideoTransformer model_with(Policy policy) {
  WanConfig config;
  config.layers = kLayers;
  config.heads = 4;
  config.head_dim = 12;
  config.ffn_dim = 96;
  config.freq_dim = 16;
  config.in_channels = config.out_channels = 3;
  config.text_dim = 10;
  VideoTransformer model(config, 5);
  const at::NoGradGuard no_grad;
  for (const auto& [name, parameter] : model.parameters())  // no path is switched off by a zero
    at::Tensor(parameter).add_(0.1 * random_tensor(parameter.sizes(), hash_name(name)));
  model.set_activation_checkpointing(policy);
  return model;
}

struct Case {
  bool per_token = false;
  bool offloads = false;
  at::ScalarType compute = at::kFloat;
};

// The output, and the gradients of latents, text and parameters.
std::vector<at::Tensor> checkpointed_pass(Policy policy, const Case& c,
                                          SequenceGroup* group = nullptr) {
  VideoTransformer model = model_with(policy);
  model.set_compute(c.compute);
  model.set_offload(c.offloads);
  at::Tensor latents = random_tensor({kBatch, 3, 4, 16, 24}, 1).requires_grad_(true);
  at::Tensor text_states = random_tensor({kBatch, 5, 10}, 2).requires_grad_(true);
  const at::Tensor time = c.per_token ? at::linspace(1, 999, kBatch * kTokens).view({kBatch, -1})
                                      : at::tensor({120.0F, 730.0F});
  const at::Tensor out = model.forward(latents, time, text_states, group);
  out.backward(random_tensor(out.sizes(), 3));
  std::vector<at::Tensor> results{out.detach(), latents.grad(), text_states.grad()};
  for (const auto& [name, parameter] : model.parameters()) results.push_back(parameter.grad());
  return results;
}

TEST(ActivationCheckpointing, GivesTheSameBits) {
  for (const Case& c : {Case{}, Case{.per_token = true}, Case{.compute = at::kBFloat16}}) {
    const auto want = checkpointed_pass(Policy::none, c);
    for (const Policy policy : kPolicies) {
      for (const bool offloads : {false, true}) {
        Case how = c;
        how.offloads = offloads;
        const auto found = checkpointed_pass(policy, how);
        ASSERT_EQ(found.size(), want.size());
        for (size_t i = 0; i < want.size(); ++i) {
          EXPECT_TRUE(at::equal(found[i], want[i]))
              << static_cast<int>(policy) << (offloads ? ", offloaded" : "") << ", result " << i;
        }
      }
    }
  }
}

// Only the last projection trains: no block has a gradient to compute.
TEST(ActivationCheckpointing, TakesBlocksWithoutGradients) {
  for (const Policy policy : kPolicies) {
    const VideoTransformer model = model_with(policy);
    for (const auto& [name, parameter] : model.parameters())
      at::Tensor(parameter).set_requires_grad(name == "proj_out.bias");
    model
        .forward(random_tensor({1, 3, 1, 4, 4}, 1), at::full({1}, 300.0F),
                 random_tensor({1, 5, 10}, 2))
        .sum()
        .backward();
    for (const auto& [name, parameter] : model.parameters())
      EXPECT_EQ(parameter.grad().defined(), name == "proj_out.bias") << name;
  }
}

// Bytes that the graph of a forward pass holds.
int64_t bytes_held(Policy policy, bool offloads = false) {
  const Counting counting;
  int64_t held = 0;
  {
    VideoTransformer model = model_with(policy);
    model.set_offload(offloads);
    const at::Tensor latents = random_tensor({kBatch, 3, 4, 16, 24}, 1);
    const at::Tensor time = at::tensor({120.0F, 730.0F}), words = random_tensor({kBatch, 5, 10}, 2);
    const int64_t start = CountingAllocator::held;
    const at::Tensor out = model.forward(latents, time, words);
    held = CountingAllocator::held - start;
  }
  return held;
}

TEST(ActivationCheckpointing, HoldsWhatThePolicySays) {
  const int64_t row = kBatch * kTokens * 48 * 4;        // a number for every token and channel
  const int64_t statistics = kBatch * kTokens * 4 * 4;  // log-sum-exp of one attention
  const int64_t none = bytes_held(Policy::none);
  const int64_t selective = bytes_held(Policy::selective);
  const int64_t full = bytes_held(Policy::full);
  // Outside the blocks all policies hold the same few rows: patches, last norm, output.
  const int64_t outside = 5 * row;
  EXPECT_LE(full, kLayers * row + outside);
  EXPECT_GE(full, kLayers * row);
  EXPECT_LE(selective, kLayers * (3 * row + 2 * statistics) + outside);
  EXPECT_GE(selective, kLayers * (3 * row + 2 * statistics));
  EXPECT_GE(none, kLayers * 10 * row);
  // On a CPU the copies take what the inputs took, and nothing else still holds those.
  EXPECT_LE(bytes_held(Policy::full, true), full + row);
}

TEST(HostStore, FetchesWhatComesNext) {
  HostStore store;
  std::vector<at::Tensor> put;
  for (uint64_t i = 0; i < 5; ++i) {
    put.push_back(random_tensor({3, 7}, i));
    EXPECT_EQ(store.put(put.back()), i);
  }
  put.push_back(random_tensor({7, 3}, 9).t());  // strides are not kept
  EXPECT_EQ(store.put(put.back()), 5U);
  EXPECT_EQ(store.fetched(), 0);
  for (size_t i = put.size(); i-- > 0;) {
    EXPECT_TRUE(at::equal(store.take(i), put[i])) << i;
    EXPECT_EQ(store.fetched(), i > 0 ? 1 : 0);  // the one before, ahead of its use
  }
  EXPECT_THROW(store.take(2), Error);
}

TEST(ActivationCheckpointing, GivesTheSameBitsOnSeveralRanks) {
  for (const int ulysses : {1, 2, 4}) {
    std::vector<std::vector<at::Tensor>> want(4);
    for (const Policy policy : kPolicies) {
      run_loopback(4, [&](Communicator& members) {
        SequenceGroup group(members, ulysses);
        const auto found = checkpointed_pass(policy, {}, &group);
        auto& mine = want[members.rank()];
        if (policy == Policy::none) mine = found;
        for (size_t i = 0; i < mine.size(); ++i)
          EXPECT_TRUE(at::equal(found[i], mine[i])) << "Ulysses " << ulysses << ", result " << i;
      });
    }
  }
}

TEST(ActivationCheckpointing, SelectiveDoesNotWalkTheRingAgain) {
  std::vector<int64_t> sent;
  std::vector<std::vector<at::Tensor>> results;
  for (const Policy policy : kPolicies) {
    int64_t bytes = 0;
    std::vector<at::Tensor> found;
    run_loopback(2, [&](Communicator& members) {
      SequenceGroup group(members, 1);
      auto mine = checkpointed_pass(policy, {}, &group);
      if (members.rank() != 0) return;
      bytes = group.traffic().ring;
      found = std::move(mine);
    });
    sent.push_back(bytes);
    results.push_back(found);
    for (size_t i = 0; i < found.size(); ++i)
      EXPECT_TRUE(at::equal(found[i], results[0][i])) << "result " << i;
  }
  const int64_t forward = kLayers * 2 * kBatch * kTokens / 2 * 48 * 4;  // keys and values, one pass
  EXPECT_EQ(sent[1], sent[0]);
  EXPECT_EQ(sent[2], sent[0] + forward);
}

}  // namespace
}  // namespace pendulum

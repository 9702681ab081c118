// A transformer whose tokens lie on several ranks equals the transformer on one: output, and the
// gradients of every parameter and of the inputs, at all widths and layouts.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "attention/slot_groups.h"
#include "comm/loopback.h"
#include "core/error.h"
#include "model/parameters.h"
#include "model/video_transformer.h"
#include "ops/random_tensor.h"

namespace pendulum {
namespace {

struct ModelCase {
  int heads = 4;
  std::array<int64_t, 3> latent{3, 6, 10};  // 3 x 3 x 5 = 45 tokens
  bool per_token_time = false;
  at::ScalarType type = at::kDouble;
};

std::unique_ptr<VideoTransformer> random_model(const ModelCase& c) {
  WanConfig config;
  config.layers = 2;
  config.heads = c.heads;
  config.head_dim = 12;
  config.ffn_dim = 40;
  config.freq_dim = 16;
  config.in_channels = config.out_channels = 3;
  config.text_dim = 10;
  auto model = std::make_unique<VideoTransformer>(config, 5, c.type);
  randomise(model->parameters(), 5);
  return model;
}

// Output, and the gradients of latents, text and every parameter; with a group this rank's part.
std::vector<at::Tensor> forward_and_backward(const ModelCase& c, SequenceGroup* group) {
  const auto model = random_model(c);
  const auto [f, h, w] = c.latent;
  at::Tensor latents = random_tensor({2, 3, f, h, w}, 1, c.type).requires_grad_(true);
  at::Tensor text_states = random_tensor({2, 5, 10}, 2, c.type).requires_grad_(true);
  const int64_t tokens = f * (h / 2) * (w / 2);
  const at::Tensor time = c.per_token_time
                              ? at::arange(2 * tokens, at::kFloat).view({2, tokens}) * 3.1
                              : at::tensor({120.0F, 730.0F});
  const at::Tensor out = model->forward(latents, time, text_states, group);
  out.backward(random_tensor(out.sizes(), 3, c.type));
  std::vector<at::Tensor> results{out.detach(), latents.grad(), text_states.grad()};
  for (const auto& [name, parameter] : model->parameters()) results.push_back(parameter.grad());
  return results;
}

std::vector<at::Tensor> summed_over(SequenceGroup& group, std::vector<at::Tensor> results) {
  for (size_t i = 1; i < results.size(); ++i) {
    results[i] = results[i].contiguous();
    group.members().all_reduce(results[i]).wait();
  }
  return results;
}

double distance(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kDouble) - b.to(at::kDouble)).norm().item<double>();
}

// fp64: 1e-12 of each tensor's norm. fp32: twice the error of one rank, and 4 eps of the largest
// element for each.
void expect_equal(const std::vector<at::Tensor>& found, const std::vector<at::Tensor>& exact,
                  const std::vector<at::Tensor>& one_rank, const std::string& what) {
  constexpr double kEps = 1.2e-7;
  for (size_t i = 0; i < exact.size(); ++i) {
    const double norm = exact[i].norm().item<double>();
    const double most = exact[i].abs().max().item<double>() * std::sqrt(exact[i].numel());
    const double bound = found[i].scalar_type() == at::kDouble
                             ? 1e-12 * norm
                             : 2 * distance(one_rank[i], exact[i]) + 4 * kEps * most;
    EXPECT_GT(norm, 0) << what << ", result " << i;
    EXPECT_LE(distance(found[i], exact[i]), bound) << what << ", result " << i;
  }
}

void compare(int ranks, const std::vector<int>& ulysses_parts, const ModelCase& c) {
  ModelCase wide = c;
  wide.type = at::kDouble;
  const auto exact = forward_and_backward(wide, nullptr);
  const auto one_rank = forward_and_backward(c, nullptr);
  run_loopback(ranks, [&](Communicator& members) {
    for (const int u : ulysses_parts) {
      SequenceGroup group(members, u);
      const auto found = summed_over(group, forward_and_backward(c, &group));
      expect_equal(found, exact, one_rank, text(ranks, " ranks, Ulysses part ", u));
    }
  });
}

class ShardedModel : public testing::Test {
 protected:
  void SetUp() override { at::set_num_threads(1); }
};

TEST_F(ShardedModel, EqualsOneRankInFp64) {
  compare(1, {1}, {});
  compare(2, {1, 2}, {});
  compare(3, {1, 3}, {.heads = 6});
  compare(4, {1, 2, 4}, {});
  compare(8, {1, 2, 4, 8}, {.heads = 8});
}

TEST_F(ShardedModel, EqualsOneRankInFp32) {
  for (const int ranks : {2, 4, 8}) compare(ranks, {1, 2}, {.type = at::kFloat});
}

TEST_F(ShardedModel, TakesATimeForEveryToken) { compare(4, {1, 2, 4}, {.per_token_time = true}); }

// 2 tokens on 4 ranks, 5 on 4: some ranks hold padding alone.
TEST_F(ShardedModel, TakesFewerTokensThanRanks) {
  compare(4, {1, 2, 4}, {.latent = {1, 2, 4}});
  compare(4, {1, 2, 4}, {.latent = {5, 2, 2}, .per_token_time = true});
}

TEST(SlotGroups, MakesAGroupForEveryWidth) {
  run_loopback(8, [](Communicator& world) {
    const SlotGroups groups(world, 4, {2, 4, 8, 1}, 6);
    EXPECT_EQ(groups.widths(), (std::vector<int>{1, 2, 4}));
    EXPECT_EQ(groups.of(2).rank(), world.rank() % 2);
    EXPECT_EQ(groups.of(8).width(), 4);  // the plan's slot is larger than ours
    EXPECT_EQ(groups.of(4).ulysses().size(), 2);
    EXPECT_EQ(groups.of(4).ring().size(), 2);
    const at::Tensor ranks = at::full({1}, world.rank(), at::kLong);
    groups.of(4).members().all_reduce(ranks).wait();
    EXPECT_EQ(ranks.item<int64_t>(), world.rank() < 4 ? 6 : 22);
  });
}

}  // namespace
}  // namespace pendulum

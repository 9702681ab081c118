// Attention over several ranks, as threads of one process.
#include "attention/distributed_attention.h"

#include <ATen/Context.h>

#include "attention_cases.h"
#include "comm/loopback.h"
#include "core/error.h"

namespace pendulum {
namespace {

// Memory that nobody wrote is NaN: a receive buffer that is read too early shows.
class DistributedAttention : public testing::Test {
 protected:
  void SetUp() override {
    at::globalContext().setDeterministicAlgorithms(true, true);
    at::globalContext().setDeterministicFillUninitializedMemory(true);
    ASSERT_TRUE(std::isnan(at::empty({1}, at::kFloat).item<float>()));
  }
  void TearDown() override { at::globalContext().setDeterministicAlgorithms(false, false); }

  static void on_ranks(const std::vector<int>& sizes, const AttentionCase& c) {
    for (const int ranks : sizes)
      run_loopback(ranks, [&](Communicator& group) { check_all_layouts(group, c); });
  }
};

TEST_F(DistributedAttention, EqualsOneRankInEveryLayout) {
  on_ranks({1, 2, 3, 4, 8}, {.heads = 24});
  on_ranks({16}, {.batch = 1, .tokens = 53, .heads = 16, .head_dim = 8});
}

TEST_F(DistributedAttention, TakesAnyNumberOfTokens) {
  // Fewer tokens than ranks: some hold padding alone.
  for (const int64_t tokens : {1, 2, 5, 8, 9, 64, 67}) {
    on_ranks({4}, {.tokens = tokens});
    on_ranks({4}, {.batch = 1, .tokens = tokens});
  }
}

// What the exchange leaves in memory that the next one takes is in no result and in no graph: two
// passes whose graphs live side by side, and whose backward passes come after both.
TEST_F(DistributedAttention, GraphsOutliveTheMemoryOfTheExchange) {
  for (const int64_t batch : {1, 2}) {
    for (const int64_t tokens : {3, 37, 40}) {
      const AttentionCase c{.batch = batch, .tokens = tokens};
      const auto inputs = attention_inputs(c);
      run_loopback(4, [&](Communicator& members) {
        SequenceGroup group(members, 2);
        const int64_t per_rank = group.tokens_per_rank(tokens);
        const auto leaves_of = [&](double scale) {
          std::vector<at::Tensor> leaves;
          for (int i = 0; i < 3; ++i)
            leaves.push_back(
                shard(inputs[i] * scale, members.rank(), per_rank).requires_grad_(true));
          return leaves;
        };
        const at::Tensor dout = shard(inputs[3], members.rank(), per_rank).flatten(2);
        const auto attend = [&](const std::vector<at::Tensor>& x) {
          return distributed_attention(x[0], x[1], x[2], group, tokens);
        };
        std::vector<std::vector<at::Tensor>> want;
        for (const double scale : {1.0, 0.5}) {
          const auto leaves = leaves_of(scale);
          want.push_back({attend(leaves)});
          want.back()[0].backward(dout);
          for (const at::Tensor& x : leaves) want.back().push_back(x.grad());
          for (at::Tensor& x : want.back()) x = x.detach().clone();
        }
        const auto first = leaves_of(1.0), second = leaves_of(0.5);
        const at::Tensor out_first = attend(first), out_second = attend(second);
        out_first.backward(dout);
        out_second.backward(dout);
        EXPECT_TRUE(at::equal(out_first, want[0][0]) && at::equal(out_second, want[1][0]));
        for (size_t i = 0; i < 3; ++i) {
          EXPECT_TRUE(at::equal(first[i].grad(), want[0][i + 1]));
          EXPECT_TRUE(at::equal(second[i].grad(), want[1][i + 1]));
        }
      });
    }
  }
}

TEST_F(DistributedAttention, SinglePrecisionIsAsGoodAsOneRank) {
  for (const int64_t tokens : {64, 192, 1000, 1216})
    on_ranks({2, 4},
             {.batch = 1, .tokens = tokens, .heads = 4, .head_dim = 32, .type = at::kFloat});
}

TEST_F(DistributedAttention, Bfloat16IsAsGoodAsOneRank) {
  on_ranks({2, 3, 4, 8}, {.tokens = 130, .heads = 12, .type = at::kBFloat16});
}

TEST_F(DistributedAttention, LogSumExpMayBeFarFromZero) {
  for (const double shift : {-100.0, 100.0}) {
    on_ranks({4}, {.shift = shift});
    on_ranks({4}, {.tokens = 192, .type = at::kFloat, .shift = shift});
  }
}

// The root of the squared error of each result over all ranks of a ring.
std::vector<double> ring_errors(int ranks, const AttentionCase& c) {
  const auto inputs = attention_inputs(c);
  const auto exact = exact_attention(inputs);
  std::vector<std::vector<double>> squares(ranks, std::vector<double>(4));
  run_loopback(ranks, [&](Communicator& members) {
    SequenceGroup group(members, 1);
    const auto found = shards_of_attention(members, group, c, inputs);
    const auto want = real_shards(exact, members.rank(), group.tokens_per_rank(c.tokens));
    for (size_t i = 0; i < 4; ++i)
      squares[members.rank()][i] =
          (found[i].to(at::kDouble) - want[i]).square().sum().item<double>();
  });
  std::vector<double> roots;
  for (size_t i = 0; i < 4; ++i) {
    double sum = 0;
    for (const auto& rank : squares) sum += rank[i];
    roots.push_back(std::sqrt(sum));
  }
  return roots;
}

// With bf16 inputs every block's part is rounded, but their sums are not.
TEST_F(DistributedAttention, ErrorDoesNotGrowWithTheRing) {
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    const AttentionCase c{.batch = 1, .tokens = 1024, .heads = 2, .head_dim = 32, .type = type};
    const auto two = ring_errors(2, c), eight = ring_errors(8, c);
    for (size_t i = 0; i < 4; ++i)
      EXPECT_LE(eight[i] / two[i], 1.5) << c10::toString(type) << ", result " << i;
  }
}

TEST_F(DistributedAttention, SendsWhatTheFormulasSay) {
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    for (const int ranks : {1, 4, 8}) {
      run_loopback(ranks, [&](Communicator& members) {
        for (const int u : {1, 2, 4}) {
          if (members.size() % u == 0) check_traffic(members, u, {.tokens = 40, .type = type});
        }
      });
    }
  }
}

TEST(SequenceGroup, ChoosesTheLargestUlyssesPart) {
  EXPECT_EQ(ulysses_part(8, 12), 4);
  EXPECT_EQ(ulysses_part(8, 24), 8);
  EXPECT_EQ(ulysses_part(8, 40), 8);
  EXPECT_EQ(ulysses_part(6, 4), 2);
  EXPECT_EQ(ulysses_part(7, 12), 1);
}

TEST(SequenceGroup, RefusesWhatDoesNotDivide) {
  run_loopback(4, [](Communicator& members) {
    EXPECT_THROW(SequenceGroup(members, 3), ConfigError);
    SequenceGroup group(members, 4);
    const at::Tensor x = at::zeros({1, 2, 6, 8});
    try {
      distributed_attention(x, x, x, group, 8);
      ADD_FAILURE() << "6 heads on a Ulysses part of 4";
    } catch (const ConfigError& e) {
      EXPECT_NE(std::string(e.what()).find("2 is the largest that does"), std::string::npos)
          << e.what();
    }
  });
}

}  // namespace
}  // namespace pendulum

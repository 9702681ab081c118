// Attention and attention over several ranks on one GPU, the ranks as threads: what NCCL refuses is
// tested on the real kernels all the same. Skipped where there is no device.
#include <ATen/Context.h>
#include <ATen/detail/CUDAHooksInterface.h>

#include "attention_cases.h"
#include "comm/loopback.h"
#include "comm/staged_communicator.h"
#include "communicator_cases.h"
#include "ops/merge_attention.h"

namespace pendulum {
namespace {

class GpuAttention : public testing::Test {
 protected:
  void SetUp() override {
    if (!at::hasCUDA() || at::detail::getCUDAHooks().getNumGPUs() == 0)
      GTEST_SKIP() << "no CUDA device";
    // Memory that nobody wrote is NaN.
    at::globalContext().setDeterministicAlgorithms(true, true);
    at::globalContext().setDeterministicFillUninitializedMemory(true);
  }
  void TearDown() override { at::globalContext().setDeterministicAlgorithms(false, false); }

  static void on_ranks(const std::vector<int>& sizes, AttentionCase c) {
    c.device = at::kCUDA;
    for (const int ranks : sizes)
      run_loopback(ranks, [&](Communicator& group) { check_all_layouts(group, c); });
  }
};

TEST_F(GpuAttention, DoublePrecisionEqualsOneRankInEveryLayout) {
  on_ranks({1, 2, 4, 8}, {.heads = 24});
  on_ranks({4}, {.tokens = 5});
}

TEST_F(GpuAttention, Bfloat16IsAsGoodAsOneRank) {
  for (const int64_t head_dim : {64, 128}) {
    on_ranks({1, 2, 4},
             {.batch = 1, .tokens = 512, .heads = 4, .head_dim = head_dim, .type = at::kBFloat16});
    on_ranks({2, 3, 4}, {.tokens = 190, .heads = 12, .head_dim = head_dim, .type = at::kBFloat16});
  }
}

// Heads that cuDNN and flash attention do not take, and whose rows our kernels do not merge.
TEST_F(GpuAttention, HeadsOfOddSizes) {
  for (const int64_t head_dim : {18, 20})
    on_ranks({1, 2, 3}, {.heads = 6, .head_dim = head_dim, .type = at::kBFloat16});
}

TEST_F(GpuAttention, LogSumExpMayBeFarFromZero) {
  for (const double shift : {-100.0, 100.0})
    on_ranks({2, 4},
             {.batch = 1, .tokens = 192, .head_dim = 64, .type = at::kBFloat16, .shift = shift});
}

// The communicator's own cases, over tensors on the GPU.
TEST_F(GpuAttention, LoopbackCarriesGpuTensors) {
  for (const int ranks : {1, 2, 3}) {
    run_loopback(ranks, [](Communicator& group) {
      const auto on_gpu = staged_communicator(group, at::kCUDA);
      check_reductions(*on_gpu);
      check_movement(*on_gpu);
      check_overlap(*on_gpu);
    });
  }
}

// Ranks whose processes share a GPU.
TEST_F(GpuAttention, GpuTensorsThroughTheHost) {
  run_loopback(2, [](Communicator& group) {
    const auto through_host = staged_communicator(group, at::kCPU);
    const at::Tensor x = numbers(group.rank(), 1000, at::kFloat).to(at::kCUDA);
    through_host->all_reduce(x).wait();
    EXPECT_TRUE(at::equal(x.cpu(), expected_reduction(group, 1000, at::kFloat, Reduce::sum)));
  });
}

}  // namespace
}  // namespace pendulum

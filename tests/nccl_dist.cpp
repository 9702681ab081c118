// The NCCL communicator, really under mpirun, a GPU a rank. Skipped where there are fewer GPUs.
#include <ATen/Context.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/DeviceGuard.h>

#include <iostream>

#include "attention_cases.h"
#include "comm/nccl_communicator.h"
#include "comm/staged_communicator.h"
#include "comm/watchdog.h"
#include "communicator_cases.h"
#include "dist_support.h"

namespace pendulum {
namespace {

class Nccl : public testing::Test {
 protected:
  void SetUp() override {
    const int gpus = at::hasCUDA() ? at::detail::getCUDAHooks().getNumGPUs() : 0;
    if (gpus < test_world().size()) GTEST_SKIP() << "no CUDA device for every rank";
    device_ = at::Device(at::kCUDA, static_cast<at::DeviceIndex>(test_world().rank()));
    current_.reset_device(device_);  // as the program's own start does
    nccl_ = nccl_communicator(test_world(), device_, watchdog_);
    // The cases make CPU tensors: over NCCL they travel as copies on the GPU.
    staged_ = staged_communicator(*nccl_, device_);
  }

  Watchdog watchdog_{test_world().rank(), std::chrono::seconds(60)};
  at::Device device_ = at::kCPU;
  c10::OptionalDeviceGuard current_;
  std::unique_ptr<Communicator> nccl_, staged_;
};

TEST_F(Nccl, Reductions) { check_reductions(*staged_); }
TEST_F(Nccl, Movement) { check_movement(*staged_); }
TEST_F(Nccl, Transposes) { check_transposes(*staged_); }
TEST_F(Nccl, Overlap) { check_overlap(*staged_); }
TEST_F(Nccl, Splits) { check_splits(*staged_); }

TEST_F(Nccl, CpuTensorsGoOverMpi) { check_movement(*nccl_); }

TEST_F(Nccl, OtherCallsAreNoticedAtABarrier) {
  if (nccl_->size() == 1) return;
  const at::Tensor x = at::zeros({4});
  // The same exchange by MPI, and still another call.
  if (nccl_->rank() == 0) {
    nccl_->broadcast(x, 0).wait();
  } else {
    test_world().broadcast(x, 0).wait();
  }
  EXPECT_NE(failure_of([&] { nccl_->barrier(); }).find("other calls"), std::string::npos);
}

TEST_F(Nccl, Buffers) { check_buffers(*nccl_, device_); }

// As long messages as ZeRO's windows are, from memory that NCCL has registered where it does, and
// from any: three rounds, the last ones from memory that was used before.
TEST_F(Nccl, RegisteredMemoryGivesTheSameBits) {
  const int64_t count = (int64_t{4} << 20) + 13;
  const auto options = at::TensorOptions().device(device_).dtype(at::kFloat);
  CollectiveBuffer gathered(*nccl_, CallKind::all_gather);
  CollectiveBuffer sent(*nccl_, CallKind::all_to_all), received(*nccl_, CallKind::all_to_all);
  for (int round = 0; round < 3; ++round) {
    const at::Tensor mine = numbers(nccl_->rank(), count, at::kFloat, round).to(device_);
    const at::Tensor all = at::full({nccl_->size(), count}, NAN, options);
    nccl_->all_gather(mine, all).wait();
    const at::Tensor back = at::full_like(all, NAN);
    nccl_->all_to_all(all, back).wait();

    const at::Tensor window = gathered.take(all.sizes(), options);
    window[nccl_->rank()].copy_(mine);
    nccl_->all_gather(window[nccl_->rank()], window).wait();
    EXPECT_TRUE(at::equal(window, all));
    const at::Tensor out = sent.take(all.sizes(), options).copy_(all);
    const at::Tensor in = received.take(all.sizes(), options);
    nccl_->all_to_all(out, in).wait();
    EXPECT_TRUE(at::equal(in, back));
    window.fill_(NAN);
    in.fill_(NAN);
  }
  if (nccl_->rank() == 0)
    std::cout << "registered memory of " << nccl_->size()
              << " ranks: " << (gathered.is_kept() ? "granted" : "refused") << " for gathers, "
              << (received.is_kept() ? "granted" : "refused") << " for exchanges" << std::endl;
}

TEST_F(Nccl, AttentionEqualsOneRankInEveryLayout) {
  check_all_layouts(*nccl_, {.heads = 24, .device = device_});
  check_all_layouts(
      *nccl_,
      {.batch = 1, .tokens = 700, .head_dim = 128, .type = at::kBFloat16, .device = device_});
}

}  // namespace
}  // namespace pendulum

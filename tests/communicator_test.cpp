// Tests of the communicator on threads, of its failures, and of the watchdog.
#include "comm/communicator.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <iostream>
#include <latch>
#include <thread>

#include "child_process.h"
#include "comm/loopback.h"
#include "comm/staged_communicator.h"
#include "comm/watchdog.h"
#include "communicator_cases.h"
#include "core/error.h"

namespace pendulum {
namespace {

using std::chrono::milliseconds;

void on_ranks(void (*body)(Communicator&)) {
  for (const int ranks : {1, 2, 3, 4, 8}) run_loopback(ranks, body);
}

TEST(Loopback, Reductions) { on_ranks(check_reductions); }
TEST(Loopback, Movement) { on_ranks(check_movement); }
TEST(Loopback, Transposes) { on_ranks(check_transposes); }
TEST(Loopback, Overlap) { on_ranks(check_overlap); }
TEST(Loopback, Splits) { on_ranks(check_splits); }
TEST(Loopback, Arguments) { on_ranks(check_arguments); }
TEST(Loopback, NanReachesAll) { on_ranks(check_nan); }

TEST(CollectiveBuffer, IsUsedAgainAndHoldsNothing) {
  run_loopback(2, [](Communicator& group) {
    CollectiveBuffer buffer(group, CallKind::all_gather);
    EXPECT_FALSE(buffer.is_kept());
    const at::Tensor first = buffer.take({3, 4}, at::kFloat).fill_(1);
    EXPECT_TRUE(buffer.is_kept());
    const void* const place = first.const_data_ptr();
    EXPECT_EQ(buffer.take({6}, at::kDouble).const_data_ptr(), place);  // as many bytes
    const at::Tensor grown = buffer.take({100}, at::kDouble).fill_(2);
    EXPECT_TRUE(at::equal(first.view(-1)[11], at::ones({})));  // what is held outlives the buffer's
    EXPECT_EQ(buffer.take({2, 2}, at::kByte).const_data_ptr(), grown.const_data_ptr());
    EXPECT_EQ(buffer.take({0, 5}, at::kByte).numel(), 0);
  });
}

TEST(CollectiveBuffer, ShowsReadsOfWhatWasNotWritten) {
  at::globalContext().setDeterministicAlgorithms(true, true);
  const auto group = single_communicator();
  CollectiveBuffer buffer(*group, CallKind::all_to_all);
  buffer.take({9}, at::kBFloat16).fill_(1);
  EXPECT_TRUE(buffer.take({2, 4}, at::kBFloat16).isnan().all().item<bool>());
  at::globalContext().setDeterministicAlgorithms(false, false);
}

TEST(CollectiveBuffer, RanksThatAskForDifferentSizesAreNamed) {
  const std::string failure = failure_of([] {
    run_loopback(3, [](Communicator& group) {
      CollectiveBuffer buffer(group, CallKind::all_gather);
      buffer.take({group.rank() == 1 ? 5 : 4}, at::kFloat);
    });
  });
  EXPECT_NE(failure.find("wants 20"), std::string::npos) << failure;
  EXPECT_NE(failure.find("wants 16"), std::string::npos) << failure;
}

// The same through copies, whatever device they are on.
void on_staged_ranks(void (*body)(Communicator&)) {
  for (const int ranks : {1, 2, 3}) {
    run_loopback(ranks, [&](Communicator& host) { body(*staged_communicator(host, at::kCPU)); });
  }
}

TEST(Staged, Reductions) { on_staged_ranks(check_reductions); }
TEST(Staged, Movement) { on_staged_ranks(check_movement); }
TEST(Staged, Transposes) { on_staged_ranks(check_transposes); }
TEST(Staged, Overlap) { on_staged_ranks(check_overlap); }
TEST(Staged, Splits) { on_staged_ranks(check_splits); }

TEST(Loopback, SingleCommunicator) {
  const auto group = single_communicator();
  EXPECT_EQ(group->size(), 1);
  check_reductions(*group);
  check_movement(*group);
  check_splits(*group);
}

TEST(Loopback, ParametersWithGradientCanBeSent) {
  run_loopback(2, [](Communicator& group) {
    const at::Tensor weights = numbers(group.rank(), 10, at::kFloat).requires_grad_(true);
    group.broadcast(weights, 0).wait();
    EXPECT_TRUE(at::equal(weights, numbers(0, 10, at::kFloat)));
  });
}

TEST(Loopback, DisagreementIsNamed) {
  const auto disagree = [](const std::function<void(Communicator&, bool)>& body) {
    return failure_of(
        [&] { run_loopback(3, [&](Communicator& group) { body(group, group.rank() == 1); }); });
  };
  const auto contains = [](const std::string& failure, const std::string& words) {
    EXPECT_NE(failure.find(words), std::string::npos) << failure;
  };
  contains(disagree([](Communicator& group, bool odd) {
             group.all_reduce(at::zeros({odd ? 3 : 4})).wait();
           }),
           "3 x Float");
  contains(disagree([](Communicator& group, bool odd) {
             group.all_reduce(at::zeros({4}, odd ? at::kInt : at::kFloat)).wait();
           }),
           "4 x Int");
  contains(disagree([](Communicator& group, bool odd) {
             group.broadcast(at::zeros({4}), odd ? 1 : 0).wait();
           }),
           "from rank 1");
  contains(disagree([](Communicator& group, bool odd) {
             odd ? group.barrier() : group.all_reduce(at::zeros({4})).wait();
           }),
           "barrier");
  contains(disagree([](Communicator& group, bool odd) {
             group
                 .send_recv(at::zeros({4}), (group.rank() + 1) % 3, at::zeros({odd ? 5 : 4}),
                            (group.rank() + 2) % 3)
                 .wait();
           }),
           "expects 5 x Float from rank 0");
  contains(disagree([](Communicator& group, bool odd) {
             if (!odd) group.barrier();
           }),
           "rank 1 has ended without this call");
}

// The others wait in a collective and in a split group; none may hang, and the cause is what comes
// out.
TEST(Loopback, ExceptionOfOneRankEndsAll) {
  const std::string failure = failure_of([] {
    run_loopback(4, [](Communicator& group) {
      const auto half = group.split(group.rank() / 2, 0);
      if (group.rank() == 2) throw DataError("the disk is on fire");
      (group.rank() == 3 ? *half : group).barrier();
    });
  });
  EXPECT_EQ(failure, "the disk is on fire");
}

TEST(Loopback, MutualWaitTimesOut) {
  const std::string failure = failure_of([] {
    run_loopback(
        2,
        [](Communicator& group) {
          const auto other = group.split(0, 0);
          (group.rank() == 0 ? group : *other).barrier();  // each waits in another group
        },
        milliseconds(100));
  });
  EXPECT_NE(failure.find("not all ranks have come within 100 ms"), std::string::npos) << failure;
}

TEST(Loopback, DoneDoesNotBlock) {
  std::latch asked(1);
  run_loopback(2, [&](Communicator& group) {
    const at::Tensor value = at::ones({3});
    if (group.rank() == 1) asked.wait();
    Handle handle = group.all_reduce(value);
    if (group.rank() == 0) {
      EXPECT_FALSE(handle.done());
      asked.count_down();
    }
    while (!handle.done()) std::this_thread::yield();
    EXPECT_TRUE(at::equal(value, at::full({3}, 2.0F)));
  });
}

TEST(Loopback, DoneFailsWithTheOthers) {
  const std::string failure = failure_of([] {
    run_loopback(2, [](Communicator& group) {
      if (group.rank() == 1) throw DataError("the disk is on fire");
      Handle handle = group.all_reduce(at::ones({1}));
      while (!handle.done()) std::this_thread::yield();
    });
  });
  EXPECT_EQ(failure, "the disk is on fire");
}

TEST(Watchdog, ReportsAndEndsTheProcess) {
  const ChildResult child = run_child(testing::TempDir(), {"hang"});
  EXPECT_EQ(child.exit_code(), 1);
  EXPECT_NE(
      child.errors.find(
          "\n[rank 0] step 40, backward: all_reduce #1 of 4 x Float (sum) has not ended after"),
      std::string::npos)
      << child.errors;
}

TEST(Watchdog, ReportsWhatAProbeFindsAndAborts) {
  const ChildResult child = run_child(testing::TempDir(), {"probe"});
  EXPECT_EQ(child.exit_code(), 1);
  EXPECT_NE(child.errors.find("[rank 3] step 7: the GPU is stuck after 0.2 s"), std::string::npos)
      << child.errors;
  EXPECT_NE(child.errors.find("aborted"), std::string::npos) << child.errors;
}

TEST(Watchdog, LetsFastSectionsPass) {
  Watchdog watchdog(0, std::chrono::milliseconds(200));
  for (int i = 0; i < 8; ++i) {  // longer in all than the timeout
    const Watchdog::Section section(&watchdog, [] { return std::string("short"); });
    std::this_thread::sleep_for(milliseconds(50));
  }
  std::this_thread::sleep_for(milliseconds(300));  // no section is open
}

// The child: rank 1 never makes the call that rank 0 waits for.
int hang() {
  run_loopback(2, [](Communicator& group) {
    Watchdog watchdog(group.rank(), milliseconds(300));
    if (group.rank() == 0) group.set_watchdog(&watchdog);
    watchdog.set_place("step 40, backward");
    group.barrier();
    if (group.rank() == 0) group.all_reduce(at::ones({4})).wait();
    std::this_thread::sleep_for(std::chrono::seconds(20));
  });
  return 0;
}

// The child: all is well twice, then not; the abort itself hangs.
int trouble() {
  Watchdog watchdog(3, milliseconds(200));
  watchdog.set_place("step 7");
  int asked = 0;
  watchdog.add_probe({[&](milliseconds timeout) -> std::string {
                        if (++asked < 3) return "";
                        return text("the GPU is stuck after ", timeout.count() / 1000.0, " s");
                      },
                      [] {
                        std::cerr << "aborted" << std::endl;
                        std::this_thread::sleep_for(std::chrono::seconds(60));
                      }});
  std::this_thread::sleep_for(std::chrono::seconds(20));
  return 0;
}

}  // namespace
}  // namespace pendulum

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (argc == 2 && std::string(argv[1]) == "hang") return pendulum::hang();
  if (argc == 2 && std::string(argv[1]) == "probe") return pendulum::trouble();
  return RUN_ALL_TESTS();
}

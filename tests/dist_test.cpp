// Tests of the communicator over MPI, really under mpirun.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "communicator_cases.h"
#include "core/hash.h"
#include "dist_support.h"

namespace pendulum {
namespace {

TEST(Mpi, Reductions) { check_reductions(test_world()); }
TEST(Mpi, Movement) { check_movement(test_world()); }
TEST(Mpi, Transposes) { check_transposes(test_world()); }
TEST(Mpi, Overlap) { check_overlap(test_world()); }
TEST(Mpi, Splits) { check_splits(test_world()); }
TEST(Mpi, Arguments) { check_arguments(test_world()); }
TEST(Mpi, NanReachesAll) { check_nan(test_world()); }

TEST(Mpi, RanksAreDistinct) {
  const at::Tensor ranks = at::empty({test_world().size()}, at::kLong);
  test_world().all_gather(at::full({1}, test_world().rank(), at::kLong), ranks).wait();
  EXPECT_TRUE(at::equal(ranks, at::arange(test_world().size(), at::kLong)));
  EXPECT_GE(test_world().size(), 2);
}

// Each mismatch is an error on every rank, and the group goes on.
TEST(Mpi, DisagreementIsNamedOnAllRanks) {
  Communicator& world = test_world();
  const bool odd = world.rank() == 1;
  const auto expect = [&](const std::function<void()>& body, const std::string& other) {
    const std::string failure = failure_of(body);
    EXPECT_NE(failure.find(text("rank ", world.rank(), " of ", world.size())), std::string::npos)
        << failure;
    EXPECT_TRUE(odd || failure.find(other) != std::string::npos) << failure;
  };
  expect([&] { world.all_reduce(at::zeros({odd ? 3 : 4})).wait(); }, "3 x Float");
  expect([&] { world.all_reduce(at::zeros({4}, odd ? at::kInt : at::kFloat)).wait(); }, "4 x Int");
  expect([&] { world.all_reduce(at::zeros({4}), odd ? Reduce::max : Reduce::sum).wait(); },
         "(max)");
  expect([&] { world.broadcast(at::zeros({4}), odd ? 1 : 0).wait(); }, "from rank 1");
  expect([&] { odd ? world.barrier() : world.all_reduce(at::zeros({4})).wait(); }, "barrier");
  world.barrier();
}

TEST(Mpi, MessageOfAnotherLength) {
  Communicator& world = test_world();
  const int size = world.size();
  const at::Tensor send = at::zeros({4});
  const at::Tensor receive = at::zeros({5});
  const std::string failure = failure_of([&] {
    world.send_recv(send, (world.rank() + 1) % size, receive, (world.rank() + size - 1) % size)
        .wait();
  });
  EXPECT_NE(failure.find("which sends 4 x Float"), std::string::npos) << failure;
  world.barrier();
}

// The sum of numbers of widely different sizes depends on the order of addition; it must not depend
// on the run.
TEST(Mpi, SumsAreTheSameEverywhereAndEveryTime) {
  Communicator& world = test_world();
  std::string first;
  for (int run = 0; run < 10; ++run) {
    const at::Tensor values =
        numbers(world.rank(), 100003, at::kFloat).mul_(std::pow(1e3, world.rank()));
    world.all_reduce(values).wait();
    const std::string hash =
        sha256(std::span(static_cast<const uint8_t*>(values.data_ptr()), values.nbytes()));
    if (run == 0) first = hash;
    EXPECT_EQ(hash, first);
  }
  const at::Tensor mine = at::empty({64}, at::kByte);
  std::copy(first.begin(), first.end(), mine.data_ptr<uint8_t>());
  const at::Tensor largest = mine.clone();
  world.all_reduce(largest, Reduce::max).wait();
  EXPECT_TRUE(at::equal(mine, largest));
}

}  // namespace
}  // namespace pendulum

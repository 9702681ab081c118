// Runs a GoogleTest program on every rank: --ranks=N must be the world's size, and one rank's
// failure fails all.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <string>

#include "comm/mpi_communicator.h"
#include "comm/watchdog.h"
#include "core/error.h"
#include "dist_support.h"

namespace pendulum {
namespace {

Communicator* world = nullptr;

// The ranks beside the first speak only of failures.
class FailurePrinter : public testing::EmptyTestEventListener {
  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (result.passed() || result.skipped()) return;
    std::fprintf(stderr, "[rank %d] %s:%d: %s\n", world->rank(), result.file_name(),
                 result.line_number(), result.message());
  }
};

int value_of(int argc, char** argv, const std::string& option, int otherwise) {
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument.starts_with(option + "=")) return std::stoi(argument.substr(option.size() + 1));
  }
  return otherwise;
}

int run(int argc, char** argv) {
  MpiWorld mpi;
  world = &mpi.world();
  Watchdog watchdog(world->rank(), std::chrono::seconds(60));
  world->set_watchdog(&watchdog);
  const int expected = value_of(argc, argv, "--ranks", 0);
  if (world->size() != expected)
    throw Error(text("the world has ", world->size(), " ranks, not ", expected));
  if (world->rank() == value_of(argc, argv, "--throw-on", -1))
    throw Error("a rank that fails as asked");
  if (world->rank() > 0) {
    auto& listeners = testing::UnitTest::GetInstance()->listeners();
    delete listeners.Release(listeners.default_result_printer());
    listeners.Append(new FailurePrinter);
  }
  const at::Tensor failed = at::full({1}, RUN_ALL_TESTS(), at::kInt);
  world->all_reduce(failed, Reduce::max).wait();
  world->set_watchdog(nullptr);
  return failed.item<int>();
}

}  // namespace

Communicator& test_world() { return *world; }

}  // namespace pendulum

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  try {
    return pendulum::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 3;
  }
}

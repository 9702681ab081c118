// The check before a distributed run: passes at every width, and refuses a communicator that moves
// wrong numbers.
#include "train/parity_check.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "comm/loopback.h"
#include "core/error.h"

namespace pendulum {
namespace {

WanConfig model_with(int heads) {
  WanConfig config;
  config.layers = 30;
  config.heads = heads;
  config.head_dim = 32;
  config.ffn_dim = 8960;
  config.freq_dim = 256;
  config.in_channels = config.out_channels = 16;
  config.text_dim = 4096;
  return config;
}

class Finished : public PendingCall {
 public:
  explicit Finished(Call call) : PendingCall(std::move(call), nullptr) {}
  bool done() override { return true; }

 protected:
  void block() override {}
};

// Passes calls on to another communicator, and spoils a tenth of the numbers of a layer that rank 0
// receives in calls of `kind`.
class Faulty : public Communicator {
 public:
  Faulty(Communicator& inner, CallKind kind)
      : Communicator(inner.rank(), inner.size(), inner.name()), inner_(&inner), kind_(kind) {}
  Faulty(std::unique_ptr<Communicator> inner, CallKind kind) : Faulty(*inner, kind) {
    owned_ = std::move(inner);
  }

 protected:
  std::shared_ptr<PendingCall> start(Call call, Stream) override {
    switch (call.kind) {
      case CallKind::all_to_all:
        inner_->all_to_all(call.send, call.receive).wait();
        break;
      case CallKind::all_gather:
        inner_->all_gather(call.send, call.receive).wait();
        break;
      case CallKind::all_reduce:
        inner_->all_reduce(call.send, call.reduce).wait();
        break;
      case CallKind::send_recv:
        inner_->send_recv(call.send, call.to, call.receive, call.from).wait();
        break;
      default:
        ADD_FAILURE() << call.description();
    }
    if (call.kind == kind_ && size() > 1 && rank() == 0 && call.receive.is_floating_point()) {
      const at::NoGradGuard no_grad;
      call.receive.view(-1).narrow(0, 0, call.receive.numel() / 10 + 1).add_(1);
    }
    return std::make_shared<Finished>(std::move(call));
  }
  std::unique_ptr<Communicator> make_group(const Call&, int color, int key) override {
    return std::make_unique<Faulty>(inner_->split(color, key), kind_);
  }

 private:
  Communicator* inner_;
  std::unique_ptr<Communicator> owned_;
  CallKind kind_;
};

constexpr const char* kPassed = "passed";

// What the ranks of a world of `ranks` say.
std::vector<std::string> verdicts(int ranks, int heads, CallKind fault, bool is_faulty,
                                  at::ScalarType type = at::kFloat) {
  std::vector<std::string> said(ranks);
  try {
    run_loopback(ranks, [&](Communicator& world) {
      Faulty faulty(world, fault);
      const SlotGroups groups(is_faulty ? faulty : world, ranks, {1, ranks}, heads);
      try {
        check_parity(groups, model_with(heads), at::kCPU, type, ActivationCheckpointing::selective);
        said[world.rank()] = kPassed;
      } catch (const Error& e) {
        said[world.rank()] = e.what();
        throw;
      }
    });
  } catch (const Error&) {
  }
  return said;
}

class ParityCheck : public testing::Test {
 protected:
  void SetUp() override { at::set_num_threads(1); }
};

TEST_F(ParityCheck, PassesAtEveryWidth) {
  for (const int ranks : {1, 2, 3, 4, 6, 8}) {
    for (const std::string& line : verdicts(ranks, 12, CallKind::barrier, false))
      EXPECT_EQ(line, kPassed) << ranks;
  }
  for (const std::string& line : verdicts(4, 12, CallKind::barrier, false, at::kBFloat16))
    EXPECT_EQ(line, kPassed);
}

TEST_F(ParityCheck, RefusesWrongNumbers) {
  struct Case {
    int heads;
    CallKind fault;
  };
  // 4 ranks: of 12 heads all exchange heads, of 5 heads all pass keys round.
  for (const auto& [heads, fault] : {Case{12, CallKind::all_to_all}, Case{5, CallKind::send_recv},
                                     Case{12, CallKind::all_gather}}) {
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
      const auto said = verdicts(4, heads, fault, true, type);
      // The first to see it ends the run for all.
      const auto names_it = [](const std::string& line) {
        return line.find("shared by 4 processes") != std::string::npos &&
               line.find("Nothing was trained") != std::string::npos;
      };
      EXPECT_TRUE(std::any_of(said.begin(), said.end(), names_it)) << said[0];
    }
  }
}

}  // namespace
}  // namespace pendulum

// Dealt updates: the same weights, state and norms as when every rank updates everything, to the
// bit, and a state that moves between numbers of ranks.
#include "shard/sharded_parameters.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <numeric>
#include <set>
#include <thread>

#include "comm/loopback.h"
#include "core/error.h"
#include "core/hash.h"
#include "core/random.h"
#include "ops/random_tensor.h"
#include "optim/optimizer.h"
#include "tensor_map.h"

namespace pendulum {
namespace {

// Beside matrices for Muon, vectors and a table: one that fills more than a window of a collective
// call, or matrices whose moments are kept in 8 bits, whole blocks of 256 numbers and not.
enum class Extra { none, large, matrices };
NamedTensors parameters(Extra extra = Extra::none) {
  NamedTensors out;
  const std::vector<std::pair<std::string, std::vector<int64_t>>> shapes{
      {"patch.weight", {24, 12}},        {"blocks.0.to_q.weight", {24, 24}},
      {"blocks.0.to_q.bias", {24}},      {"blocks.0.scale_shift_table", {1, 6, 24}},
      {"blocks.0.up.weight", {72, 24}},  {"blocks.0.down.weight", {24, 72}},
      {"blocks.1.to_q.weight", {24, 24}}};
  for (const auto& [name, shape] : shapes)
    out.emplace_back(name, random_tensor(shape, hash_name(name)));
  if (extra == Extra::large) out.emplace_back("large", random_tensor({(int64_t{9} << 20) + 7}, 9));
  if (extra == Extra::matrices) {
    out.emplace_back("wide.weight", random_tensor({70, 67}, 10));
    out.emplace_back("square.weight", random_tensor({64, 64}, 11));
  }
  for (auto& [name, tensor] : out) tensor.set_requires_grad(true);
  return out;
}

// A gradient that depends on rank and step; one parameter has none on odd ranks.
void set_gradients(const NamedTensors& all, int rank, int step) {
  for (const auto& [name, tensor] : all) {
    at::Tensor& gradient = at::Tensor(tensor).mutable_grad();
    gradient.reset();
    if (name == "patch.weight" && rank % 2 == 1) continue;
    gradient = random_tensor(tensor.sizes(), draw(hash_name(name), rank, step));
  }
}

struct Trained {
  TensorMap parameters, state, average;
  std::vector<double> gradient_norms;
  double parameter_norm = 0;
};

// What a backward pass does once the gradients are there.
void reduce(ShardedParameters& weights) {
  weights.begin_pass(true);
  weights.empty_pass();
  weights.end_pass();
  weights.finish_gradients();
}

struct Training {
  Training(Communicator& world, int ranks, OptimizerKind kind, Extra extra = Extra::none)
      : all(parameters(extra)),
        weights(all, world, {ranks > 1 ? 1 : 0, ranks}),
        optimizer(weights.owned(), kind, true) {}
  void steps(int first, int count, int rank, Trained* out) {
    const OptimConfig config{.weight_decay = 0.1, .ema = 0.9};
    for (int step = first; step < first + count; ++step) {
      set_gradients(all, rank, step);
      reduce(weights);
      const double norm = weights.gradient_norm();
      optimizer.step(config, 1e-2, 1 / (1 + norm));
      weights.gather();
      out->gradient_norms.push_back(norm);
    }
    out->parameter_norm = weights.parameter_norm();
  }
  NamedTensors all;
  ShardedParameters weights;
  Optimizer optimizer;
};

// Three steps on `world` ranks that deal in groups of `ranks`; what each rank then holds, and the
// collected state on the first.
std::vector<Trained> train_dealt(int world_size, int ranks, OptimizerKind kind,
                                 Extra extra = Extra::none) {
  std::vector<Trained> out(world_size);
  run_loopback(world_size, [&](Communicator& world) {
    Training training(world, ranks, kind, extra);
    Trained& mine = out[world.rank()];
    training.steps(0, 3, world.rank(), &mine);
    mine.parameters = copied(training.all);
    mine.state = copied(training.weights.collect(training.optimizer.state()));
    mine.average = copied(training.weights.collect(training.optimizer.average()));
  });
  return out;
}

class Sharded : public testing::Test {
 protected:
  void SetUp() override { at::set_num_threads(1); }
};

TEST_F(Sharded, EqualsUpdatesOnEveryRankToTheBit) {
  for (const OptimizerKind kind :
       {OptimizerKind::adamw, OptimizerKind::adamw8bit, OptimizerKind::muon}) {
    for (const int size : {2, 3, 4, 8}) {
      const auto want = train_dealt(size, 1, kind, Extra::matrices);
      const auto found = train_dealt(size, size, kind, Extra::matrices);
      const bool has_bytes = want[0].state.at("m.wide.weight").scalar_type() == at::kByte;
      EXPECT_EQ(has_bytes, kind == OptimizerKind::adamw8bit);
      for (int rank = 0; rank < size; ++rank) {
        expect_same(found[rank].parameters, want[0].parameters, "parameters");
        EXPECT_EQ(found[rank].gradient_norms, want[0].gradient_norms);
        EXPECT_EQ(found[rank].parameter_norm, want[0].parameter_norm);
        EXPECT_EQ(found[rank].state.empty(), rank != 0);
      }
      expect_same(found[0].state, want[0].state, "state");
      expect_same(found[0].average, want[0].average, "average");
    }
  }
}

TEST_F(Sharded, CrossesWindows) {
  const auto want = train_dealt(2, 1, OptimizerKind::adamw, Extra::large);
  const auto found = train_dealt(2, 2, OptimizerKind::adamw, Extra::large);
  for (int rank = 0; rank < 2; ++rank)
    expect_same(found[rank].parameters, want[0].parameters, "parameters");
  expect_same(found[0].state, want[0].state, "state");
}

// Two groups of two add in another order: within the rounding of four terms, not to the bit; all
// ranks still hold the same.
TEST_F(Sharded, DealsInsideGroups) {
  const auto want = train_dealt(4, 1, OptimizerKind::adamw),
             found = train_dealt(4, 2, OptimizerKind::adamw);
  for (int rank = 0; rank < 4; ++rank) {
    expect_same(found[rank].parameters, found[0].parameters, "ranks");
    EXPECT_EQ(found[rank].gradient_norms, found[0].gradient_norms);
    EXPECT_EQ(found[rank].state.empty(), rank != 0);
  }
  for (size_t i = 0; i < want[0].gradient_norms.size(); ++i)
    EXPECT_NEAR(found[0].gradient_norms[i] / want[0].gradient_norms[i], 1, 4 * 1.2e-7);
}

// Each rank keeps the state of what it owns alone, and gradients of others' parameters are given
// back once they are summed.
TEST_F(Sharded, HoldsItsPartAlone) {
  run_loopback(4, [](Communicator& world) {
    Training training(world, 4, OptimizerKind::adamw);
    set_gradients(training.all, world.rank(), 0);
    reduce(training.weights);
    std::set<std::string> owned;
    int64_t numbers = 0;
    for (const auto& [name, tensor] : training.weights.owned()) {
      owned.insert(name);
      numbers += tensor.numel();
    }
    for (const auto& [name, tensor] : training.all)
      EXPECT_EQ(tensor.grad().defined(), owned.contains(name)) << name;
    int64_t state = 0;
    for (const auto& [name, tensor] : training.optimizer.state())
      if (name != "steps") state += tensor.numel();
    EXPECT_EQ(state, 2 * numbers);
    EXPECT_LE(numbers, 1800);  // of 6408; the largest tensor has 1728
  });
}

void expect_moves(OptimizerKind kind) {
  // Whole: six steps on 4 ranks. Moved: two steps each on 4 of 4, 2 of 2 and 1 of 1 ranks that see
  // the sums of the same four gradients.
  NamedTensors state, average, values;
  const auto go_on = [&](int ranks, int first) {
    run_loopback(ranks, [&](Communicator& world) {
      Training training(world, ranks, kind, Extra::matrices);
      if (!values.empty()) {
        copy_by_name(training.all, values);
        training.optimizer.load_state(state);
        training.optimizer.load_average(average);
      }
      Trained unused;
      const OptimConfig config{.weight_decay = 0.1, .ema = 0.9};
      for (int step = first; step < first + 2; ++step) {
        set_gradients(training.all, 0, step);
        // Powers of two keep the sum over the ranks exact.
        for (const auto& [name, tensor] : training.all)
          at::Tensor(tensor).mutable_grad().div_(ranks);
        reduce(training.weights);
        training.optimizer.step(config, 1e-2, 0.5);
        training.weights.gather();
      }
      world.barrier();  // what is loaded above may be replaced now
      const NamedTensors s = training.weights.collect(training.optimizer.state());
      const NamedTensors a = training.weights.collect(training.optimizer.average());
      if (world.rank() != 0) return;
      state = s;
      average = a;
      values.clear();
      for (const auto& [name, tensor] : training.all)
        values.emplace_back(name, tensor.detach().clone());
    });
  };
  for (int first = 0; first < 6; first += 2) go_on(4, first);
  const auto want = copied(values), want_state = copied(state), want_average = copied(average);
  values.clear();
  go_on(4, 0);
  go_on(2, 2);
  go_on(1, 4);
  expect_same(copied(values), want, "parameters");
  expect_same(copied(state), want_state, "state");
  expect_same(copied(average), want_average, "average");
}

// As on a GPU, where the next unit's values are written beside what is computed with this one's,
// out of memory that serves every other window. Memory that nobody wrote is NaN, and ranks lag.
TEST_F(Sharded, ValuesThatAreWrittenAheadAreTheSame) {
  at::globalContext().setDeterministicAlgorithms(true, true);
  for (const bool writes_ahead : {false, true}) {
    run_loopback(3, [&](Communicator& world) {
      const at::NoGradGuard no_grad;
      const NamedTensors all = parameters(Extra::large);
      const auto start = copied(all);
      const ShardLayout layout(all, world.size());
      WeightResidence residence(all, layout, world, writes_ahead);
      const auto each_of = [&](int unit, const auto& look) {
        for (size_t i = 0; i < all.size(); ++i) {
          if (layout.units[i] == unit) look(i, layout.owners[i] == world.rank());
        }
      };
      for (int round = 1; round <= 2; ++round) {
        for (size_t i = 0; i < all.size(); ++i) {
          if (layout.owners[i] == world.rank()) all[i].second.detach().add_(1);
        }
        for (int unit = 0; unit < residence.units(); ++unit) {
          const bool is_last = unit + 1 == residence.units();
          std::this_thread::sleep_for(
              std::chrono::microseconds(draw(world.rank(), round, unit) % 3000));
          residence.acquire(unit, is_last ? WeightResidence::kNone : unit + 1);
          each_of(unit, [&](size_t i, bool) {
            at::Tensor want = start.at(all[i].first);
            for (int added = 0; added < round; ++added) want = want + 1;
            EXPECT_TRUE(at::equal(all[i].second, want)) << all[i].first;
          });
          each_of(unit + 1, [&](size_t i, bool is_mine) {
            EXPECT_EQ(all[i].second.storage().nbytes() > 0, is_mine || writes_ahead);
          });
          residence.release(unit);
          each_of(unit, [&](size_t i, bool is_mine) {
            EXPECT_EQ(all[i].second.storage().nbytes() > 0, is_mine);
          });
        }
      }
    });
  }
  at::globalContext().setDeterministicAlgorithms(false, false);
}

TEST_F(Sharded, StateMovesBetweenNumbersOfRanks) {
  expect_moves(OptimizerKind::muon);
  expect_moves(OptimizerKind::adamw8bit);
}

TEST(Deal, IsEvenAndTheSameEverywhere) {
  const std::vector<int64_t> sizes{7, 7, 5, 4, 4, 3, 3, 2, 1};
  const auto dealt = [](const std::vector<int64_t>& these, std::vector<int64_t> load) {
    return deal(these, load);
  };
  std::vector<int64_t> load(3);
  const std::vector<int> parts = deal(sizes, load);
  EXPECT_EQ(load, (std::vector<int64_t>{12, 12, 12}));
  EXPECT_EQ(dealt(sizes, {0, 0, 0}), parts);
  EXPECT_EQ(dealt(sizes, {0}), std::vector<int>(9, 0));
  EXPECT_EQ(dealt({5}, {0, 0, 0, 0}), std::vector<int>{0});  // three parts stay empty
  // A unit is even in itself, and what is over goes where least lies.
  EXPECT_EQ(dealt({5, 5}, {9, 0, 3}), (std::vector<int>{1, 2}));
}

}  // namespace
}  // namespace pendulum

// Threads of an emulated block as coroutines of one host thread. A number says in which order they
// run, so that what is missing between them shows, and shows again.
#pragma once
#include <algorithm>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "coroutine.h"

namespace pendulum::kernels {

class Coroutines {
 public:
  static constexpr int kWarp = 32;

  // Even orders: the first warp runs while it can, or the last one does, so that warps are as far
  // apart as can be. Odd ones: they mix.
  explicit Coroutines(size_t order) : order_(order), random_(order) {}

  // Runs body(0) to body(count - 1); `events` is what else can happen: it is asked again and again,
  // with true where no thread can go on, and says whether something happened. Returns what went
  // wrong, or nothing.
  std::string run(int count, const std::function<void(int)>& body,
                  const std::function<bool(bool)>& events) {
    body_ = &body;
    for (int i = 0; i < count; ++i) begin(i);
    std::vector<int> warps(static_cast<size_t>(count / kWarp));
    for (size_t i = 0; i < warps.size(); ++i) warps[i] = static_cast<int>(i);
    if (order_ % 4 == 2) std::reverse(warps.begin(), warps.end());
    while (failure_.empty() && open_ > 0) {
      if (order_ % 2 == 1) std::shuffle(warps.begin(), warps.end(), random_);
      events(false);
      const bool has_moved =
          std::any_of(warps.begin(), warps.end(), [&](int warp) { return turns_of(warp); });
      if (!has_moved && failure_.empty() && !events(true))
        fail_here("threads wait for what never comes");
    }
    return failure_;
  }

  // For a thread: others run until `is_ready()`.
  void wait(const std::function<bool()>& is_ready) {
    if (is_ready()) return;
    Thread& self = *threads_[current_];
    self.is_ready = is_ready;
    self.run.leave();
  }
  // For a thread: ends the run.
  void fail(const std::string& what) {
    fail_here(what + ", thread " + std::to_string(current_));
    wait([] { return false; });
  }
  bool toss() { return random_() % 2 == 0; }

 private:
  struct Thread {
    Coroutine run;
    std::function<bool()> is_ready = [] { return true; };
  };

  void begin(int i) {
    threads_.push_back(std::make_unique<Thread>());
    ++open_;
    threads_[i]->run.start([this, i] {
      (*body_)(i);
      --open_;
    });
  }
  bool turns_of(int warp) {
    bool has_moved = false;
    for (int i = warp * kWarp; i < (warp + 1) * kWarp && failure_.empty(); ++i) {
      Thread& thread = *threads_[i];
      if (thread.run.has_ended() || !thread.is_ready()) continue;
      has_moved = true;
      current_ = i;
      thread.run.enter();
    }
    return has_moved;
  }
  void fail_here(const std::string& what) {
    if (failure_.empty()) failure_ = what;
  }

  const size_t order_;
  std::mt19937_64 random_;
  std::vector<std::unique_ptr<Thread>> threads_;
  const std::function<void(int)>* body_ = nullptr;
  int current_ = 0, open_ = 0;
  std::string failure_;
};

}  // namespace pendulum::kernels

// Looks at the open sections a few times per timeout.
#include "comm/watchdog.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>

#include "core/error.h"

namespace pendulum {

Watchdog::Watchdog(int rank, std::chrono::milliseconds timeout)
    : rank_(rank), timeout_(timeout), thread_([this] { watch(); }) {}

Watchdog::~Watchdog() {
  {
    const std::scoped_lock lock(mutex_);
    end_ = true;
  }
  ended_.notify_all();
  thread_.join();
}

void Watchdog::set_place(std::string place) {
  const std::scoped_lock lock(mutex_);
  place_ = std::move(place);
}

void Watchdog::add_probe(Probe probe) {
  const std::scoped_lock lock(mutex_);
  probes_.push_back(std::move(probe));
}

void Watchdog::enter(std::string words) {
  const std::scoped_lock lock(mutex_);
  open_.push_back({std::move(words), Clock::now()});
}

void Watchdog::leave() {
  const std::scoped_lock lock(mutex_);
  open_.pop_back();
}

void Watchdog::watch() {
  std::unique_lock lock(mutex_);
  const std::chrono::milliseconds pause = std::clamp<std::chrono::milliseconds>(
      timeout_ / 8, std::chrono::milliseconds(1), std::chrono::milliseconds(1000));
  while (!ended_.wait_for(lock, pause, [this] { return end_; })) {
    // The innermost section names the call; an outer one that is late has it as its reason.
    const Clock::time_point now = Clock::now();
    if (!open_.empty() && now - open_.front().started > timeout_) {
      const auto seconds = std::chrono::duration<double>(now - open_.back().started).count();
      report(text(place_, ": ", open_.back().words, " has not ended after ",
                  std::lround(10 * seconds) / 10.0, " s"));
    }
    for (const Probe& probe : probes_) {
      const std::string trouble = probe.trouble(timeout_);
      if (!trouble.empty()) report(text(place_, ": ", trouble));
    }
  }
}

void Watchdog::report(const std::string& what) const {
  // On a line of its own: one that shows progress may be open.
  const std::string message =
      text("\n[rank ", rank_, "] ", what,
           "; a peer has died, hangs or makes other calls. This process ends.\n");
  // write, not iostreams: another thread may hold their lock for ever.
  if (::write(STDERR_FILENO, message.data(), message.size()) < 0) ::_exit(1);
  // What a probe aborts may hang as well: it gets a thread and a few seconds.
  std::atomic<bool> aborted{probes_.empty()};
  std::thread([&] {
    for (const Probe& probe : probes_) probe.abort();
    aborted = true;
  }).detach();
  for (int tenths = 0; tenths < 50 && !aborted; ++tenths)
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  ::_exit(1);
}

}  // namespace pendulum

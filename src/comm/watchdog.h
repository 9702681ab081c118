// Ends a process that waits too long for its peers, after saying where it stood.
#pragma once
#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace pendulum {

// Owns one thread. When a section lasts longer than the timeout, or a probe finds trouble, it
// writes rank, place and what is late to stderr and calls _exit(1): peers that wait for a rank that
// is gone cannot be woken in any other way.
class Watchdog {
 public:
  Watchdog(int rank, std::chrono::milliseconds timeout);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  // What the rank is doing, for the message: "step 40, backward".
  void set_place(std::string place);

  // What goes on without a thread that waits for it, as on a GPU. Both are called from the
  // watchdog's thread, for as long as it lives: `trouble` a few times per timeout, which it gets,
  // and answers with a description, empty where all is well; `abort` before the process ends, for
  // at most some seconds.
  struct Probe {
    std::function<std::string(std::chrono::milliseconds)> trouble;
    std::function<void()> abort;
  };
  void add_probe(Probe probe);

  // A stretch of time that must end within the timeout. Sections nest.
  class Section {
   public:
    // words() is called only where there is a watchdog.
    template <class Words>
    Section(Watchdog* watchdog, const Words& words) : watchdog_(watchdog) {
      if (watchdog_) watchdog_->enter(words());
    }
    ~Section() {
      if (watchdog_) watchdog_->leave();
    }
    Section(const Section&) = delete;
    Section& operator=(const Section&) = delete;

   private:
    Watchdog* watchdog_;
  };

 private:
  using Clock = std::chrono::steady_clock;
  struct Open {
    std::string words;
    Clock::time_point started;
  };
  void enter(std::string words);
  void leave();
  void watch();
  [[noreturn]] void report(const std::string& what) const;

  const int rank_;
  const std::chrono::milliseconds timeout_;
  std::mutex mutex_;
  std::condition_variable ended_;
  std::string place_ = "start";
  std::vector<Open> open_;
  std::vector<Probe> probes_;
  bool end_ = false;
  std::thread thread_;  // last: it reads all of the above
};

}  // namespace pendulum

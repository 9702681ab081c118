// Worker threads ahead of a consumer: jobs run side by side, results come out in the order the jobs
// went in.
#pragma once
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "core/error.h"
#include "embed/embedder.h"  // what the jobs call

namespace pendulum {

struct WorkerStats {
  int64_t results = 0;        // taken by the consumer
  double waited_seconds = 0;  // of the consumer, in next(); wall time
  double worked_seconds = 0;  // processor time of all workers
};

// Starts threads whose ATen operators run on the calling thread alone; the caller's own number of
// ATen threads stays what it was.
std::vector<std::thread> start_single_threaded_workers(int count,
                                                       const std::function<void()>& body);
// Processor time of the calling thread.
double thread_cpu_seconds();

// One consumer thread, which also submits: has_room(), submit(job), ..., next(). Destroying it
// drops jobs that have not begun and waits for those that have. An exception of a job comes out of
// the next() that would have given its result.
template <class T>
class OrderedWorkers {
 public:
  using Job = std::function<T()>;

  // depth: jobs submitted whose results are not taken yet, at most.
  OrderedWorkers(int workers, size_t depth) : depth_(depth) {
    check(workers >= 1 && depth >= 1, "a worker and a place in the queue: ", workers, ", ", depth);
    threads_ = start_single_threaded_workers(workers, [this] { work(); });
  }
  OrderedWorkers(const OrderedWorkers&) = delete;
  OrderedWorkers& operator=(const OrderedWorkers&) = delete;
  ~OrderedWorkers() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    job_waits_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  bool has_room() const {
    const std::lock_guard lock(mutex_);
    return slots_.size() < depth_;
  }
  // Jobs whose results are not taken yet.
  size_t outstanding() const {
    const std::lock_guard lock(mutex_);
    return slots_.size();
  }

  // The consumer submits too, so a full queue could only be waited for in vain: it is an error.
  void submit(Job job) {
    {
      const std::lock_guard lock(mutex_);
      check(slots_.size() < depth_, "room in the queue, of depth ", depth_);
      slots_.push_back(std::make_shared<Slot>(Slot{std::move(job), std::nullopt, nullptr, false}));
      waiting_.push_back(slots_.back());
    }
    job_waits_.notify_one();
  }

  // The result of the oldest job; waits for it.
  T next() {
    std::unique_lock lock(mutex_);
    check(!slots_.empty(), "a submitted job to wait for");
    const std::shared_ptr<Slot> slot = slots_.front();
    if (!slot->done) {
      const auto start = std::chrono::steady_clock::now();
      result_waits_.wait(lock, [&] { return slot->done; });
      stats_.waited_seconds +=
          std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    }
    slots_.pop_front();
    ++stats_.results;
    lock.unlock();
    if (slot->failure) std::rethrow_exception(slot->failure);
    return std::move(*slot->result);
  }

  WorkerStats stats() const {
    const std::lock_guard lock(mutex_);
    return stats_;
  }

 private:
  struct Slot {
    Job job;
    std::optional<T> result;
    std::exception_ptr failure;
    bool done;
  };

  void work() {
    std::unique_lock lock(mutex_);
    while (true) {
      job_waits_.wait(lock, [&] { return stopping_ || !waiting_.empty(); });
      if (stopping_) return;
      const std::shared_ptr<Slot> slot = waiting_.front();
      waiting_.pop_front();
      lock.unlock();
      const double start = thread_cpu_seconds();
      try {
        slot->result.emplace(slot->job());
      } catch (...) {
        slot->failure = std::current_exception();
      }
      slot->job = nullptr;  // what it captured is freed here, not by the consumer
      const double used = thread_cpu_seconds() - start;
      lock.lock();
      slot->done = true;
      stats_.worked_seconds += used;
      result_waits_.notify_one();
    }
  }

  const size_t depth_;
  mutable std::mutex mutex_;
  std::condition_variable job_waits_, result_waits_;
  std::deque<std::shared_ptr<Slot>> slots_;    // in order, until taken
  std::deque<std::shared_ptr<Slot>> waiting_;  // not begun
  bool stopping_ = false;
  WorkerStats stats_;
  std::vector<std::thread> threads_;
};

}  // namespace pendulum

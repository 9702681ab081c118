// The threads of OrderedWorkers, and how they keep off the trainer's cores.
#include "embed/embedding_stage.h"

#include <ATen/Parallel.h>

#include <ctime>
#include <latch>

namespace pendulum {

double thread_cpu_seconds() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

std::vector<std::thread> start_single_threaded_workers(int count,
                                                       const std::function<void()>& body) {
  // at::set_num_threads sets OpenMP's and MKL's number of the calling thread, and the number that
  // every thread takes over at its first use of ATen. So a worker has its first use before it sets
  // its own number, and the second effect is undone here once all have set theirs.
  const int callers = at::get_num_threads();
  auto ready = std::make_shared<std::latch>(count);
  std::vector<std::thread> threads;
  for (int i = 0; i < count; ++i) {
    threads.emplace_back([ready, body] {
      at::internal::lazy_init_num_threads();  // first use by code of this program
      at::get_num_threads();                  // first use by LibTorch, which counts for itself
      at::set_num_threads(1);
      ready->count_down();
      body();
    });
  }
  ready->wait();
  at::set_num_threads(callers);
  return threads;
}

}  // namespace pendulum

// The one file that is compiled with OpenMP.
#include "ops/parallel.h"

#include <ATen/Parallel.h>

#ifndef _OPENMP
#error "compile this file with -fopenmp: without it at::parallel_for runs on one thread"
#endif

namespace pendulum {

void parallel_for(int64_t begin, int64_t end, int64_t grain,
                  const std::function<void(int64_t first, int64_t last)>& body) {
  at::parallel_for(begin, end, grain, body);
}

}  // namespace pendulum

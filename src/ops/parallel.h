// Work on a range, shared by the threads of ATen's pool.
#pragma once
#include <cstdint>
#include <functional>

namespace pendulum {

// body(first, last) on pieces that make up [begin, end), at least `grain` long but for the last;
// on the caller alone where that is one piece, where the caller's at::get_num_threads() is 1, or
// inside of another. An exception of a piece comes out when all are done.
//
// at::parallel_for itself shares nothing unless its caller is compiled with OpenMP: this is.
void parallel_for(int64_t begin, int64_t end, int64_t grain,
                  const std::function<void(int64_t first, int64_t last)>& body);

}  // namespace pendulum

// Merging of partial attention on a GPU: a warp per row, four elements a lane at a time.
#include "kernels/launch.h"
#include "kernels/merge_attention.h"

namespace pendulum::kernels {
namespace {

template <class T>
__global__ void merge_kernel(float* merged, float* log_sum_exp, const T* part,
                             const float* part_log_sum_exp, MergeAttentionSizes sizes,
                             int64_t rows) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * (blockDim.x / 32) + threadIdx.x / 32;
  if (row >= rows) return;
  // Divisions of 32 bits: those of 64 cost more than the memory.
  const auto heads = static_cast<unsigned>(sizes.heads);
  const auto queries = static_cast<unsigned>(sizes.queries);
  const unsigned token = static_cast<unsigned>(row) / heads;
  const unsigned head = static_cast<unsigned>(row) % heads;
  const int64_t statistic =
      (token / queries * sizes.heads + head) * sizes.queries + token % queries;
  const float before = log_sum_exp[statistic];
  const float added = part_log_sum_exp[statistic];
  if (added == -INFINITY) return;
  // fmaxf drops a NaN, the difference keeps it.
  const float whole = fmaxf(before, added) + log1pf(expf(-fabsf(before - added)));
  const float keep = expf(before - whole);
  const float take = expf(added - whole);
  for (int64_t j = threadIdx.x % 32 * 4; j < sizes.head_dim; j += 128) {
    Four to = load_four(merged + row * sizes.head_dim + j);
    const Four from = load_four(part + row * sizes.head_dim + j);
    for (int i = 0; i < 4; ++i) to.v[i] = to.v[i] * keep + from.v[i] * take;
    store_four(merged + row * sizes.head_dim + j, to);
  }
  __syncwarp();  // every lane has read the statistic before it changes
  if (threadIdx.x % 32 == 0) log_sum_exp[statistic] = whole;
}

}  // namespace

template <class T>
void merge_attention_cuda(float* merged, float* log_sum_exp, const T* part,
                          const float* part_log_sum_exp, const MergeAttentionSizes& sizes,
                          Stream stream) {
  const int64_t rows = sizes.batch * sizes.queries * sizes.heads;
  if (rows * sizes.head_dim == 0) return;
  require(sizes.head_dim % 4 == 0, "head_dim in multiples of 4");
  require(rows < (int64_t{1} << 32), "fewer than 2^32 rows");
  const unsigned blocks = blocks_for((rows * 32 + kThreads - 1) / kThreads);
  launch("merge_attention", merge_kernel<T>, blocks, kThreads, stream, merged, log_sum_exp, part,
         part_log_sum_exp, sizes, rows);
}

template void merge_attention_cuda(float*, float*, const float*, const float*,
                                   const MergeAttentionSizes&, Stream);
template void merge_attention_cuda(float*, float*, const bf16*, const float*,
                                   const MergeAttentionSizes&, Stream);

}  // namespace pendulum::kernels

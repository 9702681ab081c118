// Attention over one block of keys added to earlier ones, on the tensor cores of any GPU from
// Ampere on: bf16 products by mma.sync, sums in fp32 from the first block of keys to the last.
// Hands over to attention_hopper.cu where that is the better one.
#include "kernels/attention.h"
#include "kernels/attention_block.h"
#include "kernels/attention_hopper.h"
#include "kernels/launch.h"

namespace pendulum::kernels {
namespace {

using accumulate::Arguments;

// A thread's view of its warp and block: one instruction a function.
struct TensorCoreWarp {
  static constexpr int kWarps = 8;

  __device__ int thread() const { return static_cast<int>(threadIdx.x); }
  __device__ unsigned shared() const {
    extern __shared__ __align__(128) unsigned char memory[];
    return static_cast<unsigned>(__cvta_generic_to_shared(memory));
  }
  __device__ void sync_block() const { __syncthreads(); }
  __device__ float from_lane_xor(float x, int lanes) const {
    return __shfl_xor_sync(0xffffffff, x, lanes);
  }

  // 16 bytes from global to shared memory without waiting; zeros where `real` is false.
  __device__ void copy_chunk(unsigned to, const bf16* from, bool real) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(to), "l"(from),
                 "r"(real ? 16 : 0)
                 : "memory");
  }
  __device__ void end_of_copies() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }
  // Until all groups of copies but the last `Open` ones have arrived.
  template <int Open>
  __device__ void await_copies() {
    asm volatile("cp.async.wait_group %0;\n" ::"n"(Open) : "memory");
  }

  // Four 8 x 8 matrices, whose rows begin at the addresses that the lanes hold: matrix i at lanes 8
  // i and on. Lane l gets elements (l / 4, 2 (l % 4)) and the next one of each, or of its
  // transpose.
  __device__ void load_matrices(unsigned (&r)[4], unsigned address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
  }
  __device__ void load_transposed(unsigned (&r)[4], unsigned address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
  }

  // c (16 x 8) += a (16 x 16) b (16 x 8). Lane l holds rows l / 4 (c[0], c[1]) and l / 4 + 8 (c[2],
  // c[3]) of columns 2 (l % 4) and the next.
  __device__ void multiply(float (&c)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};\n"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }

  __device__ unsigned pair_of(float low, float high) {
    const __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const unsigned*>(&both);
  }

  // 2^x by the special function unit: within 2 units in the last place of fp32, far finer than the
  // bf16 that the weights become. Tiny results are zero.
  __device__ float power_of_two(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
  }
};

template <int Dim>
__global__ void __launch_bounds__(TensorCoreWarp::kWarps * 32, 1)
    accumulate_kernel(Arguments arguments) {
  TensorCoreWarp warp;
  accumulate::accumulate_block<Dim>(warp, arguments, blockIdx.x);
}

template <class T>
bool is_aligned(const TokensView<T>& view) {
  constexpr int64_t kElements = 16 / sizeof(T);
  return reinterpret_cast<uintptr_t>(view.data) % 16 == 0 && view.batch_stride % kElements == 0 &&
         view.token_stride % kElements == 0;
}

template <int Dim>
void launch(const Arguments& arguments, int64_t units, Stream stream) {
  constexpr int kBytes = accumulate::kSharedBytes<Dim>;
  const cudaError_t error = cudaFuncSetAttribute(
      accumulate_kernel<Dim>, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  require(error == cudaSuccess, "64 KB of shared memory a block");
  const unsigned blocks = blocks_for(arguments.tiles * units);
  accumulate_kernel<Dim><<<blocks, TensorCoreWarp::kWarps * 32, kBytes, stream>>>(arguments);
  check_launch("accumulate_attention");
}

}  // namespace

bool accumulate_attention_takes(int64_t head_dim) { return head_dim == 64 || head_dim == 128; }

AccumulateKernel accumulate_attention_kernel(TokensView<const bf16> query,
                                             TokensView<const bf16> key,
                                             TokensView<const bf16> value,
                                             const AttentionSizes& sizes) {
  return accumulate_attention_hopper_takes(query, key, value, sizes) ? AccumulateKernel::kHopper
                                                                     : AccumulateKernel::kAmpere;
}

void accumulate_attention_cuda(TokensView<float> merged, float* log_sum_exp,
                               TokensView<const bf16> query, TokensView<const bf16> key,
                               TokensView<const bf16> value, const AttentionSizes& sizes,
                               Stream stream, std::optional<AccumulateKernel> kernel) {
  if (sizes.batch * sizes.heads * sizes.queries * sizes.keys == 0) return;
  require(accumulate_attention_takes(sizes.head_dim), "heads of 64 or 128 elements");
  require(is_aligned(query) && is_aligned(key) && is_aligned(value) && is_aligned(merged),
          "rows that begin at multiples of 16 bytes");
  if (!kernel) kernel = accumulate_attention_kernel(query, key, value, sizes);
  if (kernel == AccumulateKernel::kHopper) {
    require(accumulate_attention_hopper_takes(query, key, value, sizes), "a Hopper");
    accumulate_attention_hopper(merged, log_sum_exp, query, key, value, sizes, stream);
    return;
  }
  constexpr int64_t kQueries = 16 * TensorCoreWarp::kWarps;
  const Arguments arguments{merged,
                            log_sum_exp,
                            query,
                            key,
                            value,
                            sizes.queries,
                            sizes.keys,
                            sizes.heads,
                            (sizes.queries + kQueries - 1) / kQueries,
                            static_cast<float>(sizes.scale * 1.4426950408889634)};
  if (sizes.head_dim == 64) {
    launch<64>(arguments, sizes.batch * sizes.heads, stream);
  } else {
    launch<128>(arguments, sizes.batch * sizes.heads, stream);
  }
}

}  // namespace pendulum::kernels

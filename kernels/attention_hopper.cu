// Attention over one block of keys added to earlier ones, on Hopper's own instructions: operands
// come by the TMA, warp groups multiply them from shared memory (wgmma), sums stay in fp32 from the
// first block of keys to the last.
#include "kernels/attention_hopper.h"

#include <cudaTypedefs.h>

#include <algorithm>

#include "kernels/attention_hopper_block.h"
#include "kernels/launch.h"
#include "kernels/wgmma.h"

namespace pendulum::kernels {
namespace {

using HopperArguments = hopper::Arguments<CUtensorMap>;

// These instructions exist in code for sm_90a alone: compiled for others, the kernel is empty and
// never launched.
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define PENDULUM_IS_HOPPER_CODE 1
#else
#define PENDULUM_IS_HOPPER_CODE 0
#endif

#if PENDULUM_IS_HOPPER_CODE

// A thread's view of its block: one instruction a function.
struct HopperView {
  __device__ int thread() const { return static_cast<int>(threadIdx.x); }
  __device__ int block() const { return static_cast<int>(blockIdx.x); }
  __device__ int blocks() const { return static_cast<int>(gridDim.x); }
  // From a multiple of kEightRows on; the launch asks for that much more.
  __device__ unsigned shared() const {
    extern __shared__ unsigned char memory[];
    const auto address = static_cast<unsigned>(__cvta_generic_to_shared(memory));
    return (address + hopper::kEightRows - 1) / hopper::kEightRows * hopper::kEightRows;
  }
  __device__ float from_lane_xor(float x, int lanes) const {
    return __shfl_xor_sync(0xffffffff, x, lanes);
  }
  __device__ unsigned pair_of(float low, float high) const {
    const __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const unsigned*>(&both);
  }
  // 2^x by the special function unit, within 2 units in the last place; tiny results are zero.
  __device__ float power_of_two(float x) const {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
  }

  // A group's threads keep, or get, this many registers each.
  template <int Registers>
  __device__ void give_registers() const {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;\n" ::"n"(Registers));
  }
  template <int Registers>
  __device__ void take_registers() const {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;\n" ::"n"(Registers));
  }

  __device__ void sync_block() const { __syncthreads(); }
  // Barriers between `count` threads: those that wait, and those that only come by.
  __device__ void sync_threads(int barrier, int count) const {
    asm volatile("bar.sync %0, %1;\n" ::"r"(barrier), "r"(count) : "memory");
  }
  __device__ void arrive_threads(int barrier, int count) const {
    asm volatile("bar.arrive %0, %1;\n" ::"r"(barrier), "r"(count) : "memory");
  }

  // Barriers in shared memory: a phase ends when `arrivals` have come, and all bytes that they
  // announced.
  __device__ void init_barrier(unsigned barrier, unsigned arrivals) const {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;\n" ::"r"(barrier), "r"(arrivals)
                 : "memory");
  }
  // So that the TMA sees them; other threads see them after sync_block().
  __device__ void publish_barriers() const {
    asm volatile("fence.mbarrier_init.release.cluster;\n" ::: "memory");
  }
  __device__ void arrive(unsigned barrier) const {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];\n" ::"r"(barrier) : "memory");
  }
  __device__ void arrive_expecting(unsigned barrier, unsigned bytes) const {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;\n" ::"r"(barrier),
                 "r"(bytes)
                 : "memory");
  }
  // Until the phase of this parity has ended. The instruction itself waits for a while.
  __device__ void await_phase(unsigned barrier, unsigned parity) const {
    unsigned has_ended = 0;
    while (has_ended == 0) {
      asm volatile(
          "{\n.reg .pred ended;\n"
          "mbarrier.try_wait.parity.shared::cta.b64 ended, [%1], %2;\n"
          "selp.u32 %0, 1, 0, ended;\n}\n"
          : "=r"(has_ended)
          : "r"(barrier), "r"(parity)
          : "memory");
    }
  }

  // Begins to copy a box of the tensor from these indices on; its bytes count for the barrier.
  __device__ void copy_box(unsigned to, const CUtensorMap& map, int element, int head, int token,
                           int sample, unsigned barrier) const {
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
        "[%0], [%1, {%2, %3, %4, %5}], [%6];\n" ::"r"(to),
        "l"(&map), "r"(element), "r"(head), "r"(token), "r"(sample), "r"(barrier)
        : "memory");
  }

  // Products are begun in batches between begin_products() and end_products(), and end in the order
  // in which they began. What they read and write is theirs until they are waited for.
  __device__ void begin_products() const {
    asm volatile("wgmma.fence.sync.aligned;\n" ::: "memory");
  }
  __device__ void end_products() const {
    asm volatile("wgmma.commit_group.sync.aligned;\n" ::: "memory");
  }
  // Until all batches but the last `Open` ones have ended.
  template <int Open>
  __device__ void await_products() const {
    asm volatile("wgmma.wait_group.sync.aligned %0;\n" ::"n"(Open) : "memory");
  }
  template <int Groups>
  __device__ void multiply(float (&c)[Groups][4], uint64_t a, uint64_t b, bool add) const {
    hopper::begin_product(c, a, b, add);
  }
  template <int Groups>
  __device__ void multiply(float (&c)[Groups][4], const unsigned (&a)[4], uint64_t b) const {
    hopper::begin_product(c, a, b);
  }
  // All that these sums are made of is computed before this line. Without it ptxas puts a tile's
  // exponentials behind the wait for the former tile's values, beside which they are to run; it
  // does not move a wait across a branch. Sums of exponentials are never below zero: nobody sleeps.
  __device__ void finish(const float (&sums)[2]) const {
    if (sums[0] + sums[1] < 0) asm volatile("nanosleep.u32 1;\n" ::: "memory");
  }
  // Keeps the compiler from moving what is done to these registers across this line: it does not
  // know that products still read and write them.
  template <int Groups>
  __device__ void hold(float (&c)[Groups][4]) const {
#pragma unroll
    for (int i = 0; i < Groups * 4; ++i) asm volatile("" : "+f"(c[i / 4][i % 4])::"memory");
  }
  template <int Groups>
  __device__ void hold(unsigned (&a)[Groups][4]) const {
#pragma unroll
    for (int i = 0; i < Groups * 4; ++i) asm volatile("" : "+r"(a[i / 4][i % 4])::"memory");
  }
};

#endif

template <int Dim>
__global__ void __launch_bounds__(hopper::kThreads<Dim>, 1)
    hopper_kernel(const __grid_constant__ HopperArguments arguments) {
#if PENDULUM_IS_HOPPER_CODE
  HopperView view;
  hopper::accumulate_blocks<Dim>(view, arguments);
#endif
}

int attribute(cudaDeviceAttr which) {
  int device = 0, value = 0;
  const bool is_known = cudaGetDevice(&device) == cudaSuccess &&
                        cudaDeviceGetAttribute(&value, which, device) == cudaSuccess;
  return is_known ? value : 0;
}

bool has_tensor_map(const TokensView<const bf16>& view, int64_t batch, int64_t tokens) {
  constexpr int64_t kEnd = (int64_t{1} << 40) / static_cast<int64_t>(sizeof(bf16));
  const auto fits = [&](int64_t size, int64_t stride) {
    return size == 1 || (stride > 0 && stride < kEnd);
  };
  return fits(batch, view.batch_stride) && fits(tokens, view.token_stride) &&
         tokens < (int64_t{1} << 31) - 1024;
}

// By the runtime, so that nothing links the driver's library.
PFN_cuTensorMapEncodeTiled_v12000 encoder() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found{};
  const cudaError_t error = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function,
                                                             12000, cudaEnableDefault, &found);
  require(error == cudaSuccess && found == cudaDriverEntryPointSuccess,
          "a driver that knows tensor maps (CUDA 12)");
  return reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(function);
}

CUtensorMap encoded(const hopper::Tiling& tiling) {
  static const PFN_cuTensorMapEncodeTiled_v12000 encode = encoder();
  const cuuint32_t steps[4] = {1, 1, 1, 1};
  CUtensorMap map;
  const CUresult result =
      encode(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 4, const_cast<void*>(tiling.data),
             tiling.sizes, tiling.byte_strides, tiling.box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
             CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
             CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  require(result == CUDA_SUCCESS, "operands that a tensor map can describe");
  return map;
}

// The kernel counts in 32 bits, with room for a tile behind the end.
int narrow(int64_t count) {
  require(count < (int64_t{1} << 31) - 1024, "counts below 2^31");
  return static_cast<int>(count);
}

template <int Dim>
void launch_hopper(TokensView<float> merged, float* log_sum_exp, TokensView<const bf16> query,
                   TokensView<const bf16> key, TokensView<const bf16> value,
                   const AttentionSizes& s, Stream stream) {
  constexpr int64_t kQueries = hopper::kQueries<Dim>;
  constexpr int kKeys = hopper::Shape<Dim>::kKeys;
  constexpr int kBytes = hopper::Memory<Dim>::kBytes + hopper::kEightRows;
  const auto map = [&](const TokensView<const bf16>& view, int64_t tokens, int rows) {
    return encoded(hopper::tiling_of<Dim>(view, s.batch, tokens, s.heads, rows));
  };
  const int64_t tiles = (s.queries + kQueries - 1) / kQueries;
  const HopperArguments arguments{map(query, s.queries, hopper::kGroupQueries),
                                  map(key, s.keys, kKeys),
                                  map(value, s.keys, kKeys),
                                  merged,
                                  log_sum_exp,
                                  narrow(s.queries),
                                  narrow(s.keys),
                                  narrow(s.heads),
                                  narrow(tiles),
                                  narrow(tiles * s.batch * s.heads),
                                  static_cast<float>(s.scale * 1.4426950408889634)};
  const cudaError_t error =
      cudaFuncSetAttribute(hopper_kernel<Dim>, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  require(error == cudaSuccess, "a Hopper's shared memory for accumulate_attention");
  // As many blocks as run at once: each takes one tile of queries after the other.
  const int processors = std::max(1, attribute(cudaDevAttrMultiProcessorCount));
  const unsigned blocks = blocks_for(std::min(arguments.work, processors));
  hopper_kernel<Dim><<<blocks, hopper::kThreads<Dim>, kBytes, stream>>>(arguments);
  check_launch("accumulate_attention for Hopper");
}

}  // namespace

bool accumulate_attention_hopper_takes(TokensView<const bf16> query, TokensView<const bf16> key,
                                       TokensView<const bf16> value, const AttentionSizes& s) {
#ifdef PENDULUM_HOPPER
  return attribute(cudaDevAttrComputeCapabilityMajor) == 9 &&
         has_tensor_map(query, s.batch, s.queries) && has_tensor_map(key, s.batch, s.keys) &&
         has_tensor_map(value, s.batch, s.keys);
#else
  // Compiled for other GPUs alone: the kernel is empty.
  static_cast<void>(query), static_cast<void>(key), static_cast<void>(value), static_cast<void>(s);
  return false;
#endif
}

void accumulate_attention_hopper(TokensView<float> merged, float* log_sum_exp,
                                 TokensView<const bf16> query, TokensView<const bf16> key,
                                 TokensView<const bf16> value, const AttentionSizes& sizes,
                                 Stream stream) {
  if (sizes.head_dim == 64) {
    launch_hopper<64>(merged, log_sum_exp, query, key, value, sizes, stream);
  } else {
    launch_hopper<128>(merged, log_sum_exp, query, key, value, sizes, stream);
  }
}

}  // namespace pendulum::kernels

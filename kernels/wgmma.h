// Hopper's products of a warp group (PTX manual, "wgmma.mma_async") for the shapes that attention
// needs, bf16 to fp32. Begun, not waited for. A function's operands are registers by name, which is
// why every width has its own.
#pragma once
#include <cstdint>

namespace pendulum::kernels::hopper {

// clang-format off
#define PENDULUM_NAMES_0_32 \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15" ", " \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define PENDULUM_NAMES_32_64 \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47" ", " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define PENDULUM_NAMES_64_88 \
  "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79" ", " \
  "%80, %81, %82, %83, %84, %85, %86, %87"
// clang-format on

// What a lane holds of 8, 32 and 64 columns from column 8 i on.
#define PENDULUM_COLUMNS_8(c, i) "+f"(c[i][0]), "+f"(c[i][1]), "+f"(c[i][2]), "+f"(c[i][3])
#define PENDULUM_COLUMNS_32(c, i)                                                           \
  PENDULUM_COLUMNS_8(c, i), PENDULUM_COLUMNS_8(c, (i) + 1), PENDULUM_COLUMNS_8(c, (i) + 2), \
      PENDULUM_COLUMNS_8(c, (i) + 3)
#define PENDULUM_COLUMNS_64(c, i) PENDULUM_COLUMNS_32(c, i), PENDULUM_COLUMNS_32(c, (i) + 4)

// c (64 x columns) = a (64 x 16) b (16 x columns), or added to it; both operands lie in shared
// memory, with the sum's index along their rows.
__device__ inline void begin_product(float (&c)[16][4], uint64_t a, uint64_t b, bool add) {
  asm volatile(
      "{\n.reg .pred add;\nsetp.ne.b32 add, %66, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" PENDULUM_NAMES_0_32
      ", " PENDULUM_NAMES_32_64
      "}, "
      "%64, %65, add, 1, 1, 0, 0;\n}\n"
      : PENDULUM_COLUMNS_64(c, 0), PENDULUM_COLUMNS_64(c, 8)
      : "l"(a), "l"(b), "r"(static_cast<int>(add)));
}
__device__ inline void begin_product(float (&c)[22][4], uint64_t a, uint64_t b, bool add) {
  asm volatile(
      "{\n.reg .pred add;\nsetp.ne.b32 add, %90, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n176k16.f32.bf16.bf16 {" PENDULUM_NAMES_0_32
      ", " PENDULUM_NAMES_32_64 ", " PENDULUM_NAMES_64_88
      "}, "
      "%88, %89, add, 1, 1, 0, 0;\n}\n"
      : PENDULUM_COLUMNS_64(c, 0), PENDULUM_COLUMNS_64(c, 8), PENDULUM_COLUMNS_32(c, 16),
        PENDULUM_COLUMNS_8(c, 20), PENDULUM_COLUMNS_8(c, 21)
      : "l"(a), "l"(b), "r"(static_cast<int>(add)));
}

// c (64 x columns) += a (64 x 16) b (16 x columns): a in registers, as mma.m16n8k16 has it in each
// warp; b in shared memory, with the sum's index across its rows (the last of the numbers behind
// it).
__device__ inline void begin_product(float (&c)[8][4], const unsigned (&a)[4], uint64_t b) {
  asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" PENDULUM_NAMES_0_32
               "}, "
               "{%32, %33, %34, %35}, %36, 1, 1, 1, 1;\n"
               : PENDULUM_COLUMNS_64(c, 0)
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}
__device__ inline void begin_product(float (&c)[16][4], const unsigned (&a)[4], uint64_t b) {
  asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" PENDULUM_NAMES_0_32
               ", " PENDULUM_NAMES_32_64
               "}, "
               "{%64, %65, %66, %67}, %68, 1, 1, 1, 1;\n"
               : PENDULUM_COLUMNS_64(c, 0), PENDULUM_COLUMNS_64(c, 8)
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

#undef PENDULUM_NAMES_0_32
#undef PENDULUM_NAMES_32_64
#undef PENDULUM_NAMES_64_88
#undef PENDULUM_COLUMNS_8
#undef PENDULUM_COLUMNS_32
#undef PENDULUM_COLUMNS_64

}  // namespace pendulum::kernels::hopper

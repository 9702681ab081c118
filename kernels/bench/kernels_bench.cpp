// How fast every kernel is beside a copy of memory in the same run: kernels_bench [cpu | gpu]
// [rows]. Prints a table in Markdown. Without an argument: the GPU where there is one.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <vector>

#include "backend.h"
#include "kernels/adamw.h"
#include "kernels/adamw8bit.h"
#include "kernels/attention.h"
#include "kernels/bias_gelu.h"
#include "kernels/column_sum.h"
#include "kernels/gated_residual.h"
#include "kernels/merge_attention.h"
#include "kernels/norm_modulate.h"
#include "kernels/qk_norm_rotary.h"
#include "kernels/scaled_codes.h"
#ifdef PENDULUM_CUDNN
#include "kernels/cudnn_attention.h"
#endif

namespace pendulum::kernels {
namespace {

// The width of a 1.3B model.
constexpr int64_t kHeads = 12;
constexpr int64_t kHeadDim = 128;
constexpr int64_t kDim = kHeads * kHeadDim;
constexpr int64_t kFfnDim = 8960;
constexpr int kRuns = 21;

template <class Backend>
class Bench {
 public:
  using T = typename Backend::Element;
  static constexpr int64_t kElement = sizeof(T);

  explicit Bench(int64_t rows) : rows_(rows) {}

  void run() {
    std::printf("%s; %lld rows of %lld, %lld heads of %lld; median of %d runs\n\n",
                on_.name().c_str(), static_cast<long long>(rows_), static_cast<long long>(kDim),
                static_cast<long long>(kHeads), static_cast<long long>(kHeadDim), kRuns);
    std::printf("Bytes are those that must move, each operand once.\n\n");
    std::printf("| kernel | ms | MB | GB/s | of a copy |\n|---|---:|---:|---:|---:|\n");
    copy();
    norm();
    rotary(1, "");
    rotary(4, ", cut into 4 parts");
    residual();
    gelu();
    sums();
    merge();
    optimizer();
    restoring();
    std::printf("\n| attention | ms | TFLOP/s |\n|---|---:|---:|\n");
    attention(kIsGpu ? 16384 : 512);
    if (kIsGpu) attention(rows_);
  }

 private:
  static constexpr bool kIsGpu = Backend::kIsGpu;

  // `bytes` that the kernel reads and writes at least.
  void report(const std::string& name, int64_t bytes, const std::function<void()>& call) {
    const double seconds = on_.time(kRuns, call);
    const double speed = static_cast<double>(bytes) / seconds;
    if (copy_speed_ == 0) copy_speed_ = speed;
    std::printf("| %s | %.3f | %.1f | %.1f | %.0f %% |\n", name.c_str(), seconds * 1e3,
                static_cast<double>(bytes) * 1e-6, speed * 1e-9, 100 * speed / copy_speed_);
    std::fflush(stdout);
  }

  void copy() {
    const int64_t count = rows_ * kDim;
    T* to = on_.template take<T>(count);
    const T* from = on_.template take<T>(count);
    report("copy", 2 * count * kElement, [&] { on_.copy(to, from, count * kElement); });
    on_.release();
  }

  void norm() {
    const NormModulateSizes s{1, rows_, kDim, kDim, 1e-6, 1};
    const int64_t count = rows_ * kDim, pieces = pieces_of(rows_);
    const T *x = on_.template take<T>(count), *dout = on_.template take<T>(count);
    T *out = on_.template take<T>(count), *dx = on_.template take<T>(count);
    const float *scale = on_.template take<float>(kDim), *shift = on_.template take<float>(kDim);
    float *mean = on_.template take<float>(rows_), *rstd = on_.template take<float>(rows_);
    float *dscale = on_.template take<float>(pieces * kDim),
          *dshift = on_.template take<float>(pieces * kDim);
    report("norm_modulate", 2 * count * kElement, [&] {
      if constexpr (kIsGpu) {
        norm_modulate_cuda(out, mean, rstd, x, scale, shift, s, on_.stream());
      } else {
        norm_modulate(out, mean, rstd, x, scale, shift, s, 0, rows_);
      }
    });
    report("norm_modulate, backward", 3 * count * kElement, [&] {
      if constexpr (kIsGpu) {
        norm_modulate_backward_cuda(dx, dscale, dshift, dout, x, mean, rstd, scale, s,
                                    on_.stream());
      } else {
        norm_modulate_backward(dx, dscale, dshift, dout, x, mean, rstd, scale, s, 0, pieces);
      }
    });
    on_.release();
  }

  void rotary(int64_t parts, const std::string& how) {
    // x lies among queries, keys and values, as the projection leaves them.
    const QkNormRotarySizes s{rows_,    rows_, kHeads, kHeadDim,
                              3 * kDim, 1e-6,  parts,  rows_ * kDim / parts};
    const int64_t count = rows_ * kDim, pieces = pieces_of(rows_);
    const T *x = on_.template take<T>(3 * count), *dout = on_.template take<T>(count);
    T *out = on_.template take<T>(count), *dx = on_.template take<T>(3 * count);
    const float* weight = on_.template take<float>(kDim);
    const float *cosine = on_.template take<float>(rows_ * kHeadDim / 2),
                *sine = on_.template take<float>(rows_ * kHeadDim / 2);
    float *rstd = on_.template take<float>(rows_),
          *dweight = on_.template take<float>(pieces * kDim);
    const int64_t tables = rows_ * kHeadDim * 4;
    report("qk_norm_rotary" + how, 2 * count * kElement + tables, [&] {
      if constexpr (kIsGpu) {
        qk_norm_rotary_cuda(out, rstd, x, weight, cosine, sine, s, on_.stream());
      } else {
        qk_norm_rotary(out, rstd, x, weight, cosine, sine, s, 0, rows_);
      }
    });
    report("qk_norm_rotary" + how + ", backward", 3 * count * kElement + tables, [&] {
      if constexpr (kIsGpu) {
        qk_norm_rotary_backward_cuda(dx, dweight, dout, x, rstd, weight, cosine, sine, s,
                                     on_.stream());
      } else {
        qk_norm_rotary_backward(dx, dweight, dout, x, rstd, weight, cosine, sine, s, 0, pieces);
      }
    });
    on_.release();
  }

  void residual() {
    const GatedResidualSizes s{1, rows_, kDim, kDim};
    const int64_t count = rows_ * kDim, pieces = pieces_of(rows_);
    const T *x = on_.template take<T>(count), *y = on_.template take<T>(count),
            *dout = on_.template take<T>(count);
    T *out = on_.template take<T>(count), *dy = on_.template take<T>(count);
    const float *bias = on_.template take<float>(kDim), *gate = on_.template take<float>(kDim);
    float *dgate = on_.template take<float>(pieces * kDim),
          *dbias = on_.template take<float>(pieces * kDim);
    report("gated_residual", 3 * count * kElement, [&] {
      if constexpr (kIsGpu) {
        gated_residual_cuda(out, x, y, bias, gate, s, on_.stream());
      } else {
        gated_residual(out, x, y, bias, gate, s, 0, rows_);
      }
    });
    report("gated_residual, backward", 3 * count * kElement, [&] {
      if constexpr (kIsGpu) {
        gated_residual_backward_cuda(dy, dgate, dbias, dout, y, bias, gate, s, on_.stream());
      } else {
        gated_residual_backward(dy, dgate, dbias, dout, y, bias, gate, s, 0, pieces);
      }
    });
    on_.release();
  }

  void gelu() {
    const int64_t count = rows_ * kFfnDim, pieces = pieces_of(rows_);
    const T *x = on_.template take<T>(count), *dout = on_.template take<T>(count);
    T *out = on_.template take<T>(count), *dx = on_.template take<T>(count);
    const float* bias = on_.template take<float>(kFfnDim);
    float* dbias = on_.template take<float>(pieces * kFfnDim);
    report("bias_gelu", 2 * count * kElement, [&] {
      if constexpr (kIsGpu) {
        bias_gelu_cuda(out, x, bias, rows_, kFfnDim, on_.stream());
      } else {
        bias_gelu(out, x, bias, kFfnDim, 0, rows_);
      }
    });
    report("bias_gelu, backward", 3 * count * kElement, [&] {
      if constexpr (kIsGpu) {
        bias_gelu_backward_cuda(dx, dbias, dout, x, bias, rows_, kFfnDim, on_.stream());
      } else {
        bias_gelu_backward(dx, dbias, dout, x, bias, rows_, kFfnDim, 0, pieces);
      }
    });
    on_.release();
  }

  void sums() {
    const int64_t count = rows_ * kDim, pieces = pieces_of(rows_);
    const T* x = on_.template take<T>(count);
    float *partial = on_.template take<float>(pieces * kDim), *sum = on_.template take<float>(kDim);
    report("column_sum and sum_pieces", count * kElement, [&] {
      if constexpr (kIsGpu) {
        column_sum_cuda(partial, x, rows_, kDim, kDim, on_.stream());
        sum_pieces_cuda(sum, partial, 1, pieces, kDim, on_.stream());
      } else {
        column_sum(partial, x, rows_, kDim, kDim, 0, pieces);
        sum_pieces(sum, partial, pieces, kDim, 0, 1);
      }
    });
    on_.release();
  }

  void merge() {
    const MergeAttentionSizes s{1, rows_, kHeads, kHeadDim};
    const int64_t count = rows_ * kDim;
    float* merged = on_.template take<float>(count);
    const T* part = on_.template take<T>(count);
    float* statistic = on_.template take<float>(rows_ * kHeads);
    const float* part_statistic = on_.template take<float>(rows_ * kHeads);
    report("merge_attention", count * (8 + kElement), [&] {
      if constexpr (kIsGpu) {
        merge_attention_cuda(merged, statistic, part, part_statistic, s, on_.stream());
      } else {
        merge_attention(merged, statistic, part, part_statistic, s, 0, rows_ * kHeads);
      }
    });
    on_.release();
  }

  // As many tensors as a model has, of unequal sizes.
  void optimizer() {
    std::vector<int64_t> counts;
    int64_t all = 0;
    for (int i = 0; i < 200; ++i) {
      counts.push_back(i % 4 == 0 ? rows_ * 16 : 1536 + i);
      all += counts.back();
    }
    const auto chunks = chunks_of(counts);
    std::vector<AdamWTensor<float>> tensors;
    std::vector<const float*> gradients;
    for (const int64_t count : counts) {
      gradients.push_back(on_.template take<float>(count));
      tensors.push_back({on_.template take<float>(count), gradients.back(),
                         on_.template take<float>(count),
                         on_.template take<float>(count, 0.4F, 0.5F),
                         on_.template take<float>(count), count, 0.01});
    }
    std::vector<AdamW8bitTensor> tensors_8bit;
    for (const AdamWTensor<float>& t : tensors) {
      const int64_t blocks = (t.count + kQuantBlock - 1) / kQuantBlock;
      tensors_8bit.push_back({t.parameter, t.gradient, on_.bytes(t.count, kFirstMap.zero),
                              on_.bytes(t.count, kSecondMap.zero), on_.template take<float>(blocks),
                              on_.template take<float>(blocks, 0.4F, 0.5F), t.average, t.count,
                              t.decay});
    }
    const AdamWTensor<float>* tensor_table = on_.table(tensors);
    const AdamW8bitTensor* table_8bit = on_.table(tensors_8bit);
    const float* const* gradient_table = on_.table(gradients);
    const Chunk* chunk_table = on_.table(chunks);
    double* partial = on_.template take<double>(static_cast<int64_t>(chunks.size()));
    const auto num_chunks = static_cast<int64_t>(chunks.size());
    const AdamWStep step{};
    // 5 numbers read and 4 written an element.
    report("adamw over 200 tensors", 36 * all, [&] {
      if constexpr (kIsGpu) {
        adamw_cuda(tensor_table, chunk_table, num_chunks, step, 0.5, on_.stream());
      } else {
        adamw(tensor_table, chunk_table, step, 0.5, 0, num_chunks);
      }
    });
    // 3 numbers and 2 bytes read, 2 and 2 written; the scales are 1/64 of a byte each.
    report("adamw8bit over 200 tensors", 24 * all, [&] {
      if constexpr (kIsGpu) {
        adamw8bit_cuda(table_8bit, chunk_table, num_chunks, step, 0.5, on_.stream());
      } else {
        adamw8bit(table_8bit, chunk_table, step, 0.5, 0, num_chunks);
      }
    });
    report("sum_of_squares over 200 tensors", 4 * all, [&] {
      if constexpr (kIsGpu) {
        sum_of_squares_cuda(partial, gradient_table, chunk_table, num_chunks, on_.stream());
      } else {
        sum_of_squares(partial, gradient_table, chunk_table, 0, num_chunks);
      }
    });
    on_.release();
  }

  // A feed-forward layer's weight in 8 bits.
  void restoring() {
    const int64_t count = kFfnDim * kDim;
    T* to = on_.template take<T>(count);
    const auto* codes = reinterpret_cast<const int8_t*>(on_.bytes(count, 7));
    const float* scales = on_.template take<float>(kFfnDim * scales_of(kDim));
    report("decode int8 with scales", count * (1 + kElement), [&] {
      if constexpr (kIsGpu) {
        decode_cuda(to, codes, scales, kFfnDim, kDim, on_.stream());
      } else {
        decode(to, codes, scales, kDim, 0, kFfnDim);
      }
    });
    on_.release();
  }

  void report_flops(const std::string& name, double flops, const std::function<void()>& call) {
    const double seconds = on_.time(kRuns, call);
    std::printf("| %s | %.3f | %.3f |\n", name.c_str(), seconds * 1e3, flops / seconds * 1e-12);
    std::fflush(stdout);
  }

  void attention(int64_t tokens) {
    const AttentionSizes s{1,      tokens,   tokens,
                           kHeads, kHeadDim, 1 / std::sqrt(static_cast<double>(kHeadDim))};
    const int64_t count = tokens * kDim;
    const std::string at = " at " + std::to_string(tokens) + " tokens";
    const double flops = 4.0 * static_cast<double>(tokens * tokens) * kDim;
    const auto view = [&](auto* data) {
      return TokensView<std::remove_pointer_t<decltype(data)>>{data, count, kDim};
    };
    const T *q = on_.template take<T>(count), *k = on_.template take<T>(count),
            *v = on_.template take<T>(count);
    float* merged = on_.template take<float>(count);
    float* statistic = on_.template take<float>(tokens * kHeads);
    float* scratch = on_.template take<float>(kIsGpu ? 1 : attention_scratch(s));
    if constexpr (kIsGpu) {
      const auto accumulate = [&](const std::string& name, AccumulateKernel kernel) {
        report_flops(name + at, flops, [&] {
          accumulate_attention_cuda(view(merged), statistic, view(q), view(k), view(v), s,
                                    on_.stream(), kernel);
        });
      };
      if (accumulate_attention_kernel(view(q), view(k), view(v), s) == AccumulateKernel::kHopper)
        accumulate("accumulate_attention for Hopper", AccumulateKernel::kHopper);
      accumulate("accumulate_attention", AccumulateKernel::kAmpere);
    } else {
      report_flops("accumulate_attention" + at, flops, [&] {
        accumulate_attention<float>(view(merged), statistic, view(q), view(k), view(v), scratch, s,
                                    0, kHeads);
      });
    }
    if constexpr (!kIsGpu) {
      T *out = on_.template take<T>(count), *dq = on_.template take<T>(count),
        *dk = on_.template take<T>(count), *dv = on_.template take<T>(count);
      report_flops("attention" + at, flops, [&] {
        kernels::attention<float>(view(out), statistic, view(q), view(k), view(v), scratch, s, 0,
                                  kHeads);
      });
      report_flops("attention, backward" + at, 2.5 * flops, [&] {
        attention_backward<float>(view(dq), view(dk), view(dv), view(q), view(q), view(k), view(v),
                                  view(static_cast<const T*>(out)), statistic, scratch, s, 0,
                                  kHeads);
      });
    }
#ifdef PENDULUM_CUDNN
    if constexpr (kIsGpu) cudnn(s, q, k, v, at, flops);
#endif
    on_.release();
  }

#ifdef PENDULUM_CUDNN
  void cudnn(const AttentionSizes& real, const T* q, const T* k, const T* v, const std::string& at,
             double flops) {
    AttentionSizes s = real;
    s.queries = s.keys = cudnn_tokens(real.queries);
    const int64_t count = s.queries * kDim;
    const bool masked = s.queries != real.queries;
    const T *qp = q, *kp = k, *vp = v;
    if (masked) {
      qp = on_.template take<T>(count);
      kp = on_.template take<T>(count);
      vp = on_.template take<T>(count);
    }
    const int32_t* lengths = on_.table(std::vector<int32_t>{static_cast<int32_t>(real.queries)});
    const auto view = [&](auto* data) {
      return TokensView<std::remove_pointer_t<decltype(data)>>{data, count, kDim};
    };
    T *out = on_.template take<T>(count), *dq = on_.template take<T>(count),
      *dk = on_.template take<T>(count), *dv = on_.template take<T>(count);
    const T* dout = on_.template take<T>(count);
    float* statistic = on_.template take<float>(s.queries * kHeads);
    CudnnAttention library;
    const CudnnForward forward{view(out),
                               statistic,
                               view(qp),
                               view(kp),
                               view(vp),
                               masked ? lengths : nullptr,
                               masked ? lengths : nullptr};
    time_cudnn(library, forward, s, "cuDNN" + at, flops);
    const CudnnBackward backward{view(dq),           view(dk),
                                 view(dv),           view(dout),
                                 view(qp),           view(kp),
                                 view(vp),           view(static_cast<const T*>(out)),
                                 statistic,          forward.query_lengths,
                                 forward.key_lengths};
    time_cudnn(library, backward, s, "cuDNN, backward" + at, 2.5 * flops);
  }

  template <class Operands>
  void time_cudnn(CudnnAttention& library, const Operands& operands, const AttentionSizes& s,
                  const std::string& name, double flops) {
    const CudnnPlan plan = library.plan(operands, s);
    if (!plan.refusal.empty()) {
      std::printf("| %s | %s | |\n", name.c_str(), plan.refusal.c_str());
      return;
    }
    void* workspace = on_.room(plan.workspace);
    report_flops(name, flops, [&] { library.run(operands, s, workspace, on_.stream()); });
  }
#endif

  const int64_t rows_;
  Backend on_;
  double copy_speed_ = 0;  // bytes a second
};

int run(const std::vector<std::string>& arguments) {
  std::string device = arguments.empty() ? "auto" : arguments[0];
  const int64_t rows = arguments.size() > 1 ? std::atoll(arguments[1].c_str()) : 0;
  if ((device != "auto" && device != "cpu" && device != "gpu") || arguments.size() > 2 ||
      (arguments.size() > 1 && rows < 1)) {
    std::fprintf(stderr, "kernels_bench [cpu | gpu] [rows]\n");
    return 2;
  }
#ifdef PENDULUM_CUDA
  if (device == "auto") device = GpuBackend::exists() ? "gpu" : "cpu";
  if (device == "gpu" && !GpuBackend::exists()) {
    std::fprintf(stderr, "kernels_bench: there is no GPU here\n");
    return 1;
  }
  if (device == "gpu") {
    Bench<GpuBackend>(rows > 0 ? rows : 32760).run();
    return 0;
  }
#endif
  if (device == "gpu") {
    std::fprintf(stderr, "kernels_bench: this build is without CUDA\n");
    return 1;
  }
  Bench<HostBackend>(rows > 0 ? rows : 1024).run();
  return 0;
}

}  // namespace
}  // namespace pendulum::kernels

int main(int argc, char** argv) {
  try {
    return pendulum::kernels::run({argv + 1, argv + argc});
  } catch (const std::exception& error) {
    std::fprintf(stderr, "kernels_bench: %s\n", error.what());
    return 1;
  }
}

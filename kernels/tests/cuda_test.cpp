// The CUDA kernels against their CPU twins, in fp32 and bf16. Skipped where there is no device.
#include <gtest/gtest.h>

#include <limits>
#include <memory>

#include "device.h"
#include "kernels/adamw.h"
#include "kernels/bias_gelu.h"
#include "kernels/column_sum.h"
#include "kernels/gated_residual.h"
#include "kernels/merge_attention.h"
#include "kernels/norm_modulate.h"
#include "kernels/qk_norm_rotary.h"
#include "kernels/scaled_codes.h"

namespace pendulum::kernels {
namespace {

template <class T>
void check_norm_modulate(const NormModulateSizes& s) {
  const int64_t rows = s.groups * s.rows, pieces = pieces_of(s.rows);
  const Values x = rounded<T>(random_values<float>(rows * s.dim, 1, 2.0, 0.5));
  const Values dout = rounded<T>(random_values<float>(rows * s.dim, 2));
  const Values scale = random_values<float>(s.groups * s.stride, 3);
  const Values shift = random_values<float>(s.groups * s.stride, 4);
  Values out(x.size()), mean(rows), rstd(rows), dx(x.size());
  Values dscale(s.groups * pieces * s.dim), dshift(dscale.size());
  norm_modulate(out.data(), mean.data(), rstd.data(), x.data(), scale.data(), shift.data(), s, 0,
                rows);
  norm_modulate_backward(dx.data(), dscale.data(), dshift.data(), dout.data(), x.data(),
                         mean.data(), rstd.data(), scale.data(), s, 0, s.groups * pieces);
  Device<T> d_x(x), d_dout(dout), d_out(rows * s.dim), d_dx(rows * s.dim);
  Device<float> d_scale(scale), d_shift(shift), d_mean(rows), d_rstd(rows);
  Device<float> d_dscale(s.groups * pieces * s.dim), d_dshift(s.groups * pieces * s.dim);
  norm_modulate_cuda<T>(d_out.data(), d_mean.data(), d_rstd.data(), d_x.data(), d_scale.data(),
                        d_shift.data(), s, nullptr);
  norm_modulate_backward_cuda<T>(d_dx.data(), d_dscale.data(), d_dshift.data(), d_dout.data(),
                                 d_x.data(), d_mean.data(), d_rstd.data(), d_scale.data(), s,
                                 nullptr);
  const double terms = std::sqrt(static_cast<double>(s.dim));
  expect_close<T>(d_out.values(), out, terms);
  expect_close<T>(d_dx.values(), dx, terms);
  expect_close<float>(d_dscale.values(), dscale, 64);
  expect_close<float>(d_dshift.values(), dshift, 64);
}

TEST_F(CudaTest, NormModulate) {
  for (const NormModulateSizes& s :
       {NormModulateSizes{1, 1, 4, 4, 1e-6, 1}, NormModulateSizes{3, 65, 160, 960, 1e-6, 1},
        NormModulateSizes{1, 239, 5120, 5120, 1e-6, 0},
        NormModulateSizes{130, 1, 1536, 9216, 1e-6, 1}}) {
    check_norm_modulate<float>(s);
    check_norm_modulate<bf16>(s);
  }
}

template <class T>
void check_qk_norm_rotary(const QkNormRotarySizes& s, bool rotated) {
  const int64_t dim = s.heads * s.head_dim, pieces = pieces_of(s.rows);
  const Values x = rounded<T>(random_values<float>(s.rows * s.stride, 1, 2.0));
  const Values dout = rounded<T>(random_values<float>(s.rows * dim, 2));
  const Values weight = random_values<float>(dim, 3, 0.5, 1.0);
  Values cosine, sine;
  for (int64_t i = 0; i < s.tokens * s.head_dim / 2; ++i) {
    cosine.push_back(std::cos(0.7F * static_cast<float>(i)));
    sine.push_back(std::sin(0.7F * static_cast<float>(i)));
  }
  Values out(s.rows * dim), rstd(s.rows), dx(s.rows * s.stride, 0.0F), dweight(pieces * dim);
  const float* c = rotated ? cosine.data() : nullptr;
  const float* i = rotated ? sine.data() : nullptr;
  qk_norm_rotary(out.data(), rstd.data(), x.data(), weight.data(), c, i, s, 0, s.rows);
  qk_norm_rotary_backward(dx.data(), dweight.data(), dout.data(), x.data(), rstd.data(),
                          weight.data(), c, i, s, 0, pieces);
  Device<T> d_x(x), d_dout(dout), d_out(s.rows * dim), d_dx(Values(s.rows * s.stride, 0.0F));
  Device<float> d_weight(weight), d_cosine(cosine), d_sine(sine), d_rstd(s.rows),
      d_dweight(pieces * dim);
  const float* d_c = rotated ? d_cosine.data() : nullptr;
  const float* d_i = rotated ? d_sine.data() : nullptr;
  qk_norm_rotary_cuda<T>(d_out.data(), d_rstd.data(), d_x.data(), d_weight.data(), d_c, d_i, s,
                         nullptr);
  qk_norm_rotary_backward_cuda<T>(d_dx.data(), d_dweight.data(), d_dout.data(), d_x.data(),
                                  d_rstd.data(), d_weight.data(), d_c, d_i, s, nullptr);
  const double terms = std::sqrt(static_cast<double>(dim));
  expect_close<T>(d_out.values(), out, terms);
  expect_close<T>(d_dx.values(), dx, terms);
  expect_close<float>(d_dweight.values(), dweight, 64);

  // Values: cut into parts and put together again, not a bit is lost.
  qk_norm_rotary<float>(out.data(), nullptr, x.data(), nullptr, c, i, s, 0, s.rows);
  qk_norm_rotary_cuda<T>(d_out.data(), nullptr, d_x.data(), nullptr, d_c, d_i, s, nullptr);
  EXPECT_EQ(d_out.values(), out);
  qk_norm_rotary_backward<float>(dx.data(), nullptr, out.data(), x.data(), nullptr, nullptr, c, i,
                                 s, 0, pieces);
  qk_norm_rotary_backward_cuda<T>(d_dx.data(), nullptr, d_out.data(), d_x.data(), nullptr, nullptr,
                                  d_c, d_i, s, nullptr);
  EXPECT_EQ(d_dx.values(), dx);
}

// rows, tokens, heads, head_dim, stride, eps, parts, part_stride; parts without gaps.
TEST_F(CudaTest, QkNormRotary) {
  for (const QkNormRotarySizes& s :
       {QkNormRotarySizes{1, 1, 2, 2, 4, 1e-6}, QkNormRotarySizes{130, 65, 4, 40, 480, 1e-6},
        QkNormRotarySizes{66, 33, 40, 128, 15360, 1e-6},
        QkNormRotarySizes{66, 33, 40, 128, 15360, 1e-6, 8, 66 * 5 * 128},
        QkNormRotarySizes{7, 7, 12, 18, 216, 1e-6, 3, 7 * 4 * 18},
        QkNormRotarySizes{6, 3, 2, 34, 68, 1e-6}}) {
    for (const bool rotated : {true, false}) {
      check_qk_norm_rotary<float>(s, rotated);
      check_qk_norm_rotary<bf16>(s, rotated);
    }
  }
}

template <class T>
void check_gated_residual(const GatedResidualSizes& s, bool gated) {
  const int64_t count = s.groups * s.rows * s.dim, pieces = pieces_of(s.rows);
  const Values x = rounded<T>(random_values<float>(count, 1));
  const Values y = rounded<T>(random_values<float>(count, 2));
  const Values dout = rounded<T>(random_values<float>(count, 3));
  const Values bias = random_values<float>(s.dim, 4),
               gate = random_values<float>(s.groups * s.stride + s.dim, 5);
  Values out(count), dy(count), dgate(s.groups * pieces * s.dim), dbias(dgate.size());
  const float* g = gated ? gate.data() : nullptr;
  gated_residual(out.data(), x.data(), y.data(), bias.data(), g, s, 0, s.groups * s.rows);
  gated_residual_backward(dy.data(), dgate.data(), dbias.data(), dout.data(), y.data(), bias.data(),
                          g, s, 0, s.groups * pieces);
  Device<T> d_x(x), d_y(y), d_dout(dout), d_out(count), d_dy(count);
  Device<float> d_bias(bias), d_gate(gate), d_dgate(s.groups * pieces * s.dim);
  Device<float> d_dbias(s.groups * pieces * s.dim);
  float* d_g = gated ? d_gate.data() : nullptr;
  gated_residual_cuda<T>(d_out.data(), d_x.data(), d_y.data(), d_bias.data(), d_g, s, nullptr);
  gated_residual_backward_cuda<T>(d_dy.data(), d_dgate.data(), d_dbias.data(), d_dout.data(),
                                  d_y.data(), d_bias.data(), d_g, s, nullptr);
  expect_close<T>(d_out.values(), out, 0);
  expect_close<float>(d_dbias.values(), dbias, 64);
  if (!gated) return;
  expect_close<T>(d_dy.values(), dy, 0);
  expect_close<float>(d_dgate.values(), dgate, 64);
}

TEST_F(CudaTest, GatedResidual) {
  for (const GatedResidualSizes& s :
       {GatedResidualSizes{1, 1, 4, 4}, GatedResidualSizes{3, 65, 160, 960},
        GatedResidualSizes{70, 1, 1536, 9216}, GatedResidualSizes{1, 239, 5120, 0}}) {
    check_gated_residual<float>(s, s.stride > 0);
    check_gated_residual<bf16>(s, s.stride > 0);
  }
}

template <class T>
void check_bias_gelu(int64_t rows, int64_t dim) {
  const int64_t pieces = pieces_of(rows);
  const Values x = rounded<T>(random_values<float>(rows * dim, 1, 6.0));
  const Values dout = rounded<T>(random_values<float>(rows * dim, 2));
  const Values bias = random_values<float>(dim, 3);
  Values out(x.size()), dx(x.size()), dbias(pieces * dim);
  bias_gelu(out.data(), x.data(), bias.data(), dim, 0, rows);
  bias_gelu_backward(dx.data(), dbias.data(), dout.data(), x.data(), bias.data(), rows, dim, 0,
                     pieces);
  Device<T> d_x(x), d_dout(dout), d_out(rows * dim), d_dx(rows * dim);
  Device<float> d_bias(bias), d_dbias(pieces * dim);
  bias_gelu_cuda<T>(d_out.data(), d_x.data(), d_bias.data(), rows, dim, nullptr);
  bias_gelu_backward_cuda<T>(d_dx.data(), d_dbias.data(), d_dout.data(), d_x.data(), d_bias.data(),
                             rows, dim, nullptr);
  expect_close<T>(d_out.values(), out, 8);
  expect_close<T>(d_dx.values(), dx, 8);
  expect_close<float>(d_dbias.values(), dbias, 64 + 8);
}

TEST_F(CudaTest, BiasGelu) {
  for (const auto& [rows, dim] : {std::pair{1, 4}, {65, 640}, {129, 13824}}) {
    check_bias_gelu<float>(rows, dim);
    check_bias_gelu<bf16>(rows, dim);
  }
}

TEST_F(CudaTest, ColumnSumAndPieces) {
  const int64_t rows = 239, dim = 160, stride = 164, pieces = pieces_of(rows);
  const Values x = random_values<float>(rows * stride, 1);
  Values partial(pieces * dim), sum(dim);
  column_sum(partial.data(), x.data(), rows, dim, stride, 0, pieces);
  sum_pieces(sum.data(), partial.data(), pieces, dim, 0, 1);
  Device<float> d_x(x), d_partial(pieces * dim), d_sum(dim);
  column_sum_cuda<float>(d_partial.data(), d_x.data(), rows, dim, stride, nullptr);
  sum_pieces_cuda(d_sum.data(), d_partial.data(), 1, pieces, dim, nullptr);
  expect_close<float>(d_sum.values(), sum, 239);
}

// One tensor is longer than a chunk, one is empty, one has a gradient that is not aligned.
TEST_F(CudaTest, AdamW) {
  std::vector<Values> p, g, m, v, a;
  std::vector<std::unique_ptr<Device<float>>> device;
  std::vector<AdamWTensor<float>> device_tensors;
  std::vector<int64_t> counts;
  for (int i = 0; i < 100; ++i) {
    const int64_t count = i == 7 ? 70000 : i == 8 ? 0 : 1 + 13 * i;
    const int64_t shift = i == 9 ? 1 : 0;
    counts.push_back(count);
    p.push_back(random_values<float>(count, 5 * i));
    g.push_back(random_values<float>(count + shift, 5 * i + 1));
    m.push_back(random_values<float>(count, 5 * i + 2));
    v.push_back(random_values<float>(count, 5 * i + 3, 0.5, 0.6));
    a.push_back(random_values<float>(count, 5 * i + 4));
    for (const Values& values : {p[i], g[i], m[i], v[i], a[i]})
      device.push_back(std::make_unique<Device<float>>(values));
    const size_t d = device.size() - 5;
    device_tensors.push_back({device[d]->data(), device[d + 1]->data() + shift,
                              device[d + 2]->data(), device[d + 3]->data(),
                              i % 2 == 0 ? device[d + 4]->data() : nullptr, count, 0.1 * (i % 3)});
    g[i].erase(g[i].begin(), g[i].begin() + shift);
  }
  const AdamWStep step{.rate = 0.01, .step = 3};
  const auto chunks = chunks_of(counts);
  DeviceTable<AdamWTensor<float>> tensor_table(device_tensors);
  DeviceTable<Chunk> chunk_table(chunks);
  adamw_cuda(tensor_table.data(), chunk_table.data(), static_cast<int64_t>(chunks.size()), step,
             0.5, nullptr);
  for (int i = 0; i < 100; ++i) {
    const AdamWTensor<float> host{p[i].data(),
                                  g[i].data(),
                                  m[i].data(),
                                  v[i].data(),
                                  i % 2 == 0 ? a[i].data() : nullptr,
                                  device_tensors[i].count,
                                  device_tensors[i].decay};
    adamw(host, step, 0.5, 0, host.count);
    expect_close<float>(device[5 * i]->values(), p[i], 0);
    expect_close<float>(device[5 * i + 2]->values(), m[i], 0);
    expect_close<float>(device[5 * i + 3]->values(), v[i], 0);
    expect_close<float>(device[5 * i + 4]->values(), a[i], 0);
  }
}

TEST_F(CudaTest, SumOfSquares) {
  const Values x = random_values<float>(300001, 1);
  Device<float> d_x(x);
  // The second tensor begins beside an aligned address.
  const std::vector<const float*> host{x.data(), x.data() + 1};
  const auto chunks = chunks_of({300001, 7777});
  const auto count = static_cast<int64_t>(chunks.size());
  DeviceTable<const float*> tensors(std::vector<const float*>{d_x.data(), d_x.data() + 1});
  DeviceTable<Chunk> chunk_table(chunks);
  DeviceTable<double> partial(std::vector<double>(chunks.size(), -1.0));
  sum_of_squares_cuda(partial.data(), tensors.data(), chunk_table.data(), count, nullptr);
  std::vector<double> expected(chunks.size());
  sum_of_squares(expected.data(), host.data(), chunks.data(), 0, count);
  const auto found = partial.entries(chunks.size());
  for (size_t i = 0; i < chunks.size(); ++i)
    EXPECT_LE(std::abs(found[i] - expected[i]), kChunk * 0x1p-52 * expected[i]) << i;
}

template <class T>
void check_merge_attention(const MergeAttentionSizes& s) {
  const int64_t rows = s.batch * s.queries * s.heads;
  Values merged(rows * s.head_dim, 0.0F);
  Values log_sum_exp(rows, -std::numeric_limits<float>::infinity());
  Device<float> d_merged(merged), d_log_sum_exp(log_sum_exp);
  for (const uint64_t block : {1, 2, 3}) {
    Values part = rounded<T>(random_values<float>(rows * s.head_dim, block));
    Values statistic = random_values<float>(rows, 10 + block, 5, -90);
    if (block == 2 && rows == 1) continue;
    if (block == 2) {  // no keys for the first query: its part must not be read
      statistic[0] = -std::numeric_limits<float>::infinity();
      for (int64_t j = 0; j < s.head_dim; ++j) part[j] = std::numeric_limits<float>::quiet_NaN();
    }
    merge_attention(merged.data(), log_sum_exp.data(), part.data(), statistic.data(), s, 0, rows);
    Device<T> d_part(part);
    Device<float> d_statistic(statistic);
    merge_attention_cuda<T>(d_merged.data(), d_log_sum_exp.data(), d_part.data(),
                            d_statistic.data(), s, nullptr);
  }
  // Weights are exponentials of differences up to 10, so off by 10 roundings.
  expect_close<float>(d_merged.values(), merged, 30);
  expect_close<float>(d_log_sum_exp.values(), log_sum_exp, 4);
}

TEST_F(CudaTest, MergeAttention) {
  for (const MergeAttentionSizes& s :
       {MergeAttentionSizes{1, 1, 1, 4}, MergeAttentionSizes{2, 65, 12, 128},
        MergeAttentionSizes{1, 239, 5, 40}, MergeAttentionSizes{1, 7, 3, 260}}) {
    check_merge_attention<float>(s);
    check_merge_attention<bf16>(s);
  }
}

// Not a bit apart: one product, and at most one rounding more.
template <class T, class Code>
void check_scaled_codes(int64_t rows, int64_t columns) {
  const Values x = random_values<float>(rows * columns, 1);
  std::vector<Code> codes(x.size());
  Values scales(rows * scales_of(columns)), expected(x.size());
  encode(codes.data(), scales.data(), x.data(), columns, 0, rows);
  decode(expected.data(), codes.data(), scales.data(), columns, 0, rows);
  DeviceTable<Code> d_codes(codes);
  Device<float> d_scales(scales);
  Device<T> d_x(rows * columns);
  decode_cuda<T>(d_x.data(), d_codes.data(), d_scales.data(), rows, columns, nullptr);
  EXPECT_EQ(d_x.values(), rounded<T>(expected));
}

TEST_F(CudaTest, ScaledCodes) {
  for (const auto& [rows, columns] :
       {std::pair<int64_t, int64_t>{1, 1}, {3, 66}, {5, 1023}, {7, 128}, {65, 5120}, {2, 13824}}) {
    check_scaled_codes<float, int8_t>(rows, columns);
    check_scaled_codes<float, e4m3>(rows, columns);
    check_scaled_codes<bf16, int8_t>(rows, columns);
    check_scaled_codes<bf16, e4m3>(rows, columns);
  }
}

}  // namespace
}  // namespace pendulum::kernels

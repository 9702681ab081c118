// Every kernel once more as plain loops over rows, in any type: fp64 is exact enough to judge by,
// fp32 is the plain implementation whose error the kernels may not exceed twice.
#pragma once
#include <cmath>
#include <vector>

#include "kernels/gated_residual.h"
#include "kernels/norm_modulate.h"
#include "kernels/qk_norm_rotary.h"

namespace pendulum::kernels {

template <class T>
struct NormModulateResult {
  std::vector<T> out, dx, dscale, dshift;  // dscale and dshift (groups, dim), whole sums
};

template <class T>
NormModulateResult<T> plain_norm_modulate(const std::vector<T>& x, const std::vector<T>& scale,
                                          const std::vector<T>& shift, const std::vector<T>& dout,
                                          const NormModulateSizes& s) {
  NormModulateResult<T> r{std::vector<T>(x.size()), std::vector<T>(x.size()),
                          std::vector<T>(s.groups * s.dim), std::vector<T>(s.groups * s.dim)};
  for (int64_t row = 0; row < s.groups * s.rows; ++row) {
    const int64_t group = row / s.rows;
    const T* in = &x[row * s.dim];
    const T* d = &dout[row * s.dim];
    T mean = 0, variance = 0;
    for (int64_t j = 0; j < s.dim; ++j) mean += in[j] / T(s.dim);
    for (int64_t j = 0; j < s.dim; ++j) variance += (in[j] - mean) * (in[j] - mean) / T(s.dim);
    const T rstd = T(1) / std::sqrt(variance + T(s.eps));
    T mean_g = 0, mean_gn = 0;
    for (int64_t j = 0; j < s.dim; ++j) {
      const T n = (in[j] - mean) * rstd;
      const T factor = T(s.offset) + scale[group * s.stride + j];
      r.out[row * s.dim + j] = n * factor + shift[group * s.stride + j];
      r.dscale[group * s.dim + j] += d[j] * n;
      r.dshift[group * s.dim + j] += d[j];
      mean_g += d[j] * factor / T(s.dim);
      mean_gn += d[j] * factor * n / T(s.dim);
    }
    for (int64_t j = 0; j < s.dim; ++j) {
      const T factor = T(s.offset) + scale[group * s.stride + j];
      r.dx[row * s.dim + j] = rstd * (d[j] * factor - mean_g - (in[j] - mean) * rstd * mean_gn);
    }
  }
  return r;
}

template <class T>
struct QkNormRotaryResult {
  std::vector<T> out, dx, dweight;  // dx (rows, dim), dense
};

template <class T>
QkNormRotaryResult<T> plain_qk_norm_rotary(const std::vector<T>& x, const std::vector<T>& weight,
                                           const std::vector<T>& cosine, const std::vector<T>& sine,
                                           const std::vector<T>& dout, const QkNormRotarySizes& s) {
  const int64_t dim = s.heads * s.head_dim;
  QkNormRotaryResult<T> r{std::vector<T>(s.rows * dim), std::vector<T>(s.rows * dim),
                          std::vector<T>(dim)};
  for (int64_t row = 0; row < s.rows; ++row) {
    const T* in = &x[row * s.stride];
    T square = 0;
    for (int64_t j = 0; j < dim; ++j) square += in[j] * in[j] / T(dim);
    const T rstd = T(1) / std::sqrt(square + T(s.eps));
    std::vector<T> g(&dout[row * dim], &dout[row * dim] + dim);
    for (int64_t j = 0; j < dim; j += 2) {
      T a = in[j] * rstd * weight[j], b = in[j + 1] * rstd * weight[j + 1];
      T c = 1, i = 0;
      if (!cosine.empty()) {
        const int64_t angle = row % s.tokens * (s.head_dim / 2) + j % s.head_dim / 2;
        c = cosine[angle];
        i = sine[angle];
      }
      r.out[row * dim + j] = a * c - b * i;
      r.out[row * dim + j + 1] = a * i + b * c;
      const T even = g[j], odd = g[j + 1];
      g[j] = even * c + odd * i;
      g[j + 1] = odd * c - even * i;
    }
    T dot = 0;
    for (int64_t j = 0; j < dim; ++j) {
      r.dweight[j] += g[j] * in[j] * rstd;
      dot += g[j] * weight[j] * in[j] * rstd / T(dim);
    }
    for (int64_t j = 0; j < dim; ++j)
      r.dx[row * dim + j] = rstd * (g[j] * weight[j] - in[j] * rstd * dot);
  }
  return r;
}

template <class T>
struct GatedResidualResult {
  std::vector<T> out, dy, dgate, dbias;
};

// An empty gate is 1.
template <class T>
GatedResidualResult<T> plain_gated_residual(const std::vector<T>& x, const std::vector<T>& y,
                                            const std::vector<T>& bias, const std::vector<T>& gate,
                                            const std::vector<T>& dout,
                                            const GatedResidualSizes& s) {
  GatedResidualResult<T> r{std::vector<T>(x.size()), std::vector<T>(x.size()),
                           std::vector<T>(s.groups * s.dim), std::vector<T>(s.dim)};
  for (int64_t i = 0; i < static_cast<int64_t>(x.size()); ++i) {
    const int64_t group = i / s.dim / s.rows, j = i % s.dim;
    const T g = gate.empty() ? T(1) : gate[group * s.stride + j];
    r.out[i] = x[i] + (y[i] + bias[j]) * g;
    r.dy[i] = dout[i] * g;
    r.dgate[group * s.dim + j] += dout[i] * (y[i] + bias[j]);
    r.dbias[j] += dout[i] * g;
  }
  return r;
}

template <class T>
struct BiasGeluResult {
  std::vector<T> out, dx, dbias;
};

template <class T>
BiasGeluResult<T> plain_bias_gelu(const std::vector<T>& x, const std::vector<T>& bias,
                                  const std::vector<T>& dout, int64_t dim) {
  BiasGeluResult<T> r{std::vector<T>(x.size()), std::vector<T>(x.size()), std::vector<T>(dim)};
  const T root = T(0.7978845608028654);  // sqrt(2 / pi)
  for (size_t i = 0; i < x.size(); ++i) {
    const T h = x[i] + bias[i % dim];
    const T tanh = std::tanh(root * (h + T(0.044715) * h * h * h));
    r.out[i] = T(0.5) * h * (T(1) + tanh);
    const T slope = root * (T(1) + T(3 * 0.044715) * h * h);
    r.dx[i] = dout[i] * (T(0.5) * (T(1) + tanh) + T(0.5) * h * (T(1) - tanh * tanh) * slope);
    r.dbias[i % dim] += r.dx[i];
  }
  return r;
}

}  // namespace pendulum::kernels

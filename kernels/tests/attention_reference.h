// Attention as plain loops, in any type.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "kernels/attention.h"

namespace pendulum::kernels {

template <class T>
struct AttentionResult {
  std::vector<T> out, log_sum_exp, dquery, dkey, dvalue;
};

// All tensors dense (batch, tokens, heads, head_dim).
template <class T>
AttentionResult<T> plain_attention(const std::vector<T>& q, const std::vector<T>& k,
                                   const std::vector<T>& v, const std::vector<T>& dout,
                                   const AttentionSizes& s) {
  AttentionResult<T> r{std::vector<T>(q.size()), std::vector<T>(s.batch * s.heads * s.queries),
                       std::vector<T>(q.size()), std::vector<T>(k.size()),
                       std::vector<T>(v.size())};
  const int64_t token = s.heads * s.head_dim;
  for (int64_t unit = 0; unit < s.batch * s.heads; ++unit) {
    const int64_t q0 = unit / s.heads * s.queries * token + unit % s.heads * s.head_dim;
    const int64_t k0 = unit / s.heads * s.keys * token + unit % s.heads * s.head_dim;
    for (int64_t n = 0; n < s.queries; ++n) {
      std::vector<T> p(s.keys), dp(s.keys);
      T largest = -std::numeric_limits<T>::infinity(), sum = 0, dot = 0;
      for (int64_t m = 0; m < s.keys; ++m) {
        for (int64_t j = 0; j < s.head_dim; ++j) {
          p[m] += q[q0 + n * token + j] * k[k0 + m * token + j] * T(s.scale);
          dp[m] += dout[q0 + n * token + j] * v[k0 + m * token + j];
        }
        largest = std::max(largest, p[m]);
      }
      for (int64_t m = 0; m < s.keys; ++m) sum += std::exp(p[m] - largest);
      r.log_sum_exp[unit * s.queries + n] = largest + std::log(sum);
      for (int64_t m = 0; m < s.keys; ++m) {
        p[m] = std::exp(p[m] - largest) / sum;
        dot += p[m] * dp[m];
      }
      for (int64_t m = 0; m < s.keys; ++m) {
        const T ds = p[m] * (dp[m] - dot) * T(s.scale);
        for (int64_t j = 0; j < s.head_dim; ++j) {
          r.out[q0 + n * token + j] += p[m] * v[k0 + m * token + j];
          r.dquery[q0 + n * token + j] += ds * k[k0 + m * token + j];
          r.dkey[k0 + m * token + j] += ds * q[q0 + n * token + j];
          r.dvalue[k0 + m * token + j] += p[m] * dout[q0 + n * token + j];
        }
      }
    }
  }
  return r;
}

template <class T>
TokensView<T> dense(T* data, int64_t tokens, const AttentionSizes& s) {
  return {data, tokens * s.heads * s.head_dim, s.heads * s.head_dim};
}

// Keys or values `first` to first + count - 1 of a dense tensor of all of them.
template <class T>
std::vector<T> block_of(const std::vector<T>& whole, int64_t first, int64_t count,
                        const AttentionSizes& s) {
  const int64_t token = s.heads * s.head_dim;
  std::vector<T> out;
  for (int64_t b = 0; b < s.batch; ++b) {
    const auto begin = whole.begin() + (b * s.keys + first) * token;
    out.insert(out.end(), begin, begin + count * token);
  }
  return out;
}

}  // namespace pendulum::kernels

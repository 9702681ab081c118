// Attention as plain loops, in any type, and views for its operands.
#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "compare.h"
#include "kernels/attention.h"

namespace pendulum::kernels {

// Random numbers of heads; one element of every head is moved by `shift`.
inline std::vector<float> shifted_values(int64_t count, uint64_t seed, int64_t head_dim,
                                         float shift) {
  auto x = random_values<float>(count, seed);
  for (size_t i = 0; i < x.size(); i += head_dim) x[i] += shift;
  return x;
}

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

// Tokens that do not lie side by side: `gap` elements behind each, and ten times as many behind a
// sample's last.
template <class T>
TokensView<T> spread(T* data, int64_t tokens, const AttentionSizes& s, int64_t gap) {
  const int64_t stride = s.heads * s.head_dim + gap;
  return {data, tokens * stride + 10 * gap, stride};
}
// Dense tokens in such a view; NaN between them.
template <class T>
std::vector<T> spread(const std::vector<T>& dense, const AttentionSizes& s, int64_t gap) {
  const int64_t token = s.heads * s.head_dim;
  std::vector<T> out;
  for (int64_t b = 0; b < s.batch; ++b) {
    const int64_t tokens = static_cast<int64_t>(dense.size()) / (s.batch * token);
    for (int64_t n = b * tokens; n < (b + 1) * tokens; ++n) {
      out.insert(out.end(), dense.begin() + n * token, dense.begin() + (n + 1) * token);
      out.resize(out.size() + static_cast<size_t>(gap), std::numeric_limits<T>::quiet_NaN());
    }
    out.resize(out.size() + static_cast<size_t>(10 * gap), std::numeric_limits<T>::quiet_NaN());
  }
  return out;
}
// And back; what lies between must be NaN still.
template <class T>
std::vector<T> gathered(const std::vector<T>& spread_out, int64_t tokens, const AttentionSizes& s,
                        int64_t gap) {
  const auto view = spread(spread_out.data(), tokens, s, gap);
  std::vector<T> out;
  for (int64_t i = 0; i < static_cast<int64_t>(spread_out.size()); ++i) {
    const int64_t in_sample = i % view.batch_stride;
    const bool is_real = in_sample / view.token_stride < tokens &&
                         in_sample % view.token_stride < s.heads * s.head_dim;
    if (is_real) {
      out.push_back(spread_out[static_cast<size_t>(i)]);
    } else {
      EXPECT_TRUE(std::isnan(spread_out[static_cast<size_t>(i)])) << "written between tokens";
    }
  }
  return out;
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

// Attention on the CPU: blocks of queries against all keys of a head.
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/attention.h"
#include "kernels/exponential.h"
#include "kernels/small_product.h"

namespace pendulum::kernels {
namespace {

constexpr int64_t kQueries = 48;  // queries of a block: their scores against 512 keys are 96 KB

// Rows of scores are padded to whole registers, so that loops over them have no remainder. What the
// padding holds is never read: products over keys end at the last real one.
int64_t padded(int64_t keys) { return (keys + 15) & ~int64_t{15}; }

// One head of a tensor: rows are tokens.
template <class T>
struct Head {
  T* data;
  int64_t row;
};
template <class T>
Head<T> head_of(const TokensView<T>& x, const AttentionSizes& s, int64_t unit) {
  return {x.data + unit / s.heads * x.batch_stride + unit % s.heads * s.head_dim, x.token_stride};
}

// to (head_dim, padded keys) = from^T, zero in the padding.
template <class T>
void transpose(T* __restrict to, Head<const T> from, const AttentionSizes& s) {
  const int64_t width = padded(s.keys);
  for (int64_t j = 0; j < s.head_dim; ++j) {
    for (int64_t m = 0; m < s.keys; ++m) to[j * width + m] = from.data[m * from.row + j];
    std::fill(to + j * width + s.keys, to + (j + 1) * width, T(0));
  }
}

// Scores become probabilities in place; returns the log-sum-exp of the scaled scores.
template <class T>
T softmax(T* __restrict row, int64_t keys, T scale) {
  const int64_t width = padded(keys);
  std::fill(row + keys, row + width, std::numeric_limits<T>::lowest());
  T largest = std::numeric_limits<T>::lowest();
#pragma omp simd reduction(max : largest)
  for (int64_t m = 0; m < width; ++m) largest = row[m] > largest ? row[m] : largest;
  T sum = 0;
  // The padding adds less than 16 e^-87 to a sum of at least 1.
#pragma omp simd reduction(+ : sum)
  for (int64_t m = 0; m < width; ++m) {
    row[m] = exponential((row[m] - largest) * scale);
    sum += row[m];
  }
  const T share = T(1) / sum;
#pragma omp simd
  for (int64_t m = 0; m < width; ++m) row[m] *= share;
  return largest * scale + std::log(sum);
}

}  // namespace

int64_t attention_scratch(const AttentionSizes& sizes) {
  return 2 * (sizes.head_dim + kQueries) * padded(sizes.keys) + kQueries * sizes.head_dim;
}

template <class T>
void attention(TokensView<T> out, T* log_sum_exp, TokensView<const T> query,
               TokensView<const T> key, TokensView<const T> value, T* scratch,
               const AttentionSizes& s, int64_t begin, int64_t end) {
  const int64_t width = padded(s.keys);
  T* key_columns = scratch;                  // (head_dim, width)
  T* scores = scratch + s.head_dim * width;  // (kQueries, width)
  for (int64_t unit = begin; unit < end; ++unit) {
    const auto q = head_of(query, s, unit);
    const auto v = head_of(value, s, unit);
    const auto o = head_of(out, s, unit);
    transpose(key_columns, head_of(key, s, unit), s);
    for (int64_t first = 0; first < s.queries; first += kQueries) {
      const int64_t rows = std::min(kQueries, s.queries - first);
      small_product<T>(scores, width, {q.data + first * q.row, q.row, 1}, key_columns, width, rows,
                       width, s.head_dim, false);
      for (int64_t i = 0; i < rows; ++i)
        log_sum_exp[unit * s.queries + first + i] =
            softmax(scores + i * width, s.keys, static_cast<T>(s.scale));
      small_product<T>(o.data + first * o.row, o.row, {scores, width, 1}, v.data, v.row, rows,
                       s.head_dim, s.keys, false);
    }
  }
}

namespace {

// Scores become weights relative to e^reference in place; returns their sum.
template <class T>
T weights(T* __restrict row, int64_t keys, T scale, T reference) {
  T sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t m = 0; m < keys; ++m) {
    row[m] = exponential(row[m] * scale - reference);
    sum += row[m];
  }
  return sum;
}

template <class T>
T largest_of(const T* __restrict row, int64_t keys) {
  T largest = std::numeric_limits<T>::lowest();
#pragma omp simd reduction(max : largest)
  for (int64_t m = 0; m < keys; ++m) largest = row[m] > largest ? row[m] : largest;
  return largest;
}

// merged = merged * keep + part * take. Nothing is merged yet where keep is 0.
template <class T>
void mix(T* __restrict merged, const T* __restrict part, T keep, T take, int64_t count) {
  if (keep == 0) {
#pragma omp simd
    for (int64_t j = 0; j < count; ++j) merged[j] = part[j] * take;
    return;
  }
#pragma omp simd
  for (int64_t j = 0; j < count; ++j) merged[j] = merged[j] * keep + part[j] * take;
}

}  // namespace

template <class T>
void accumulate_attention(TokensView<T> merged, T* log_sum_exp, TokensView<const T> query,
                          TokensView<const T> key, TokensView<const T> value, T* scratch,
                          const AttentionSizes& s, int64_t begin, int64_t end) {
  const int64_t width = padded(s.keys);
  const T scale = static_cast<T>(s.scale);
  T* key_columns = scratch;                  // (head_dim, width)
  T* scores = scratch + s.head_dim * width;  // (kQueries, width)
  T* part = scores + kQueries * width;       // (kQueries, head_dim), not divided by its sum
  for (int64_t unit = begin; unit < end; ++unit) {
    const auto q = head_of(query, s, unit);
    const auto v = head_of(value, s, unit);
    const auto o = head_of(merged, s, unit);
    transpose(key_columns, head_of(key, s, unit), s);
    for (int64_t first = 0; first < s.queries; first += kQueries) {
      const int64_t rows = std::min(kQueries, s.queries - first);
      T* statistic = log_sum_exp + unit * s.queries + first;
      T sums[kQueries];
      T references[kQueries];
      small_product<T>(scores, width, {q.data + first * q.row, q.row, 1}, key_columns, width, rows,
                       width, s.head_dim, false);
      for (int64_t i = 0; i < rows; ++i) {
        const T largest = largest_of(scores + i * width, s.keys) * scale;
        references[i] = statistic[i] > largest ? statistic[i] : largest;
        sums[i] = weights(scores + i * width, s.keys, scale, references[i]);
      }
      small_product<T>(part, s.head_dim, {scores, width, 1}, v.data, v.row, rows, s.head_dim,
                       s.keys, false);
      for (int64_t i = 0; i < rows; ++i) {
        const bool is_first = statistic[i] == -std::numeric_limits<T>::infinity();
        const T earlier = is_first ? T(0) : std::exp(statistic[i] - references[i]);
        const T whole = earlier + sums[i];
        mix(o.data + (first + i) * o.row, part + i * s.head_dim, earlier / whole, T(1) / whole,
            s.head_dim);
        statistic[i] = references[i] + std::log(whole);
      }
    }
  }
}

namespace {

// scores -> probabilities (given their log-sum-exp), dprobabilities -> dscores: p scale (dp -
// <dout, out>).
template <class T>
void score_gradient(T* __restrict p, T* __restrict dp, T log_sum_exp, T dot, int64_t keys,
                    T scale) {
  const int64_t width = padded(keys);
#pragma omp simd
  for (int64_t m = 0; m < width; ++m) {
    p[m] = exponential(p[m] * scale - log_sum_exp);
    dp[m] = p[m] * scale * (dp[m] - dot);
  }
}

template <class T>
T dot_product(const T* __restrict a, const T* __restrict b, int64_t count) {
  T sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t j = 0; j < count; ++j) sum += a[j] * b[j];
  return sum;
}

}  // namespace

template <class T>
void attention_backward(TokensView<T> dquery, TokensView<T> dkey, TokensView<T> dvalue,
                        TokensView<const T> dout, TokensView<const T> query,
                        TokensView<const T> key, TokensView<const T> value, TokensView<const T> out,
                        const T* log_sum_exp, T* scratch, const AttentionSizes& s, int64_t begin,
                        int64_t end) {
  const int64_t width = padded(s.keys);
  T* key_columns = scratch;  // (head_dim, width)
  T* value_columns = key_columns + s.head_dim * width;
  T* scores = value_columns + s.head_dim * width;  // (kQueries, width)
  T* dscores = scores + kQueries * width;
  for (int64_t unit = begin; unit < end; ++unit) {
    const auto q = head_of(query, s, unit);
    const auto k = head_of(key, s, unit);
    const auto d = head_of(dout, s, unit);
    const auto o = head_of(out, s, unit);
    const auto dq = head_of(dquery, s, unit);
    const auto dk = head_of(dkey, s, unit);
    const auto dv = head_of(dvalue, s, unit);
    transpose(key_columns, k, s);
    transpose(value_columns, head_of(value, s, unit), s);
    for (int64_t first = 0; first < s.queries; first += kQueries) {
      const int64_t rows = std::min(kQueries, s.queries - first);
      const T* q_rows = q.data + first * q.row;
      const T* d_rows = d.data + first * d.row;
      small_product<T>(scores, width, {q_rows, q.row, 1}, key_columns, width, rows, width,
                       s.head_dim, false);
      small_product<T>(dscores, width, {d_rows, d.row, 1}, value_columns, width, rows, width,
                       s.head_dim, false);
      for (int64_t i = 0; i < rows; ++i) {
        const T dot = dot_product(d_rows + i * d.row, o.data + (first + i) * o.row, s.head_dim);
        score_gradient(scores + i * width, dscores + i * width,
                       log_sum_exp[unit * s.queries + first + i], dot, s.keys,
                       static_cast<T>(s.scale));
      }
      const bool add = first > 0;
      small_product<T>(dv.data, dv.row, {scores, 1, width}, d_rows, d.row, s.keys, s.head_dim, rows,
                       add);
      small_product<T>(dk.data, dk.row, {dscores, 1, width}, q_rows, q.row, s.keys, s.head_dim,
                       rows, add);
      small_product<T>(dq.data + first * dq.row, dq.row, {dscores, width, 1}, k.data, k.row, rows,
                       s.head_dim, s.keys, false);
    }
  }
}

template void attention(TokensView<float>, float*, TokensView<const float>, TokensView<const float>,
                        TokensView<const float>, float*, const AttentionSizes&, int64_t, int64_t);
template void attention(TokensView<double>, double*, TokensView<const double>,
                        TokensView<const double>, TokensView<const double>, double*,
                        const AttentionSizes&, int64_t, int64_t);
template void accumulate_attention(TokensView<float>, float*, TokensView<const float>,
                                   TokensView<const float>, TokensView<const float>, float*,
                                   const AttentionSizes&, int64_t, int64_t);
template void accumulate_attention(TokensView<double>, double*, TokensView<const double>,
                                   TokensView<const double>, TokensView<const double>, double*,
                                   const AttentionSizes&, int64_t, int64_t);
template void attention_backward(TokensView<float>, TokensView<float>, TokensView<float>,
                                 TokensView<const float>, TokensView<const float>,
                                 TokensView<const float>, TokensView<const float>,
                                 TokensView<const float>, const float*, float*,
                                 const AttentionSizes&, int64_t, int64_t);
template void attention_backward(TokensView<double>, TokensView<double>, TokensView<double>,
                                 TokensView<const double>, TokensView<const double>,
                                 TokensView<const double>, TokensView<const double>,
                                 TokensView<const double>, const double*, double*,
                                 const AttentionSizes&, int64_t, int64_t);

}  // namespace pendulum::kernels

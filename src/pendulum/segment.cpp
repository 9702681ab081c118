// The draw rule in 64- and 128-bit integers; equal to the golden vectors in tests/golden.
#include "pendulum/segment.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>
#include <string_view>
#include <utility>

#include "core/error.h"
#include "core/hash.h"

namespace pendulum {
namespace {

constexpr uint128 kOne = static_cast<uint128>(1) << 64;

const Piece& piece_of(const std::vector<Piece>& pieces, int64_t ordinal) {
  size_t i = pieces.size() - 1;
  while (i > 0 && pieces[i].first > ordinal) --i;
  return pieces[i];
}

// digits * 10^exponent, the shortest decimal that reads back as the double.
struct Decimal {
  uint64_t digits = 0;
  int length = 0;
  int exponent = 0;
};

Decimal decimal_of(double value) {
  char buffer[32];
  const auto end =
      std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific);
  check(end.ec == std::errc(), "a double prints in 32 characters");
  Decimal out;
  const char* at = buffer;
  bool fraction = false;
  for (; *at != 'e'; ++at) {
    if (*at == '.') {
      fraction = true;
      continue;
    }
    out.digits = out.digits * 10 + (*at - '0');
    ++out.length;
    out.exponent -= fraction;
  }
  out.exponent += std::stoi(std::string(at + 1, static_cast<const char*>(end.ptr)));
  return out;
}

// The weights as whole numbers in a common unit, each below 10^27 so that a billion times it fits
// 128 bits.
std::vector<uint128> common_unit(const std::vector<double>& weights) {
  std::vector<Decimal> decimals;
  int lowest = 1000;
  for (const double w : weights) {
    if (!(w >= 0) || !std::isfinite(w)) {
      throw ConfigError(text("a weight of ", w, " is not possible; weights are at least 0"));
    }
    decimals.push_back(decimal_of(w));
    if (w > 0) lowest = std::min(lowest, decimals.back().exponent);
  }
  std::vector<uint128> out;
  for (const Decimal& decimal : decimals) {
    uint128 scaled = decimal.digits;
    const int shift = decimal.digits == 0 ? 0 : decimal.exponent - lowest;
    if (decimal.length + shift > 27) {
      throw ConfigError(
          "weights differ by too much: the smallest is beyond the 27th digit of the largest");
    }
    for (int i = 0; i < shift; ++i) scaled *= 10;
    out.push_back(scaled);
  }
  return out;
}

// Sum over i < n of floor((a i + b) / m), modulo 2^128: Euclid's algorithm on (a, m). m <= 2^64, n
// < 2^62.
uint128 floor_sum(uint128 n, uint128 m, uint128 a, uint128 b) {
  uint128 sum = 0;
  while (true) {
    if (a >= m) {
      sum += n * (n - 1) / 2 * (a / m);
      a %= m;
    }
    if (b >= m) {
      sum += n * (b / m);
      b %= m;
    }
    const uint128 last = a * n + b;
    if (last < m) return sum;
    n = last / m;
    b = last % m;
    std::swap(m, a);
  }
}

}  // namespace

Bucket::Bucket(std::string bucket_name, int64_t size)
    : name(std::move(bucket_name)), uid(hash_name(name)), pieces{{0, 0, size}} {
  check(size >= 1, "a bucket with entries: ", name);
}

void Bucket::grow(int64_t size) {
  const Piece last = pieces.back();
  check(size >= last.size, "entries stay, so a bucket only grows: ", name, " from ", last.size,
        " to ", size);
  const int64_t drawn = std::max<int64_t>(cursor - last.first, 0);
  const int64_t begun = (drawn + last.size - 1) / last.size;
  pieces.push_back({last.first + begun * last.size, last.epoch + begun, size});
}

PlannedSample Bucket::planned(uint64_t seed, int64_t ordinal) const {
  const Piece& piece = piece_of(pieces, ordinal);
  const int64_t epoch = piece.epoch + (ordinal - piece.first) / piece.size;
  const int64_t place = (ordinal - piece.first) % piece.size;
  const uint64_t entry = feistel(place, piece.size, draw(Purpose::order, seed, uid, epoch));
  return {ordinal, static_cast<int64_t>(entry), epoch};
}

int64_t Bucket::replacement(uint64_t seed, int64_t ordinal, int64_t attempt) const {
  const uint64_t bits = draw(Purpose::replace, seed, uid, ordinal, attempt);
  return static_cast<int64_t>(below(piece_of(pieces, ordinal).size, bits));
}

std::vector<int64_t> integer_weights(const std::vector<double>& weights, int64_t total) {
  check(total >= 1 && total <= 10'000'000'000, "a total that fits 128-bit arithmetic: ", total);
  const std::vector<uint128> exact = common_unit(weights);
  uint128 sum = 0;
  for (const uint128 w : exact) sum += w;
  if (sum == 0) throw ConfigError("all weights are 0; at least one must be greater");
  std::vector<int64_t> out;
  std::vector<uint128> rest;
  for (const uint128 w : exact) {
    out.push_back(static_cast<int64_t>(w * total / sum));
    rest.push_back(w * total % sum);
  }
  std::vector<int> order(out.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return rest[a] > rest[b]; });
  const int64_t missing = total - std::accumulate(out.begin(), out.end(), int64_t{0});
  for (int64_t i = 0; i < missing; ++i) ++out[order[i]];
  return out;
}

std::vector<uint64_t> raw_rates(const std::vector<double>& weights,
                                const std::vector<int64_t>& block,
                                const std::vector<int64_t>& tokens, RateUnit unit) {
  check(block.size() == weights.size(), "one block per weight");
  check(unit != RateUnit::tokens || tokens.size() == weights.size(), "one token count per weight");
  const std::vector<int64_t> whole = integer_weights(weights);
  std::vector<uint64_t> out;
  for (size_t s = 0; s < whole.size(); ++s) {
    int64_t size = 1;
    if (unit == RateUnit::samples) size = block[s];
    if (unit == RateUnit::tokens) size = block[s] * tokens[s];
    check(size >= 1, "a draw that holds something");
    out.push_back((static_cast<uint64_t>(whole[s]) << 32) / static_cast<uint64_t>(size));
  }
  return out;
}

Segment::Segment(uint64_t seed, int64_t ordinal, int slots, int dwell, std::vector<uint64_t> rates,
                 std::vector<int64_t> block)
    : seed_(seed),
      ordinal_(ordinal),
      slots_(slots),
      dwell_(dwell),
      block_(std::move(block)),
      phase_start_(draw(Purpose::phase, seed, ordinal)) {
  check(slots >= 1 && dwell >= 1, "slots and a dwell: ", slots, ", ", dwell);
  check(!rates.empty() && rates.size() == block_.size(), "one rate and one block per bucket");
  uint128 total = 0, sum = 0;
  for (const uint64_t rate : rates) total += rate;
  check(total > 0 && total < kOne, "rates whose sum fits 64 bits");
  for (const uint64_t rate : rates) {
    sum += rate;
    upper_.push_back((sum << 64) / total);
    whole_.push_back(static_cast<int64_t>((upper_.back() * static_cast<unsigned>(slots)) >> 64));
    part_.push_back(static_cast<uint64_t>(upper_.back() * static_cast<unsigned>(slots)));
  }
}

int Segment::offset(int64_t t, Swing& swing) const {
  const int64_t turn = t / dwell_;
  const int64_t window = turn / slots_;
  if (swing.window != window) {
    swing.order = permutation(slots_, draw(Purpose::swing, seed_, ordinal_, window));
    swing.window = window;
  }
  return swing.order[turn % slots_];
}

// Place p lies below threshold s where p 2^64 + phase < upper[s] slots, that is, where p is below
// whole[s], or is whole[s] and the phase below part[s]: so the places of a bucket are a run as long
// as counts() says.
void Segment::sources(int64_t t, Swing& swing, std::vector<int>* out) const {
  const uint64_t u = phase(t);
  const int start = offset(t, swing);
  out->resize(slots_);
  int64_t place = 0;
  int slot = start == 0 ? 0 : slots_ - start;  // that stands at place 0
  for (size_t s = 0; s < upper_.size(); ++s) {
    for (const int64_t end = whole_[s] + (u < part_[s]); place < end; ++place) {
      (*out)[slot] = static_cast<int>(s);
      if (++slot == slots_) slot = 0;
    }
  }
}

std::vector<int> Segment::sources(int64_t t, Swing& swing) const {
  std::vector<int> out;
  sources(t, swing, &out);
  return out;
}

std::vector<int> Segment::sources(int64_t t) const {
  Swing swing;
  return sources(t, swing);
}

std::vector<int64_t> Segment::counts(int64_t t) const {
  const uint64_t u = phase(t);
  std::vector<int64_t> out(upper_.size());
  int64_t lower = 0;
  for (size_t s = 0; s < upper_.size(); ++s) {
    const int64_t upto = whole_[s] + (u < part_[s]);
    out[s] = upto - lower;
    lower = upto;
  }
  return out;
}

std::vector<int64_t> Segment::draws_before(int64_t t) const {
  check(t >= 0 && t < (int64_t{1} << 62), "a micro-step below 2^62: ", t);
  std::vector<int64_t> out(upper_.size());
  const uint128 all = floor_sum(t, kOne, kGolden, phase_start_);
  int64_t lower = 0;
  for (size_t s = 0; s < upper_.size(); ++s) {
    // Phases below part: floor(x) - floor(x - part) is 1 for them and 0 for the others; 2^64 is
    // added to stay positive.
    const uint128 shifted = floor_sum(t, kOne, kGolden, kOne - part_[s] + phase_start_);
    const auto extra = static_cast<int64_t>(all - shifted + static_cast<uint128>(t));
    const int64_t upto = whole_[s] * t + extra;
    out[s] = upto - lower;
    lower = upto;
  }
  return out;
}

std::vector<Draw> Segment::samples(int64_t t, std::span<Bucket> buckets,
                                   std::span<const int> members, Swing& swing) const {
  std::vector<Draw> out;
  const std::vector<int> drawn = sources(t, swing);
  for (int j = 0; j < slots_; ++j) {
    const int s = drawn[j];
    Bucket& bucket = buckets[members[s]];
    Draw& slot = out.emplace_back(Draw{j, s, {}});
    for (int64_t i = 0; i < block_[s]; ++i) {
      slot.samples.push_back(bucket.planned(seed_, bucket.cursor + i));
    }
    bucket.cursor += block_[s];
  }
  return out;
}

uint64_t Segment::digest(int64_t t, std::span<const Draw> draws, std::span<const Bucket> buckets,
                         std::span<const int> members) const {
  uint64_t h = draw(ordinal_, t);
  for (const Draw& slot : draws) {
    const uint64_t uid = buckets[members[slot.bucket]].uid;
    for (const PlannedSample& sample : slot.samples) {
      h = draw(h, slot.slot, uid, sample.entry, sample.epoch);
    }
  }
  return h;
}

}  // namespace pendulum

// The draw rule: which bucket every slot takes at a micro-step, and which samples. Integers only,
// so every platform agrees.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/random.h"

namespace pendulum {

// A sample of the plan: a bucket's `ordinal`-th sample is entry `entry` in pass `epoch` over the
// bucket.
struct PlannedSample {
  int64_t ordinal = 0;
  int64_t entry = 0;
  int64_t epoch = 0;
  bool operator==(const PlannedSample&) const = default;
};

// What one logical slot takes in one micro-step.
struct Draw {
  int slot = 0;
  int bucket = 0;  // place in the segment's list of buckets, light first
  std::vector<PlannedSample> samples;
  bool operator==(const Draw&) const = default;
};

// The size that holds from an ordinal on; `first` is where epoch `epoch` begins.
struct Piece {
  int64_t first = 0;
  int64_t epoch = 0;
  int64_t size = 0;
  bool operator==(const Piece&) const = default;
};

// Samples of one source and one shape. Entries 0..N-1 are permanent: withdrawn ones stay as
// tombstones, additions join at the next epoch.
struct Bucket {
  std::string name;  // "clips/9x32x32"
  uint64_t uid = 0;  // hash_name(name): independent of the bucket's place in any file
  std::vector<Piece> pieces;
  int64_t cursor = 0;  // samples planned so far

  Bucket(std::string bucket_name, int64_t size);
  // The bucket has `size` entries from its next epoch on.
  void grow(int64_t size);
  // What ordinal n stands for, before replacement.
  PlannedSample planned(uint64_t seed, int64_t ordinal) const;
  // Entry to try in place of ordinal n's when that one is withdrawn or unreadable: attempt = 1, 2,
  // ... until one reads.
  int64_t replacement(uint64_t seed, int64_t ordinal, int64_t attempt) const;
};

// What the weights of a run's sources count.
enum class RateUnit { samples, tokens, draws };

// Weights as integers that sum to `total`: floor, then the largest remainders (ties: earlier) get
// one more. Exact: a weight stands for the shortest decimal number that reads back as the same
// double, which is what a person wrote (0.1 is one tenth). Throws ConfigError where weights are
// negative, not finite, all zero or more than 27 digits apart.
std::vector<int64_t> integer_weights(const std::vector<double>& weights,
                                     int64_t total = 1'000'000'000);

// Integer draw rates, not normalised. Trap: rates are not weights, because a slot takes block[s]
// samples of tokens[s] tokens when it draws s. `tokens` is read with RateUnit::tokens only.
std::vector<uint64_t> raw_rates(const std::vector<double>& weights,
                                const std::vector<int64_t>& block,
                                const std::vector<int64_t>& tokens, RateUnit unit);

// The permutation that holds for slots x dwell micro-steps, kept between calls by whoever walks.
struct Swing {
  int64_t window = -1;
  std::vector<int> order;
};

// One stretch of the plan with fixed buckets, rates and slots. t counts micro-steps from 0 in each.
class Segment {
 public:
  // `rates` (not normalised) and `block` (samples a slot takes when it draws the bucket) are by
  // bucket, light first.
  Segment(uint64_t seed, int64_t ordinal, int slots, int dwell, std::vector<uint64_t> rates,
          std::vector<int64_t> block);

  // Bucket of every slot at t, O(slots + buckets). `swing` belongs to the caller and to this
  // segment.
  void sources(int64_t t, Swing& swing, std::vector<int>* out) const;
  std::vector<int> sources(int64_t t, Swing& swing) const;
  std::vector<int> sources(int64_t t) const;

  // Where slot 0 stands among the places at t.
  int offset(int64_t t, Swing& swing) const;

  // How many slots draw each bucket at t, without looking at the slots.
  std::vector<int64_t> counts(int64_t t) const;

  // counts() summed over 0..t-1 in closed form, O(buckets log): a resume at step 10^9 costs
  // microseconds.
  std::vector<int64_t> draws_before(int64_t t) const;

  // The draws of micro-step t in slot order; advances the cursors of the buckets. members[s] is the
  // place in `buckets` of this segment's bucket s.
  std::vector<Draw> samples(int64_t t, std::span<Bucket> buckets, std::span<const int> members,
                            Swing& swing) const;

  // 64 bits over the planned entries of micro-step t, before replacement.
  uint64_t digest(int64_t t, std::span<const Draw> draws, std::span<const Bucket> buckets,
                  std::span<const int> members) const;

  // First point beyond each bucket, in units of 2^-64; the last is 2^64 and needs 65 bits.
  const std::vector<uint128>& upper() const { return upper_; }
  const std::vector<int64_t>& block() const { return block_; }
  int slots() const { return slots_; }
  int dwell() const { return dwell_; }
  uint64_t phase(int64_t t) const { return phase_start_ + static_cast<uint64_t>(t) * kGolden; }

 private:
  uint64_t seed_;
  int64_t ordinal_;
  int slots_, dwell_;
  std::vector<int64_t> block_;
  uint64_t phase_start_;
  std::vector<uint128> upper_;
  // upper[s] * slots = whole 2^64 + part: whole places always lie below the threshold, one more
  // while the phase is below part.
  std::vector<int64_t> whole_;
  std::vector<uint64_t> part_;
};

}  // namespace pendulum

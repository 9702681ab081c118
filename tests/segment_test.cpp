// The draw rule against the golden vectors of the executable definition, and the invariants that it
// promises.
#include "pendulum/segment.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

#include "core/error.h"
#include "core/hash.h"

namespace pendulum {
namespace {

using nlohmann::json;

json golden() {
  std::ifstream file(PENDULUM_SOURCE_DIR "/tests/golden/pendulum_golden.json");
  return json::parse(file);
}

uint64_t from_hex(const json& digits) {
  return std::stoull(digits.get<std::string>(), nullptr, 16);
}

std::string hex(uint128 value) {
  std::string out;
  for (; value > 0; value >>= 4)
    out.insert(out.begin(), "0123456789abcdef"[static_cast<int>(value & 15)]);
  return out;
}

// Five buckets of very different size; the definition's own example.
struct Example {
  std::vector<double> weights{37, 23, 19, 13, 8};
  std::vector<int64_t> block{32, 8, 4, 2, 1};
  std::vector<Bucket> buckets{{"a", 100003}, {"b", 517}, {"c", 91}, {"d", 40}, {"e", 1}};
  std::vector<int> members{0, 1, 2, 3, 4};
  std::vector<uint64_t> raw = raw_rates(weights, block, {}, RateUnit::samples);
  std::vector<double> rates() const {
    const double total = std::accumulate(raw.begin(), raw.end(), 0.0);
    std::vector<double> out;
    for (const uint64_t r : raw) out.push_back(static_cast<double>(r) / total);
    return out;
  }
  Segment segment(uint64_t seed = 7, int slots = 16) const {
    return {seed, 0, slots, 8, raw, block};
  }
};

TEST(Golden, RandomNumbers) {
  const json g = golden();
  EXPECT_EQ(draw(1, 2, 3), from_hex(g["draw(1,2,3)"]));
  EXPECT_EQ(json(permutation(8, draw(1, 2))), g["permutation(8,1,2)"]);
  for (uint64_t i = 0; i < 10; ++i) EXPECT_EQ(feistel(i, 10, 5), g["feistel(0..9,10,key=5)"][i]);
  EXPECT_EQ(json(integer_weights({1, 1, 1})), g["integer_weights(1,1,1)"]);
  for (const auto& [name, uid] : g["uid"].items()) EXPECT_EQ(hash_name(name), from_hex(uid));
}

void expect_steps(const json& want, const Segment& segment, std::vector<Bucket>& buckets,
                  const std::vector<int>& members) {
  Swing swing;
  for (const json& step : want) {
    const int64_t t = step["t"];
    for (size_t s = 0; s < members.size(); ++s) {
      EXPECT_EQ(buckets[members[s]].cursor, step["cursor_before"][s]) << "t " << t;
    }
    EXPECT_EQ(json(segment.sources(t)), step["sources"]) << "t " << t;
    const std::vector<Draw> draws = segment.samples(t, buckets, members, swing);
    EXPECT_EQ(segment.digest(t, draws, buckets, members), from_hex(step["digest"])) << "t " << t;
  }
}

TEST(Golden, BothSegmentsWithGrowthBetween) {
  const json g = golden();
  const json& one = g["segments"][0];
  std::vector<Bucket> buckets;
  for (size_t s = 0; s < 3; ++s)
    buckets.emplace_back(one["buckets"][s], one["size"][s].get<int64_t>());
  const auto raw = raw_rates(one["weights"], one["block"], {}, RateUnit::samples);
  EXPECT_EQ(json(raw), one["raw"]);
  const Segment first(g["seed"], 0, one["slots"], one["dwell"], raw, one["block"]);
  for (size_t s = 0; s < 3; ++s) EXPECT_EQ(hex(first.upper()[s]), one["upper"][s]);
  ASSERT_EQ(one["steps"].size(), 12u);
  expect_steps(one["steps"], first, buckets, {0, 1, 2});
  const int64_t far = one["far"]["t"];
  EXPECT_EQ(json(first.sources(far)), one["far"]["sources"]);
  EXPECT_EQ(json(first.counts(far)), one["far"]["counts"]);

  const json& two = g["segments"][1];
  buckets[1].grow(two["grown"]["clips/9x32x32"]);
  json pieces = json::array();
  for (const Piece& piece : buckets[1].pieces)
    pieces.push_back({piece.first, piece.epoch, piece.size});
  EXPECT_EQ(pieces, two["pieces"]);
  const auto raw2 = raw_rates(two["weights"], two["block"], two["tokens"], RateUnit::tokens);
  EXPECT_EQ(json(raw2), two["raw"]);
  const Segment second(g["seed"], 1, two["slots"], two["dwell"], raw2, two["block"]);
  for (size_t s = 0; s < 2; ++s) EXPECT_EQ(hex(second.upper()[s]), two["upper"][s]);
  ASSERT_EQ(two["steps"].size(), 60u);
  expect_steps(two["steps"], second, buckets, {1, 0});
  // The definition computes these after everything above, so with the grown bucket.
  for (int64_t k = 1; k <= 4; ++k) {
    EXPECT_EQ(buckets[1].replacement(g["seed"], 5, k),
              g["replacement(clips/9x32x32,n=5,k=1..4)"][k - 1]);
  }
}

TEST(Weights, AreDecimalNumbersAndSumExactly) {
  EXPECT_EQ(integer_weights({0.1, 0.2, 0.7}),
            (std::vector<int64_t>{100000000, 200000000, 700000000}));
  EXPECT_EQ(integer_weights({0.8, 0.2}, 10), (std::vector<int64_t>{8, 2}));
  // As doubles, 0.1 three times is more than 0.3 and the tie would go elsewhere; as decimals the
  // earlier of two halves wins.
  EXPECT_EQ(integer_weights({0.3, 0.1, 0.2}, 1), (std::vector<int64_t>{1, 0, 0}));
  EXPECT_EQ(integer_weights({1e-9, 1}), (std::vector<int64_t>{1, 999999999}));
  EXPECT_EQ(integer_weights({1e300, 1e300}), (std::vector<int64_t>{500000000, 500000000}));
  EXPECT_EQ(integer_weights({0, 5e-324}), (std::vector<int64_t>{0, 1000000000}));
  EXPECT_EQ(integer_weights({3}), (std::vector<int64_t>{1000000000}));
  for (int n = 1; n < 40; ++n) {
    std::vector<double> weights;
    for (int i = 0; i < n; ++i) weights.push_back(uniform(draw(3, n, i)));
    const std::vector<int64_t> whole = integer_weights(weights);
    EXPECT_EQ(std::accumulate(whole.begin(), whole.end(), int64_t{0}), 1000000000);
  }
}

TEST(Weights, BadOnesAreTheUsersMistake) {
  EXPECT_THROW(integer_weights({1, -0.5}), ConfigError);
  EXPECT_THROW(integer_weights({1, NAN}), ConfigError);
  EXPECT_THROW(integer_weights({1, INFINITY}), ConfigError);
  EXPECT_THROW(integer_weights({0, 0}), ConfigError);
  EXPECT_THROW(integer_weights({1e30, 1}), ConfigError);
}

TEST(Invariant1, OverTheRandomStartEveryPlaceDrawsABucketAtItsRate) {
  // By enumeration: places 0..G-1 (every permutation entry equally often) times a grid of phases.
  // The share of grid points below a threshold is off by at most one point of G * grid.
  const Example example;
  const Segment segment = example.segment();
  const int slots = 16, grid = 4096;
  std::vector<int64_t> hits(5);
  for (int k = 0; k < slots; ++k) {
    for (int i = 0; i < grid; ++i) {
      const uint128 u = (static_cast<uint128>(i) << 64) / grid;
      const uint128 point = ((static_cast<uint128>(k) << 64) + u) / slots;
      ++hits[std::upper_bound(segment.upper().begin(), segment.upper().end(), point) -
             segment.upper().begin()];
    }
  }
  const std::vector<double> rates = example.rates();
  for (int s = 0; s < 5; ++s)
    EXPECT_LE(std::abs(hits[s] / double(slots * grid) - rates[s]), 1.01 / (slots * grid));
}

TEST(Invariant1, HoldsForTheSegmentOverSeeds) {
  // 5 standard deviations of a binomial share: 60 comparisons, so by chance it fails once in 30,000
  // choices of seeds.
  const Example example;
  const std::vector<double> rates = example.rates();
  const int seeds = 5000;
  for (const int64_t t : {0, 7, 8, 1000}) {
    for (const int j : {0, 5, 15}) {
      std::vector<int> hits(5);
      for (int seed = 0; seed < seeds; ++seed) ++hits[example.segment(seed).sources(t)[j]];
      for (int s = 0; s < 5; ++s) {
        const double deviation = std::sqrt(rates[s] * (1 - rates[s]) / seeds);
        EXPECT_LE(std::abs(hits[s] / double(seeds) - rates[s]), 5 * deviation)
            << "t " << t << " slot " << j;
      }
    }
  }
}

TEST(Invariants2And3, CountsAreFloorOrCeilAndDriftStaysSmall) {
  const Example example;
  const Segment segment = example.segment();
  const std::vector<double> rates = example.rates();
  std::vector<int64_t> total(5);
  double worst = 0;
  for (int64_t t = 0; t < 20000; ++t) {
    const std::vector<int64_t> counts = segment.counts(t);
    ASSERT_EQ(std::accumulate(counts.begin(), counts.end(), int64_t{0}), 16);
    for (int s = 0; s < 5; ++s) {
      const double want = 16 * rates[s];
      ASSERT_GE(counts[s], std::floor(want));
      ASSERT_LE(counts[s], std::ceil(want));
      total[s] += counts[s];
      worst = std::max(worst, std::abs(total[s] - (t + 1) * want));
    }
  }
  // The golden ratio's discrepancy grows with log T; two thresholds a bucket. Independent draws
  // reach hundreds.
  EXPECT_LE(worst, 5.0);
}

TEST(Segment, CountsAreThoseOfTheSlots) {
  for (const int slots : {1, 2, 3, 7, 16, 31}) {
    const Segment segment = Example().segment(11, slots);
    Swing swing;
    for (const int64_t start : {int64_t{0}, int64_t{1000000000}, int64_t{1000000000000}}) {
      for (int64_t t = start; t < start + 150; ++t) {
        std::vector<int64_t> counts(5);
        for (const int s : segment.sources(t, swing)) ++counts[s];
        ASSERT_EQ(counts, segment.counts(t));
        ASSERT_EQ(segment.sources(t), segment.sources(t, swing));
      }
    }
  }
}

TEST(Segment, DrawsBeforeIsTheSumOfCounts) {
  for (const int slots : {1, 3, 16}) {
    const Segment segment = Example().segment(5, slots);
    std::vector<int64_t> sum(5);
    for (int64_t t = 0; t < 3000; ++t) {
      ASSERT_EQ(segment.draws_before(t), sum) << t;
      const std::vector<int64_t> counts = segment.counts(t);
      for (int s = 0; s < 5; ++s) sum[s] += counts[s];
    }
    for (const int64_t start : {int64_t{999999937}, int64_t{1} << 40, int64_t{1} << 56}) {
      std::vector<int64_t> walked = segment.draws_before(start);
      for (int64_t t = start; t < start + 200; ++t) {
        const std::vector<int64_t> counts = segment.counts(t);
        for (int s = 0; s < 5; ++s) walked[s] += counts[s];
      }
      EXPECT_EQ(segment.draws_before(start + 200), walked);
    }
  }
  const Segment alone(1, 0, 4, 8, {9}, {1});
  EXPECT_EQ(alone.counts(3), (std::vector<int64_t>{4}));
  EXPECT_EQ(alone.draws_before(1000), (std::vector<int64_t>{4000}));
}

TEST(Invariant4, EverySlotTakesEveryPlaceOncePerAlignedWindow) {
  for (const int slots : {1, 2, 5, 16}) {
    const Segment segment = Example().segment(7, slots);
    for (int64_t window = 0; window < 3; ++window) {
      for (int j = 0; j < slots; ++j) {
        std::map<int, int> taken;
        for (int64_t t = window * slots * 8; t < (window + 1) * slots * 8; ++t) {
          Swing swing;
          ++taken[(j + segment.offset(t, swing)) % slots];
        }
        ASSERT_EQ(static_cast<int>(taken.size()), slots);
        for (const auto& [place, times] : taken) EXPECT_EQ(times, 8) << "place " << place;
      }
    }
  }
}

TEST(Invariant5, ASlotOpensAtMostTwoBucketsPerDwell) {
  const std::vector<int64_t> block{1, 1, 1, 1};
  const Segment segment(3, 0, 16, 8, raw_rates({1, 2, 5, 8}, block, {}, RateUnit::draws),
                        block);  // all at least 1/16
  for (int64_t e = 0; e < 200; ++e) {
    std::vector<std::set<int>> opened(16);
    for (int64_t t = e * 8; t < e * 8 + 8; ++t) {
      const std::vector<int> sources = segment.sources(t);
      for (int j = 0; j < 16; ++j) opened[j].insert(sources[j]);
    }
    for (const auto& slot : opened) EXPECT_LE(slot.size(), 2u);
  }
}

TEST(SegmentInvariant7, EveryEntryOncePerEpochAcrossSegmentsOrderAndGrowth) {
  Example example;
  std::map<std::pair<int, int64_t>, std::vector<int64_t>> seen;
  const auto walk = [&](const Segment& segment, const std::vector<int>& members) {
    Swing swing;
    for (int64_t t = 0; t < 300; ++t) {
      for (const Draw& draw : segment.samples(t, example.buckets, members, swing)) {
        for (const PlannedSample& sample : draw.samples) {
          seen[{members[draw.bucket], sample.epoch}].push_back(sample.entry);
        }
      }
    }
  };
  walk(example.segment(), example.members);
  example.buckets[1].grow(600);
  example.buckets[2].grow(91);
  walk(Segment(7, 1, 16, 8, raw_rates({1, 1, 1}, {4, 8, 1}, {}, RateUnit::samples), {4, 8, 1}),
       {2, 1, 4});
  int whole = 0;
  for (const auto& [key, entries] : seen) {
    const auto& [bucket, epoch] = key;
    int64_t size = 0;
    for (const Piece& piece : example.buckets[bucket].pieces) {
      if (piece.epoch <= epoch) size = piece.size;
    }
    const std::set<int64_t> distinct(entries.begin(), entries.end());
    ASSERT_EQ(distinct.size(), entries.size()) << "bucket " << bucket << " epoch " << epoch;
    ASSERT_LT(*distinct.rbegin(), size);
    whole += static_cast<int64_t>(entries.size()) == size;
  }
  EXPECT_GE(whole, 100);
}

TEST(Bucket, GrowsAtTheEndOfTheEpochThatHasBegun) {
  Bucket bucket("x/1x8x8", 10);
  bucket.grow(12);  // before anything was drawn: at once
  EXPECT_EQ(bucket.pieces.back(), (Piece{0, 0, 12}));
  bucket.cursor = 13;
  bucket.grow(20);
  EXPECT_EQ(bucket.pieces.back(), (Piece{24, 2, 20}));
  EXPECT_EQ(bucket.planned(1, 23).epoch, 1);
  EXPECT_EQ(bucket.planned(1, 24).epoch, 2);
  EXPECT_THROW(bucket.grow(19), Error);
  EXPECT_THROW(Bucket("empty", 0), Error);
}

TEST(Bucket, ReplacementsAreEntriesAndDiffer) {
  const Bucket bucket("x/1x8x8", 1000);
  std::set<int64_t> tried;
  for (int64_t k = 1; k <= 50; ++k) {
    const int64_t entry = bucket.replacement(7, 3, k);
    EXPECT_GE(entry, 0);
    EXPECT_LT(entry, 1000);
    tried.insert(entry);
  }
  EXPECT_GE(tried.size(), 40u);
}

}  // namespace
}  // namespace pendulum

// core/: random numbers against their definition, hashes against published vectors, errors that
// name the place.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/error.h"
#include "core/hash.h"
#include "core/process_memory.h"
#include "core/random.h"

namespace pendulum {
namespace {

TEST(Random, DrawFoldsEveryWord) {
  EXPECT_EQ(draw(1, 2, 3), 0xd0734750fde362b3u);
  EXPECT_EQ(fold(draw(1, 2), 3), draw(1, 2, 3));
}

TEST(Random, PermutationAndFeistelMatchTheReference) {
  EXPECT_EQ(permutation(8, draw(1, 2)), (std::vector<int>{7, 1, 5, 4, 6, 2, 3, 0}));
  const std::vector<uint64_t> expected{2, 3, 4, 9, 7, 0, 6, 8, 1, 5};
  for (uint64_t i = 0; i < 10; ++i) EXPECT_EQ(feistel(i, 10, 5), expected[i]);
}

TEST(Random, FeistelIsABijectionAtEverySize) {
  for (const uint64_t n : {1, 2, 3, 5, 8, 17, 64, 1000}) {
    std::vector<uint64_t> seen;
    for (uint64_t i = 0; i < n; ++i) seen.push_back(feistel(i, n, 99));
    std::sort(seen.begin(), seen.end());
    for (uint64_t i = 0; i < n; ++i) EXPECT_EQ(seen[i], i) << "n = " << n;
  }
}

TEST(Random, NormalNumbersDependOnTheirIndexAlone) {
  std::vector<float> whole(1001), part(500);
  fill_normal(whole.data(), 1001, 42);
  for (const int64_t first : {0, 1, 250, 501}) {
    fill_normal(part.data(), 500, 42, first);
    for (int i = 0; i < 500; ++i) ASSERT_EQ(part[i], whole[first + i]) << first << " + " << i;
  }
}

TEST(Random, NormalNumbersHaveNormalMoments) {
  std::vector<float> x(1 << 20);
  fill_normal(x.data(), x.size(), 7);
  double mean = 0, square = 0, fourth = 0;
  for (const double v : x) mean += v, square += v * v, fourth += v * v * v * v;
  const double n = x.size();
  // Standard errors of the three estimates are sqrt(1/n), sqrt(2/n) and sqrt(96/n); five of them
  // each.
  EXPECT_LE(std::abs(mean / n), 5 * std::sqrt(1 / n));
  EXPECT_LE(std::abs(square / n - 1), 5 * std::sqrt(2 / n));
  EXPECT_LE(std::abs(fourth / n - 3), 5 * std::sqrt(96 / n));
}

TEST(Hash, Sha256MatchesFips180) {
  EXPECT_EQ(sha256(std::string_view("abc")),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(Hash, NameOfABucket) { EXPECT_EQ(hash_name("clips/9x32x32"), 0xda6cce4840cf135au); }

TEST(Error, CheckNamesPlaceAndValues) {
  try {
    check(false, "heads divide over ranks: ", 10, " over ", 4);
    FAIL() << "check let a falsehood pass";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("core_test.cpp:"), std::string::npos) << e.what();
    EXPECT_NE(std::string(e.what()).find("10 over 4"), std::string::npos) << e.what();
  }
}

TEST(ProcessMemory, TheMostIsKeptAndWhatIsInUseFalls) {
  constexpr int64_t kBytes = int64_t{256} << 20;
  const int64_t before = process_memory("RssAnon");
  {
    const std::vector<char> block(kBytes, 1);
    EXPECT_GE(process_memory("RssAnon"), before + kBytes / 8 * 7);
  }
  EXPECT_GE(process_memory("VmHWM"), before + kBytes / 8 * 7);
  EXPECT_LE(process_memory("RssAnon"), before + kBytes / 8);
  EXPECT_THROW(process_memory("VmNothing"), Error);
}

}  // namespace
}  // namespace pendulum

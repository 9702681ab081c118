// Buckets of a stage against sizes and shares worked out by hand.
#include "pendulum/buckets.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "error_message.h"
#include "pendulum/bucket_report.h"
#include "plan_example.h"

namespace pendulum {
namespace {

TEST(Buckets, SizesOfAspectsByHand) {
  // Units of 8 and 64 x 64 of room: 48 x 80 keeps 720/768 of 3840, ahead of 40 x 96's 640/864.
  const PictureSize base{64, 64};
  EXPECT_EQ(size_of_aspect({16, 9}, base, 8, 8), (PictureSize{48, 80}));
  EXPECT_EQ(size_of_aspect({9, 16}, base, 8, 8), (PictureSize{80, 48}));
  EXPECT_EQ(size_of_aspect({1, 1}, base, 8, 8), base);
  EXPECT_EQ(size_of_aspect({1000, 1}, base, 8, 8), (PictureSize{8, 512}));
  EXPECT_EQ(size_of_aspect({16, 9}, {480, 832}, 16, 16), (PictureSize{480, 832}));
  // Against every size there is, in floating point.
  for (const Aspect aspect : {Aspect{16, 9}, {4, 3}, {1, 1}, {2, 3}, {21, 9}}) {
    for (const PictureSize room : {PictureSize{64, 64}, {32, 48}, {240, 416}, {8, 8}}) {
      double most = 0;
      const double wanted = static_cast<double>(aspect.width) / aspect.height;
      const auto score = [&](int h, int w) {
        const double found = static_cast<double>(w) / h;
        return std::min(found / wanted, wanted / found) * h * w;
      };
      for (int h = 8; h * 8 <= room.height * room.width; h += 8) {
        for (int w = 8; h * w <= room.height * room.width; w += 8)
          most = std::max(most, score(h, w));
      }
      const PictureSize size = size_of_aspect(aspect, room, 8, 8);
      EXPECT_LE(size.height * size.width, room.height * room.width);
      EXPECT_GE(score(size.height, size.width), most * (1 - 1e-12));
    }
  }
}

TEST(Buckets, TheLeastCropAndTheLongestLengthThatIsFilled) {
  StageConfig stage = small_stage("s", 17, {});
  stage.shape = {17, 64, 64};
  stage.buckets.aspects = {{16, 9}, {1, 1}, {9, 16}};
  stage.buckets.lengths = {17, 9};
  const StageBuckets buckets(stage, small_geometry());
  const auto choose = [&](int width, int height, int frames, bool is_still = false) {
    return buckets.choose({width, height, frames, is_still});
  };
  EXPECT_EQ(choose(1920, 1080, 17).shape, (Shape{17, 48, 80}));
  EXPECT_EQ(choose(1080, 1920, 13).shape, (Shape{9, 80, 48}));
  EXPECT_EQ(choose(1000, 1000, 9).shape, (Shape{9, 64, 64}));
  EXPECT_EQ(choose(1000, 1000, 1, true).shape, (Shape{1, 64, 64}));
  // 3840 : 2160 is wider than 80 : 48: 1 - (5 / 3) / (16 / 9) is cut away.
  EXPECT_NEAR(choose(3840, 2160, 17).crop, 1 - 15.0 / 16, 1e-12);
  EXPECT_NEAR(choose(3840, 2160, 17).scale, 45, 1e-12);
  EXPECT_EQ(choose(64, 64, 5).shape.frames, 0);
  EXPECT_EQ(choose(64, 64, 5).refusal, "shorter than 9 frames at 8 frames a second");
  EXPECT_EQ(choose(32, 32, 9).scale, 0.5);  // enlarged, which is counted
  stage.buckets.min_scale = 0.75;
  EXPECT_EQ(choose(32, 32, 9).shape.frames, 0);
  EXPECT_EQ(choose(32, 32, 9).refusal, "smaller than 0.75 of its bucket's height and width");
  EXPECT_EQ(choose(48, 48, 9).shape.frames, 9);
  stage.buckets = {.min_frames = 9};
  const StageBuckets plain(stage, small_geometry());
  EXPECT_EQ(plain.choose({64, 64, 13, false}).shape.frames, 13);
  EXPECT_EQ(plain.choose({64, 64, 5, false}).shape.frames, 0);
  EXPECT_EQ(plain.choose({64, 64, 1, true}).shape.frames, 1);
  EXPECT_EQ(plain.sizes(), (std::vector<PictureSize>{{64, 64}}));
  stage.buckets.auto_aspects = true;
  EXPECT_EQ(StageBuckets(stage, small_geometry()).sizes().front(), (PictureSize{64, 64}));
}

// pendulum.md: a source's weight is divided over its buckets by their number of samples.
TEST(Buckets, AspectsDivideASourcesWeightExactly) {
  Config config = small_config();
  config.stages[1].buckets.aspects = {{1, 1}, {4, 1}};
  auto catalogues = small_catalogues();
  catalogues[0].sizes = {{}, {0, 1, 1, 0}};
  catalogues[0].fits = {{},
                        {{{5, 16, 16}, {0.5, 1}}, {{5, 8, 32}, {0.25, 0}}, {{1, 8, 32}, {0, 0}}}};
  catalogues[0].refused = {{}, {}};
  const Plan plan = make_plan(config, catalogues, small_geometry());
  const SegmentPlan& low = plan.segments[1];
  std::map<std::string, const BucketPlan*> found;
  double clips = 0;
  for (const BucketPlan& bucket : low.buckets) {
    found[bucket.name] = &bucket;
    if (bucket.source == "clips") clips += bucket.samples;
  }
  ASSERT_EQ(found.size(), 4u);
  EXPECT_EQ(found.at("clips/5x16x16")->entries, (std::vector<int64_t>{0, 6}));
  EXPECT_EQ(found.at("clips/5x8x32")->entries, (std::vector<int64_t>{1}));
  EXPECT_EQ(found.at("clips/1x8x32")->entries, (std::vector<int64_t>{3}));
  EXPECT_EQ(found.at("clips/5x16x16")->weight, 0.375);
  EXPECT_EQ(found.at("clips/5x16x16")->crop, 0.25);
  EXPECT_EQ(found.at("clips/5x16x16")->enlarged, 1);
  EXPECT_LE(std::abs(clips / low.expected_samples - 0.75), 1e-8);
  EXPECT_TRUE(mentions(bucket_report(plan), "clips/5x8x32"));
}

TEST(Buckets, WhatIsRefusedIsCountedWithItsReason) {
  auto catalogues = small_catalogues();
  catalogues[0].frames[1] = {5, 0, 0, 5};
  catalogues[0].sizes = {{}, {0, 0, 0, 0}};
  catalogues[0].fits = {{}, {{{5, 16, 16}, {}}}};
  catalogues[0].refused = {{}, {{"too dark", 2}}};
  const Plan plan = make_plan(small_config(), catalogues, small_geometry());
  EXPECT_EQ(plan.segments[1].refused.at("clips").at("too dark"), 2);
  EXPECT_TRUE(mentions(plan.segments[1].warnings.front(), "2 of 4 samples"));
  EXPECT_TRUE(mentions(plan.segments[1].warnings.front(), "2: too dark"));
  EXPECT_TRUE(mentions(bucket_report(plan), "refused: 2 of source clips: too dark"));
}

}  // namespace
}  // namespace pendulum

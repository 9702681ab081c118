// The synthetic data set: balanced, repeatable, worded as promised, and what is held out is held
// out.
#include "data/synth.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <map>
#include <set>
#include <sstream>

#include "core/error.h"
#include "data/manifest.h"
#include "data/media_reader.h"
#include "data/scene.h"
#include "file_contents.h"

namespace pendulum {
namespace {

namespace fs = std::filesystem;

int word_count(const std::string& caption) {
  std::istringstream words(caption);
  return static_cast<int>(std::distance(std::istream_iterator<std::string>(words), {}));
}

bool names(const std::string& caption, const std::string& word) {
  // As a whole word; "upwards" and "downwards" count for up and down.
  std::istringstream words(caption);
  for (std::string w; words >> w;) {
    w.erase(std::remove(w.begin(), w.end(), ','), w.end());
    if (w == word || w == word + "wards") return true;
  }
  return false;
}

bool names_all(const std::string& caption, const Combination& c) {
  return names(caption, name_of(c.colour)) && names(caption, name_of(c.outline)) &&
         names(caption, name_of(c.direction));
}

Combination combination_of(const Scene& scene) {
  return {scene.colour, scene.outline, scene.direction};
}

TEST(Scenes, TrainingNeverShowsWhatIsHeldOutAndShowsAllElse) {
  const auto held_out = held_out_combinations();
  std::map<std::string, int> seen;
  for (const uint64_t seed : {1, 7, 99}) {
    for (int i = 0; i < 3000; ++i) {
      const Combination c = combination_of(clip_scene(seed, i));
      ASSERT_EQ(std::count(held_out.begin(), held_out.end(), c), 0);
      ++seen[std::string(name_of(c.colour)) + name_of(c.outline) + name_of(c.direction)];
    }
  }
  EXPECT_EQ(seen.size(), 60u);
  // 9000 draws over 60: 150 +- 12.2; five standard deviations.
  for (const auto& [combination, count] : seen) EXPECT_NEAR(count, 150, 61) << combination;
}

TEST(Scenes, HeldOutCombinationsAreBalanced) {
  const auto held_out = held_out_combinations();
  ASSERT_EQ(held_out.size(), 12u);
  std::map<Colour, int> colours;
  std::map<Outline, int> outlines;
  std::map<Direction, int> directions;
  for (const Combination& c : held_out) {
    EXPECT_EQ(std::count(held_out.begin(), held_out.end(), c), 1);
    ++colours[c.colour], ++outlines[c.outline], ++directions[c.direction];
  }
  for (const auto& [k, n] : colours) EXPECT_EQ(n, 2);
  for (const auto& [k, n] : outlines) EXPECT_EQ(n, 4);
  for (const auto& [k, n] : directions) EXPECT_EQ(n, 3);
}

TEST(Scenes, CaptionsNameWhatTheyMust) {
  std::set<std::string> clip_words, still_words;
  int backgrounds = 0, sizes = 0, speeds = 0;
  for (int i = 0; i < 2000; ++i) {
    const Scene clip = clip_scene(7, i);
    const std::string caption = clip_caption(clip);
    EXPECT_TRUE(names_all(caption, combination_of(clip))) << caption;
    EXPECT_LE(word_count(caption), 14) << caption;
    EXPECT_EQ(caption.find_first_of("{}"), caption.npos) << caption;
    backgrounds += caption.find(name_of(clip.background)) != caption.npos;
    sizes += names(caption, clip.is_large ? "large" : "small");
    speeds += names(caption, clip.is_fast ? "quickly" : "slowly");
    const Scene still = still_scene(7, i);
    const std::string words = still_caption(still);
    EXPECT_TRUE(names(words, name_of(still.colour)) && names(words, name_of(still.outline)))
        << words;
    EXPECT_LE(word_count(words), 14) << words;
    clip_words.insert(caption);
    still_words.insert(words);
  }
  EXPECT_GT(clip_words.size(), 500u);
  EXPECT_GT(still_words.size(), 200u);
  for (const int sometimes : {backgrounds, sizes, speeds}) {
    EXPECT_GT(sometimes, 300);
    EXPECT_LT(sometimes, 1500);
  }
}

TEST(Scenes, TheMotionStaysInThePicture) {
  for (int i = 0; i < 300; ++i) {
    const Scene scene = clip_scene(7, i);
    const Frames frames = draw_scene(scene, 17, 64);
    // The border, one pixel wide, is background in every frame.
    for (int t = 0; t < 17; ++t) {
      for (int k = 0; k < 64; ++k) {
        for (const uint8_t* p : {frames.pixel(t, 0, k), frames.pixel(t, 63, k),
                                 frames.pixel(t, k, 0), frames.pixel(t, k, 63)}) {
          for (int c = 0; c < 3; ++c) ASSERT_NEAR(p[c], scene.background_rgb[c], 0.51) << i;
        }
      }
    }
    EXPECT_GE(scene.travel, 0.17) << "a motion that can be seen";
    EXPECT_TRUE(scene.radius >= 0.18 && scene.radius <= 0.30);
  }
}

TEST(Scenes, OutlinesHaveTheAreaTheyClaim) {
  for (const Outline outline : {Outline::circle, Outline::square, Outline::triangle}) {
    double area = 0, moment = 0;
    for (int y = 0; y < 128; ++y) {
      for (int x = 0; x < 128; ++x) {
        const double cover = coverage(outline, x + 0.5 - 64, y + 0.5 - 64, 40);
        area += cover;
        moment += cover * (y + 0.5 - 64);
      }
    }
    EXPECT_NEAR(area / 1600 / unit_area(outline), 1, 0.01) << name_of(outline);
    EXPECT_NEAR(moment / area / 40, unit_centroid_y(outline), 0.01) << name_of(outline);
  }
}

TEST(EvaluationCaptions, Are48HeldOutAndBalanced) {
  const auto captions = evaluation_captions();
  ASSERT_EQ(captions.size(), 48u);
  std::set<std::string> training;
  for (int i = 0; i < 20000; ++i) training.insert(clip_caption(clip_scene(7, i)));
  std::set<std::string> different;
  std::map<Colour, int> colours;
  std::map<Outline, int> outlines;
  std::map<Direction, int> directions;
  for (const EvaluationCaption& e : captions) {
    EXPECT_TRUE(names_all(e.caption, e.shows)) << e.caption;
    EXPECT_EQ(training.count(e.caption), 0u) << e.caption;
    different.insert(e.caption);
    ++colours[e.shows.colour], ++outlines[e.shows.outline], ++directions[e.shows.direction];
  }
  EXPECT_EQ(different.size(), 48u);
  for (const auto& [k, n] : colours) EXPECT_EQ(n, 8);
  for (const auto& [k, n] : outlines) EXPECT_EQ(n, 16);
  for (const auto& [k, n] : directions) EXPECT_EQ(n, 12);
  // The list is part of every published figure: it never changes.
  EXPECT_EQ(captions[0].caption, evaluation_captions()[0].caption);
}

TEST(Synthesize, WritesWhatTheManifestsSay) {
  const fs::path folder = fs::path(testing::TempDir()) / "synth_test_write";
  fs::remove_all(folder);
  const SynthReport report =
      synthesize({.stills = 100, .clips = 50, .size = 32, .frames = 9, .out = folder.string()});
  EXPECT_EQ(report.validation, 3);
  EXPECT_GT(report.bytes, 10000);
  for (const char* kind : {"stills", "clips"}) {
    const auto entries = read_manifest((folder / (std::string(kind) + ".jsonl")).string());
    EXPECT_EQ(entries.size(), kind == std::string("stills") ? 100u : 50u);
    int validation = 0;
    for (const ManifestEntry& entry : entries) {
      validation += entry.split == "validation";
      EXPECT_EQ(entry.licence, "CC0-1.0");
      EXPECT_EQ(entry.basis, "generated");
      EXPECT_EQ(entry.captions.size(), 1u);
      const std::string bytes = file_contents(entry.media);
      const auto info = probe_media({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()});
      ASSERT_TRUE(std::holds_alternative<MediaInfo>(info)) << entry.media;
      EXPECT_EQ(std::get<MediaInfo>(info).frames, kind == std::string("stills") ? 1 : 9);
      EXPECT_EQ(std::get<MediaInfo>(info).width, 32);
    }
    EXPECT_EQ(validation, static_cast<int>(entries.size()) / 50);
  }
}

TEST(Synthesize, IsAFunctionOfItsOptions) {
  std::vector<std::string> all;
  for (const auto& [seed, threads] :
       std::vector<std::pair<uint64_t, int>>{{7, 1}, {7, 3}, {8, 1}}) {
    const fs::path folder = fs::path(testing::TempDir()) / "synth_test_same";
    fs::remove_all(folder);
    synthesize({.stills = 6,
                .clips = 4,
                .size = 32,
                .frames = 5,
                .seed = seed,
                .out = folder.string(),
                .threads = threads});
    std::string bytes;
    for (const char* file : {"stills.jsonl", "clips.jsonl", "stills/000000.png",
                             "stills/000005.jpg", "clips/000003.mp4"}) {
      bytes += file_contents(folder / file);
    }
    all.push_back(bytes);
  }
  EXPECT_EQ(all[0], all[1]);
  EXPECT_NE(all[0], all[2]);
}

TEST(Synthesize, SaysWhatItCannotDo) {
  const std::string out = testing::TempDir() + "synth_test_bad";
  EXPECT_THROW(synthesize({.out = ""}), ConfigError);
  EXPECT_THROW(synthesize({.stills = 0, .clips = 0, .out = out}), ConfigError);
  EXPECT_THROW(synthesize({.size = 33, .out = out}), ConfigError);
  EXPECT_THROW(synthesize({.size = 8, .out = out}), ConfigError);
  EXPECT_THROW(synthesize({.frames = 1, .out = out}), ConfigError);
  EXPECT_THROW(synthesize({.fps = 0, .out = out}), ConfigError);
}

}  // namespace
}  // namespace pendulum

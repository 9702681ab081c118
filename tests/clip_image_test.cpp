// embed/clip_image and embed/clip_pixels: sizes, keys, files and errors.
// tests/oracle/clip_oracle.py compares the numbers with Pillow and transformers.
#include "embed/clip_image.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/random.h"
#include "embed/clip_pixels.h"
#include "error_message.h"
#include "safetensors/safetensors.h"
#include "small_clip.h"

namespace pendulum {
namespace {

using namespace small_clip;

Frames noise(int count, int height, int width) {
  Frames frames(count, height, width);
  for (size_t i = 0; i < frames.rgb.size(); ++i) frames.rgb[i] = draw(3, i) & 255;
  return frames;
}

ClipImageEncoder open_clip(const fs::path& path) {
  return ClipImageEncoder(ImageConfig{.kind = "clip", .weights = path.string()});
}

TEST(ClipPixels, KeepWhatHasTheSizeAlready) {
  const Frames frames = noise(2, 9, 13);
  const Frames same = resize_bicubic(frames, 9, 13);
  EXPECT_EQ(same.count, 1);
  EXPECT_TRUE(std::equal(same.rgb.begin(), same.rgb.end(), frames.rgb.begin()));
}

TEST(ClipPixels, KeepOneColourAndClampWhatOvershoots) {
  Frames flat(1, 40, 30);
  std::fill(flat.rgb.begin(), flat.rgb.end(), 201);
  for (const auto& [height, width] : {std::pair{7, 7}, std::pair{1, 90}, std::pair{200, 3}}) {
    for (const uint8_t byte : resize_bicubic(flat, height, width).rgb) ASSERT_EQ(byte, 201);
  }
  Frames edge(1, 1, 8);  // black, then white
  std::fill(edge.rgb.begin() + 12, edge.rgb.end(), 255);
  const Frames wide = resize_bicubic(edge, 1, 32);
  for (int x = 0; x < 32; ++x) {
    if (x <= 11) {
      EXPECT_EQ(wide.pixel(0, 0, x)[1], 0) << x;
    } else if (x >= 20) {
      EXPECT_EQ(wide.pixel(0, 0, x)[1], 255) << x;
    }
  }
  EXPECT_GT(wide.pixel(0, 0, 16)[0], wide.pixel(0, 0, 15)[0]);
}

TEST(ClipPixels, CutTheMiddleOut) {
  Frames frames(1, 4, 12);  // left third black, middle white, right black
  for (int y = 0; y < 4; ++y) {
    for (int x = 4; x < 8; ++x) std::fill_n(frames.pixel(0, y, x), 3, 255);
  }
  const at::Tensor pixels = clip_pixels(frames, 4);
  EXPECT_EQ(pixels.sizes(), (std::vector<int64_t>{3, 4, 4}));
  // (1 - mean) / deviation of each colour.
  const double white[] = {1.9303362, 2.0748837, 2.1458969};
  for (int channel = 0; channel < 3; ++channel)
    EXPECT_LE((pixels[channel] - white[channel]).abs().max().item<double>(), 1e-5);
}

TEST(ClipImage, EncodesFramesOfAnySize) {
  const ClipImageEncoder encoder = open_clip(small_folder("sizes"));
  EXPECT_EQ(encoder.tokens(), kTokens);
  EXPECT_EQ(encoder.dim(), kWidth);
  const Frames clip = noise(3, 40, 64);
  const at::Tensor states = encoder.states(clip);
  EXPECT_EQ(states.sizes(), (std::vector<int64_t>{kTokens, kWidth}));
  EXPECT_TRUE(states.isfinite().all().item<bool>());
  Frames first(1, 40, 64);
  std::copy_n(clip.rgb.begin(), first.rgb.size(), first.rgb.begin());
  EXPECT_TRUE(at::equal(encoder.states(first), states));
  EXPECT_FALSE(at::equal(encoder.states(noise(1, 64, 40)), states));
}

TEST(ClipImage, EveryPlaceGivesTheSameStates) {
  const fs::path folder = small_folder("places");
  const Frames frames = noise(1, 30, 30);
  const at::Tensor expected = open_clip(folder).states(frames);
  EXPECT_TRUE(at::equal(open_clip(folder.parent_path()).states(frames), expected));
  EXPECT_TRUE(at::equal(open_clip(folder / "model.safetensors").states(frames), expected));
}

TEST(ClipImage, KeyAndFilesFollowContent) {
  const fs::path folder = small_folder("key");
  const std::string key = open_clip(folder).key();
  EXPECT_EQ(open_clip(folder).key(), key);
  EXPECT_EQ(open_clip(folder).describe()["key"], key);
  const std::vector<TakenFile> files = open_clip(folder).files();
  ASSERT_EQ(files.size(), 2U);
  EXPECT_EQ(files[0].name, "image_encoder/config.json");
  EXPECT_EQ(files[1].name, "image_encoder/model.safetensors");
  auto tensors = small_tensors();
  tensors["vision_model.embeddings.class_embedding"][3] = 0.125;
  write(folder, tensors);
  EXPECT_NE(open_clip(folder).key(), key);
}

TEST(ClipImage, NamesWhatIsWrong) {
  const fs::path folder = small_folder("wrong");
  const auto with = [&](const std::function<void(std::map<std::string, at::Tensor>&)>& change) {
    auto tensors = small_tensors();
    change(tensors);
    write(folder, tensors);
    return message_of<Error>([&] { open_clip(folder); });
  };
  const std::string bias = "vision_model.encoder.layers.1.mlp.fc1.bias";
  expect_parts(with([&](auto& t) { t.erase(bias); }), {"model.safetensors", bias, "missing"});
  expect_parts(with([&](auto& t) { t["text_model.x"] = at::zeros({2}); }),
               {"text_model.x", "no place"});
  expect_parts(with([&](auto& t) { t[bias] = at::zeros({3}); }), {bias, "[3]", "expected [48]"});
  expect_parts(with([&](auto& t) { t[bias] = at::zeros({kInner}, at::kLong); }), {bias, "Long"});
  expect_parts(with([&](auto& t) {
                 t = {{"x", at::zeros({3})}};
               }),
               {"not named as a CLIP vision model's"});
  EXPECT_EQ(with([](auto&) {}), "no error");
  const auto config = [&](const char* key, const nlohmann::json& value) {
    nlohmann::json changed = small_config();
    changed[key] = value;
    write(folder, changed);
    return message_of<Error>([&] { open_clip(folder); });
  };
  expect_parts(config("model_type", "siglip_vision_model"), {"config.json", "model_type"});
  expect_parts(config("hidden_act", "relu"), {"config.json", "hidden_act"});
  expect_parts(config("num_attention_heads", 5), {"config.json", "heads"});
  expect_parts(config("num_hidden_layers", 3), {"encoder.layers.2.", "missing"});
  expect_parts(config("patch_size", nullptr), {"config.json", "patch_size"});
  std::ofstream(folder / "config.json") << "{";
  expect_parts(message_of<Error>([&] { open_clip(folder); }), {"config.json"});
  fs::remove(folder / "config.json");
  fs::resize_file(folder / "model.safetensors", 1000);
  expect_parts(message_of<Error>([&] { open_clip(folder); }), {"model.safetensors"});
  EXPECT_THROW(open_clip("/nowhere/at/all"), ConfigError);
  EXPECT_THROW(ClipImageEncoder(ImageConfig{}), ConfigError);
}

}  // namespace
}  // namespace pendulum

// Published weights: every layout gives the same parameters to the bit, and what does not fit is
// refused by the name that the file uses.
//   pretrained_test --write DIR     writes the same model in both layouts, for
//   oracle/pretrained_oracle.py
#include "model/pretrained.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/hash.h"
#include "core/random.h"
#include "error_message.h"
#include "model/diffusers_config.h"
#include "model/parameters.h"
#include "safetensors/safetensors.h"

namespace pendulum {
namespace {

namespace fs = std::filesystem;

// One head of 128, so that shapes alone say what the model is.
WanConfig small_config() {
  return {.layers = 2,
          .heads = 1,
          .head_dim = 128,
          .ffn_dim = 48,
          .freq_dim = 16,
          .in_channels = 3,
          .out_channels = 3,
          .text_dim = 10};
}

// The same for image to video from a first and a last frame.
WanConfig image_config() {
  WanConfig config = small_config();
  config.in_channels = 10;
  config.image_dim = 6;
  config.image_positions = 4;
  return config;
}

NamedTensors random_weights(at::ScalarType type = at::kFloat,
                            const WanConfig& config = small_config()) {
  NamedTensors weights;
  for (const ParameterSpec& spec : parameter_specs(config)) {
    at::Tensor x = at::empty(spec.shape, at::kFloat);
    fill_normal(x.data_ptr<float>(), x.numel(), hash_name(spec.name));
    weights.emplace_back(spec.name, x.to(type));
  }
  return weights;
}

NamedTensors renamed(NamedTensors weights, const NamedLayout& layout) {
  for (auto& [name, tensor] : weights) name = name_in(layout, name);
  return weights;
}

void write_text(const fs::path& path, const std::string& words) { std::ofstream(path) << words; }

class Pretrained : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(testing::TempDir()) / ("pretrained_" + std::to_string(getpid()));
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string write(const std::string& name, const NamedTensors& weights) const {
    const std::string path = (folder_ / name).string();
    write_safetensors(path, weights);
    return path;
  }
  // What opening and loading says.
  static std::string refusal(const std::string& path) {
    return message_of<DataError>([&] {
      VideoTransformer model(small_config(), 3);
      PretrainedTransformer::open(path).load_into(model);
    });
  }
  static void expect_loads(const std::string& path, const NamedTensors& want,
                           const WanConfig& config = small_config()) {
    const PretrainedTransformer found = PretrainedTransformer::open(path);
    EXPECT_EQ(diffusers_config(found.config()), diffusers_config(config)) << path;
    VideoTransformer model(found.config(), std::nullopt);
    found.load_into(model);
    ASSERT_EQ(model.parameters().size(), want.size());
    for (size_t i = 0; i < want.size(); ++i) {
      EXPECT_EQ(model.parameters()[i].first, want[i].first);
      EXPECT_TRUE(at::equal(model.parameters()[i].second, want[i].second.to(at::kFloat)))
          << path << ": " << want[i].first;
    }
  }

  fs::path folder_;
};

TEST_F(Pretrained, RefusesWhatIsNotFinite) {
  const std::string name = "blocks.1.ffn.net.2.weight";
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    const NamedTensors weights = random_weights(at::kFloat);
    for (const auto& [found, tensor] : weights) {
      if (found == name) tensor.view(-1)[7] = bad;
    }
    const std::string path = write("bad.safetensors", weights);
    expect_parts(refusal(path), {path, name, "not finite"});
    const VideoTransformer model(small_config(), 3);
    expect_parts(message_of<DataError>([&] {
                   PretrainedTransformer::open(path).load_into(model, model.parameters());
                 }),
                 {path, name, "not finite"});
  }
}

TEST_F(Pretrained, SingleFilesInEveryLayout) {
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kHalf}) {
    const NamedTensors weights = random_weights(type);
    for (const WeightLayout layout : {WeightLayout::diffusers, WeightLayout::original}) {
      for (const char* prefix : {"", "model.diffusion_model."})
        expect_loads(write("one.safetensors", renamed(weights, {layout, prefix})), weights);
    }
  }
}

TEST_F(Pretrained, ImageToVideo) {
  const NamedTensors weights = random_weights(at::kFloat, image_config());
  for (const WeightLayout layout : {WeightLayout::diffusers, WeightLayout::original}) {
    expect_loads(write("image.safetensors", renamed(weights, {layout, ""})), weights,
                 image_config());
  }
  const nlohmann::json json = diffusers_config(image_config());
  EXPECT_EQ(diffusers_config(read_diffusers_config(json, "x")), json);
  nlohmann::json narrow = json;
  narrow["added_kv_proj_dim"] = 64;
  EXPECT_THROW(read_diffusers_config(narrow, "x"), DataError);
  nlohmann::json alone = diffusers_config(small_config());
  alone["pos_embed_seq_len"] = 4;
  EXPECT_THROW(read_diffusers_config(alone, "x"), DataError);
}

TEST_F(Pretrained, FoldersOfATransformerAndOfAPipeline) {
  const NamedTensors weights = random_weights();
  const fs::path inner = folder_ / "pipeline/transformer";
  fs::create_directories(inner);
  write_text(inner / "config.json", diffusers_config(small_config()).dump());
  const auto middle = weights.begin() + static_cast<std::ptrdiff_t>(weights.size() / 2);
  const NamedTensors first(weights.begin(), middle), second(middle, weights.end());
  write_safetensors((inner / "part-1.safetensors").string(), first);
  write_safetensors((inner / "part-2.safetensors").string(), second);
  nlohmann::json map;
  for (const auto& [name, tensor] : first) map[name] = "part-1.safetensors";
  for (const auto& [name, tensor] : second) map[name] = "part-2.safetensors";
  write_text(inner / "diffusion_pytorch_model.safetensors.index.json",
             nlohmann::json{{"metadata", nlohmann::json::object()}, {"weight_map", map}}.dump());
  expect_loads(inner.string(), weights);
  expect_loads((folder_ / "pipeline").string(), weights);
}

TEST_F(Pretrained, WhatDoesNotFitIsNamedAsInTheFile) {
  const NamedLayout original{WeightLayout::original, ""};
  NamedTensors weights = renamed(random_weights(), original);
  NamedTensors lacking = weights;
  std::erase_if(lacking, [](const auto& w) { return w.first == "blocks.1.ffn.2.bias"; });
  EXPECT_NE(refusal(write("lacking.safetensors", lacking)).find("blocks.1.ffn.2.bias is missing"),
            std::string::npos);

  NamedTensors more = weights;
  more.emplace_back("blocks.1.lora.down", at::zeros({2}));
  EXPECT_NE(refusal(write("more.safetensors", more)).find("blocks.1.lora.down has no place"),
            std::string::npos);

  NamedTensors bent = weights;
  for (auto& [name, tensor] : bent) {
    if (name == "blocks.0.self_attn.o.weight") tensor = at::zeros({128, 127});
  }
  const std::string said = refusal(write("bent.safetensors", bent));
  EXPECT_NE(said.find("blocks.0.self_attn.o.weight has the shape [128, 127]"), std::string::npos)
      << said;

  NamedTensors image = weights;
  image.emplace_back("img_emb.proj.0.weight", at::zeros({2}));
  EXPECT_NE(refusal(write("image.safetensors", image)).find("img_emb.proj.0.weight has no place"),
            std::string::npos);

  EXPECT_NE(refusal(write("other.safetensors", {{"encoder.weight", at::zeros({2})}}))
                .find("encoder.weight"),
            std::string::npos);
  EXPECT_NE(refusal((folder_ / "nowhere").string()).find("there is no such"), std::string::npos);
}

// The YAML may repeat what the weights say, and no more.
TEST_F(Pretrained, TheConfigurationMustAgree) {
  ModelConfig model;
  model.import = write("one.safetensors", random_weights());
  EXPECT_EQ(wan_config(model, {3, 10}).ffn_dim, 48);
  const auto said = [&](int channels, int text_dim) {
    return message_of([&] { wan_config(model, {channels, text_dim}); });
  };
  EXPECT_NE(said(4, 10).find("takes 3 latent channels and gives 3, the codec has 4"),
            std::string::npos);
  EXPECT_NE(said(3, 384).find("text states of 10 numbers"), std::string::npos);
  model.layers = 7;
  EXPECT_NE(said(3, 10).find("model.layers: found 7"), std::string::npos);
}

}  // namespace
}  // namespace pendulum

int main(int argc, char** argv) {
  using namespace pendulum;
  if (argc == 3 && std::string(argv[1]) == "--write") {
    const std::string folder = argv[2];
    const NamedLayout original{WeightLayout::original, "model.diffusion_model."};
    WanConfig image = image_config();
    image.image_positions = 0;  // diffusers' converter does not know them
    for (const auto& [name, config] :
         {std::pair{"text", small_config()}, std::pair{"image", image}}) {
      const NamedTensors weights = random_weights(at::kFloat, config);
      write_safetensors(text(folder, "/", name, ".diffusers.safetensors"), weights);
      write_safetensors(text(folder, "/", name, ".original.safetensors"),
                        renamed(weights, original));
    }
    return 0;
  }
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}

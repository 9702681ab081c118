// The cost model's sizes beside the model's own, and FLOPs beside those that PyTorch counts.
#include "model/geometry.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "model/video_transformer.h"
#include "optim/optimizer.h"
#include "pendulum/memory.h"

namespace pendulum {
namespace {

// Three layers of width 24, 12 tokens of 3 channels, 7 text tokens.
constexpr Shape kShape{5, 16, 24};
const LatentSizes kLatents{3, 4, 4};

WanConfig small_wan() {
  WanConfig wan;
  wan.layers = 3;
  wan.heads = 2;
  wan.head_dim = 12;
  wan.ffn_dim = 40;
  wan.freq_dim = 16;
  wan.in_channels = wan.out_channels = 3;
  wan.text_dim = 10;
  return wan;
}

WanConfig image_wan() {
  WanConfig wan = small_wan();
  wan.in_channels = 3 + 4 + 3;
  wan.image_dim = 8;
  return wan;
}

Config config_of(const std::string& trainable, int rank = 0) {
  Config config;
  config.text.length = 7;
  config.model.trainable = trainable;
  config.lora.rank = rank;
  return config;
}

Geometry geometry_of(const std::string& trainable, int rank = 0) {
  return geometry(config_of(trainable, rank), kLatents, small_wan());
}

int64_t count_of(const NamedTensors& tensors) {
  int64_t sum = 0;
  for (const auto& [name, tensor] : tensors) sum += tensor.numel();
  return sum;
}

TEST(Geometry, CountsTheModelsParameters) {
  WanConfig plain_image = image_wan(), with_positions = image_wan(), narrow = small_wan();
  plain_image.image_dim = 0;
  with_positions.image_positions = 6;
  narrow.cross_attn_norm = false;
  for (const WanConfig& wan : {small_wan(), narrow, plain_image, image_wan(), with_positions}) {
    const Geometry g = geometry(config_of(".*"), kLatents, wan);
    EXPECT_EQ(parameter_count(g), VideoTransformer(wan, std::nullopt).parameter_count());
    EXPECT_FALSE(g.part);
    EXPECT_EQ(trained_parameters(g), parameter_count(g));
    EXPECT_EQ(g.latent_channels(), 3);
  }
}

TEST(Geometry, CountsWhatTrains) {
  for (const char* pattern :
       {"blocks\\.[12]\\..*", "blocks\\.1\\.attn2\\.to_k\\..*", "proj_out.*", "scale_shift_table",
        ".*attn1\\.to_q.*|.*text_embedder.*", "patch_embedding.*"}) {
    VideoTransformer model(small_wan(), std::nullopt);
    const Geometry g = geometry_of(pattern);
    ASSERT_TRUE(g.part) << pattern;
    EXPECT_EQ(g.part->parameters, count_of(select_trainable(model.parameters(), pattern)))
        << pattern;
    EXPECT_EQ(g.part->first_block, model.first_trained_block()) << pattern;
    EXPECT_EQ(g.part->adapters, 0);
  }
  EXPECT_THROW(geometry_of("no such parameter"), ConfigError);

  Config config = config_of(".*", 4);
  config.lora.targets = {"attn1.to_q", "to_v", "ffn.net.2"};
  VideoTransformer model(image_wan(), std::nullopt);
  model.add_adapters(config.lora, 1);
  const Geometry g = geometry(config, kLatents, image_wan());
  EXPECT_EQ(trained_parameters(g), count_of(model.trainable()));
  EXPECT_EQ(g.part->adapters, count_of(model.trainable()));
  EXPECT_EQ(parameter_count(g), count_of(model.base()));
  EXPECT_EQ(g.part->first_block, model.first_trained_block());
  int64_t matrices = 0;
  for (const auto& [name, tensor] : model.base()) {
    if (name.starts_with("blocks.") && tensor.dim() == 2) matrices += tensor.numel();
  }
  EXPECT_EQ(g.part->frozen_matrices, matrices);
  EXPECT_EQ(g.part->frozen_in_block, matrices / 3);
  EXPECT_EQ(g.part->in_block, count_of(model.trainable()) / 3);
}

// torch.utils.flop_counter over diffusers' WanTransformer3DModel of these sizes, with such adapters
// and such parameters frozen.
TEST(Geometry, FlopsAreThoseThatPyTorchCounts) {
  const double product = 2.0 * 12 * 24 * 24;  // of all tokens with a square matrix
  const double attention = 4.0 * 12 * 12 * 24;
  const auto backward = [](const Geometry& g) {
    return training_flops(g, kShape) - forward_flops(g, kShape);
  };
  // All trains: twice the forward, with gradients of latents, text and time code, which nobody
  // wants.
  Geometry g = geometry_of(".*");
  EXPECT_EQ(forward_flops(g, kShape), 535200);
  EXPECT_EQ(backward(g), 1059360 + 2 * (12 * 12 * 24 + 7 * 10 * 24 + 16 * 24));
  // In the first trained block also what stands before its trained parameters is counted: here the
  // gradients of what query, key and value and their adapters are computed of.
  g = geometry_of(".*", 4);
  EXPECT_EQ(forward_flops(g, kShape), 671136);
  EXPECT_EQ(backward(g), 740736 + 3 * product + 3 * 2.0 * 12 * 4 * 24);
  g = geometry_of("blocks\\.[12]\\..*");
  EXPECT_EQ(forward_flops(g, kShape), 535200);
  EXPECT_EQ(backward(g), 642816);
  // Here the self-attention before it, its own query, and in both blocks half of the gradients of
  // the attention to text, of whose keys and values some take none.
  g = geometry_of("blocks\\.1\\.attn2\\.to_k\\..*");
  EXPECT_EQ(backward(g), 247680 + 5 * product + 2 * attention + 2 * 4.0 * 12 * 7 * 24);
  g = geometry_of("proj_out.*");
  EXPECT_EQ(backward(g), 6912);
  g = geometry_of(".*attn1\\.to_q.*|.*text_embedder.*");
  EXPECT_EQ(backward(g), 579360 + 3 * product + attention);
}

// With 512 text tokens: diffusers takes as many from the end of all states for those of the text.
Geometry image_geometry(const WanConfig& wan, const std::string& trainable, int rank = 0) {
  Config config = config_of(trainable, rank);
  config.text.length = 512;
  return geometry(config, kLatents, wan);
}

TEST(Geometry, FlopsOfImageToVideo) {
  WanConfig wan = image_wan();
  wan.image_dim = 0;
  const double unwanted = 2 * (12 * 40 * 24 + 512 * 10 * 24 + 16 * 24);
  Geometry g = image_geometry(wan, ".*");
  EXPECT_EQ(forward_flops(g, kShape), 6611328);
  EXPECT_EQ(training_flops(g, kShape), 6611328 + 12953088 + unwanted);
  g = image_geometry(image_wan(), ".*");
  EXPECT_EQ(g.image_length, 257);
  g.image_length = 5;
  EXPECT_EQ(forward_flops(g, kShape), 6665728);
  EXPECT_EQ(training_flops(g, kShape), 6665728 + 13061888 + unwanted);
}

// 257 image states, of which the counted model has 5.
TEST(Geometry, FlopsOfAPartOfImageToVideo) {
  const double states = 257 - 5, attention = 4.0 * 12 * 24;  // of a state in a layer
  const double embedder = 2.0 * (8 * 8 + 8 * 24), keys = 2 * 2.0 * 24 * 24;
  const double more = states * (embedder + 3 * keys + 3 * attention);
  Geometry g = image_geometry(image_wan(), "blocks\\.[12]\\..*");
  EXPECT_EQ(forward_flops(g, kShape), 6665728 + more);
  EXPECT_EQ(training_flops(g, kShape),
            6665728 + 5342976 + more + states * 2 * (keys + 2 * attention));
  // As of text to video; and image keys and values, which no adapter stands beside, want no
  // gradient.
  g = image_geometry(image_wan(), ".*", 4);
  EXPECT_EQ(forward_flops(g, kShape), 7965184 + more);
  EXPECT_EQ(
      training_flops(g, kShape) - forward_flops(g, kShape),
      5993856 + 3 * 2.0 * 12 * 24 * (24 + 4) + 3 * 5 * attention + 3 * 2 * states * attention);
}

}  // namespace
}  // namespace pendulum

// Tokens, FLOPs, parameters and traffic against figures worked out by hand.
#include "pendulum/cost.h"

#include <gtest/gtest.h>

#include "error_message.h"
#include "plan_example.h"

namespace pendulum {
namespace {

TEST(Cost, OfTheSmallModelByHand) {
  Geometry g = small_geometry();
  EXPECT_EQ(tokens(g, {1, 16, 16}), 4);
  EXPECT_EQ(tokens(g, {5, 16, 16}), 8);
  // 4 tokens, width 2: self-attention 128 + 128, cross-attention 64 + 16 + 32, feed-forward 128,
  // patches 384, text 16, time 64.
  EXPECT_EQ(forward_flops(g, {1, 16, 16}), 960);
  // 8 tokens: 256 + 512, 128 + 16 + 64, 256, 768, 16, 64.
  EXPECT_EQ(forward_flops(g, {5, 16, 16}), 2080);
  EXPECT_EQ(training_flops(g, {5, 16, 16}), 6240);
  // One head: a ring of 2 passes keys and values of 8 / 2 tokens x 2 numbers forward and backward
  // once, their gradients twice. Two heads: 4 all-to-alls forward, 4 backward, half of each stays.
  EXPECT_EQ(sample_traffic(g, {5, 16, 16}, 2, 4).bytes(), (2 + 2 + 4) * 32);
  EXPECT_EQ(sample_traffic(g, {5, 16, 16}, 2, 2).bytes(), (2 + 2 + 8) * 16);
  g.heads = 2;
  EXPECT_EQ(sample_traffic(g, {5, 16, 16}, 2, 4).bytes(), 8 * 16);
  EXPECT_EQ(sample_traffic(g, {5, 16, 16}, 1, 4).bytes(), 0);
  g.activation_checkpointing = "selective";
  EXPECT_EQ(sample_traffic(g, {5, 16, 16}, 2, 4).bytes(), 12 * 16);
  g.heads = 1;
  EXPECT_EQ(sample_traffic(g, {5, 16, 16}, 2, 4).bytes(), (2 + 2 + 4) * 32);
  g.activation_checkpointing = "full";
  EXPECT_EQ(sample_traffic(g, {5, 16, 16}, 2, 4).bytes(), (2 + 2 + 2 + 4) * 32);
  g = small_geometry();
  g.heads = 2;
}

TEST(Cost, OfAProcessThatSharesASample) {
  Geometry g = small_geometry();
  g.heads = 2;
  // Of the 2080 forward: tokens' products 256 + 128 + 256 + 768 and attention 512 + 64 are shared;
  // the text's keys and values, 16, and the embedders, 16 + 64, are everybody's own.
  Work work = sample_work(g, {5, 16, 16}, 2);
  EXPECT_EQ(work.matrix, 3 * (1408 / 2 + 16 + 80));
  EXPECT_EQ(work.attention, 3 * 576 / 2);
  work = sample_work(g, {5, 16, 16}, 1);
  EXPECT_EQ(work.matrix + work.attention, training_flops(g, {5, 16, 16}));
  EXPECT_EQ(sample_work(g, {5, 16, 16}, 3).attention, 3 * 576 * 3 / 8);  // 3 of 8 tokens at most
  CostModel model;
  model.attention = 2;
  model.per_byte = 10;
  EXPECT_EQ(sample_cost(g, {5, 16, 16}, 2, model, 4), 2400 + 2 * 864 + 10 * 8 * 16);
  model.per_pass = 1000;
  model.per_call = 100;  // 2 all-to-alls forward and 2 backward
  EXPECT_EQ(pass_cost(g, {5, 16, 16}, 2, 3, model, 4),
            1000 + 400 + 3 * (2400 + 2 * 864 + 10 * 8 * 16));
  // What is computed again: the block's products; with full, its attention too.
  g.activation_checkpointing = "selective";
  work = sample_work(g, {5, 16, 16}, 1);
  EXPECT_EQ(work.matrix, 4 * (1408 + 16) + 3 * 80);
  EXPECT_EQ(work.attention, 3 * 576);
  g.activation_checkpointing = "full";
  EXPECT_EQ(sample_work(g, {5, 16, 16}, 1).attention, 4 * 576);
}

TEST(Cost, OneFormulaOfTrafficForALayerAndForAModel) {
  Geometry g = small_geometry();
  g.layers = 3;
  g.heads = 2;
  // 4 processes, 2 of them exchanging heads: 8 / 4 tokens of 2 numbers each.
  const Traffic layer = attention_traffic(2 * 2, 4, 2, 2),
                model = sample_traffic(g, {5, 16, 16}, 4, 4);
  EXPECT_EQ(layer.exchanged, 8 * 16 / 2);
  EXPECT_EQ(layer.passed, 2 * 16 * (2 * 1 + 2));
  EXPECT_EQ(layer.calls, 2 * 2 + 2 * 1 + 2);
  EXPECT_EQ(model.exchanged, 3 * layer.exchanged);
  EXPECT_EQ(model.passed, 3 * layer.passed);
  EXPECT_EQ(model.calls, 3 * layer.calls);
  EXPECT_EQ(update_bytes(g, 1), 0);
  EXPECT_EQ(update_bytes(g, 4), 6.0 * static_cast<double>(parameter_count(g)));
}

// Counted over diffusers' WanTransformer3DModel with the published config.json files.
TEST(Cost, ParameterCountIsThePublishedModels) {
  Geometry g{30, 1536, 8960, 256, 512, 4096, 8, 4, {1, 2, 2}, 16, true};
  EXPECT_EQ(parameter_count(g), 1418996800);  // Wan2.1-T2V-1.3B
  g = {40, 5120, 13824, 256, 512, 4096, 8, 4, {1, 2, 2}, 16, true};
  EXPECT_EQ(parameter_count(g), 14288491584);  // Wan2.1-T2V-14B
  g.channels = 36;
  g.out_channels = 16;
  EXPECT_EQ(parameter_count(g), 14288901184);  // Wan2.2-I2V-A14B, one of the pair
  g.image_dim = 1280;
  EXPECT_EQ(parameter_count(g), 16394878784);  // Wan2.1-I2V-14B
  g.image_positions = 514;
  EXPECT_EQ(parameter_count(g), 16395536704);  // Wan2.1-FLF2V-14B
  g = {30, 3072, 14336, 256, 512, 4096, 16, 4, {1, 2, 2}, 48, true};
  EXPECT_EQ(parameter_count(g), 4999787712);  // Wan2.2-TI2V-5B
  g = {6, 160, 640, 64, 32, 384, 4, 4, {1, 2, 2}, 12, false};
  EXPECT_EQ(parameter_count(g), 2773648);
}

// As if the second of two layers trained.
TEST(Cost, OfAPartThatTrains) {
  Geometry g = small_geometry();
  g.layers = 2;
  g.heads = 2;
  const Shape shape{5, 16, 16};
  const double attention = 2 * (512 + 64);  // of two layers; the second alone has a backward pass
  g.part = TrainedPart{.parameters = 10,
                       .first_block = 1,
                       .forward = {.per_token = 100, .words = 20, .embedders = 7},
                       .backward = {.per_token = 30, .words = 5, .embedders = 1}};
  EXPECT_EQ(forward_flops(g, shape), 8 * 100 + 20 + 7 + attention);
  EXPECT_EQ(training_flops(g, shape), 8 * 130 + 25 + 8 + 2 * attention);
  Work work = sample_work(g, shape, 2);
  EXPECT_EQ(work.matrix, 4 * 130 + 25 + 8);
  EXPECT_EQ(work.attention, 2 * attention / 2);
  g.activation_checkpointing = "full";  // computes the second layer again
  work = sample_work(g, shape, 1);
  EXPECT_EQ(work.matrix, 8 * 130 + 25 + 8 + 8 * 50 + 10);
  EXPECT_EQ(work.attention, 2 * attention + attention / 2);
  EXPECT_EQ(update_bytes(g, 4), 6.0 * 10);
  EXPECT_EQ(trained_parameters(g), 10);
}

TEST(Cost, ShapesThatDoNotDivideAreNamed) {
  const Geometry g = small_geometry();
  EXPECT_TRUE(mentions(message_of([&] {
                         tokens(g, {1, 20, 16});
                       }),
                       "height 20 is not a multiple of 8"));
  EXPECT_TRUE(mentions(message_of([&] {
                         tokens(g, {1, 16, 4});
                       }),
                       "width 4 is not a multiple of 8"));
  EXPECT_TRUE(mentions(message_of([&] { tokens(g, {4, 16, 16}); }), "4 frames"));
  EXPECT_TRUE(mentions(message_of([&] { tokens(g, {0, 16, 16}); }), "0 frames"));
  Geometry coarse = g;
  coarse.temporal = 8;
  EXPECT_EQ(fitting_frames(coarse, 13), 9);
  EXPECT_EQ(fitting_frames(coarse, 8), 1);
  EXPECT_EQ(fitting_frames(coarse, 0), 0);
  coarse.patch[0] = 2;
  EXPECT_EQ(fitting_frames(coarse, 5), 0);
}

}  // namespace
}  // namespace pendulum

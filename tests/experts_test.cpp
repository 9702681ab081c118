// model/experts.h: which of a pair is meant, where they change over, and what is refused.
#include "model/experts.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "core/error.h"
#include "error_message.h"
#include "model/parameters.h"

namespace pendulum {
namespace {

namespace fs = std::filesystem;

class ExpertFolders : public testing::Test {
 protected:
  ExpertFolders() {
    fs::create_directories(folder_ / "transformer");
    fs::create_directories(folder_ / "transformer_2");
  }
  ~ExpertFolders() override { fs::remove_all(folder_); }

  void write(const char* name, const std::string& content) {
    std::ofstream(folder_ / name) << content;
  }
  template <class E>
  void refuses(const std::function<void()>& act, const std::string& words) {
    expect_parts(message_of<E>(act), {words});
  }

  const fs::path folder_ = fs::path(testing::TempDir()) / "experts_test";
  const WanConfig text_to_video_{.in_channels = 16, .out_channels = 16};
  const WanConfig image_to_video_{.in_channels = 36, .out_channels = 16};
};

TEST_F(ExpertFolders, HighIsTheFirstAndLowTheSecond) {
  EXPECT_TRUE(has_pair(folder_.string()));
  EXPECT_EQ(transformer_place(folder_.string(), Expert::high), (folder_ / "transformer").string());
  EXPECT_EQ(transformer_place(folder_.string(), Expert::low), (folder_ / "transformer_2").string());
  refuses<ConfigError>([&] { transformer_place(folder_.string(), Expert::none); },
                       "name the one that trains, high or low");
  fs::remove_all(folder_ / "transformer_2");
  EXPECT_EQ(transformer_place(folder_.string(), Expert::none), folder_.string());
  refuses<ConfigError>([&] { transformer_place(folder_.string(), Expert::low); }, "holds no pair");
  // A file is what it is.
  EXPECT_EQ(transformer_place("one.safetensors", Expert::low), "one.safetensors");
}

TEST_F(ExpertFolders, TheBoundaryIsThatOfTheFolderOrThePublishedOne) {
  const std::string folder = folder_.string();
  EXPECT_EQ(expert_boundary(folder, text_to_video_), 0.875);
  EXPECT_EQ(expert_boundary(folder, image_to_video_), 0.9);
  write("pendulum.json", R"({"experts": {"boundary": 0.7}})");
  EXPECT_EQ(expert_boundary(folder, text_to_video_), 0.7);
  write("model_index.json", R"({"boundary_ratio": null})");
  EXPECT_EQ(expert_boundary(folder, text_to_video_), 0.7);
  write("model_index.json", R"({"boundary_ratio": 0.6})");
  EXPECT_EQ(expert_boundary(folder, text_to_video_), 0.6);
  for (const char* bad : {"1.5", "\"0.5\"", "0"}) {
    write("model_index.json", text("{\"boundary_ratio\": ", bad, "}"));
    refuses<DataError>([&] { expert_boundary(folder, text_to_video_); },
                       text("model_index.json: boundary_ratio is ", bad));
  }
  write("model_index.json", "{");
  refuses<DataError>([&] { expert_boundary(folder, text_to_video_); },
                     "model_index.json: is no JSON: line 1, column 2");
}

TEST_F(ExpertFolders, AnExpertTrainsItsTimesUnlessOthersAreAskedFor) {
  const ObjectiveConfig whole;
  ModelConfig model{.import = folder_.string(), .expert = "high"};
  EXPECT_EQ(in_expert_times(whole, model, text_to_video_).time_range,
            (std::vector<double>{0.875, 1}));
  model.expert = "low";
  EXPECT_EQ(in_expert_times(whole, model, image_to_video_).time_range,
            (std::vector<double>{0, 0.9}));
  ObjectiveConfig part;
  part.time_range = {0.2, 0.4};
  EXPECT_EQ(in_expert_times(part, model, image_to_video_).time_range, part.time_range);
  EXPECT_EQ(in_expert_times(whole, {}, text_to_video_).time_range, whole.time_range);
}

TEST(ExpertNetworks, ChangeOverAtTheBoundary) {
  const WanConfig config{.layers = 1,
                         .heads = 1,
                         .head_dim = 8,
                         .ffn_dim = 8,
                         .freq_dim = 8,
                         .in_channels = 2,
                         .out_channels = 2,
                         .text_dim = 4};
  VideoTransformer high(config, 1), low(config, 2);
  randomise(high.parameters(), 1);
  randomise(low.parameters(), 2);
  const Network both = network_of_pair(high, low, 0.5);
  const at::Tensor x = at::ones({1, 2, 1, 2, 2});
  const Conditions told{at::ones({1, 3, 4})};
  const auto at_time = [&](const Network& network, double t) {
    return network(x, at::full({1}, t), told);
  };
  EXPECT_TRUE(at_time(both, 500).equal(at_time(network_of(high), 500)));
  EXPECT_TRUE(at_time(both, 499).equal(at_time(network_of(low), 499)));
  EXPECT_FALSE(at_time(both, 499).equal(at_time(network_of(high), 499)));
}

}  // namespace
}  // namespace pendulum

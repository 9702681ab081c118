// The fit of costs against times made from known ones, and the file that keeps it.
#include "pendulum/calibration.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/random.h"
#include "error_message.h"
#include "plan_example.h"

namespace pendulum {
namespace {

Geometry geometry() {
  Geometry g = small_geometry();
  g.layers = 2;
  g.width = 64;
  g.ffn_dim = 256;
  g.text_length = 16;
  g.text_dim = 384;
  g.channels = 48;
  g.heads = 4;
  return g;
}

// Passes of four shapes and several batches and widths, as long as `model` says.
std::vector<MeasuredPass> passes_by(const CostModel& model, const std::vector<int>& widths) {
  std::vector<MeasuredPass> out;
  for (const Shape& shape :
       {Shape{1, 32, 32}, Shape{9, 32, 32}, Shape{17, 64, 64}, Shape{33, 64, 64}}) {
    for (const int width : widths) {
      for (const int batch : {1, 3, 8}) {
        MeasuredPass pass{"x/" + shape.name(), shape, width, batch, 0};
        pass.seconds = predicted_seconds(geometry(), pass, model, 4);
        out.push_back(pass);
      }
    }
  }
  return out;
}

constexpr double kTight = 1e-6;  // fp64, normal equations of a condition number near 1e6

TEST(Calibration, FindsTheCostsThatMadeTheTimes) {
  const CostModel model{
      .flops_per_second = 5e10, .attention = 2.5, .per_pass = 3e8, .per_call = 2e6, .per_byte = 40};
  const CostModel found = fit_costs(geometry(), passes_by(model, {1, 2, 4, 8}), 4);
  EXPECT_LE(std::abs(found.flops_per_second / 5e10 - 1), kTight);
  EXPECT_LE(std::abs(found.attention / 2.5 - 1), kTight);
  EXPECT_LE(std::abs(found.per_pass / 3e8 - 1), kTight);
  EXPECT_LE(std::abs(found.per_call / 2e6 - 1), kTight);
  EXPECT_LE(std::abs(found.per_byte / 40 - 1), kTight);
}

TEST(Calibration, LeavesOutWhatCannotBeToldApart) {
  const CostModel model{.flops_per_second = 5e10, .attention = 2.5, .per_pass = 3e8};
  // No shared sample: nothing is known of communication.
  CostModel found = fit_costs(geometry(), passes_by(model, {1}), 4);
  EXPECT_LE(std::abs(found.attention / 2.5 - 1), kTight);
  EXPECT_EQ(found.per_byte, 0);
  EXPECT_EQ(found.per_call, 0);
  // One pass: one coefficient.
  std::vector<MeasuredPass> one{passes_by(model, {1}).back()};
  found = fit_costs(geometry(), one, 4);
  EXPECT_GT(found.flops_per_second, 0);
  EXPECT_EQ(found.per_pass, 0);
  EXPECT_LE(std::abs(predicted_seconds(geometry(), one[0], found, 4) / one[0].seconds - 1), kTight);
  EXPECT_THROW(fit_costs(geometry(), {}, 4), ConfigError);
}

TEST(Calibration, NoiseMovesThePredictionNoFurtherThanItself) {
  const CostModel model{.flops_per_second = 5e10, .attention = 0.5, .per_pass = 1e7};
  Calibration noisy{.geometry = geometry(), .passes = passes_by(model, {1, 2})};
  for (size_t i = 0; i < noisy.passes.size(); ++i)
    noisy.passes[i].seconds *= 1 + 0.05 * (2 * uniform(draw(7, i)) - 1);
  noisy.cost = fit_costs(noisy.geometry, noisy.passes, 4);
  for (const double* part :
       {&noisy.cost.attention, &noisy.cost.per_pass, &noisy.cost.per_call, &noisy.cost.per_byte})
    EXPECT_GE(*part, 0);
  // The squares' sum is at most that of the true costs, 0.05^2 each.
  double squares = 0;
  for (const double error : relative_errors(noisy)) squares += error * error;
  EXPECT_LE(std::sqrt(squares / static_cast<double>(noisy.passes.size())), 0.05);
}

class CalibrationFile : public testing::Test {
 protected:
  void SetUp() override {
    path_ = testing::TempDir() + "calibration_" + std::to_string(getpid()) + ".json";
  }
  void TearDown() override { std::filesystem::remove(path_); }
  std::string refusal(const Geometry& g) const {
    return message_of([&] { load_calibration(path_, g); });
  }
  Calibration example() const {
    Calibration out{.device = "a processor, 2 threads",
                    .date = "2026-11-24",
                    .program = "0.1.0",
                    .geometry = geometry(),
                    .passes = passes_by({.flops_per_second = 5e10, .attention = 2}, {1, 2})};
    out.cost = fit_costs(out.geometry, out.passes, 4);
    return out;
  }
  std::string path_;
};

TEST_F(CalibrationFile, RoundTripAndUseInAPlan) {
  const Calibration saved = example();
  save_calibration(path_, saved);
  const Calibration loaded = load_calibration(path_, geometry());
  EXPECT_EQ(to_json(loaded.cost), to_json(saved.cost));
  EXPECT_EQ(loaded.passes.size(), saved.passes.size());
  EXPECT_EQ(loaded.words(), "2026-11-24 on a processor, 2 threads");

  MeshConfig mesh;
  mesh.calibration = path_;
  mesh.device_flops = 1e12;  // the measured rate takes its place
  mesh.network_gb_per_second = 1;
  const PlanOptions options = plan_options(mesh, geometry());
  EXPECT_EQ(options.cost.flops_per_second, saved.cost.flops_per_second);
  EXPECT_EQ(options.measured, loaded.words());
  EXPECT_EQ(options.cost.per_network_byte, saved.cost.flops_per_second / 1e9);
}

TEST_F(CalibrationFile, OfAnotherModelOrFormatIsRefused) {
  save_calibration(path_, example());
  Geometry other = geometry();
  other.width = 128;
  std::string words = refusal(other);
  EXPECT_NE(words.find("another model: its width was 64, this one's is 128"), std::string::npos)
      << words;
  EXPECT_NE(words.find("--calibrate"), std::string::npos);
  other = geometry();
  other.activation_checkpointing = "full";
  EXPECT_NE(refusal(other).find("activation_checkpointing"), std::string::npos);
  other = geometry();
  other.swap_blocks = 1;
  EXPECT_NE(refusal(other).find("swap_blocks"), std::string::npos);
  other = geometry();
  other.offloads = true;
  EXPECT_NE(refusal(other).find("offloads"), std::string::npos);

  std::ifstream in(path_);
  auto content = nlohmann::json::parse(in);
  content["format"] = 99;
  std::ofstream(path_) << content;
  EXPECT_NE(refusal(geometry()).find("format 99"), std::string::npos) << refusal(geometry());
  content["format"] = 1;
  content.erase("cost");
  std::ofstream(path_) << content;
  EXPECT_NE(refusal(geometry()).find("is not a calibration"), std::string::npos);
  std::ofstream(path_) << "{";
  EXPECT_NE(refusal(geometry()).find("is not a calibration"), std::string::npos);
  std::filesystem::remove(path_);
  EXPECT_NE(refusal(geometry()).find("cannot be read"), std::string::npos);
}

}  // namespace
}  // namespace pendulum

// What a plan's report says: stages, buckets, memory, totals.
#include "pendulum/report.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "error_message.h"
#include "plan_example.h"

namespace pendulum {
namespace {

TEST(Report, ShowsStagesBucketsAndTotals) {
  const Plan plan = small_plan();
  const std::string report = report_text(report_of(plan));
  for (const char* part : {"run small: seed 7, 4 slots of 2", "stage 1 image: 20 steps",
                           "stage 2 low: 34 steps", "clips/5x16x16", "equal tokens, width 1", "iid",
                           "drift", "run: 54 steps", "source stills: 2 training samples"}) {
    EXPECT_TRUE(mentions(report, part)) << part << "\n" << report;
  }
  EXPECT_EQ(short_number(0, "B"), "0 B");
  EXPECT_EQ(short_number(999, "B"), "999 B");
  EXPECT_EQ(short_number(1.5e13, "FLOP"), "15.0 TFLOP");
  EXPECT_EQ(short_number(999999, "B"), "1.00 MB");
}

TEST(Report, NumbersInFull) {
  EXPECT_EQ(exact_number(0), "0");
  EXPECT_EQ(exact_number(999), "999");
  EXPECT_EQ(exact_number(1000), "1,000");
  EXPECT_EQ(exact_number(1418996800), "1,418,996,800");
  EXPECT_EQ(exact_number(-123456), "-123,456");
}

TEST(Report, SaysWhatTrainsAndWhatAProcessHolds) {
  Geometry g = small_geometry();
  const int64_t numbers = parameter_count(g);
  g.part = TrainedPart{.parameters = 1500,
                       .adapters = 1500,
                       .forward = {.per_token = 10},
                       .backward = {.per_token = 20}};
  Config config = small_config();
  config.optim.ema_memory = "host";
  config.mesh.device_memory_gb = 1;
  const Plan plan = make_plan(config, small_catalogues(), g);
  const PlanReport report = report_of(plan);
  const std::string words = "1,500 of " + exact_number(numbers + 1500) + " parameters train";
  for (const std::string& page : {report_text(report), report_html(report)}) {
    EXPECT_TRUE(mentions(page, words)) << page;
    EXPECT_TRUE(mentions(page, "gradients"));
  }
  const nlohmann::json figures = report_json(report);
  EXPECT_EQ(figures["parameters"], numbers);
  EXPECT_EQ(figures["parameters_trained"], 1500);
  EXPECT_EQ(figures["device_memory_bytes"], 1e9);
  const nlohmann::json memory = figures["stages"][1]["memory"];
  EXPECT_EQ(memory["weights"], 4.0 * static_cast<double>(numbers + 1500));
  EXPECT_EQ(memory["gradients"], 4.0 * 1500);
  EXPECT_EQ(memory["moments"], 8.0 * 1500);
  EXPECT_EQ(memory["average"], 0);
  EXPECT_EQ(memory["host"], 4.0 * 1500);
  // Of the bucket that needs most: two stills of 4 tokens are as large as a clip of 8.
  const double clip = activation_bytes(g, {5, 16, 16}, 1, 1, 4);
  EXPECT_GE(memory["activations"], clip);
  EXPECT_EQ(memory["total"],
            memory["weights"].get<double>() + 12.0 * 1500 + memory["activations"].get<double>());
}

// A batch that the stage gives is taken as it is.
TEST(Report, WarnsOfABatchThatDoesNotFit) {
  Config config = small_config();
  const Geometry g = small_geometry();
  PlanOptions options;
  options.memory_bytes =
      state_bytes(g, {.has_average = true}) + 2.5 * activation_bytes(g, {5, 16, 16}, 1, 1, 4);
  config.stages[1].batch["clips"] = 3;
  const Plan plan = make_plan(config, small_catalogues(), g, options);
  EXPECT_TRUE(mentions(report_text(report_of(plan)), "bucket clips/5x16x16: a pass of 3"));
  config.stages[1].batch["clips"] = 2;
  const Plan less = make_plan(config, small_catalogues(), g, options);
  EXPECT_FALSE(mentions(report_text(report_of(less)), "bucket clips/5x16x16: a pass of"));
}

}  // namespace
}  // namespace pendulum

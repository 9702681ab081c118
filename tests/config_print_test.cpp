// config/: cross checks, units, printing that reads back, comparison on resume, the reference page.
#include <gtest/gtest.h>

#include "config_support.h"

namespace pendulum {
namespace {

TEST(ConfigChecks, SourcesAndBatches) {
  expect_parts(parse_error(with("{clips: .8,", "{clipps: .8,")),
               {"x.yaml:12: stages.low-res.sources.clipps: no such source; did you mean \"clips\"? "
                "(valid: clips, stills)"});
  expect_parts(parse_error(with("{clips: .8, stills: 0.2}", "{clips: 0}")),
               {"x.yaml:12: stages.low-res.sources: every weight is 0"});
  expect_parts(parse_error(with("{clips: .8, stills: 0.2}", "{}")),
               {"x.yaml:12: stages.low-res.sources", "empty map"});
  expect_parts(parse_error(with("batch: {stills: 64}", "batch: {clips: 64}")),
               {"x.yaml:9: stages.image.batch.clips: not a source of this stage (valid: stills)"});
  expect_parts(parse_error(with("batch: {stills: 64}", "width: {stils: 1}")),
               {"stages.image.width.stils", "\"stills\""});
  expect_parts(parse_error(with(", stills: 16}", "}")),
               {"x.yaml:14: stages.low-res.batch.stills: missing, and required"});
  expect_parts(
      parse_error(with("batch: {stills: 64}", "width: {stills: 3}") + "mesh: {slot: 4, beat: 1 s}"),
      {"stages.image.width.stills: expected a divisor of mesh.slot, 4, found 3"});
  EXPECT_EQ(parse_error(with(", batch: {stills: 64}", "") + "mesh: {beat: 1 s}\n"), "no error");
  // A source of weight 0 is never drawn and needs no batch.
  std::string yaml = with("stills: 0.2", "stills: 0");
  yaml.replace(yaml.find(", stills: 16}"), 13, "}");
  EXPECT_EQ(parse_error(yaml), "no error");
  expect_parts(parse_error(with("  stills: {data", "  1st: {data")),
               {"x.yaml:5: sources.1st: expected a name"});
}

TEST(ConfigChecks, LengthsOfStages) {
  std::string shares = with("steps: 600", "compute: 0.25");
  shares.replace(shares.find("steps: 300"), 10, "compute: 0.75");
  EXPECT_EQ(parse_error(shares + "total_flops: 20 TFLOP\n"), "no error");
  EXPECT_EQ(parse_config(shares + "total_flops: 20 TFLOP\n").total_flops, 2e13);
  EXPECT_EQ(parse_config(shares + "total_flops: 2e13\n").total_flops, 2e13);
  expect_parts(parse_error(shares), {"total_flops: missing, and required"});
  std::string wrong = shares + "total_flops: 2e13\n";
  wrong.replace(wrong.find("0.75"), 4, "0.70");
  expect_parts(parse_error(wrong),
               {"x.yaml:8: stages: the stages' shares of compute sum to 0.95, expected 1"});
  expect_parts(parse_error(with("steps: 600", "steps: 600, compute: 1")),
               {"x.yaml:9: stages.image.steps", "found both"});
  expect_parts(parse_error(with("steps: 600, ", "")),
               {"x.yaml:9: stages.image: ", "found neither"});
  expect_parts(parse_error(kSmall + "total_flops: 1 TFLOP\n"),
               {"x.yaml:17: total_flops: no stage has compute"});
  EXPECT_EQ(parse_error(with("steps: 600", "compute: 0.25") + "total_flops: 1 PFLOP\n"),
            "no error");  // mixed
  expect_parts(parse_error(with("name: low-res", "name: image")),
               {"x.yaml:10: stages.1.name: \"image\" is the name"});
  expect_parts(parse_error(with("name: low-res", "name: 2nd")),
               {"x.yaml:10: stages.2nd.name: expected a name"});
}

TEST(ConfigChecks, EncodersThatNeedWeights) {
  expect_parts(parse_error(kSmall + "text: {kind: umt5}\n"),
               {"text.weights: umt5 comes with no package"});
  EXPECT_EQ(parse_error(kSmall + "text: {kind: umt5, weights: some/where, length: 512}\n"),
            "no error");
  expect_parts(parse_error(kSmall + "image: {kind: clip}\n"),
               {"x.yaml:17: image.weights: missing, and required where image.kind is clip"});
  expect_parts(parse_error(kSmall + "image: {weights: some/where}\n"),
               {"x.yaml:17: image.weights: image.kind is none"});
  EXPECT_EQ(parse_error(kSmall + "image: {kind: clip, weights: some/where}\n"), "no error");
  EXPECT_EQ(parse_config(kSmall).image.kind, "none");
}

TEST(ConfigChecks, ShapesCodecAndModel) {
  expect_parts(
      parse_error(with("frames: 9", "frames: 8")),
      {"x.yaml:13: stages.low-res.shape.frames: expected 4k+1 frames (1, 5, 9, ...), found 8"});
  expect_parts(parse_error(with("32x48", "32x44")),
               {"x.yaml:9: stages.image.shape.size", "multiples of 8 and 8", "32x44"});
  EXPECT_EQ(parse_error(with("32x48", "32x44") + "model: {patch: [1, 2, 1]}\n"), "no error");
  expect_parts(parse_error(kSmall + "codec: {spatial: 16}\n"),
               {"stages.image.shape.size", "multiples of 32 and 32"});
  expect_parts(parse_error(kSmall + "codec: {spatial: 6}\n"),
               {"x.yaml:17: codec.spatial: expected a power of two, found 6"});
  expect_parts(parse_error(kSmall + "codec: {temporal: 3}\n"),
               {"codec.temporal: expected a power of two"});
  expect_parts(parse_error(kSmall + "codec: {temporal: 16}\n"),
               {"stages.low-res.shape.frames: expected 16k+1"});
  expect_parts(parse_error(kSmall + "codec: {drop: 3}\n"), {"codec.drop: expected at most 2"});
  expect_parts(parse_error(kSmall + "codec: {weights: a}\n"),
               {"x.yaml:17: codec.weights: codec.kind haar has none"});
  expect_parts(parse_error(kSmall + "codec: {kind: wan}\n"),
               {"x.yaml:17: codec: weights: missing, and required for codec.kind wan"});
  for (const char* key : {"spatial: 16", "temporal: 4", "drop: 1"}) {
    expect_parts(parse_error(kSmall + "codec: {kind: wan, weights: a, " + key + "}\n"),
                 {"x.yaml:17: codec.", "codec.kind wan has what its weights say"});
  }
  expect_parts(parse_error(kSmall + "codec: {kind: wan, weights: a, tile: 40}\n"),
               {"codec.tile: expected a multiple of 16"});
  expect_parts(parse_error(kSmall + "model: {patch: [2, 2, 2]}\n"),
               {"x.yaml:17: model.patch.0: expected 1, found 2"});
  expect_parts(parse_error(kSmall + "model: {trainable: \"(\"}\n"),
               {"x.yaml:17: model.trainable: not a regular expression"});
  expect_parts(parse_error(kSmall + "model: {offload: block-inputs}\n"),
               {"x.yaml:17: model.offload", "activation_checkpointing"});
  expect_parts(parse_error(with("predict: x", "per_token: true")),
               {"x.yaml:16: stages.low-res.objective.per_token: needs model.per_token_time"});
  expect_parts(parse_error(with("lr: 2e-3", "kind: muon")),
               {"x.yaml:15: stages.low-res.optim.kind: expected adamw, the kind of the whole run"});
}

TEST(ConfigPrint, ReadsBackToTheSame) {
  Config config = parse_config(kSmall);
  EXPECT_EQ(parse_config(print_config(config)), config) << print_config(config);
  // Every kind of value away from its default, and texts that plain YAML would misread.
  config.run.seed = UINT64_MAX;
  config.run.validate = Every::steps(1);
  config.run.inject = "kill@120";
  config.mesh.beat = {.seconds = 0.1};
  config.mesh.slot = 4;
  config.mesh.timeout = 1.0 / 3;
  config.model.patch = {1, 2, 1};
  config.model.trainable = R"(^(blocks\.\d+|"x"): #.*$)";
  config.text.weights = "null";
  config.rights.allow = {"true", "0BSD", "LicenseRef-a b", "1.5"};
  config.sources.at("stills").data = {"weird: [path]/'x'"};
  config.generate.shift = 1e-7;
  config.generate.prompts = {
      "",         "line\nbreak\ttab",   "{a}", " space ", "\xc3\xa9t\xc3\xa9", "- x", "every stage",
      "a\\b\x01", std::string(300, 'w')};
  config.optim.lr = 0.1 + 0.2;
  config.stages[0].optim = config.stages[1].optim = config.optim;
  config.stages[0].optim.warmup = {1};
  config.stages[0].objective.shift = 2.5;
  config.stages[1].objective = config.objective;
  config.stages[1].width = {{"clips", 2}};
  config.stages[1].fps = 23.976;
  for (StageConfig& stage : config.stages) stage.steps = 0, stage.compute = 0.5;
  config.total_flops = 1.2345678901234567e19;
  const std::string printed = print_config(config);
  const Config again = parse_config(printed);
  EXPECT_EQ(again, config) << printed;
  EXPECT_EQ(print_config(again), printed);
}

TEST(ConfigPrint, IsReadable) {
  const std::string printed = print_config(parse_config(kSmall));
  for (const char* part :
       {"version: 1\n", "\nmesh: {slot: 1, slots: 1,", "beat: none", "validate: every 200 steps",
        "\nrights: {allow: [CC0-1.0], as_of: start, recheck: every 100 steps, licensed_only: "
        "false, max_unreadable: 0.01}\n",
        "shift: auto", "\nsources:\n  clips: {data: somewhere/clips, max_epochs: 2.5",
        "\nstages:\n  - {name: image, steps: 600, sources: {stills: 1}",
        "\n  - name: low-res\n    steps: 300\n", "    optim: {lr: 0.002}\n",
        "    shape: {frames: 9, size: 32x32, fps: 4}\n"}) {
    EXPECT_NE(printed.find(part), std::string::npos) << part << "\nnot in\n" << printed;
  }
  EXPECT_EQ(printed.find("total_flops"), std::string::npos);
  EXPECT_EQ(printed.find("inject"), std::string::npos);
}

TEST(Units, PrintIsTheInverseOfParse) {
  for (const char* words :
       {"never", "every stage", "every step", "every 2 steps", "every 9223372036854775807 steps"}) {
    ASSERT_TRUE(parse_every(words)) << words;
    EXPECT_EQ(print(*parse_every(words)), words);
  }
  for (const char* words : {"0 steps", "1 step", "50 steps"})
    EXPECT_EQ(print(*parse_steps(words)), words);
  EXPECT_EQ(parse_steps("50")->count, 50);
  EXPECT_EQ(parse_every("every  1 steps"), Every::steps(1));
  for (const char* words : {"none", "2 s", "0.25 s", "500 GFLOP", "1.5 TFLOP", "20 TFLOP",
                            "999 FLOP", "123456 EFLOP"}) {
    ASSERT_TRUE(parse_beat(words)) << words;
    EXPECT_EQ(print(*parse_beat(words)), words);
  }
  EXPECT_EQ(parse_beat("80 ms"), (Beat{.seconds = 0.08}));
  EXPECT_EQ(parse_beat("0.5TFLOP"), (Beat{.flops = 5e11}));
  EXPECT_EQ(parse_flops("2e13"), 2e13);
  EXPECT_EQ(parse_flops(".5e1 kFLOP"), 5e3);
  for (const double flops :
       {1.0, 0.3, 1e-300, 7.0 / 3, 999.9999999999999, 1e15 / 3, 1.7976931348623157e308, 5e-324}) {
    EXPECT_EQ(parse_flops(print_flops(flops)), flops) << print_flops(flops);
  }
}

TEST(Units, OtherTextIsRefused) {
  for (const char* words :
       {"", "every", "every steps", "every -1 steps", "every 0 steps", "every 2.5 steps", "200",
        "always", "every 99999999999999999999 steps", "Every stage"}) {
    EXPECT_FALSE(parse_every(words)) << words;
  }
  for (const char* words : {"", "-1", "1.5", "5 s", "steps", "99999999999999999999"})
    EXPECT_FALSE(parse_steps(words)) << words;
  for (const char* words : {"", "2", "2 m", "0 s", "-1 s", "nan s", "inf s", "1e400 s", "2 tflop",
                            "TFLOP", "1 s s", "1e99999 s"}) {
    EXPECT_FALSE(parse_beat(words)) << words;
  }
  for (const char* words : {"", "-1", "nan", "1e309", "1 s", "x"})
    EXPECT_FALSE(parse_flops(words)) << words;
}

TEST(Units, EveryIsDue) {
  EXPECT_TRUE(Every::steps(5).is_due(10));
  EXPECT_FALSE(Every::steps(5).is_due(11));
  EXPECT_FALSE(Every::stage().is_due(5));
  EXPECT_FALSE(Every::never().is_due(5));
}

TEST(Resume, OnlyWhatChangesNothingMayChange) {
  const Config saved = parse_config(kSmall);
  EXPECT_TRUE(incompatible_keys(saved, saved).empty());
  Config now = saved;
  now.run.dir = "elsewhere";
  now.run.validate = now.run.sample = now.run.save = Every::steps(3);
  now.run.keep = 9;
  now.run.inject = "kill@1";
  now.embed = {.workers = 5, .prefetch = 2, .cache = "off", .cache_limit_gb = 1};
  now.generate = {
      .solver = "ab2", .steps = 3, .guidance = 1, .shift = 2, .fps = 30, .prompts = {"x"}};
  now.mesh.threads = 3;
  now.mesh.device = "cpu";
  now.mesh.timeout = 1;
  now.rights.max_unreadable = 1;
  EXPECT_EQ(incompatible_keys(saved, now), std::vector<std::string>{});
}

TEST(Resume, FixedKeysAreNamed) {
  const Config saved = parse_config(kSmall);
  const auto changed = [&](const auto& change) {
    Config now = saved;
    change(now);
    return incompatible_keys(saved, now);
  };
  using Keys = std::vector<std::string>;
  EXPECT_EQ(changed([](Config& c) { c.run.seed = 8; }), Keys{"run.seed"});
  EXPECT_EQ(changed([](Config& c) { c.mesh.slots = 2; }), Keys{"mesh.slots"});
  EXPECT_EQ(changed([](Config& c) { c.mesh.dwell = 2; }), Keys{"mesh.dwell"});
  EXPECT_EQ(changed([](Config& c) { c.model.layers = 2; }), Keys{"model.layers"});
  EXPECT_EQ(changed([](Config& c) { c.model.patch = {1, 2, 2}; }), Keys{"model.patch"});
  EXPECT_EQ(changed([](Config& c) { c.codec.drop = 1, c.text.length = 7; }),
            (Keys{"codec.drop", "text.length"}));
  EXPECT_EQ(changed([](Config& c) { c.weights = "draws"; }), Keys{"weights"});
  EXPECT_EQ(changed([](Config& c) { c.stages[1].optim.lr = 1; }), Keys{"stages.low-res.optim.lr"});
  EXPECT_EQ(changed([](Config& c) { c.stages[0].shape.width = 64; }),
            Keys{"stages.image.shape.size"});
  EXPECT_EQ(changed([](Config& c) { c.stages.pop_back(); }), Keys{"stages.low-res"});
  EXPECT_EQ(changed([](Config& c) { c.stages.clear(); }), Keys{"stages"});
  EXPECT_EQ(changed([](Config& c) { std::swap(c.stages[0], c.stages[1]); }), Keys{"stages"});
}

// These make the plan go on in a new segment.
TEST(Resume, WeightsSourcesAndLengthsMayChange) {
  const Config saved = parse_config(kSmall);
  Config now = saved;
  now.rights.allow.push_back("MIT");
  now.stages[1].steps = 1;
  now.stages[0].sources["stills"] = 2;
  now.stages[0].sources["more"] = 1;
  now.stages[0].batch.clear();
  now.sources["more"] = {};
  now.sources["stills"].data.push_back("more stills");
  EXPECT_EQ(incompatible_keys(saved, now), std::vector<std::string>{});
}

TEST(Reference, DocumentsEveryKey) {
  const std::string page = config_reference();
  for (const char* part :
       {"# Configuration reference", "## run", "## stages", "## sources.NAME",
        "| `lr` | number | `0.001` | above 0 | fixed | Learning rate",
        "| `shape.size` | size, pixels | required |",
        "| `validate` | interval | `every 200 steps` |  | may change |",
        "| `steps` | whole number | `20` | at least 1 | may change |", "| `total_flops` | work",
        "`velocity`, `x`", "On resume", "| `optim` | map of keys of [optim](#optim)"}) {
    EXPECT_NE(page.find(part), std::string::npos) << part << "\nnot in\n" << page;
  }
}

TEST(Nearest, FindsWhatWasMeant) {
  EXPECT_EQ(edit_distance("", "abc"), 3);
  EXPECT_EQ(edit_distance("lr", "rl"), 1);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3);
  const std::vector<std::string> keys{"validate", "sample", "warmup", "lr"};
  EXPECT_EQ(did_you_mean("warm_up", keys), "; did you mean \"warmup\"?");
  EXPECT_EQ(did_you_mean("valid", keys), "; did you mean \"validate\"?");
  EXPECT_EQ(did_you_mean("zebra", keys), "");
  EXPECT_EQ(did_you_mean("", keys), "");
  EXPECT_EQ(did_you_mean(std::string(100000, 'a'), keys), "");
}

TEST(ConfigPrint, ShapesBySource) {
  const Config config =
      parse_config(with("batch: {clips: 8, stills: 16}",
                        "batch: {clips: 8, stills: 16}\n    shapes: {stills: 1x16x48}"));
  EXPECT_EQ(config.stages[1].shape_of("stills"), (Shape{1, 16, 48}));
  EXPECT_EQ(config.stages[1].shape_of("clips"), (Shape{9, 32, 32}));
  EXPECT_EQ(parse_config(print_config(config)), config);
  const auto broken = [](const std::string& shapes) {
    return parse_error(with("batch: {clips: 8, stills: 16}",
                            "batch: {clips: 8, stills: 16}\n    shapes: " + shapes));
  };
  expect_parts(broken("{stills: 16x48}"), {"stages.low-res.shapes.stills", "\"33x256x256\""});
  expect_parts(broken("{stills: 2x16x48}"), {"stages.low-res.shapes.stills", "4k+1 frames"});
  expect_parts(broken("{stills: 1x17x48}"), {"stages.low-res.shapes.stills", "17x48"});
  expect_parts(broken("{stil: 1x16x48}"), {"not a source of this stage", "\"stills\""});
}

using PrintedConfigFiles = ConfigFiles;
TEST_F(PrintedConfigFiles, ALaterMistakeGetsItsPlace) {
  const std::string path = write("run.yaml", kSmall);
  const auto place = [&](const std::string& message,
                         const std::vector<std::string>& overrides = {}) {
    return located(message, path, overrides);
  };
  EXPECT_EQ(place("stages.image.batch.stills: too many"),
            path + ":9: stages.image.batch.stills: too many");
  EXPECT_EQ(place("stages.low-res.width.clips: 3"), path + ":10: stages.low-res.width.clips: 3");
  EXPECT_EQ(place("optim.lr: 3", {"optim.lr=3"}), "--set optim.lr=3: optim.lr: 3");
  EXPECT_EQ(place("no key here"), "no key here");
  EXPECT_EQ(place("nothing.such: x"), "nothing.such: x");
}

}  // namespace
}  // namespace pendulum

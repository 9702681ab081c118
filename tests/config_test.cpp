// config/: every class of mistake is refused with file, line, key and hint.
#include <gtest/gtest.h>

#include "config_support.h"

namespace pendulum {
namespace {

TEST(Config, ReadsWhatIsWrittenAndLeavesTheRestAtItsDefault) {
  const Config config = parse_config(kSmall);
  EXPECT_EQ(config.run.name, "small");
  EXPECT_EQ(config.run.validate, Every::steps(200));
  EXPECT_EQ(config.run.save, Every::never());
  EXPECT_EQ(config.run.seed, RunConfig{}.seed);
  EXPECT_EQ(config.rights.allow, std::vector<std::string>{"CC0-1.0"});
  EXPECT_EQ(config.sources.at("clips").max_epochs, 2.5);
  EXPECT_EQ(config.optim.warmup.count, 50);
  ASSERT_EQ(config.stages.size(), 2u);
  EXPECT_EQ(config.stages[0].shape, (Shape{1, 32, 48}));
  EXPECT_EQ(config.stages[0].fps, 8);
  EXPECT_EQ(config.stages[1].fps, 4);
  EXPECT_EQ(config.stages[1].sources,
            (std::map<std::string, double>{{"clips", 0.8}, {"stills", 0.2}}));
  EXPECT_EQ(config.mesh, MeshConfig{});
}

TEST(Config, AStageLaysItsKeysOverTheRuns) {
  const Config config = parse_config(kSmall);
  EXPECT_EQ(config.stages[0].optim, config.optim);
  OptimConfig expected = config.optim;
  expected.lr = 2e-3;
  EXPECT_EQ(config.stages[1].optim, expected);
  EXPECT_EQ(config.stages[1].objective.predict, "x");
  EXPECT_EQ(config.stages[1].objective.shift, 3);
  EXPECT_EQ(config.objective, ObjectiveConfig{});
  // The order of sections in the file does not matter.
  const std::string optim = "optim: {lr: 1e-3, warmup: 50 steps}\n";
  EXPECT_EQ(parse_config(with(optim, "") + optim), config);
}

TEST(Config, UnknownKeysNameTheNearest) {
  EXPECT_EQ(parse_error(with("lr: 1e-3", "lrr: 1e-3")),
            "x.yaml:7: optim.lrr: unknown key; did you mean \"lr\"? (valid: kind, lr, betas, eps, "
            "weight_decay, "
            "muon_momentum, muon_rms, warmup, schedule, final_lr, clip, ema, ema_memory)");
  expect_parts(parse_error(with("    optim: {lr: 2e-3}", "    optim: {\n      rl: 2e-3}")),
               {"x.yaml:16: stages.low-res.optim.rl: unknown key", "\"lr\""});
  expect_parts(parse_error(kSmall + "mesch: {}\n"),
               {"x.yaml:17: mesch: unknown key", "did you mean \"mesh\"?"});
  expect_parts(parse_error(with("size: 32x32", "siez: 32x32")),
               {"x.yaml:13: stages.low-res.shape.siez: unknown key", "\"size\""});
  expect_parts(parse_error(with("data: somewhere/stills", "date: a")),
               {"x.yaml:5: sources.stills.date", "\"data\""});
  const std::string far = parse_error(kSmall + "zebra: 1\n");
  expect_parts(far, {"x.yaml:17: zebra: unknown key (valid: version,"});
}

TEST(Config, WrongTypesSayWhatWasFoundAndExpected) {
  const auto run = [](const std::string& entry) { return parse_error(with("name: small", entry)); };
  EXPECT_EQ(run("keep: two"),
            "x.yaml:2: run.keep: expected a whole number, at least 1, found \"two\"");
  expect_parts(run("keep: 3.5"), {"run.keep: expected a whole number", "found \"3.5\""});
  expect_parts(run("keep: 1e3"), {"run.keep: expected a whole number"});
  expect_parts(run("keep: \"3\""), {"expected a whole number", "found the text \"3\""});
  expect_parts(run("keep: [3]"), {"found a list"});
  expect_parts(run("keep: {a: 3}"), {"found a map"});
  expect_parts(run("keep:"), {"found nothing"});
  expect_parts(run("keep: true"), {"found \"true\""});
  expect_parts(run("keep: 0x10"), {"found \"0x10\""});
  expect_parts(run("keep: 99999999999"), {"from -2147483648 to 2147483647", "99999999999"});
  expect_parts(run("name: [a]"), {"run.name: expected a text, found a list"});
  expect_parts(run("name: "), {"run.name: expected a text, found nothing"});
  expect_parts(run("name: ../up"), {"run.name: expected a name", "found \"../up\""});
  const auto section = [](const std::string& yaml) { return parse_error(kSmall + yaml); };
  for (const char* no : {"yes", "True", "1", "\"true\"", "on"}) {
    expect_parts(section(text("model: {cross_attn_norm: ", no, "}")),
                 {"x.yaml:17: model.cross_attn_norm: expected true or false"});
  }
  expect_parts(section("mesh: 3"), {"x.yaml:17: mesh: expected a map of keys, found \"3\""});
  expect_parts(section("mesh: [slot]"), {"mesh: expected a map of keys, found a list"});
  expect_parts(section("model: {patch: 2}"), {"model.patch: expected a list, found \"2\""});
  expect_parts(section("model: {patch: [1, 2]}"), {"model.patch: expected a list of 3, found 2"});
  expect_parts(section("model: {patch: [1, 2, two]}"), {"model.patch.2: expected a whole number"});
  expect_parts(parse_error(with("sources: {stills: 1}", "sources: [stills]")),
               {"x.yaml:9: stages.image.sources: expected a map, found a list"});
  expect_parts(parse_error(with("[CC0-1.0]", "CC0-1.0")),
               {"x.yaml:3: rights.allow: expected a list"});
  expect_parts(parse_error(with("[CC0-1.0]", "[\" \"]")),
               {"rights.allow.0: expected a text that is not empty"});
}

TEST(Config, NumbersAreFiniteAndInRange) {
  const auto lr = [](const std::string& number) {
    return parse_error(with("lr: 1e-3", "lr: " + number));
  };
  for (const char* bad : {"nan", ".nan", "inf", ".inf", "-.inf", "1e999", "0", "-1e-3", "1e-3x",
                          "\"1e-3\"", "1_000", "~"}) {
    expect_parts(lr(bad), {"x.yaml:7: optim.lr: expected a number, above 0, found "});
  }
  EXPECT_EQ(parse_config(with("lr: 1e-3", "lr: 3")).optim.lr, 3);
  EXPECT_EQ(parse_config(with("lr: 1e-3", "lr: +.5")).optim.lr, 0.5);
  EXPECT_EQ(parse_config(with("name: small", "seed: 18446744073709551615")).run.seed, UINT64_MAX);
  expect_parts(parse_error(with("name: small", "seed: 18446744073709551616")),
               {"run.seed", "from 0 to"});
  expect_parts(parse_error(with("name: small", "seed: -1")), {"run.seed: expected a whole number"});
  EXPECT_EQ(parse_config(with("steps: 600", "steps: 9007199254740993")).stages[0].steps,
            9007199254740993);
  expect_parts(parse_error(with("steps: 600", "steps: 0")), {"stages.image.steps", "at least 1"});
  expect_parts(parse_error(kSmall + "mesh: {slot: 0}"),
               {"mesh.slot: expected a whole number, at least 1"});
  expect_parts(parse_error(kSmall + "objective: {caption_dropout: 1.5}"),
               {"at least 0, at most 1", "\"1.5\""});
  expect_parts(parse_error(with("lr: 1e-3", "betas: [0.9, 1]")),
               {"optim.betas.1", "at least 0, below 1"});
  expect_parts(parse_error(with("stills: 0.2", "stills: -1")),
               {"stages.low-res.sources.stills: expected a number, at least 0"});
}

TEST(Config, ChoicesNameTheNearest) {
  expect_parts(parse_error(kSmall + "model: {preset: wan-tinny}"),
               {"x.yaml:17: model.preset", "did you mean \"wan-tiny\"?"});
  expect_parts(
      parse_error(kSmall + "codec: {kind: harr}"),
      {"x.yaml:17: codec.kind: expected one of haar, wan, found \"harr\"; did you mean \"haar\"?"});
  expect_parts(parse_error(with("lr: 1e-3", "schedule: cosin")),
               {"constant, linear, cosine", "did you mean \"cosine\"?"});
  expect_parts(parse_error(with("predict: x", "predict: eps")),
               {"x.yaml:16: stages.low-res.objective.predict", "velocity, x"});
  expect_parts(parse_error(kSmall + "generate: {solver: eulr}"), {"generate.solver", "\"euler\""});
  expect_parts(parse_error(kSmall + "weights: token"),
               {"weights: expected one of samples, tokens, draws", "\"tokens\""});
}

TEST(Config, UnitsAreNeeded) {
  expect_parts(parse_error(with("every 200 steps", "every 200 samples")),
               {"x.yaml:2: run.validate: expected \"every 200 steps\", \"every stage\" or "
                "\"never\", found \"every 200 samples\""});
  expect_parts(parse_error(with("every 200 steps", "200")), {"run.validate", "found \"200\""});
  expect_parts(parse_error(with("every 200 steps", "every 0 steps")), {"run.validate"});
  expect_parts(parse_error(with("50 steps", "50 s")),
               {"optim.warmup: expected a number of steps", "found \"50 s\""});
  expect_parts(parse_error(with("50 steps", "-5")), {"optim.warmup"});
  expect_parts(parse_error(kSmall + "mesh: {beat: 2 m}"),
               {"mesh.beat: expected a time or work", "units: us, ms, s", "\"2 m\""});
  expect_parts(parse_error(kSmall + "mesh: {beat: 2}"), {"mesh.beat", "found \"2\""});
  expect_parts(parse_error(kSmall + "mesh: {beat: 0 s}"), {"mesh.beat"});
  expect_parts(parse_error(kSmall + "total_flops: 20 TFLOPS"),
               {"total_flops: expected work such as", "\"20 TFLOPS\""});
  for (const char* bad :
       {"32", "32x", "x32", "32x-1", "32 x 32", "32x32x32", "\"32x32\"", "[32, 32]", "0x32"}) {
    expect_parts(parse_error(with("32x48", bad)), {"x.yaml:9: stages.image.shape.size: expected "});
  }
}

TEST(Config, MissingKeysAreNamed) {
  expect_parts(parse_error(with("version: 1\n", "")), {"x.yaml:1: version: missing, and required"});
  expect_parts(parse_error(with("rights: {allow: [CC0-1.0]}\n", "")),
               {"x.yaml:1: rights: missing"});
  expect_parts(parse_error(with("rights: {allow: [CC0-1.0]}\n", "rights: {}\n")),
               {"x.yaml:3: rights.allow: missing"});
  expect_parts(parse_error(with("[CC0-1.0]", "[]")),
               {"x.yaml:3: rights.allow: expected at least one element"});
  expect_parts(parse_error(with("data: somewhere/clips, ", "")),
               {"x.yaml:6: sources.clips.data: missing"});
  expect_parts(parse_error(with("name: image, ", "")), {"x.yaml:9: stages.0.name: missing"});
  expect_parts(parse_error(with("shape: {frames: 9, size: 32x32, fps: 4}", "shape: {}")),
               {"x.yaml:13: stages.low-res.shape.size: missing"});
  const std::string head = kSmall.substr(0, kSmall.find("stages:"));
  expect_parts(parse_error(head), {"x.yaml:1: stages: missing"});
  expect_parts(parse_error(head + "stages: []\n"),
               {"x.yaml:8: stages: expected at least one element"});
  // A misspelt key is the reason, not the missing one.
  expect_parts(parse_error(with("stages:", "stage:")),
               {"x.yaml:8: stage: unknown key; did you mean \"stages\"?"});
  expect_parts(parse_error(with("version: 1", "version: 2")),
               {"x.yaml:1: version: this program reads configuration version 1, found \"2\""});
}

TEST(Config, YamlItselfMustBeSound) {
  expect_parts(parse_error("version: 1\nrun: {name: a\nmesh: {slot: 1}\n"),
               {"x.yaml:", "not valid YAML"});
  expect_parts(parse_error("version: 1\nrun: {<<: *nobody}\n"),
               {"x.yaml:2: not valid YAML", "anchor"});
  expect_parts(parse_error(""), {"x.yaml: is empty"});
  expect_parts(parse_error("# nothing\n"), {"x.yaml: is empty"});
  expect_parts(parse_error("[1, 2]"), {"x.yaml:1: expected keys", "found a list"});
  expect_parts(parse_error(kSmall + "---\nversion: 1\n"), {"x.yaml:18: a second YAML document"});
  expect_parts(parse_error(with("save: never", "name: twice")),
               {"x.yaml:2: run.name: given twice; first on line 2"});
  expect_parts(parse_error(kSmall + "optim: {}\n"),
               {"x.yaml:17: optim: given twice; first on line 7"});
  expect_parts(parse_error(with("steps: 600", "steps: !!int 600")),
               {"x.yaml:9: stages.0.steps: YAML tags"});
  expect_parts(parse_error(kSmall + "? [a]\n: 1\n"), {"x.yaml:17: a key must be a word"});
  expect_parts(parse_error(kSmall + "mesh: &m {slot: *m}\n"),
               {"x.yaml:17: mesh.slot", "contains itself"});
  expect_parts(parse_error(std::string(5000, '[')), {"x.yaml:1: nested too deeply"});
  // Ten aliases to ten aliases to ten ...
  std::string bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n";
  for (int i = 1; i < 9; ++i) {
    bomb += text("a", i, ": &a", i, " [");
    for (int k = 0; k < 10; ++k) bomb += text(k ? "," : "", "*a", i - 1);
    bomb += "]\n";
  }
  expect_parts(parse_error(bomb), {"too many values"});
}

TEST(Config, MergeKeysFillWhatAMapDoesNotHold) {
  std::string yaml = with("optim: {lr: 1e-3", "optim: &base {lr: 1e-3");
  const std::string own = "optim: {lr: 2e-3}";
  yaml.replace(yaml.find(own), own.size(), "optim: {<<: *base, lr: 2e-3, clip: 2}");
  const Config config = parse_config(yaml);
  EXPECT_EQ(config.stages[1].optim.lr, 2e-3);
  EXPECT_EQ(config.stages[1].optim.warmup.count, 50);
  EXPECT_EQ(config.stages[1].optim.clip, 2);
  // Of a list of maps the first wins.
  const Config listed =
      parse_config(kSmall + "codec: {<<: [{spatial: 8}, {spatial: 2, temporal: 2}]}\n");
  EXPECT_EQ(listed.codec.spatial, 8);
  EXPECT_EQ(listed.codec.temporal, 2);
  expect_parts(parse_error(kSmall + "mesh: {<<: 3}\n"),
               {"x.yaml:17: mesh.<<: expected a map or a list of maps"});
  expect_parts(parse_error(kSmall + "mesh: {<<: {slot: 1}, <<: {slots: 2}}\n"),
               {"mesh.<<: given twice"});
  // The wrong key is reported where it was written.
  expect_parts(parse_error(kSmall + "mesh: &m {slot: 1,\n  dwel: 2}\n"),
               {"x.yaml:18: mesh.dwel", "\"dwell\""});
}

TEST_F(ConfigFiles, IncludesLieUnderneath) {
  write("base/common.yaml", kSmall);
  write("base/rights.yaml", "rights: {allow: [CC-BY-4.0, MIT]}\n");
  const std::string path = write("run.yaml",
                                 "include: [base/common.yaml, base/rights.yaml]\n"
                                 "run: {name: other}\noptim: {clip: 3}\n");
  const Config config = load_config(path);
  EXPECT_EQ(config.run.name, "other");
  EXPECT_EQ(config.run.save, Every::never());  // merged, not replaced
  EXPECT_EQ(config.optim.warmup.count, 50);
  EXPECT_EQ(config.stages[1].optim.clip, 3);  // overlays see the merged section
  EXPECT_EQ(config.rights.allow,
            (std::vector<std::string>{"CC-BY-4.0", "MIT"}));  // lists are replaced
  EXPECT_EQ(load_config(write("plain.yaml", "include: base/common.yaml\n")), parse_config(kSmall));
}

TEST_F(ConfigFiles, ErrorsNameTheFileThatHoldsTheMistake) {
  write("base/common.yaml", with("lr: 1e-3", "lrr: 1e-3"));
  const std::string path = write("run.yaml", "include: base/common.yaml\nrun: {name: other}\n");
  expect_parts(message_of([&] { load_config(path); }),
               {folder_ + "/base/common.yaml:7: optim.lrr: unknown key"});
  write("base/common.yaml", kSmall);
  write("run.yaml", "include: base/common.yaml\n\nrun: {nam: other}\n");
  expect_parts(message_of([&] { load_config(path); }),
               {path + ":3: run.nam: unknown key", "\"name\""});
  write("base/common.yaml", with("version: 1", "version: 3"));
  expect_parts(message_of([&] { load_config(path); }), {"base/common.yaml:1: version"});
  write("run.yaml", "include: {a: b}\n");
  expect_parts(message_of([&] { load_config(path); }),
               {path + ":1: include: expected a file or a list of files"});
}

TEST_F(ConfigFiles, IncludeCyclesAreRefused) {
  const std::string a = write("a.yaml", "version: 1\ninclude: b.yaml\n");
  const std::string b = write("b.yaml", "include: ./a.yaml\n");
  expect_parts(message_of([&] { load_config(a); }),
               {b + ":1: include: the file includes itself: " + a + " -> " + b + " -> " + a});
  const std::string self = write("self.yaml", "include: self.yaml\n");
  expect_parts(message_of([&] { load_config(self); }),
               {self + ":1: include: the file includes itself"});
  // Twice without a cycle is sound.
  write("small.yaml", kSmall);
  write("left.yaml", "include: small.yaml\n");
  write("right.yaml", "include: small.yaml\n");
  EXPECT_EQ(load_config(write("both.yaml", "include: [left.yaml, right.yaml]\n")),
            parse_config(kSmall));
}

TEST_F(ConfigFiles, MissingFilesNameTheNearest) {
  write("quickstart.yaml", kSmall);
  expect_parts(message_of([&] { load_config(folder_ + "/quikstart.yaml"); }),
               {folder_ + "/quikstart.yaml: no such file; did you mean \"" + folder_ +
                "/quickstart.yaml\"?"});
  EXPECT_EQ(message_of([&] { load_config(folder_ + "/nowhere/a.yaml"); }),
            folder_ + "/nowhere/a.yaml: no such file");
  expect_parts(message_of([&] { load_config(folder_); }), {folder_ + ": is a folder"});
  const std::string path =
      write("run.yaml", "version: 1\ninclude:\n  - quickstart.yaml\n  - bse.yaml\n");
  expect_parts(message_of([&] { load_config(path); }),
               {path + ":4: include: " + folder_ + "/bse.yaml: no such file"});
}

TEST_F(ConfigFiles, SetLaysOneValueOverTheFile) {
  const std::string path = write("small.yaml", kSmall);
  const Config config = load_config(
      path, {"optim.lr=5e-3", "stages.image.steps=5", "stages.1.steps=7",
             "run.sample=every 3 steps", "rights.allow=[MIT, CC0-1.0]", "rights.allow.1=0BSD",
             "mesh.slots=4", "stages.image.optim.lr=1e-4", "stages.image.batch={stills: 2}",
             "generate.prompts=[\"a, b\"]", "sources.stills.validation=0"});
  EXPECT_EQ(config.optim.lr, 5e-3);
  EXPECT_EQ(config.stages[0].steps, 5);
  EXPECT_EQ(config.stages[1].steps, 7);
  EXPECT_EQ(config.run.sample, Every::steps(3));
  EXPECT_EQ(config.rights.allow, (std::vector<std::string>{"MIT", "0BSD"}));
  EXPECT_EQ(config.mesh.slots, 4);
  EXPECT_EQ(config.stages[0].optim.lr, 1e-4);
  EXPECT_EQ(config.stages[1].optim.lr, 2e-3);
  EXPECT_EQ(config.stages[0].batch.at("stills"), 2);
  EXPECT_EQ(config.generate.prompts, std::vector<std::string>{"a, b"});
  EXPECT_EQ(config.sources.at("stills").validation, 0);
}

TEST_F(ConfigFiles, SetReportsItself) {
  const std::string path = write("small.yaml", kSmall);
  const auto set = [&](const std::string& assignment) {
    return message_of([&] { load_config(path, {assignment}); });
  };
  expect_parts(set("optim.lrr=3"),
               {"--set optim.lrr=3: optim.lrr: unknown key; did you mean \"lr\"?"});
  expect_parts(set("optm.lr=3"), {"--set optm.lr=3: optm: unknown key; did you mean \"optim\"?"});
  expect_parts(set("optim.lr=fast"),
               {"--set optim.lr=fast: optim.lr: expected a number, above 0, found \"fast\""});
  expect_parts(set("stages.imag.steps=3"),
               {"stages.imag: no such element; did you mean \"image\"? (valid: image, low-res)"});
  expect_parts(set("stages.7.steps=3"), {"stages.7: no such element"});
  expect_parts(set("optim.lr.x=3"), {"optim.lr.x: optim.lr is a single value, \"1e-3\""});
  expect_parts(set("optim.lr"), {"--set optim.lr: expected key=value"});
  expect_parts(set("=3"), {"expected key=value"});
  expect_parts(set("optim..lr=3"), {"expected key=value with a key"});
  expect_parts(set("optim.lr="), {"optim.lr: expected a number", "found nothing"});
  expect_parts(set("optim.betas=[0.9"), {"--set optim.betas=[0.9", "not valid YAML"});
  expect_parts(set("stages.image.compute=1"), {"stages.image", "either compute or steps"});
  expect_parts(set("version=2"), {"version: expected a whole number"});
}

}  // namespace
}  // namespace pendulum

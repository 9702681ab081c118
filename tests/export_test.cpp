// Exports: written, reloaded, compared; refused where they would overwrite, misread or mislead.
#include "export/export.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "checkpoint/checkpoint.h"
#include "core/error.h"
#include "core/json_file.h"
#include "error_message.h"
#include "export/model_record.h"
#include "export/single_file.h"
#include "model/diffusers_config.h"
#include "model/pretrained.h"
#include "random_wan_vae.h"
#include "safetensors/safetensors.h"
#include "small_umt5.h"
#include "tiny_model.h"

namespace pendulum {
namespace {

namespace fs = std::filesystem;

class ExportTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { model_ = new TrainedModel(tiny_model(5, "x")); }
  static void TearDownTestSuite() { delete std::exchange(model_, nullptr); }
  void SetUp() override {
    base_ = testing::TempDir() + "export_test_" + std::to_string(::getpid());
    fs::remove_all(base_);
    fs::create_directories(base_);
    folder_ = base_ + "/model";
  }
  void TearDown() override { fs::remove_all(base_); }

  // Nothing but what is named may stand beside the export: no temporary stays behind.
  std::vector<std::string> entries() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(base_))
      names.push_back(entry.path().filename().string());
    return names;
  }
  // Changes one field of a JSON file of the export.
  void edit(const std::string& file, const nlohmann::json::json_pointer& field,
            const nlohmann::json& value) const {
    nlohmann::json json = read_json(folder_ + "/" + file);
    json[field] = value;
    std::ofstream(folder_ + "/" + file) << json;
  }

  static TrainedModel* model_;
  std::string base_, folder_;
};
TrainedModel* ExportTest::model_ = nullptr;

TEST_F(ExportTest, ShardsComeBackToTheBit) {
  write_export(*model_, folder_, at::kFloat, false, 40'000);
  int shards = 0;
  uint64_t largest = 0;
  for (const auto& entry : fs::directory_iterator(folder_ + "/transformer")) {
    if (entry.path().extension() != ".safetensors") continue;
    ++shards;
    EXPECT_TRUE(mentions(entry.path().filename().string(), "diffusion_pytorch_model-0000"));
    largest = std::max<uint64_t>(largest, entry.file_size());
  }
  EXPECT_GE(shards, 3);
  EXPECT_LE(largest, 40'000 + 4'000) << "tensors and a header";
  const TrainedModel again = load_export(folder_);
  for (size_t i = 0; i < model_->transformer->parameters().size(); ++i) {
    EXPECT_TRUE(again.transformer->parameters()[i].second.equal(
        model_->transformer->parameters()[i].second));
  }
}

// One head of 128, and Wan's codec and text encoder by name: what ComfyUI takes for granted.
TrainedModel comfy_model() {
  TrainedModel model = tiny_model(6);
  model.architecture.heads = 1;
  model.architecture.head_dim = 128;
  model.transformer = std::make_unique<VideoTransformer>(model.architecture, 6);
  randomise(model.transformer->parameters(), 6);
  model.codec_config.kind = "wan";
  model.text_config.kind = "umt5";
  return model;
}

TEST_F(ExportTest, OneFileInTheOriginalNames) {
  const TrainedModel model = comfy_model();
  const std::string file = write_single_file(model, folder_, at::kBFloat16, false);
  EXPECT_EQ(file, folder_ + "/tiny.safetensors");
  const auto tensors = read_safetensors(file);
  EXPECT_TRUE(tensors.contains("blocks.1.self_attn.q.weight"));
  EXPECT_TRUE(tensors.contains("head.modulation"));
  EXPECT_EQ(tensors.size(), model.transformer->parameters().size());
  VideoTransformer again(model.architecture, std::nullopt);
  PretrainedTransformer::open(file).load_into(again);
  for (size_t i = 0; i < again.parameters().size(); ++i) {
    EXPECT_TRUE(again.parameters()[i].second.equal(
        model.transformer->parameters()[i].second.to(at::kBFloat16).to(at::kFloat)));
  }
  EXPECT_TRUE(mentions(
      message_of<ConfigError>([&] { write_single_file(model, folder_, at::kFloat, false); }),
      "--force replaces it"));
}

TEST_F(ExportTest, OneFileOnlyOfWhatComfyUiRuns) {
  const auto refusal = [&](const auto& change) {
    TrainedModel model = comfy_model();
    change(model);
    return message_of<ConfigError>([&] { write_single_file(model, folder_, at::kFloat, false); });
  };
  EXPECT_TRUE(
      mentions(refusal([](TrainedModel& m) { m.architecture.head_dim = 64; }), "heads of 128"));
  EXPECT_TRUE(mentions(refusal([](TrainedModel& m) { m.codec_config.kind = "haar"; }), "haar"));
  EXPECT_TRUE(mentions(refusal([](TrainedModel& m) { m.text_config.kind = "minilm"; }), "UMT5"));
  EXPECT_TRUE(
      mentions(refusal([](TrainedModel& m) { m.objective.predict = "x"; }), "clean latent"));
  EXPECT_FALSE(fs::exists(folder_));
}

TEST_F(ExportTest, ComesBackToTheBit) {
  write_export(*model_, folder_, at::kFloat, false);
  EXPECT_EQ(entries(), std::vector<std::string>{"model"});
  EXPECT_TRUE(is_export(folder_));
  for (const char* file :
       {"transformer/config.json", "transformer/diffusion_pytorch_model.safetensors",
        "text_encoder/vocab.txt", "pendulum.json", "README.md"}) {
    EXPECT_TRUE(fs::is_regular_file(folder_ + "/" + file)) << file;
  }
  const TrainedModel read = open_model(folder_, false);
  const auto& before = model_->transformer->parameters();
  const auto& after = read.transformer->parameters();
  ASSERT_EQ(after.size(), before.size());
  for (size_t i = 0; i < before.size(); ++i) {
    EXPECT_EQ(after[i].first, before[i].first);
    EXPECT_TRUE(after[i].second.equal(before[i].second)) << before[i].first;
  }
  EXPECT_EQ(read.objective.predict, "x");
  EXPECT_EQ(read.objective.min_time, model_->objective.min_time);
  EXPECT_EQ(read.generate.solver, model_->generate.solver);
  EXPECT_EQ(read.generate.steps, model_->generate.steps);
  EXPECT_EQ(read.generate.guidance, model_->generate.guidance);
  EXPECT_EQ(read.generate.shift, model_->generate.shift);
  EXPECT_EQ(read.generate.prompts, model_->generate.prompts);
  EXPECT_EQ(read.shape, model_->shape);
  EXPECT_EQ(read.provenance.run, "tiny");
  EXPECT_EQ(read.provenance.step, 12);
  EXPECT_EQ(read.provenance.consumption_head, "cd");
  EXPECT_EQ(read.codec->key(), model_->codec->key());
  EXPECT_EQ(read.text_encoder->key(), model_->text_encoder->key());
}

TEST_F(ExportTest, CarriesTheCodecsWeights) {
  const std::string vae = base_ + "/vae";
  write_random_wan_vae(vae, small_wan_vae(false));
  const TrainedModel model = tiny_model(5, "velocity", {.kind = "wan", .weights = vae});
  write_export(model, folder_, at::kFloat, false);
  fs::remove_all(vae);  // the export stands alone
  const TrainedModel read = load_export(folder_);
  EXPECT_EQ(read.codec->describe(), model.codec->describe());
  EXPECT_EQ(read_json(folder_ + "/pendulum.json")["codec"], model.codec->describe());
  EXPECT_EQ(read_json(folder_ + "/vae/config.json")["latents_std"],
            model.codec->describe()["latents_std"]);
  const std::vector<Frames> clips =
      read.generator().generate({{"a red circle", 3}}, {5, 16, 32}, 1);
  EXPECT_EQ(clips[0].rgb, model.generator().generate({{"a red circle", 3}}, {5, 16, 32}, 1)[0].rgb);

  // Other statistics mean other latents.
  edit("vae/config.json", nlohmann::json::json_pointer("/latents_mean/0"), 0.5);
  EXPECT_TRUE(mentions(message_of<DataError>([&] { load_export(folder_); }), "codec"));
}

TEST_F(ExportTest, DrawsTheClipsOfTheTrainedModel) {
  write_export(*model_, folder_, at::kFloat, false);
  const TrainedModel read = load_export(folder_);
  const std::vector<Prompt> prompts{{"a red circle moves left", 3}, {"", 4}};
  EXPECT_TRUE(read.generator()
                  .generate_latents(prompts, kTinyShape)
                  .equal(model_->generator().generate_latents(prompts, kTinyShape)));
}

TEST_F(ExportTest, HalfPrecisionIsTheRoundedModel) {
  write_export(*model_, folder_, at::kBFloat16, false);
  const TrainedModel read = load_export(folder_);
  const auto& before = model_->transformer->parameters();
  for (size_t i = 0; i < before.size(); ++i) {
    const at::Tensor after = read.transformer->parameters()[i].second;
    EXPECT_EQ(after.scalar_type(), at::kFloat);
    EXPECT_TRUE(after.equal(before[i].second.to(at::kBFloat16).to(at::kFloat))) << before[i].first;
  }
}

TEST_F(ExportTest, ReplacesOnlyAnExportAndOnlyWhenForced) {
  write_export(*model_, folder_, at::kFloat, false);
  const std::string refusal =
      message_of<ConfigError>([&] { write_export(*model_, folder_, at::kFloat, false); });
  EXPECT_TRUE(mentions(refusal, "--force") && mentions(refusal, folder_)) << refusal;
  std::ofstream(folder_ + "/left over") << "x";
  write_export(*model_, folder_ + "/", at::kBFloat16, true);
  EXPECT_FALSE(fs::exists(folder_ + "/left over"));
  EXPECT_EQ(read_json(folder_ + "/pendulum.json")["dtype"], "bf16");
  EXPECT_EQ(entries(), std::vector<std::string>{"model"});

  const std::string other = base_ + "/other";
  fs::create_directories(other);
  std::ofstream(other + "/thesis.tex") << "x";
  EXPECT_THROW(write_export(*model_, other, at::kFloat, true), ConfigError);
  EXPECT_TRUE(fs::exists(other + "/thesis.tex"));
  std::ofstream(other + "/pendulum.json") << R"({"format": "something else"})";
  EXPECT_THROW(write_export(*model_, other, at::kFloat, true), ConfigError);
  std::ofstream(base_ + "/file") << "x";
  EXPECT_THROW(write_export(*model_, base_ + "/file", at::kFloat, true), ConfigError);
  // An empty folder is no one's.
  fs::create_directories(base_ + "/empty");
  write_export(*model_, base_ + "/empty", at::kFloat, false);
  EXPECT_TRUE(is_export(base_ + "/empty"));
}

TEST_F(ExportTest, DivergedModelIsNotExported) {
  const TrainedModel diverged = tiny_model(5);
  const at::NoGradGuard no_grad;
  at::Tensor bias = diverged.transformer->parameters().back().second;
  bias.view(-1)[0] = std::numeric_limits<float>::quiet_NaN();
  const std::string message =
      message_of<DataError>([&] { write_export(diverged, folder_, at::kFloat, false); });
  EXPECT_TRUE(mentions(message, diverged.transformer->parameters().back().first)) << message;
  EXPECT_TRUE(entries().empty());
}

TEST_F(ExportTest, DamageIsNamed) {
  write_export(*model_, folder_, at::kFloat, false);
  const auto message = [&] { return message_of<DataError>([&] { load_export(folder_); }); };
  const std::string record = "pendulum.json", config = "transformer/config.json";
  struct Damage {
    std::string file, field;
    nlohmann::json value;
  };
  for (const Damage& damage :
       std::vector<Damage>{{record, "/format_version", 2},
                           {record, "/format", "zip"},
                           {record, "/codec/spatial", "four"},
                           {record, "/codec/key", "haar/other"},
                           {record, "/codec", 3},
                           {record, "/text_encoder/key", "minilm/other"},
                           {record, "/objective/predict", "noise"},
                           {record, "/generate/steps", 0},
                           {record, "/generate/prompts", nlohmann::json::array({1})},
                           {record, "/shape/frames", -1},
                           {config, "/num_layers", 1},
                           {config, "/num_layers", 3},
                           {config, "/ffn_dim", 41},
                           {config, "/ffn_dim", 1e30},
                           {config, "/patch_size", {1, 2}},
                           {config, "/image_dim", 1280},
                           {config, "/qk_norm", "layer_norm"},
                           {config, "/_class_name", "FluxTransformer2DModel"},
                           {config, "/eps", 0}}) {
    const std::string path = folder_ + "/" + damage.file;
    const nlohmann::json whole = read_json(path);
    edit(damage.file, nlohmann::json::json_pointer(damage.field), damage.value);
    EXPECT_TRUE(mentions(message(), folder_)) << damage.file << damage.field << ": " << message();
    std::ofstream(path) << whole;
  }
  EXPECT_NO_THROW(load_export(folder_));
  for (const char* file : {"pendulum.json", "transformer/config.json", "text_encoder/vocab.txt",
                           "transformer/diffusion_pytorch_model.safetensors"}) {
    const std::string path = folder_ + "/" + file;
    fs::rename(path, path + ".away");
    EXPECT_TRUE(mentions(message(), fs::path(path).parent_path().string())) << message();
    std::ofstream(path) << "no json, no tensors";
    EXPECT_TRUE(mentions(message(), folder_)) << file << ": " << message();
    fs::rename(path + ".away", path);
  }
}

TEST_F(ExportTest, RawWeightsAreNotInventedFromTheAverage) {
  write_export(*model_, folder_, at::kFloat, false);
  EXPECT_TRUE(mentions(message_of<ConfigError>([&] { open_model(folder_, true); }), "--raw"));
  EXPECT_THROW(open_model(base_ + "/nowhere", false), ConfigError);
  EXPECT_THROW(open_model(base_, false), ConfigError);  // neither an export nor a run
}

// A run of two stages as training leaves it, with weights and moving average that differ.
class CheckpointModelTest : public ExportTest {
 protected:
  static CheckpointContents contents(int segment, int segment_step) {
    CheckpointContents contents;
    const TrainedModel average = tiny_model(6);
    contents.tensors["model"] = model_->transformer->parameters();
    contents.tensors["ema"] = average.transformer->parameters();
    contents.tensors["ema"].resize(9);  // a run that trains a part of the parameters
    contents.state = {{"segment", segment},
                      {"segment_step", segment_step},
                      {"finished_steps", 40},
                      {"consumption_head", "cd"},
                      {"plan_hash", "ab"},
                      {"config", config()},
                      {"plan", {{"segments", {{{"stage", "image"}}, {{"stage", "low-res"}}}}}}};
    return contents;
  }
  static std::string config() {
    return "version: 1\nrun: {name: two}\nrights: {allow: [CC0-1.0]}\n"
           "model: {layers: 2, heads: 2, head_dim: 12, ffn_dim: 40, freq_dim: 16}\n"
           "codec: {kind: haar, spatial: 4, temporal: 4, drop: 2}\n"
           "text: {weights: " +
           model_->text_config.weights +
           ", length: 7}\n"
           "generate: {steps: 3}\nsources: {s: {data: nowhere}}\nstages:\n"
           "  - {name: image, steps: 1, sources: {s: 1}, batch: {s: 1}, shape: {frames: 1, size: "
           "16x16}}\n"
           "  - {name: low-res, steps: 1, sources: {s: 1}, batch: {s: 1}, shape: {frames: 5, size: "
           "16x24},"
           " objective: {predict: x}}\n";
  }
};

TEST_F(CheckpointModelTest, IsTheAverageLaidOverTheWeights) {
  const std::string run = base_ + "/run", folder = run + "/checkpoints/step-00000040";
  fs::create_directories(run + "/checkpoints");
  const CheckpointContents saved = contents(1, 20);
  save_checkpoint(folder, 40, saved);
  for (const std::string& path : {run, folder}) {
    const TrainedModel model = open_model(path, false), raw = open_model(path, true);
    for (size_t i = 0; i < saved.tensors.at("model").size(); ++i) {
      const auto& [name, trained] = saved.tensors.at("model")[i];
      const at::Tensor average = i < 9 ? saved.tensors.at("ema")[i].second : trained;
      EXPECT_TRUE(model.transformer->parameters()[i].second.equal(average)) << name;
      EXPECT_TRUE(raw.transformer->parameters()[i].second.equal(trained)) << name;
    }
    EXPECT_EQ(model.provenance.weights, "ema");
    EXPECT_EQ(raw.provenance.weights, "raw");
    EXPECT_EQ(model.provenance.step, 40);
    EXPECT_EQ(model.provenance.run, "two");
    EXPECT_EQ(model.shape, (Shape{5, 16, 24}));
    EXPECT_EQ(model.objective.predict, "x");
  }
  write_export(open_model(run, false), folder_, at::kFloat, false);
  EXPECT_EQ(load_export(folder_).provenance.stage, "low-res");
}

TEST_F(CheckpointModelTest, BeginningOfAStageIsTheEndOfTheOneBefore) {
  save_checkpoint(base_ + "/c", 40, contents(1, 0));
  EXPECT_EQ(open_model(base_ + "/c", false).provenance.stage, "image");
  save_checkpoint(base_ + "/d", 40, contents(2, 0));
  EXPECT_EQ(open_model(base_ + "/d", false).provenance.stage, "low-res");
}

TEST_F(CheckpointModelTest, OtherCheckpointsAreRefused) {
  CheckpointContents without = contents(1, 1);
  without.tensors.erase("model");
  save_checkpoint(base_ + "/a", 1, without);
  EXPECT_TRUE(
      mentions(message_of<DataError>([&] { open_model(base_ + "/a", false); }), base_ + "/a"));
  CheckpointContents strange = contents(1, 1);
  strange.state = {{"hello", 1}};
  save_checkpoint(base_ + "/b", 1, strange);
  EXPECT_TRUE(
      mentions(message_of<DataError>([&] { open_model(base_ + "/b", false); }), base_ + "/b"));
  CheckpointContents cut = contents(1, 1);
  cut.tensors["model"].pop_back();
  cut.tensors.erase("ema");
  save_checkpoint(base_ + "/e", 1, cut);
  EXPECT_TRUE(
      mentions(message_of<DataError>([&] { open_model(base_ + "/e", false); }), base_ + "/e"));
  fs::create_directories(base_ + "/f/checkpoints");
  EXPECT_THROW(open_model(base_ + "/f", false), ConfigError);
}

TEST_F(ExportTest, ShapesAreCheckedAgainstCodecAndPatch) {
  EXPECT_NO_THROW(model_->check_shape({1, 8, 8}));
  EXPECT_NO_THROW(model_->check_shape({9, 16, 40}));
  for (const Shape& shape :
       {Shape{4, 16, 16}, Shape{0, 16, 16}, Shape{5, 12, 16}, Shape{5, 16, 0}, Shape{-3, 8, 8}}) {
    EXPECT_THROW(model_->check_shape(shape), ConfigError) << shape.name();
  }
}

TEST(DiffusersConfig, ComesBack) {
  const WanConfig config = tiny_model(1).architecture;
  const WanConfig read = read_diffusers_config(diffusers_config(config), "x");
  EXPECT_EQ(diffusers_config(read), diffusers_config(config));
  EXPECT_EQ(read.patch, config.patch);
  EXPECT_THROW(read_diffusers_config(nlohmann::json::array(), "x"), DataError);
  nlohmann::json missing = diffusers_config(config);
  missing.erase("eps");
  EXPECT_TRUE(mentions(message_of<DataError>([&] { read_diffusers_config(missing, "x"); }), "eps"));
}

TEST_F(ExportTest, LinksToTheWeightsOfUmt5AndCopiesItsTokenizer) {
  const fs::path source = small_umt5::small_folder("export");
  TrainedModel model = tiny_model(5);
  model.text_config = {.kind = "umt5", .weights = source.string(), .length = 8};
  model.text_encoder = make_text_encoder(model.text_config, model.text_config.weights);
  model.architecture.text_dim = model.text_encoder->dim();
  model.transformer = std::make_unique<VideoTransformer>(model.architecture, 5);
  write_export(model, folder_, at::kFloat, false);
  EXPECT_TRUE(fs::is_symlink(fs::path(folder_) / "text_encoder/model.safetensors"));
  EXPECT_FALSE(fs::is_symlink(fs::path(folder_) / "text_encoder/config.json"));
  EXPECT_FALSE(fs::is_symlink(fs::path(folder_) / "tokenizer/spiece.model"));
  const TrainedModel again = load_export(folder_);
  EXPECT_EQ(again.text_encoder->key(), model.text_encoder->key());
  EXPECT_TRUE(at::equal(again.text_encoder->states("a bc"), model.text_encoder->states("a bc")));
  fs::remove_all(source);
  EXPECT_TRUE(mentions(message_of<DataError>([&] { load_export(folder_); }), "model.safetensors"));
}

}  // namespace
}  // namespace pendulum

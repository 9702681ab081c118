// Exports that diffusers loads as a whole: which they are, what stands in them, that nothing is
// lost on the way in and out, and that the check after writing sees every part.
// tests/oracle/pipeline_oracle.py loads them and draws.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>

#include "core/error.h"
#include "core/json_file.h"
#include "error_message.h"
#include "export/encoder_files.h"
#include "export/export.h"
#include "export/model_record.h"
#include "export/pipeline_folder.h"
#include "export/reload_check.h"
#include "export/single_file.h"
#include "generate/clip_files.h"
#include "model/diffusers_config.h"
#include "model/pretrained.h"
#include "random_wan_vae.h"
#include "safetensors/safetensors.h"
#include "small_clip.h"
#include "small_umt5.h"
#include "tiny_model.h"

namespace pendulum {
namespace {

namespace fs = std::filesystem;

constexpr Shape kShape{5, 16, 32};

class PipelineExport : public testing::Test {
 protected:
  // Nothing here is large: more threads would only wait for each other.
  static void SetUpTestSuite() { at::set_num_threads(1); }
  void SetUp() override {
    base_ = testing::TempDir() + "pipeline_export_" + std::to_string(::getpid());
    fs::remove_all(base_);
    fs::create_directories(base_);
    folder_ = base_ + "/model";
    text_ = small_umt5::small_folder("pipeline");
    image_ = small_clip::small_folder("pipeline");
    vae_ = base_ + "/codec";
    write_random_wan_vae(vae_, small_wan_vae(false));
  }
  void TearDown() override {
    fs::remove_all(base_);
    fs::remove_all(text_);
    fs::remove_all(image_.parent_path());
  }

  // Wan's codec and text encoder around a transformer; `channels` as it is given first frames.
  TrainedModel wan_model(FirstFrame first_frame = FirstFrame::none, bool has_image_states = false,
                         const std::string& text = {}, const std::string& image = {}) const {
    TrainedModel model =
        tiny_model(5, "velocity", {.kind = "wan", .weights = vae_, .device = "cpu"});
    model.text_config = {.kind = "umt5",
                         .weights = text.empty() ? text_.string() : text,
                         .length = has_image_states ? 512 : 8};
    model.text_encoder = make_text_encoder(model.text_config, model.text_config.weights);
    WanConfig& config = model.architecture;
    config.text_dim = model.text_encoder->dim();
    model.first_frame = first_frame;
    if (first_frame == FirstFrame::channels)
      config.in_channels += model.codec->temporal() + model.codec->channels();
    if (has_image_states) {
      model.image_config = {.kind = "clip", .weights = image.empty() ? image_.string() : image};
      model.image_encoder = std::make_unique<ClipImageEncoder>(model.image_config);
      config.image_dim = model.image_encoder->dim();
    }
    model.transformer = std::make_unique<VideoTransformer>(config, 5);
    randomise(model.transformer->parameters(), 5);
    model.shape = kShape;
    return model;
  }
  nlohmann::json json_of(const std::string& file) const { return read_json(folder_ + "/" + file); }
  std::string card() const {
    std::ifstream file(folder_ + "/README.md");
    return {std::istreambuf_iterator<char>(file), {}};
  }
  std::string picture() const {
    Frames frame(1, kShape.height, kShape.width);
    for (size_t i = 0; i < frame.rgb.size(); ++i) frame.rgb[i] = draw(3, i) & 255;
    write_clip(base_ + "/first.png", frame, 1);
    return base_ + "/first.png";
  }

  std::string base_, folder_, vae_;
  fs::path text_, image_;
};

TEST_F(PipelineExport, NamesEveryPartForDiffusers) {
  write_export(wan_model(), folder_, at::kFloat, false);
  const nlohmann::json index = json_of("model_index.json");
  EXPECT_EQ(index["_class_name"], "WanPipeline");
  EXPECT_EQ(index["expand_timesteps"], false);
  EXPECT_EQ(index["transformer_2"], (nlohmann::json{nullptr, nullptr}));
  EXPECT_FALSE(index.contains("image_encoder"));
  for (const char* file :
       {"scheduler/scheduler_config.json", "tokenizer/spiece.model",
        "tokenizer/tokenizer_config.json", "text_encoder/config.json", "vae/config.json"}) {
    EXPECT_TRUE(fs::is_regular_file(folder_ + "/" + file)) << file;
  }
  EXPECT_TRUE(mentions(card(), "WanPipeline.from_pretrained(\"model\")")) << card();
  EXPECT_TRUE(mentions(card(), "max_sequence_length=8"));
}

// What is told before the run is what the export finds behind it.
TEST_F(PipelineExport, CaptionsBesideImageStatesHaveOneLength) {
  TrainedModel model = wan_model(FirstFrame::channels, true);
  EXPECT_EQ(pipeline_obstacle(model), "");
  EXPECT_EQ(caption_obstacle(model.codec_config, model.text_config, true), "");
  model.text_config.length = 256;
  const std::string found = pipeline_obstacle(model);
  EXPECT_TRUE(mentions(found, "beside captions of 256 tokens, and diffusers takes the last 512"));
  EXPECT_EQ(caption_obstacle(model.codec_config, model.text_config, true), found);
  // Of no concern without image states, or where there is no pipeline anyway.
  EXPECT_EQ(caption_obstacle(model.codec_config, model.text_config, false), "");
  EXPECT_EQ(caption_obstacle({.kind = "haar"}, model.text_config, true), "");
  EXPECT_EQ(caption_obstacle(model.codec_config, {.kind = "minilm", .length = 256}, true), "");
}

TEST_F(PipelineExport, SchedulerHasTheShiftOfTheTrainingShape) {
  TrainedModel model = wan_model();
  write_export(model, folder_, at::kFloat, false);
  // 2 x 2 x 4 latent pixels in patches of 1 x 2 x 2.
  const double tokens = 2 * 1 * 2;
  EXPECT_EQ(json_of("scheduler/scheduler_config.json")["shift"],
            std::max(1.0, std::pow(tokens / 256, 0.25)));
  model.shape = {81, 480, 832};
  write_export(model, folder_, at::kFloat, true);
  EXPECT_NEAR(json_of("scheduler/scheduler_config.json")["shift"], std::pow(32760 / 256.0, 0.25),
              1e-12);
  model.generate.shift = 5.5;
  write_export(model, folder_, at::kFloat, true);
  EXPECT_EQ(json_of("scheduler/scheduler_config.json")["shift"], 5.5);
}

TEST_F(PipelineExport, ImageToVideoKeepsHowItIsGivenFirstFrames) {
  const std::string first = picture();
  const struct {
    FirstFrame kind;
    bool has_states;
    const char *pipeline, *name;
  } cases[] = {{FirstFrame::channels, true, "WanImageToVideoPipeline", "channels"},
               {FirstFrame::channels, false, "WanImageToVideoPipeline", "channels"},
               {FirstFrame::latent, false, "WanPipeline", "first-latent"}};
  for (const auto& each : cases) {
    const TrainedModel model = wan_model(each.kind, each.has_states);
    write_export(model, folder_, at::kFloat, true);
    const nlohmann::json index = json_of("model_index.json"), record = json_of("pendulum.json");
    EXPECT_EQ(index["_class_name"], each.pipeline);
    EXPECT_EQ(index["expand_timesteps"], each.kind == FirstFrame::latent);
    EXPECT_EQ(record["image_to_video"], each.name);
    EXPECT_EQ(record["image_encoder"].is_null(), !each.has_states);
    EXPECT_EQ(fs::exists(folder_ + "/image_encoder/model.safetensors"), each.has_states);
    EXPECT_EQ(fs::exists(folder_ + "/image_processor/preprocessor_config.json"), each.has_states);
    EXPECT_FALSE(fs::exists(folder_ + "/first_frame.png"));
    if (each.kind == FirstFrame::channels) {
      EXPECT_EQ(index["image_encoder"][1].is_null(), !each.has_states);
      EXPECT_EQ(index["image_processor"][1].is_null(), !each.has_states);
    }
    const TrainedModel read = load_export(folder_);
    EXPECT_EQ(read.first_frame, each.kind);
    const std::vector<Prompt> prompts{{"a b", 3, first}};
    EXPECT_TRUE(read.generator()
                    .generate_latents(prompts, kShape)
                    .equal(model.generator().generate_latents(prompts, kShape)));
  }
}

TEST_F(PipelineExport, DamagedImageFieldsAreNamed) {
  write_export(wan_model(FirstFrame::channels, true), folder_, at::kFloat, false);
  const nlohmann::json whole = json_of("pendulum.json");
  const auto refusal = [&](const char* field, const nlohmann::json& value) {
    nlohmann::json damaged = whole;
    damaged[nlohmann::json::json_pointer(field)] = value;
    std::ofstream(folder_ + "/pendulum.json") << damaged;
    return message_of<DataError>([&] { load_export(folder_); });
  };
  EXPECT_TRUE(mentions(refusal("/image_to_video", "sometimes"), "first-latent"));
  EXPECT_TRUE(mentions(refusal("/image_to_video", "none"), "channels beside the latent"));
  EXPECT_TRUE(mentions(refusal("/image_encoder/kind", "siglip"), "clip"));
  EXPECT_TRUE(mentions(refusal("/image_encoder/key", "clip/other"), "image_encoder"));
  // Records of earlier versions have neither field.
  write_export(wan_model(), folder_, at::kFloat, true);
  nlohmann::json earlier = json_of("pendulum.json");
  earlier.erase("image_to_video");
  earlier.erase("image_encoder");
  std::ofstream(folder_ + "/pendulum.json") << earlier;
  EXPECT_EQ(load_export(folder_).first_frame, FirstFrame::none);
}

TEST_F(PipelineExport, OnlyOfWhatDiffusersRuns) {
  EXPECT_EQ(pipeline_class(wan_model()), "WanPipeline");
  const auto without = [&](const std::function<void(TrainedModel&)>& change) {
    TrainedModel model = wan_model(FirstFrame::channels, true);
    change(model);
    return pipeline_class(model);
  };
  EXPECT_EQ(without([](TrainedModel&) {}), "WanImageToVideoPipeline");
  EXPECT_EQ(without([](TrainedModel& m) { m.codec_config.kind = "haar"; }), "");
  EXPECT_EQ(without([](TrainedModel& m) { m.text_config.kind = "minilm"; }), "");
  EXPECT_EQ(without([](TrainedModel& m) { m.objective.predict = "x"; }), "");
  EXPECT_EQ(without([](TrainedModel& m) { m.image_encoder.reset(); }), "");
  EXPECT_EQ(without([](TrainedModel& m) { m.text_config.length = 8; }), "");
  write_export(tiny_model(5), folder_, at::kFloat, false);
  EXPECT_FALSE(fs::exists(folder_ + "/model_index.json"));
  EXPECT_FALSE(fs::exists(folder_ + "/scheduler"));
  EXPECT_TRUE(mentions(card(), "cannot run: its latents are of the codec haar")) << card();
}

// Single files come without config.json and under other names; one of them with the vocabulary
// inside, one in the original names.
TEST_F(PipelineExport, EncodersOutOfSingleFilesAreCompleted) {
  const auto tensors = small_umt5::small_tensors();
  const std::string spiece = small_umt5::small_spiece();
  std::map<std::string, at::Tensor> inside = tensors;
  inside["spiece_model"] = at::tensor(
      at::ArrayRef(reinterpret_cast<const uint8_t*>(spiece.data()), spiece.size()), at::kByte);
  small_umt5::write_tensors(base_ + "/comfy/umt5.safetensors", inside);
  small_umt5::write_tensors(base_ + "/beside/umt5.safetensors", tensors);
  small_umt5::write(base_ + "/beside/spiece.model", spiece);
  fs::create_directories(base_ + "/clip");
  small_clip::write(base_ + "/clip", small_clip::small_tensors());
  const std::string image = base_ + "/clip/model.safetensors";
  for (const char* text : {"/comfy/umt5.safetensors", "/beside/umt5.safetensors"}) {
    const TrainedModel model = wan_model(FirstFrame::channels, true, base_ + text, image);
    write_export(model, folder_, at::kFloat, true);
    EXPECT_TRUE(fs::is_symlink(folder_ + "/text_encoder/model.safetensors")) << text;
    EXPECT_EQ(json_of("text_encoder/config.json")["d_model"], small_umt5::kWidth);
    EXPECT_EQ(json_of("tokenizer/tokenizer_config.json")["extra_ids"], 300);
    EXPECT_TRUE(fs::is_regular_file(folder_ + "/tokenizer/spiece.model"));
    EXPECT_EQ(json_of("image_encoder/config.json")["image_size"], small_clip::kImage);
    const TrainedModel read = load_export(folder_);
    EXPECT_TRUE(read.text_encoder->states("a bc").equal(model.text_encoder->states("a bc")));
    // An export of an export is complete already.
    write_export(read, base_ + "/again", at::kFloat, true);
    EXPECT_EQ(load_export(base_ + "/again").text_encoder->key(), read.text_encoder->key());
  }
}

TEST_F(PipelineExport, TextEncoderInOriginalNamesIsWrittenAnew) {
  const auto tensors = small_umt5::small_tensors();
  small_umt5::write_tensors(base_ + "/wan/umt5.safetensors",
                            small_umt5::in_original_names(tensors));
  small_umt5::write(base_ + "/wan/spiece.model", small_umt5::small_spiece());
  const TrainedModel model = wan_model(FirstFrame::none, false, base_ + "/wan/umt5.safetensors");
  write_export(model, folder_, at::kFloat, false, 4'000);
  EXPECT_FALSE(fs::exists(folder_ + "/text_encoder/model.safetensors"));
  const ShardedSafetensors written =
      ShardedSafetensors::open(folder_ + "/text_encoder/model.safetensors.index.json");
  ASSERT_EQ(written.names().size(), tensors.size());
  for (const auto& [name, tensor] : tensors) {
    ASSERT_TRUE(written.contains(name)) << name;
    EXPECT_EQ(written.info(name).dtype, tensor.scalar_type());
    EXPECT_TRUE(written.load(name).equal(tensor)) << name;
  }
  fs::remove_all(base_ + "/wan");  // nothing leads there
  EXPECT_TRUE(load_export(folder_).text_encoder->states("a bc").equal(
      make_text_encoder({.kind = "umt5", .weights = text_.string(), .length = 8}, text_.string())
          ->states("a bc")));
}

// --- What is imported comes out again to the bit. ---

NamedTensors imported_weights(const WanConfig& config, at::ScalarType type) {
  const VideoTransformer model(config, 9);
  randomise(model.parameters(), 9);
  NamedTensors weights;
  for (const auto& [name, tensor] : model.parameters())
    weights.emplace_back(name, tensor.detach().to(type));
  return weights;
}

// Every tensor of `found` has the name, type and bytes of `stored`.
void expect_same_bytes(const NamedTensors& stored, const std::map<std::string, at::Tensor>& found,
                       const std::string& what) {
  ASSERT_EQ(found.size(), stored.size()) << what;
  for (const auto& [name, tensor] : stored) {
    ASSERT_TRUE(found.contains(name)) << what << ": " << name;
    const at::Tensor& other = found.at(name);
    ASSERT_EQ(other.scalar_type(), tensor.scalar_type()) << what << ": " << name;
    ASSERT_EQ(other.sizes(), tensor.sizes()) << what << ": " << name;
    EXPECT_EQ(
        std::memcmp(other.const_data_ptr(), tensor.contiguous().const_data_ptr(), tensor.nbytes()),
        0)
        << what << ": " << name;
  }
}

class RoundTrip : public PipelineExport, public testing::WithParamInterface<at::ScalarType> {
 protected:
  // One head of 128, so that a single file says by its shapes what it is.
  TrainedModel imported(const std::string& path) const {
    TrainedModel model = wan_model();
    model.architecture = PretrainedTransformer::open(path).config();
    model.transformer = load_transformer(model.architecture, path);
    return model;
  }
  WanConfig architecture() const {
    WanConfig config = wan_model().architecture;
    config.heads = 1;
    config.head_dim = 128;
    return config;
  }
};

TEST_P(RoundTrip, EveryLayoutInAndOut) {
  const NamedTensors stored = imported_weights(architecture(), GetParam());
  NamedTensors original;
  for (const auto& [name, tensor] : stored)
    original.emplace_back(name_in({WeightLayout::original, ""}, name), tensor);
  const std::string in_folder = base_ + "/in/transformer", in_file = base_ + "/in.safetensors";
  fs::create_directories(in_folder);
  write_safetensors(in_folder + "/diffusion_pytorch_model.safetensors", stored);
  std::ofstream(in_folder + "/config.json") << diffusers_config(architecture());
  write_safetensors(in_file, original);
  for (const std::string& in : {in_folder, in_file}) {
    const TrainedModel model = imported(in);
    write_export(model, folder_, GetParam(), true);
    expect_same_bytes(
        stored, read_safetensors(folder_ + "/transformer/diffusion_pytorch_model.safetensors"),
        in + " to diffusers");
    const std::string file = write_single_file(model, base_ + "/comfy", GetParam(), true);
    expect_same_bytes(original, read_safetensors(file), in + " to one file");
    // And in again, from both.
    for (const std::string& out : {folder_, file}) {
      const TrainedModel again = imported(out);
      EXPECT_EQ(diffusers_config(again.architecture), diffusers_config(model.architecture));
      for (size_t i = 0; i < stored.size(); ++i) {
        EXPECT_TRUE(again.transformer->parameters()[i].second.equal(
            model.transformer->parameters()[i].second))
            << in << " to " << out << ": " << stored[i].first;
      }
    }
  }
}
INSTANTIATE_TEST_SUITE_P(Types, RoundTrip, testing::Values(at::kFloat, at::kBFloat16),
                         [](const auto& type) {
                           return type.param == at::kFloat ? "fp32" : "bf16";
                         });

// --- The check after writing sees every part. ---

TEST_F(PipelineExport, CheckNamesAWeightThatChanged) {
  const TrainedModel model = wan_model();
  write_export(model, folder_, at::kFloat, false);
  TrainedModel read = load_export(folder_);
  EXPECT_NO_THROW(check_reloaded(model, read, at::kFloat, "x", base_));
  const at::NoGradGuard no_grad;
  at::Tensor bias = read.transformer->parameters()[3].second;
  bias.view(-1)[0] += 1e-3;
  EXPECT_TRUE(
      mentions(message_of<DataError>([&] { check_reloaded(model, read, at::kFloat, "x", base_); }),
               read.transformer->parameters()[3].first));
}

// One number of one tensor of a safetensors file, where the export has it.
void disturb(const std::string& file, const std::string& part) {
  std::map<std::string, at::Tensor> tensors = read_safetensors(file);
  for (auto& [name, tensor] : tensors) {
    if (name.find(part) == std::string::npos) continue;
    tensor.mul_(1.25);
    fs::remove(file);  // a link is replaced, not what it leads to
    write_safetensors(file, NamedTensors(tensors.begin(), tensors.end()));
    return;
  }
  FAIL() << file << " holds no " << part;
}

TEST_F(PipelineExport, CheckDrawsWithEveryPart) {
  const TrainedModel model = wan_model(FirstFrame::channels, true);
  const struct {
    const char *file, *part, *complaint;
  } parts[] = {
      {"text_encoder/model.safetensors", "wi_0", "another latent"},
      {"image_encoder/model.safetensors", "layers.0.mlp.fc1.weight", "another latent"},
      {"vae/diffusion_pytorch_model.safetensors", "encoder.conv_in.weight", "another latent"},
      {"vae/diffusion_pytorch_model.safetensors", "decoder.conv_out.weight",
       "decodes to other frames"}};
  for (const auto& each : parts) {
    write_export(model, folder_, at::kFloat, true);
    disturb(folder_ + "/" + each.file, each.part);
    // As if the record had been made of the disturbed parts.
    TrainedModel read = wan_model(FirstFrame::channels, true, folder_ + "/text_encoder",
                                  folder_ + "/image_encoder");
    read.codec_config.weights = folder_ + "/vae";
    const std::string found =
        message_of<DataError>([&] { check_reloaded(model, read, at::kFloat, folder_, base_); });
    EXPECT_TRUE(mentions(found, each.complaint)) << each.part << ": " << found;
    EXPECT_FALSE(fs::exists(base_ + "/first_frame.png"));
  }
}

}  // namespace
}  // namespace pendulum

// `pendulum sample`: draws clips for captions from an export, a checkpoint or a run.
#include <CLI/CLI.hpp>
#include <fstream>
#include <memory>

#include "apps/commands.h"
#include "apps/model_options.h"
#include "core/error.h"
#include "core/log.h"
#include "export/trained_model.h"
#include "generate/clip_files.h"

namespace pendulum {
namespace {

struct SampleOptions {
  ModelOptions model;
  std::vector<std::string> prompts;
  std::string prompts_file;
  std::vector<std::string> images;
  std::string out = "samples";
  uint64_t seed = 0;
  int batch = 16;
};

// One caption a line; blank lines and lines that begin with # are left out.
std::vector<std::string> read_prompts(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw ConfigError(text("--prompts ", path, ": cannot be opened for reading"));
  std::vector<std::string> prompts;
  for (std::string line; std::getline(file, line);) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (line.find_first_not_of(" \t") != std::string::npos && line.front() != '#')
      prompts.push_back(line);
  }
  if (prompts.empty()) throw ConfigError(text("--prompts ", path, ": holds no caption"));
  return prompts;
}

// Captions of the command line, then of the file; the configuration's where there are neither.
std::vector<Prompt> prompts_of(const SampleOptions& options, const GenerateConfig& generate) {
  std::vector<std::string> captions = options.prompts;
  if (!options.prompts_file.empty()) {
    for (const std::string& caption : read_prompts(options.prompts_file))
      captions.push_back(caption);
  }
  std::vector<std::string> images = options.images;
  if (captions.empty()) {
    captions = generate.prompts;
    if (images.empty()) images = generate.images;
  }
  if (captions.empty()) throw ConfigError("no caption: give --prompt \"...\" or --prompts FILE");
  if (!images.empty() && images.size() != captions.size()) {
    throw ConfigError(text("--image: ", images.size(), " first frames for ", captions.size(),
                           " captions: expected one for each"));
  }
  std::vector<Prompt> prompts;
  for (size_t i = 0; i < captions.size(); ++i)
    prompts.push_back({captions[i], options.seed + i, images.empty() ? "" : images[i]});
  return prompts;
}

void sample(const SampleOptions& options) {
  const TrainedModel model = open_model(options.model);
  const std::vector<Prompt> prompts = prompts_of(options, model.generate);
  const bool is_file = is_clip_path(options.out);
  if (is_file && prompts.size() > 1) {
    throw ConfigError(text("--out ", options.out, " is one file, but there are ", prompts.size(),
                           " captions: name a folder"));
  }
  const Shape shape = shape_of(options.model, model);
  const std::vector<Frames> clips = model.generator().generate(prompts, shape, options.batch);
  if (is_file) {
    write_clip(options.out, clips.front(), model.generate.fps);
    return info("{}: {}", options.out, prompts.front().text);
  }
  const ClipFiles files = write_clips(options.out, prompts, clips, model.generate.fps);
  for (size_t i = 0; i < prompts.size(); ++i) info("{}: {}", files.clips[i], prompts[i].text);
  info("contact sheet: {}", files.contact_sheet);
}

}  // namespace

void add_sample(CLI::App& app) {
  auto options = std::make_shared<SampleOptions>();
  CLI::App* command = app.add_subcommand("sample", "draw clips for captions from a trained model");
  add_model_options(*command, options->model);
  command->add_option("--prompt", options->prompts, "a caption; may be given several times")
      ->type_name("TEXT")
      ->allow_extra_args(false);
  command->add_option("--prompts", options->prompts_file, "file with one caption a line")
      ->type_name("FILE");
  command
      ->add_option("--image", options->images,
                   "image-to-video models: the first frame, one for each caption in their order")
      ->type_name("FILE")
      ->allow_extra_args(false);
  command
      ->add_option("--out", options->out, "clip.mp4 or picture.png for one caption, else a folder")
      ->capture_default_str();
  command
      ->add_option("--seed", options->seed, "seed of the first caption; the next captions count on")
      ->capture_default_str();
  command->add_option("--batch", options->batch, "clips drawn at once")
      ->check(CLI::Range(1, kMostOfAnything))
      ->capture_default_str();
  command->callback([options] { sample(*options); });
}

}  // namespace pendulum

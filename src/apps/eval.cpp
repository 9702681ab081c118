// `pendulum eval`: draws the held-out captions and measures how often the clips show what they say.
#include <CLI/CLI.hpp>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "apps/commands.h"
#include "apps/model_options.h"
#include "core/error.h"
#include "core/log.h"
#include "core/publish.h"
#include "data/contact_sheet.h"
#include "data/media_writer.h"
#include "export/trained_model.h"
#include "generate/evaluation.h"

namespace pendulum {
namespace {

constexpr int kSheetColumns = 5;      // frames of a clip on the contact sheet
constexpr int kClipsPerSheetRow = 2;  // 48 captions in 24 rows

struct EvalOptions {
  ModelOptions model;
  int seeds = 4;
  int captions = 48;
  int batch = 32;
  std::string out = "eval";
};

nlohmann::json clip_json(const EvaluationItem& item, const Accuracy& right) {
  nlohmann::json json{{"caption", item.prompt.text},
                      {"seed", item.prompt.seed},
                      {"colour", right.colour == 1},
                      {"shape", right.shape == 1}};
  if (right.moving == 1) json["direction"] = right.direction == 1;
  return json;
}

nlohmann::json settings_json(const TrainedModel& model, const Shape& shape) {
  nlohmann::json json{{"run", model.provenance.run},         {"step", model.provenance.step},
                      {"weights", model.provenance.weights}, {"shape", shape.name()},
                      {"solver", model.generate.solver},     {"steps", model.generate.steps},
                      {"guidance", model.generate.guidance}, {"shift", nullptr}};
  if (model.generate.shift) json["shift"] = *model.generate.shift;
  return json;
}

// eval.json and a contact sheet with the first seed of every caption.
void write_results(const std::string& folder, const nlohmann::json& results,
                   const std::vector<Frames>& clips, int seeds) {
  std::filesystem::create_directories(folder);
  publish_text(folder + "/eval.json", results.dump(2) + "\n");
  std::vector<Frames> first_seeds;
  for (size_t i = 0; i < clips.size(); i += seeds) first_seeds.push_back(clips[i]);
  write_image(folder + "/contact_sheet.png",
              contact_sheet(first_seeds, std::min(clips.front().count, kSheetColumns),
                            {.clips_per_row = kClipsPerSheetRow}));
  info("{0}/eval.json, {0}/contact_sheet.png", folder);
}

void evaluate(const EvalOptions& options) {
  const std::vector<EvaluationItem> items = evaluation_items(options.captions, options.seeds);
  const TrainedModel model = open_model(options.model);
  const Shape shape = shape_of(options.model, model);
  std::vector<Prompt> prompts;
  for (const EvaluationItem& item : items) prompts.push_back(item.prompt);
  const std::vector<Frames> clips = model.generator().generate(prompts, shape, options.batch);
  Accuracy total;
  nlohmann::json by_clip = nlohmann::json::array();
  for (size_t i = 0; i < items.size(); ++i) {
    const Accuracy right = judge(items[i], clips[i]);
    by_clip.push_back(clip_json(items[i], right));
    total += right;
  }
  info("{} captions x {} seeds, {}, step {} ({})", options.captions, options.seeds, shape.name(),
       model.provenance.step, model.provenance.weights);
  fmt::print("{}", table(total));
  const nlohmann::json results{
      {"settings", settings_json(model, shape)}, {"accuracy", to_json(total)}, {"clips", by_clip}};
  write_results(options.out, results, clips, options.seeds);
}

}  // namespace

void add_eval(CLI::App& app) {
  auto options = std::make_shared<EvalOptions>();
  CLI::App* command =
      app.add_subcommand("eval", "measure colour, shape and direction on held-out captions");
  add_model_options(*command, options->model);
  command->add_option("--seeds", options->seeds, "clips per caption")->capture_default_str();
  command->add_option("--captions", options->captions, "how many of the 48 held-out captions")
      ->capture_default_str();
  command->add_option("--batch", options->batch, "clips drawn at once")
      ->check(CLI::Range(1, kMostOfAnything))
      ->capture_default_str();
  command->add_option("--out", options->out, "folder of eval.json and the contact sheet")
      ->capture_default_str();
  command->callback([options] { evaluate(*options); });
}

}  // namespace pendulum

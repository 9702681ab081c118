// Drawing clips between training steps.
#include "train/preview.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "core/log.h"
#include "generate/clip_files.h"

namespace pendulum {
namespace {

// Clips drawn at a time: enough to fill the cores, little memory beside the training state.
constexpr int kPreviewBatch = 16;
constexpr int kCaptions = 48;

}  // namespace

Preview::Preview(const Config& config, const Embedder& embedder, std::array<int, 3> patch,
                 Communicator& world)
    : config_(config), embedder_(embedder), patch_(patch), world_(world) {}

Generator Preview::generator(const StageConfig& stage, const Network& network,
                             at::Device device) const {
  return Generator(network, device, embedder_.codec(), embedder_.text_encoder(), patch_,
                   generate_settings(config_.generate, stage.objective), embedder_.first_frame());
}

std::string Preview::draw(const StageConfig& stage, const Network& network, at::Device device,
                          const std::string& folder, const SequenceGroup& group) const {
  if (world_.rank() >= group.width() || config_.generate.prompts.empty()) return "";
  const at::NoGradGuard no_grad;
  std::vector<Prompt> prompts;
  for (const std::string& words : config_.generate.prompts) {
    prompts.push_back({words, config_.run.seed + prompts.size()});
  }
  const bool is_still = stage.shape.frames == 1;
  const bool takes_images = embedder_.first_frame().kind() != FirstFrame::none && !is_still;
  if (takes_images && config_.generate.images.empty() && world_.rank() == 0)
    warn("generate.images names no first frames: generate.prompts are drawn without");
  for (size_t i = 0; i < config_.generate.images.size() && !is_still; ++i)
    prompts[i].image = config_.generate.images[i];
  const std::vector<Frames> clips =
      generator(stage, network, device).generate(prompts, stage.shape, kPreviewBatch);
  if (world_.rank() != 0) return "";
  return write_clips(folder, prompts, clips, config_.generate.fps).contact_sheet;
}

Accuracy Preview::evaluate(const StageConfig& stage, const Network& network, at::Device device,
                           const SequenceGroup& group,
                           const std::function<void()>& forwards_made) const {
  const at::NoGradGuard no_grad;
  std::vector<EvaluationItem> items;
  std::vector<Prompt> prompts;
  const std::vector<EvaluationItem> all = evaluation_items(kCaptions, 1);
  const size_t width = group.width();
  for (size_t i = world_.rank() / width; i < all.size(); i += world_.size() / width) {
    items.push_back(all[i]);
    prompts.push_back(all[i].prompt);
  }
  Accuracy accuracy;
  const std::vector<Frames> clips =
      generator(stage, network, device).generate(prompts, stage.shape, kPreviewBatch);
  forwards_made();
  if (group.rank() == 0) {  // all of them hold the same clips
    for (size_t i = 0; i < clips.size(); ++i) accuracy += judge(items[i], clips[i]);
  }
  const at::Tensor counts = at::tensor(
      {accuracy.clips, accuracy.moving, accuracy.colour, accuracy.shape, accuracy.direction},
      at::kLong);
  world_.all_reduce(counts, Reduce::sum).wait();
  const int64_t* n = counts.const_data_ptr<int64_t>();
  return {n[0], n[1], n[2], n[3], n[4]};
}

}  // namespace pendulum

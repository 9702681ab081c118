// Clips drawn while training: files to look at, and their accuracy where the captions are the
// synthetic data's.
#pragma once
#include <array>
#include <functional>
#include <string>

#include "attention/sequence_group.h"
#include "comm/communicator.h"
#include "config/config.h"
#include "embed/embedder.h"
#include "generate/evaluation.h"
#include "generate/generator.h"

namespace pendulum {

class Preview {
 public:
  Preview(const Config& config, const Embedder& embedder, std::array<int, 3> patch,
          Communicator& world);

  // Draws generate.prompts at the stage's shape into `folder`: a file per prompt and
  // contact_sheet.png. The group of rank 0 draws, the others return at once. `network` shares a
  // clip in groups, `group` is this process's. Returns the contact sheet's path, empty where there
  // are no prompts and on other ranks.
  std::string draw(const StageConfig& stage, const Network& network, at::Device device,
                   const std::string& folder, const SequenceGroup& group) const;

  // One clip for each of the fixed held-out captions, dealt to the groups; the same result on all.
  // forwards_made as in Validation. Collective.
  Accuracy evaluate(const StageConfig& stage, const Network& network, at::Device device,
                    const SequenceGroup& group, const std::function<void()>& forwards_made) const;

 private:
  Generator generator(const StageConfig& stage, const Network& network, at::Device device) const;

  const Config& config_;
  const Embedder& embedder_;
  std::array<int, 3> patch_;
  Communicator& world_;
};

}  // namespace pendulum

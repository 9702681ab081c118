// Wan 2.2's pairs: two transformers of one architecture, of which one knows the noisy times and the
// other the clear ones (A14B).
#pragma once
#include <string>
#include <vector>

#include "config/config.h"
#include "model/config.h"
#include "model/network.h"
#include "model/video_transformer.h"

namespace pendulum {

enum class Expert { none, high, low };
Expert parse_expert(const std::string& name);
std::string expert_name(Expert expert);
Expert other_expert(Expert expert);

// Where an expert's weights lie in a pipeline's folder: diffusers' transformer/ for high noise,
// transformer_2/ for low. Of anything else the path itself. ConfigError where the folder holds a
// pair and none of it is named, or one is named and it holds none.
std::string transformer_place(const std::string& import, Expert expert);
std::string transformer_place(const ModelConfig& model);  // of model.import, model.expert
// Whether the folder holds the other one too.
bool has_pair(const std::string& import);

// The time at which the pair changes over: boundary_ratio of the folder's model_index.json, or
// experts.boundary of an export's pendulum.json, else that of the published pairs, 0.9 where first
// frames are given and 0.875 where not. DataError where that is no number between 0 and 1.
double expert_boundary(const std::string& import, const WanConfig& config);

// The part of [0, 1] that an expert knows; all of it for none.
std::vector<double> expert_times(Expert expert, double boundary);

// The objective with these times where an expert trains and no range is asked for.
ObjectiveConfig in_expert_times(ObjectiveConfig objective, const ModelConfig& model,
                                const WanConfig& config);

// The pair as one: `high` at times of at least 1000 x boundary, which a call's samples share.
Network network_of_pair(const VideoTransformer& high, const VideoTransformer& low, double boundary);

}  // namespace pendulum

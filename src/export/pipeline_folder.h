// What makes an export a whole pipeline of diffusers: its index and its scheduler.
#pragma once
#include <string>

#include "export/trained_model.h"

namespace pendulum {

// Why diffusers cannot draw with this model, as half a sentence: another codec or text encoder than
// Wan's, a network that predicts the clean latent, image states without their encoder, or image
// states beside captions of another length than diffusers takes them for. Empty where it can.
std::string pipeline_obstacle(const TrainedModel& model);

// Of this alone what a configuration tells before anything is trained: that its captions will have
// another length than diffusers takes them for beside image states. Empty where the length fits,
// and where codec or text encoder are not Wan's anyway.
std::string caption_obstacle(const CodecConfig& codec, const TextConfig& text,
                             bool has_image_states);

// The class that draws with it, WanPipeline or WanImageToVideoPipeline; empty where there is an
// obstacle.
std::string pipeline_class(const TrainedModel& model);

// Of the times that diffusers is to follow: generate.shift, or where that is by resolution, its
// value at the model's shape, since a scheduler has one number.
double pipeline_shift(const TrainedModel& model);

// model_index.json and scheduler/ into `folder`; model has a pipeline_class().
void write_pipeline_files(const TrainedModel& model, const std::string& folder);

}  // namespace pendulum

// README.md of an export: what the model is and how to use it, for people.
#pragma once
#include <string>

#include "export/trained_model.h"

namespace pendulum {

std::string model_card(const TrainedModel& model, const std::string& title);

}  // namespace pendulum

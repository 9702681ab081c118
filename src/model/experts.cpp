// Finding the two, and choosing between them by time.
#include "model/experts.h"

#include <ATen/ATen.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "core/error.h"
#include "core/json_file.h"

namespace pendulum {
namespace {

namespace fs = std::filesystem;

constexpr char kHigh[] = "transformer", kLow[] = "transformer_2";

// The number between 0 and 1 at this place of a JSON file, where there is one.
std::optional<double> number_in(const fs::path& path, const char* key) {
  std::error_code ignored;
  if (!fs::exists(path, ignored)) return std::nullopt;
  const nlohmann::json json = read_json(path.string());
  const nlohmann::json::json_pointer place(key);
  if (!json.contains(place) || json.at(place).is_null()) return std::nullopt;
  const nlohmann::json& found = json.at(place);
  if (!found.is_number() || !(found.get<double>() > 0 && found.get<double>() < 1)) {
    throw DataError(text(path.string(), ": ", key + 1, " is ", found.dump(),
                         ": expected a number between 0 and 1"));
  }
  return found.get<double>();
}

}  // namespace

Expert parse_expert(const std::string& name) {
  if (name == "none") return Expert::none;
  if (name == "high") return Expert::high;
  if (name == "low") return Expert::low;
  throw ConfigError(text("model.expert is '", name, "'; expected none, high or low"));
}

std::string expert_name(Expert expert) {
  return expert == Expert::none ? "none" : expert == Expert::high ? "high" : "low";
}

Expert other_expert(Expert expert) {
  return expert == Expert::none   ? Expert::none
         : expert == Expert::high ? Expert::low
                                  : Expert::high;
}

bool has_pair(const std::string& import) {
  std::error_code ignored;
  return fs::is_directory(fs::path(import) / kHigh, ignored) &&
         fs::is_directory(fs::path(import) / kLow, ignored);
}

std::string transformer_place(const std::string& import, Expert expert) {
  if (has_pair(import)) {
    if (expert == Expert::none) {
      throw ConfigError(text("model.expert: ", import,
                             " holds a pair that shares the noise between it: name the one that "
                             "trains, high or low"));
    }
    return (fs::path(import) / (expert == Expert::high ? kHigh : kLow)).string();
  }
  if (expert != Expert::none && fs::is_directory(fs::path(import) / kHigh)) {
    throw ConfigError(text("model.expert: found ", expert_name(expert), ", but ", import,
                           " holds no pair: there is no ", kLow, " in it"));
  }
  return import;
}

std::string transformer_place(const ModelConfig& model) {
  return transformer_place(model.import, parse_expert(model.expert));
}

double expert_boundary(const std::string& import, const WanConfig& config) {
  const fs::path folder(import);
  for (const auto& [file, key] :
       {std::pair{"model_index.json", "/boundary_ratio"}, {"pendulum.json", "/experts/boundary"}}) {
    if (const auto found = number_in(folder / file, key)) return *found;
  }
  return config.condition_channels() > 0 ? 0.9 : 0.875;
}

std::vector<double> expert_times(Expert expert, double boundary) {
  if (expert == Expert::high) return {boundary, 1};
  if (expert == Expert::low) return {0, boundary};
  return {0, 1};
}

ObjectiveConfig in_expert_times(ObjectiveConfig objective, const ModelConfig& model,
                                const WanConfig& config) {
  const Expert expert = parse_expert(model.expert);
  if (expert != Expert::none && objective.time_range == ObjectiveConfig{}.time_range)
    objective.time_range = expert_times(expert, expert_boundary(model.import, config));
  return objective;
}

Network network_of_pair(const VideoTransformer& high, const VideoTransformer& low,
                        double boundary) {
  return [high = network_of(high), low = network_of(low), boundary](
             const at::Tensor& x_t, const at::Tensor& time, const Conditions& conditions) {
    // Where a first latent frame is given, its tokens are at time 0 and the others say it.
    const bool is_high = time.max().item<double>() >= 1000 * boundary;
    return (is_high ? high : low)(x_t, time, conditions);
  };
}

}  // namespace pendulum

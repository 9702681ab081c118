// Least squares over relative errors, and the calibration's file.
#include "pendulum/calibration.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>

#include "core/error.h"
#include "core/publish.h"
#include "pendulum/plan.h"

namespace pendulum {
namespace {

using nlohmann::json;

constexpr int kCalibrationFormat = 1;

// matrix FLOPs, attention FLOPs, passes, calls, bytes.
constexpr int kTerms = 5;
using Terms = std::array<double, kTerms>;

Terms terms_of(const Geometry& g, const MeasuredPass& pass, int number_bytes) {
  const Work work = sample_work(g, pass.shape, pass.width);
  const Traffic traffic = sample_traffic(g, pass.shape, pass.width, number_bytes);
  return {pass.batch * work.matrix, pass.batch * work.attention, 1, traffic.calls,
          pass.batch * traffic.bytes()};
}

// Solves the symmetric system by elimination; nothing where it is singular.
std::optional<std::vector<double>> solve(std::vector<std::vector<double>> a,
                                         std::vector<double> b) {
  const size_t n = b.size();
  for (size_t i = 0; i < n; ++i) {
    size_t pivot = i;
    for (size_t r = i + 1; r < n; ++r) {
      if (std::abs(a[r][i]) > std::abs(a[pivot][i])) pivot = r;
    }
    if (std::abs(a[pivot][i]) < 1e-9) return {};  // columns are scaled to unit length
    std::swap(a[i], a[pivot]);
    std::swap(b[i], b[pivot]);
    for (size_t r = i + 1; r < n; ++r) {
      const double factor = a[r][i] / a[i][i];
      for (size_t c = i; c < n; ++c) a[r][c] -= factor * a[i][c];
      b[r] -= factor * b[i];
    }
  }
  for (size_t i = n; i-- > 0;) {
    for (size_t c = i + 1; c < n; ++c) b[i] -= a[i][c] * b[c];
    b[i] /= a[i][i];
  }
  return b;
}

// The coefficients at least 0 with the smallest squared error of rows * x against 1. With five
// terms every set of them can be tried: the best one whose coefficients are all positive is the
// answer.
Terms non_negative_fit(const std::vector<Terms>& rows) {
  Terms scale{};
  for (const Terms& row : rows) {
    for (int k = 0; k < kTerms; ++k) scale[k] += row[k] * row[k];
  }
  for (double& s : scale) s = std::sqrt(s);
  Terms best{};
  double least = std::numeric_limits<double>::infinity();
  for (unsigned set = 1; set < 1U << kTerms; set += 2) {  // products with weights always cost
    std::vector<int> members;
    bool is_empty = false;
    for (int k = 0; k < kTerms; ++k) {
      if ((set >> k & 1U) == 0) continue;
      members.push_back(k);
      is_empty |= scale[k] == 0;
    }
    if (is_empty || members.size() > rows.size()) continue;
    std::vector<std::vector<double>> normal(members.size(), std::vector<double>(members.size()));
    std::vector<double> right(members.size());
    for (const Terms& row : rows) {
      for (size_t i = 0; i < members.size(); ++i) {
        const double x = row[members[i]] / scale[members[i]];
        right[i] += x;
        for (size_t j = 0; j < members.size(); ++j)
          normal[i][j] += x * row[members[j]] / scale[members[j]];
      }
    }
    const auto solution = solve(normal, right);
    if (!solution ||
        std::any_of(solution->begin(), solution->end(), [](double x) { return x <= 0; }))
      continue;
    Terms found{};
    for (size_t i = 0; i < members.size(); ++i)
      found[members[i]] = (*solution)[i] / scale[members[i]];
    double error = 0;
    for (const Terms& row : rows) {
      double sum = -1;
      for (int k = 0; k < kTerms; ++k) sum += found[k] * row[k];
      error += sum * sum;
    }
    if (error < least) {
      least = error;
      best = found;
    }
  }
  return best;
}

// Keys that stand there for some models alone.
const std::set<std::string> kOfSome{
    "latent_channels", "image_dim", "trained_parameters", "first_trained_block", "frozen_precision",
    "swap_blocks",     "offloads"};

// What only some models have stands there for those alone.
json geometry_json(const Geometry& g) {
  json out{{"layers", g.layers},
           {"width", g.width},
           {"heads", g.heads},
           {"ffn_dim", g.ffn_dim},
           {"text_length", g.text_length},
           {"text_dim", g.text_dim},
           {"spatial", g.spatial},
           {"temporal", g.temporal},
           {"channels", g.channels},
           {"patch", g.patch},
           {"activation_checkpointing", g.activation_checkpointing}};
  if (g.latent_channels() != g.channels) out["latent_channels"] = g.latent_channels();
  if (g.image_dim > 0) out["image_dim"] = g.image_dim;
  if (g.swap_blocks > 0) out["swap_blocks"] = g.swap_blocks;
  if (g.offloads) out["offloads"] = true;
  if (g.part) {
    out["trained_parameters"] = g.part->parameters;
    out["first_trained_block"] = g.part->first_block;
    out["frozen_precision"] = g.frozen_precision;
  }
  return out;
}

}  // namespace

CostModel fit_costs(const Geometry& geometry, const std::vector<MeasuredPass>& passes,
                    int number_bytes) {
  if (passes.empty()) throw ConfigError("a calibration needs at least one measured pass");
  std::vector<Terms> rows;
  for (const MeasuredPass& pass : passes) {
    check(pass.seconds > 0, "a pass takes time: ", pass.bucket);
    Terms row = terms_of(geometry, pass, number_bytes);
    for (double& term : row) term /= pass.seconds;
    rows.push_back(row);
  }
  const Terms seconds = non_negative_fit(rows);
  check(seconds[0] > 0, "products with weights that take time");
  return {.flops_per_second = 1 / seconds[0],
          .attention = seconds[1] / seconds[0],
          .per_pass = seconds[2] / seconds[0],
          .per_call = seconds[3] / seconds[0],
          .per_byte = seconds[4] / seconds[0]};
}

double predicted_seconds(const Geometry& geometry, const MeasuredPass& pass, const CostModel& model,
                         int number_bytes) {
  return pass_cost(geometry, pass.shape, pass.width, pass.batch, model, number_bytes) /
         model.flops_per_second;
}

bool Calibration::has_communication() const {
  return std::any_of(passes.begin(), passes.end(),
                     [](const MeasuredPass& pass) { return pass.width > 1; });
}

std::string Calibration::words() const { return text(date, " on ", device); }

std::vector<double> relative_errors(const Calibration& calibration) {
  std::vector<double> errors;
  for (const MeasuredPass& pass : calibration.passes) {
    errors.push_back(std::abs(
        predicted_seconds(calibration.geometry, pass, calibration.cost, calibration.number_bytes) /
            pass.seconds -
        1));
  }
  return errors;
}

json to_json(const CostModel& model) {
  return {{"flops_per_second", model.flops_per_second},
          {"attention", model.attention},
          {"per_pass", model.per_pass},
          {"per_call", model.per_call},
          {"per_byte", model.per_byte},
          {"per_network_byte", model.per_network_byte}};
}

CostModel cost_model_of(const json& saved) {
  return {.flops_per_second = saved.at("flops_per_second"),
          .attention = saved.at("attention"),
          .per_pass = saved.at("per_pass"),
          .per_call = saved.at("per_call"),
          .per_byte = saved.at("per_byte"),
          .per_network_byte = saved.at("per_network_byte")};
}

void save_calibration(const std::string& path, const Calibration& calibration) {
  json passes = json::array();
  for (const MeasuredPass& pass : calibration.passes) {
    passes.push_back({{"bucket", pass.bucket},
                      {"shape", {pass.shape.frames, pass.shape.height, pass.shape.width}},
                      {"width", pass.width},
                      {"batch", pass.batch},
                      {"seconds", pass.seconds},
                      {"predicted", predicted_seconds(calibration.geometry, pass, calibration.cost,
                                                      calibration.number_bytes)}});
  }
  publish_text(path, json{{"format", kCalibrationFormat},
                          {"program", calibration.program},
                          {"device", calibration.device},
                          {"date", calibration.date},
                          {"number_bytes", calibration.number_bytes},
                          {"model", geometry_json(calibration.geometry)},
                          {"cost", to_json(calibration.cost)},
                          {"passes", passes}}
                             .dump(1) +
                         "\n");
}

Calibration load_calibration(const std::string& path, const Geometry& geometry) {
  std::ifstream file(path);
  if (!file) {
    throw ConfigError(text("mesh.calibration: ", path,
                           " cannot be read; `pendulum plan --calibrate CONFIG` writes it"));
  }
  try {
    const json saved = json::parse(file);
    if (saved.at("format") != kCalibrationFormat) {
      throw ConfigError(text("mesh.calibration: ", path, " is of format ",
                             saved.at("format").dump(), ", this program reads ", kCalibrationFormat,
                             "; measure again with `pendulum plan --calibrate`"));
    }
    const json here = geometry_json(geometry);
    json keys = here;
    keys.update(saved.at("model"));
    for (const auto& [key, unused] : keys.items()) {
      const json& model = saved.at("model");
      const json is = here.value(key, json());
      const json was = kOfSome.contains(key) ? model.value(key, json()) : model.at(key);
      if (was == is) continue;
      const auto said = [](const json& value) { return value.is_null() ? "none" : value.dump(); };
      throw ConfigError(text("mesh.calibration: ", path, " was measured with another model: its ",
                             key, " was ", said(was), ", this one's is ", said(is),
                             "; measure again with `pendulum plan --calibrate`"));
    }
    Calibration out;
    out.device = saved.at("device");
    out.date = saved.at("date");
    out.program = saved.at("program");
    out.number_bytes = saved.at("number_bytes");
    out.geometry = geometry;
    out.cost = cost_model_of(saved.at("cost"));
    for (const json& pass : saved.at("passes")) {
      const json& shape = pass.at("shape");
      out.passes.push_back({pass.at("bucket"),
                            {shape.at(0), shape.at(1), shape.at(2)},
                            pass.at("width"),
                            pass.at("batch"),
                            pass.at("seconds")});
    }
    if (!(out.cost.flops_per_second > 0))
      throw ConfigError(text("mesh.calibration: ", path, " has no flops_per_second above 0"));
    return out;
  } catch (const json::exception& error) {
    throw ConfigError(text("mesh.calibration: ", path, " is not a calibration: ", error.what()));
  }
}

PlanOptions plan_options(const MeshConfig& mesh, const Geometry& geometry) {
  PlanOptions options;
  options.memory_bytes = mesh.device_memory_gb * 1e9;
  options.number_bytes = mesh.device == "cuda" ? 2 : 4;
  CostModel& cost = options.cost;
  cost.flops_per_second = mesh.device_flops * mesh.efficiency;
  bool has_communication = false;
  if (!mesh.calibration.empty()) {
    const Calibration measured = load_calibration(mesh.calibration, geometry);
    cost = measured.cost;
    options.number_bytes = measured.number_bytes;
    options.measured = measured.words();
    has_communication = measured.has_communication();
  }
  const auto per_byte = [&](double gb_per_second) {
    return gb_per_second > 0 ? cost.flops_per_second / (gb_per_second * 1e9) : 0;
  };
  if (!has_communication) cost.per_byte = per_byte(mesh.slot_gb_per_second);
  cost.per_network_byte = per_byte(mesh.network_gb_per_second);
  return options;
}

}  // namespace pendulum

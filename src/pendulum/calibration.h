// Costs measured on a device: the times of some passes, the cost model that fits them, and the file
// that keeps both.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "pendulum/cost.h"

namespace pendulum {

// Forward and backward of one pass of a group.
struct MeasuredPass {
  std::string bucket;
  Shape shape;
  int width = 1;
  int batch = 1;
  double seconds = 0;
};

// The cost model that comes closest, in relative errors, with no coefficient below 0. Coefficients
// that the passes cannot tell apart are left at 0; those of communication need passes of more than
// width 1. ConfigError where there is no pass.
CostModel fit_costs(const Geometry& geometry, const std::vector<MeasuredPass>& passes,
                    int number_bytes);

// Seconds of a pass by a cost model.
double predicted_seconds(const Geometry& geometry, const MeasuredPass& pass, const CostModel& model,
                         int number_bytes);

struct Calibration {
  std::string device{};   // its name, with threads where it is a processor
  std::string date{};     // 2026-11-24
  std::string program{};  // version that measured
  int number_bytes = 4;
  Geometry geometry{};
  CostModel cost{};
  std::vector<MeasuredPass> passes{};

  bool has_communication() const;
  // "2026-11-24 on AMD EPYC, 2 threads".
  std::string words() const;
};

// |predicted / measured - 1| of every pass.
std::vector<double> relative_errors(const Calibration& calibration);

// A JSON file with a format version; ConfigError where it cannot be read, is of another format, or
// was measured with another model than `geometry` (the first difference is named).
void save_calibration(const std::string& path, const Calibration& calibration);
Calibration load_calibration(const std::string& path, const Geometry& geometry);

nlohmann::json to_json(const CostModel& model);
CostModel cost_model_of(const nlohmann::json& saved);  // throws nlohmann::json::exception

}  // namespace pendulum

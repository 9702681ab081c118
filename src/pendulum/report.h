// What `pendulum plan` says: what a run would do, stage by stage, without training; as text, JSON
// and a page with plots.
#pragma once
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "pendulum/plan.h"
#include "pendulum/simulator.h"

namespace pendulum {

// A plan and what it would be like to run it. Refers to the plan.
struct PlanReport {
  const Plan& plan;
  std::vector<Simulation> simulations;  // by segment
  double price = 0;                     // of a process's device, dollars an hour; 0: not given

  int processes() const;
  // Of a segment and of the run; 0 where the devices' speed is not known.
  double seconds(size_t segment) const;
  double seconds() const;
  double dollars(double duration) const;
};

// Simulates `simulated` micro-steps of every segment, at most as many as it has unless `beyond`.
PlanReport report_of(const Plan& plan, int64_t simulated = 4000, double price = 0,
                     bool beyond = false);

std::string report_text(const PlanReport& report);
nlohmann::json report_json(const PlanReport& report);
// One self-contained page.
std::string report_html(const PlanReport& report);

// The tables of a segment, cell by cell, their heads first.
using ReportRow = std::vector<std::string>;
std::vector<ReportRow> bucket_rows(const Plan& plan, const SegmentPlan& segment,
                                   const Simulation& simulation);
std::vector<ReportRow> layout_rows(const Plan& plan, const Simulation& simulation);
std::vector<ReportRow> memory_rows(const Plan& plan, const SegmentPlan& segment);

// What a process holds in a pass of a bucket, and in that of a segment that needs most.
ProcessMemory memory_of(const Plan& plan, const BucketPlan& bucket);
ProcessMemory most_memory(const Plan& plan, const SegmentPlan& segment);
// Bytes that a process sends in a draw of a bucket for the attention of shared samples, and with
// what weights and gradients that are dealt send in its passes.
double attention_bytes(const Plan& plan, const BucketPlan& bucket);
double draw_traffic(const Plan& plan, const BucketPlan& bucket);
// What weights and gradients send, in a sentence.
std::string traffic_words(const DealtTraffic& traffic);

// "1,418,996,800".
std::string exact_number(int64_t value);
// "11,796,480 of 1,430,793,280 parameters train".
std::string parameter_words(const Geometry& geometry);
// A number with three digits and its unit's prefix: short_number(1.5e13, "FLOP") is "15.0 TFLOP".
std::string short_number(double value, const std::string& unit);
// A cost as time, "35 ms", where the devices' speed is known, else as FLOPs.
std::string cost_words(const Plan& plan, double cost);
// What costs are computed from, in a sentence.
std::string cost_model_words(const PlanOptions& options);
// "12.5 %", of small shares with more digits.
std::string percent(double share);
// "3.2 days", "4.5 h", "12 min", "8.1 s", "35 ms".
std::string short_time(double seconds);

}  // namespace pendulum

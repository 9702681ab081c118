// The figures of a plan for machines.
#include <nlohmann/json.hpp>

#include "pendulum/report.h"

namespace pendulum {
namespace {

using nlohmann::json;

json bucket_json(const Plan& plan, const BucketPlan& bucket, double expected, double simulated) {
  return {{"name", bucket.name},
          {"source", bucket.source},
          {"shape", {bucket.shape.frames, bucket.shape.height, bucket.shape.width}},
          {"entries", bucket.entries.size()},
          {"tokens", bucket.tokens},
          {"width", bucket.width},
          {"batch", bucket.batch},
          {"passes", bucket.passes},
          {"samples_per_draw", bucket.block},
          {"flops_per_sample", bucket.flops},
          {"cost_of_draw", bucket.cost},
          {"rate", bucket.probability},
          {"samples_per_step", bucket.samples},
          {"share_of_samples_expected", expected},
          {"share_of_samples_simulated", simulated},
          {"share_of_flops", bucket.share},
          {"epochs", bucket.epochs},
          {"memory_bytes", memory_of(plan, bucket).total()},
          {"bytes_sent_per_draw", draw_traffic(plan, bucket)},
          {"bytes_sent_for_attention", attention_bytes(plan, bucket)}};
}

json memory_json(const ProcessMemory& memory) {
  return {
      {"weights", memory.weights}, {"gradients", memory.gradients},     {"moments", memory.moments},
      {"average", memory.average}, {"activations", memory.activations}, {"total", memory.total()},
      {"host", memory.host}};
}

json layout_json(const LayoutResult& layout, double flops_per_second) {
  json out{{"name", layout.name},
           {"fits_memory", layout.fits},
           {"memory_bytes", layout.memory},
           {"balance", layout.balance},
           {"exchange", layout.exchange},
           {"cost_of_micro_step", layout.micro_step},
           {"samples_per_micro_step", layout.samples_per_micro_step},
           {"cost_per_sample", layout.cost_per_sample},
           {"useful", layout.useful},
           {"steps_lacking_a_bucket", layout.missing}};
  if (flops_per_second > 0) out["samples_per_second"] = flops_per_second / layout.cost_per_sample;
  return out;
}

json stage_json(const PlanReport& report, size_t i) {
  const Plan& plan = report.plan;
  const SegmentPlan& segment = plan.segments[i];
  const Simulation& simulation = report.simulations[i];
  json buckets = json::array(), layouts = json::array(), curve = json::array(),
       epochs = json::object();
  for (size_t s = 0; s < segment.buckets.size(); ++s)
    buckets.push_back(bucket_json(plan, segment.buckets[s], simulation.expected_shares[s],
                                  simulation.simulated_shares[s]));
  for (const LayoutResult& layout : simulation.layouts)
    layouts.push_back(layout_json(layout, plan.options.cost.flops_per_second));
  for (const Simulation::DriftPoint& point : simulation.drift_curve)
    curve.push_back({point.micro_step, point.pendulum, point.iid});
  for (const SourceCatalogue& source : plan.sources) {
    const double passes = plan.epochs(source.name, static_cast<int>(i));
    if (passes > 0) epochs[source.name] = passes;
  }
  const double flops = segment.expected_flops * static_cast<double>(segment.steps);
  return {{"name", segment.stage_name},
          {"steps", segment.steps},
          {"samples_per_step", segment.expected_samples},
          {"tokens_per_step", segment.expected_tokens},
          {"flops_per_step", segment.expected_flops},
          {"memory", memory_json(most_memory(plan, segment))},
          {"flops", flops},
          {"share_of_flops", flops / plan.total_flops()},
          {"share_of_flops_asked", segment.compute > 0 ? json(segment.compute) : json()},
          {"seconds", report.seconds(i)},
          {"dollars", report.dollars(report.seconds(i))},
          {"buckets", buckets},
          {"epochs", epochs},
          {"simulation",
           {{"micro_steps", simulation.micro_steps},
            {"layouts", layouts},
            {"imbalance_mean", simulation.mean_imbalance},
            {"imbalance_worst", simulation.worst_imbalance},
            {"drift", simulation.drift},
            {"drift_independent", simulation.iid_drift},
            {"drift_curve", curve},
            {"sample_variation", simulation.sample_variation},
            {"buckets_per_dwell_mean", simulation.opened_mean},
            {"buckets_per_dwell_most", simulation.opened_most}}},
          {"warnings", segment.warnings}};
}

}  // namespace

json report_json(const PlanReport& report) {
  const Plan& plan = report.plan;
  const CostModel& cost = plan.options.cost;
  json stages = json::array();
  for (size_t i = 0; i < plan.segments.size(); ++i) stages.push_back(stage_json(report, i));
  return {{"format", 1},
          {"run", plan.run_name},
          {"plan", plan.hash()},
          {"processes", report.processes()},
          {"slot", plan.slot},
          {"slots", plan.segments.front().slots},
          {"accumulate", plan.segments.front().accumulate},
          {"dwell", plan.segments.front().dwell},
          {"beat", plan.beat},
          {"parameters", parameter_count(plan.geometry)},
          {"parameters_of_adapters", plan.geometry.part ? plan.geometry.part->adapters : 0},
          {"parameters_trained", trained_parameters(plan.geometry)},
          {"device_memory_bytes", plan.options.memory_bytes},
          {"state_bytes", state_bytes(plan.geometry, plan.optimizer, plan.dealing)},
          {"cost_model",
           {{"measured", plan.options.measured},
            {"flops_per_second", cost.flops_per_second},
            {"attention", cost.attention},
            {"per_pass", cost.per_pass},
            {"per_call", cost.per_call},
            {"per_byte", cost.per_byte},
            {"per_network_byte", cost.per_network_byte}}},
          {"traffic",
           {{"zero", plan.traffic.level},
            {"processes", plan.traffic.processes},
            {"weights_per_pass", plan.traffic.gathered},
            {"gradients_per_pass", plan.traffic.reduced},
            {"calls_per_pass", plan.traffic.calls},
            {"weights_per_step", plan.traffic.updated},
            {"sums_per_step", plan.traffic.summed}}},
          {"steps", plan.total_steps()},
          {"flops", plan.total_flops()},
          {"seconds", report.seconds()},
          {"price_per_hour", report.price},
          {"dollars", report.dollars(report.seconds())},
          {"stages", stages},
          {"warnings", plan.warnings}};
}

}  // namespace pendulum

// The training loop.
#include "train/trainer.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>
#include <csignal>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/log.h"
#include "model/diffusers_config.h"
#include "optim/schedule.h"
#include "train/run_state.h"

namespace pendulum {
namespace {

using Clock = std::chrono::steady_clock;

// A network that diverges does not come back: after so many updates in a row that are not finite
// the run ends.
constexpr int kMaxSkippedInARow = 10;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::string embedding_key(const Embedder& embedder) {
  return embedder.codec().key() + " and " + embedder.text_encoder().key();
}

}  // namespace

// What one optimiser step sums over its batches, by the samples' places in the plan's order.
struct Trainer::Totals {
  explicit Totals(int64_t num_samples) : by_sample(at::zeros({2, num_samples}, at::kDouble)) {}
  at::Tensor by_sample;  // (2, samples): loss, replacement; zero where another process works
  double gradient_norm = 0;
};

Trainer::Trainer(TrainerParts parts)
    : parts_(parts),
      device_(parts.model.parameters().front().second.device()),
      validation_(parts.config, parts.sources, parts.embedder, parts.world),
      preview_(parts.config, parts.embedder, parts.model.config().patch, parts.world) {}

Network Trainer::network(SequenceGroup& group) const {
  return [this, &group](const at::Tensor& x, const at::Tensor& time, const at::Tensor& text) {
    return parts_.model.forward(x, time, text, &group);
  };
}

// Of the current stage. What is drawn or measured between steps is as large as the stage's largest
// samples, so it takes as many processes.
SequenceGroup& Trainer::widest_group() const {
  const auto& buckets = segment().buckets;
  const auto widest =
      std::max_element(buckets.begin(), buckets.end(),
                       [](const BucketPlan& a, const BucketPlan& b) { return a.width < b.width; });
  return parts_.groups.of(widest->width);
}

const SegmentPlan& Trainer::segment() const { return parts_.plan.segments[position_.segment]; }
const StageConfig& Trainer::stage() const { return parts_.config.stages[segment().stage]; }

// Opens what a run writes and starts building batches, from wherever position_ stands.
void Trainer::begin() {
  const bool is_first = parts_.world.rank() == 0;
  progress_ = std::make_unique<Progress>(parts_.run_folder, !is_first, finished_steps_,
                                         parts_.plan.total_steps(),
                                         parts_.peak_flops * parts_.world.size());
  if (is_first) {
    consumption_ = std::make_unique<ConsumptionLog>(parts_.run_folder + "/consumption.jsonl",
                                                    parts_.config.run.name, consumption_head_);
    checkpoints_ = std::make_unique<CheckpointStore>(parts_.run_folder, parts_.config.run.keep);
    consumption_->append({{"event", finished_steps_ == 0 ? "start" : "resume"},
                          {"finished_steps", finished_steps_},
                          {"plan_hash", parts_.plan.hash()}});
  }
  PlanWalker walker(parts_.plan);
  walker.seek(position_, running_digest_);
  batches_ =
      std::make_unique<BatchBuilder>(parts_.plan, std::move(walker), parts_.sources, parts_.config,
                                     parts_.embedder, parts_.placement, parts_.groups);
}

RunEnd Trainer::run(const std::string& last_stage) {
  begin();
  const int num_segments = static_cast<int>(parts_.plan.segments.size());
  if (position_.segment == num_segments) info("this run is finished; --fresh starts it anew");
  while (position_.segment < num_segments) {
    objective_.emplace(stage().objective, parts_.config.run.seed, parts_.model.config().patch);
    embedding_before_ = embedding_totals();
    while (position_.step < segment().steps) {
      after_step(step());
      if (must_stop_) {
        finish();
        return RunEnd::stopped;
      }
    }
    const bool is_last = segment().stage_name == last_stage;
    end_stage();
    if (is_last) break;
  }
  finish();
  return RunEnd::finished;
}

// Everything is on the disk when it returns, on all processes.
void Trainer::finish() {
  save();
  if (checkpoints_) checkpoints_->finish();
  parts_.world.barrier();
}

StepRecord Trainer::step() {
  const Clock::time_point start = Clock::now();
  const double waited_before = batches_->stats().waited_seconds;
  const double in_calls_before = parts_.world.waited_seconds() - batches_->waited_in_calls();
  const StepBatches step = batches_->begin_step();
  agree(step);
  Totals totals(step.num_samples);
  parts_.weights.zero_gradients();
  for (int i = 0; i < step.num_batches; ++i) accumulate(batches_->next(), totals);
  reduce(totals);

  StepRecord record = summarise(step, totals);
  if (!record.is_skipped) {
    const double clip = stage().optim.clip;
    const double scale = clip > 0 ? std::min(1.0, clip / (record.gradient_norm + 1e-12)) : 1.0;
    parts_.optimizer.step(stage().optim, record.learning_rate, scale);
    parts_.weights.gather();
    if (parts_.world.size() > 1) last_weights_norm_ = parts_.weights.parameter_norm();
  }
  log_consumption(step, totals);
  running_digest_ = step.plan.digest;
  last_gradient_norm_ = record.gradient_norm;
  ++position_.step;
  ++finished_steps_;
  record.wait_seconds = batches_->stats().waited_seconds - waited_before;
  record.comm_seconds =
      parts_.world.waited_seconds() - batches_->waited_in_calls() - in_calls_before;
  record.seconds = seconds_since(start);
  return record;
}

// Forward and backward of one batch, its tokens shared by the group of its bucket. The denominator
// is the plan's constant: dividing by what this step or this process happens to hold would weigh
// rare sources many times over.
void Trainer::accumulate(const Batch& batch, Totals& totals) {
  for (const std::string& line : batch.unreadable) warn("{}; replaced", line);
  const BucketPlan& bucket = segment().buckets[batch.bucket];
  SequenceGroup& group = parts_.groups.of(bucket.width);
  const at::Tensor losses = objective_->loss(network(group), batch.latents.to(device_),
                                             batch.text.to(device_), batch.keys);
  (losses.sum() * (bucket.loss_weight / segment().loss_denominator)).backward();
  if (group.rank() != 0) return;  // all of them hold the same losses
  const at::Tensor values = losses.detach().to(at::kDouble).cpu();
  for (size_t i = 0; i < batch.consumed.size(); ++i) {
    totals.by_sample[0][batch.consumed[i].place] = values[static_cast<int64_t>(i)];
    totals.by_sample[1][batch.consumed[i].place] = batch.consumed[i].replacement;
  }
}

// Sums gradients and per-sample losses over the processes.
void Trainer::reduce(Totals& totals) {
  parts_.weights.reduce_gradients();
  parts_.world.all_reduce(totals.by_sample, Reduce::sum).wait();
  totals.gradient_norm = parts_.weights.gradient_norm();
}

StepRecord Trainer::summarise(const StepBatches& step, const Totals& totals) const {
  StepRecord record{.step = finished_steps_ + 1,
                    .stage_step = position_.step + 1,
                    .stage_steps = segment().steps,
                    .stage = segment().stage_name,
                    .digest = step.plan.digest,
                    .gradient_norm = totals.gradient_norm,
                    .learning_rate = learning_rate(stage().optim, position_.step, segment().steps),
                    .samples = step.num_samples};
  const double* losses = totals.by_sample.const_data_ptr<double>();
  const double* replacements = losses + step.num_samples;
  std::map<std::string, int64_t> counts;
  double sum = 0, weighted = 0;
  int64_t place = 0;
  for (const Draw& draw : step.plan.draws) {
    const BucketPlan& bucket = segment().buckets[draw.bucket];
    for (size_t i = 0; i < draw.samples.size(); ++i, ++place) {
      sum += losses[place];
      weighted += losses[place] * bucket.loss_weight;
      record.by_source[bucket.source] += losses[place];
      ++counts[bucket.source];
      record.replaced += replacements[place] > 0;
    }
    record.tokens += bucket.tokens * static_cast<int64_t>(draw.samples.size());
    const double flops = bucket.flops * static_cast<double>(draw.samples.size());
    record.flops += flops;
    record.flops_by_source[bucket.source] += flops;
  }
  for (auto& [source, loss] : record.by_source) loss /= static_cast<double>(counts[source]);
  record.loss = weighted / segment().loss_denominator;
  record.sample_loss = sum / static_cast<double>(std::max<int64_t>(1, step.num_samples));
  record.is_skipped = !std::isfinite(record.loss) || !std::isfinite(record.gradient_norm);
  return record;
}

// One line per optimiser step: the samples that were trained on, replacements resolved, in the
// plan's order.
void Trainer::log_consumption(const StepBatches& step, const Totals& totals) {
  if (!consumption_) return;
  const double* replacements = totals.by_sample.const_data_ptr<double>() + step.num_samples;
  nlohmann::json draws = nlohmann::json::array();
  int64_t place = 0;
  for (const Draw& draw : step.plan.draws) {
    const BucketPlan& bucket = segment().buckets[draw.bucket];
    const Bucket& order = parts_.plan.buckets[bucket.index];
    const OpenSource& source = parts_.sources[bucket.source];
    nlohmann::json ids = nlohmann::json::array();
    for (const PlannedSample& planned : draw.samples) {
      const auto k = static_cast<int64_t>(replacements[place++]);
      const int64_t entry =
          k == 0 ? planned.entry : order.replacement(parts_.plan.seed, planned.ordinal, k);
      ids.push_back(source.data.sample(bucket.entries[entry]).id);
    }
    draws.push_back({{"slot", draw.slot},
                     {"bucket", bucket.name},
                     {"first", draw.samples.front().ordinal},
                     {"ids", ids}});
  }
  consumption_->append({{"step", finished_steps_ + 1},
                        {"segment", step.plan.segment},
                        {"t", step.plan.first_t},
                        {"digest", fmt::format("{:016x}", step.plan.digest)},
                        {"draws", std::move(draws)}});
}

void Trainer::after_step(const StepRecord& record) {
  progress_->step(record);
  skipped_in_a_row_ = record.is_skipped ? skipped_in_a_row_ + 1 : 0;
  if (record.is_skipped && parts_.world.rank() == 0) {
    warn("step {}: loss {} or gradient norm {} is not finite; nothing was updated", record.step,
         record.loss, record.gradient_norm);
  }
  if (skipped_in_a_row_ >= kMaxSkippedInARow) {
    throw Error(text(
        "step ", record.step, ": ", skipped_in_a_row_,
        " steps in a row were not finite. Lower optim.lr or go back to an earlier checkpoint"));
  }
  refuse_broken_sources(record);
  const RunConfig& run = parts_.config.run;
  if (run.validate.is_due(finished_steps_)) validate();
  if (run.sample.is_due(finished_steps_)) draw_samples();
  if (run.evaluate.is_due(finished_steps_)) evaluate();
  if (run.save.is_due(finished_steps_)) save();
  // Tests of recovery: the process ends as if the machine had.
  if (run.inject == text("kill@", finished_steps_)) std::raise(SIGKILL);
  // And of agreement: one process's weights leave the others'.
  if (run.inject == text("drift@", finished_steps_) && parts_.world.rank() == 1) {
    parts_.weights.all().front().second.detach().add_(1e-3);
    last_weights_norm_ = parts_.weights.parameter_norm();
  }
}

void Trainer::end_stage() {
  const EmbeddingTotals now = embedding_totals();
  const int64_t looked_up =
      now.hits + now.misses - embedding_before_.hits - embedding_before_.misses;
  progress_->end_stage(
      finished_steps_, segment().stage_name,
      {.hit_rate =
           looked_up ? static_cast<double>(now.hits - embedding_before_.hits) / looked_up : 0,
       .worker_seconds = now.worker_seconds - embedding_before_.worker_seconds});
  const RunConfig& run = parts_.config.run;
  if (run.validate.kind != Every::Kind::never) validate();
  if (run.sample.kind == Every::Kind::stage) draw_samples();
  if (run.evaluate.kind == Every::Kind::stage) evaluate();
  position_ = {position_.segment + 1, 0};
  if (run.save.kind == Every::Kind::stage) save();
}

// While body runs the model holds the averaged weights, where there are any.
void Trainer::with_average(const std::function<void()>& body) {
  if (!parts_.optimizer.has_average()) return body();
  {
    const AverageScope average(parts_.optimizer);
    parts_.weights.gather();
    body();
  }
  parts_.weights.gather();
}

void Trainer::validate() {
  with_average([&] {
    progress_->validation(finished_steps_, segment().stage_name,
                          validation_.measure(stage(), *objective_, network(widest_group()),
                                              device_, widest_group()));
  });
}

void Trainer::draw_samples() {
  const std::string folder =
      fmt::format("{}/samples/step-{:08}", parts_.run_folder, finished_steps_);
  with_average([&] {
    progress_->preview(finished_steps_, preview_.draw(stage(), network(widest_group()), device_,
                                                      folder, widest_group()));
  });
}

void Trainer::evaluate() {
  with_average([&] {
    progress_->accuracy(
        finished_steps_, segment().stage_name,
        preview_.evaluate(stage(), network(widest_group()), device_, widest_group()));
  });
}

// Compares what must be the same everywhere, once per optimiser step, and shares the wish to stop.
void Trainer::agree(const StepBatches& step) {
  const auto norm_bits = std::bit_cast<int64_t>(last_gradient_norm_);
  const auto weights_bits = std::bit_cast<int64_t>(last_weights_norm_);
  const auto digest = static_cast<int64_t>(step.plan.digest);
  // Each value beside its complement: the maximum of both is its own complement only where all
  // ranks hold the same.
  at::Tensor values = at::tensor({digest, ~digest, norm_bits, ~norm_bits, weights_bits,
                                  ~weights_bits, int64_t{parts_.stop_signal.load() != 0}},
                                 at::kLong);
  parts_.world.all_reduce(values, Reduce::max).wait();
  const int64_t* v = values.const_data_ptr<int64_t>();
  if (v[0] != ~v[1])
    throw Error(text("step ", finished_steps_ + 1, ": the processes disagree on the data plan"));
  if (v[2] != ~v[3]) {
    throw Error(text("step ", finished_steps_,
                     ": the processes disagree on the gradient norm; rank ", parts_.world.rank(),
                     " has ", last_gradient_norm_));
  }
  if (v[4] != ~v[5]) {
    throw Error(text("step ", finished_steps_, ": the processes hold different weights; rank ",
                     parts_.world.rank(), " has some of norm ", last_weights_norm_,
                     ". An update takes the same number of threads and the same kind of processor "
                     "on all of them"));
  }
  must_stop_ = v[6] != 0;
}

// Unreadable samples are replaced one by one; a source that is broken as a whole ends the run
// instead.
void Trainer::refuse_broken_sources(const StepRecord& record) {
  seen_samples_ += record.samples;
  replaced_samples_ += record.replaced;
  constexpr int64_t kEnoughToJudge = 16;
  const double share = static_cast<double>(replaced_samples_) / static_cast<double>(seen_samples_);
  if (replaced_samples_ >= kEnoughToJudge && share > parts_.config.rights.max_unreadable) {
    throw DataError(text("step ", record.step, ": ", replaced_samples_, " of ", seen_samples_,
                         " samples could not be read, more than rights.max_unreadable = ",
                         parts_.config.rights.max_unreadable,
                         ". `pendulum data check` names them"));
  }
}

EmbeddingTotals Trainer::embedding_totals() const {
  const CacheStats cache = parts_.embedder.cache_stats();
  return {cache.hits, cache.misses, batches_->stats().worked_seconds};
}

void Trainer::save() {
  if (saved_steps_ == finished_steps_) return;
  saved_steps_ = finished_steps_;
  const NamedTensors optimizer = parts_.weights.collect(parts_.optimizer.state());
  const NamedTensors average = parts_.weights.collect(parts_.optimizer.average());
  if (parts_.world.rank() != 0) return;
  consumption_->sync();
  const RunState state{.position = position_,
                       .finished_steps = finished_steps_,
                       .running_digest = running_digest_,
                       .consumption_head = consumption_->head(),
                       .embedding = embedding_key(parts_.embedder),
                       .threads = at::get_num_threads(),
                       .world = parts_.world.size()};
  CheckpointContents contents;
  contents.tensors["model"] = parts_.model.trainable();
  contents.tensors["optimizer"] = optimizer;
  if (!average.empty()) contents.tensors["ema"] = average;
  contents.state = to_json(state, parts_.config, parts_.plan);
  contents.state["architecture"] = diffusers_config(parts_.model.config());
  if (!parts_.base_fingerprint.empty()) contents.state["base"] = parts_.base_fingerprint;
  checkpoints_->save_async(finished_steps_, contents);
}

bool Trainer::resume_if_possible() {
  const LatestCheckpoint latest = latest_checkpoint(parts_.run_folder);
  if (parts_.world.rank() == 0) {
    for (const std::string& note : latest.notes) warn("{}", note);
  }
  if (!latest.folder) return false;
  const CheckpointContents loaded = load_checkpoint(*latest.folder);
  const RunState state =
      compatible_state(loaded.state, parts_.config, parts_.plan, embedding_key(parts_.embedder));
  if (loaded.state.value("base", "") != parts_.base_fingerprint) {
    throw ConfigError(text("the weights in ", parts_.config.model.import,
                           " are not those beside which this run's adapters were trained. Put "
                           "them back, or start anew with --fresh or another run.name"));
  }
  copy_by_name(parts_.model.trainable(), loaded.tensors.at("model"));
  parts_.optimizer.load_state(loaded.tensors.at("optimizer"));
  if (!parts_.optimizer.average().empty()) parts_.optimizer.load_average(loaded.tensors.at("ema"));
  position_ = state.position;
  finished_steps_ = saved_steps_ = state.finished_steps;
  consumption_head_ = state.consumption_head;
  running_digest_ = state.running_digest;
  if (state.threads != at::get_num_threads() || state.world != parts_.world.size()) {
    info(
        "resuming on {} processes x {} threads after {} x {}: the same samples in the same order, "
        "but not the same bits",
        parts_.world.size(), at::get_num_threads(), state.world, state.threads);
  }
  info("resumed from step {}", finished_steps_);
  return true;
}

}  // namespace pendulum

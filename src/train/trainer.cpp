// The training loop.
#include "train/trainer.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>
#include <csignal>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/hash.h"
#include "core/log.h"
#include "model/experts.h"
#include "optim/schedule.h"
#include "shard/collect.h"

namespace pendulum {
namespace {

using Clock = std::chrono::steady_clock;

// A network that diverges does not come back: after so many updates in a row that are not finite
// the run ends.
constexpr int kMaxSkippedInARow = 10;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
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
      validation_(parts.config, parts.plan.geometry, parts.sources, parts.embedder, parts.world),
      preview_(parts.config, parts.embedder, parts.model.config().patch, parts.world) {}

Network Trainer::network(SequenceGroup& group) const { return network_of(parts_.model, &group); }

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
  if (is_first) open_log();
  PlanWalker walker(parts_.plan);
  walker.seek(position_, running_digest_);
  batches_ =
      std::make_unique<BatchBuilder>(parts_.plan, std::move(walker), parts_.sources, parts_.config,
                                     parts_.embedder, parts_.placement, parts_.groups);
  recheck_rights();
}

// Rank 0.
void Trainer::open_log() {
  const RightsConfig& rights = parts_.config.rights;
  if (!rights.key.empty()) key_ = SigningKey::read(rights.key);
  consumption_ = std::make_unique<ConsumptionLog>(parts_.run_folder + "/consumption.jsonl",
                                                  parts_.config.run.name, consumption_head_,
                                                  key_ ? key_->public_key() : "");
  checkpoints_ = std::make_unique<CheckpointStore>(parts_.run_folder, parts_.config.run.keep);
  nlohmann::json event = parts_.started;
  event["event"] = finished_steps_ == 0 ? "start" : "resume";
  event["finished_steps"] = finished_steps_;
  event["plan_hash"] = parts_.plan.hash();
  for (const PlanChange& change : parts_.plan.changes) {
    if (change.finished_steps == finished_steps_) event["changes"] = change.what;
  }
  consumption_->append(event);
}

// Rank 0 reads the deny files and tells the others, so that all replace the same samples from the
// next step on. The log says what is withdrawn from here.
void Trainer::recheck_rights() {
  std::string content;
  if (parts_.world.rank() == 0) content = DenyList::read(parts_.config.rights.deny).canonical();
  content = told_by(0, content, parts_.world);
  DenyList denied = DenyList::parse(content, "rights.deny");
  if (denied_ && denied == *denied_) return;
  const bool is_first_time = !denied_;
  Withdrawals withdrawals(parts_.sources, denied);
  if (consumption_ && !(is_first_time && denied.size() == 0)) {
    consumption_->append({{"event", "deny"},
                          {"finished_steps", finished_steps_},
                          {"list_sha256", sha256(content)},
                          {"withdrawn", withdrawals.ids(parts_.sources)}});
    info("rights.deny: {} entries withdraw {} samples of this run from step {} on", denied.size(),
         withdrawals.size(), finished_steps_ + 1);
  }
  const bool is_over = position_.segment < static_cast<int>(parts_.plan.segments.size()) &&
                       position_.step >= segment().steps;
  batches_->withdraw(std::move(withdrawals), position_.segment + is_over);
  denied_ = std::move(denied);
}

RunEnd Trainer::run(const std::string& last_stage) {
  begin();
  const int num_segments = static_cast<int>(parts_.plan.segments.size());
  if (position_.segment == num_segments) info("this run is finished; --fresh starts it anew");
  while (position_.segment < num_segments) {
    const WanConfig& architecture = parts_.model.config();
    objective_.emplace(in_expert_times(stage().objective, parts_.config.model, architecture),
                       parts_.config.run.seed, architecture.patch,
                       parts_.embedder.first_frame().kind(),
                       parts_.embedder.text_encoder().no_caption());
    embedding_before_ = embedding_totals();
    while (position_.step < segment().steps) {
      after_step(step());
      if (must_stop_) {
        finish();
        return RunEnd::stopped;
      }
    }
    if (!parts_.plan.is_last_of_stage(position_.segment)) {
      position_ = {position_.segment + 1, 0};
      continue;
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
  const std::string place =
      text("stage ", segment().stage_name, ", step ", finished_steps_ + 1, ", ");
  parts_.world.set_place(place + "comparing the plan");
  const StepBatches step = batches_->begin_step();
  agree(step);
  parts_.world.set_place(place + "forward and backward");
  Totals totals(step.num_samples);
  parts_.weights.zero_gradients();
  for (size_t i = 0; i < step.passes.size(); ++i)
    pass(step.passes[i], i + 1 == step.passes.size(), totals);
  parts_.world.set_place(place + "sums of gradients");
  reduce(totals);

  parts_.world.set_place(place + "update");
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

// One of the passes that all processes make side by side.
void Trainer::pass(bool has_batch, bool is_last, Totals& totals) {
  std::optional<Batch> batch;
  if (has_batch) batch = batches_->next();
  parts_.weights.begin_pass(is_last);
  if (batch) {
    accumulate(*batch, totals);
  } else {
    parts_.weights.empty_pass();
  }
  parts_.weights.end_pass();
}

// Forward and backward of one batch, its tokens shared by the group of its bucket. The denominator
// is the plan's constant: dividing by what this step or this process happens to hold would weigh
// rare sources many times over.
void Trainer::accumulate(const Batch& batch, Totals& totals) {
  for (const std::string& line : batch.unreadable) warn("{}; replaced", line);
  const BucketPlan& bucket = segment().buckets[batch.bucket];
  SequenceGroup& group = parts_.groups.of(bucket.width);
  const at::Tensor losses = objective_->loss(network(group), batch.latents.to(device_),
                                             batch.conditions.to(device_), batch.keys);
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
  parts_.weights.finish_gradients();
  parts_.world.all_reduce(totals.by_sample, Reduce::sum).wait();
  totals.gradient_norm = parts_.weights.gradient_norm();
}

StepRecord Trainer::summarise(const StepBatches& step, const Totals& totals) const {
  const int64_t stage_step = segment().stage_step + position_.step;
  const int64_t stage_steps = parts_.plan.stage_steps(position_.segment);
  StepRecord record{.step = finished_steps_ + 1,
                    .stage_step = stage_step + 1,
                    .stage_steps = stage_steps,
                    .stage = segment().stage_name,
                    .digest = step.plan.digest,
                    .gradient_norm = totals.gradient_norm,
                    .learning_rate = learning_rate(stage().optim, stage_step, stage_steps),
                    .samples = step.num_samples};
  const double* losses = totals.by_sample.const_data_ptr<double>();
  const double* replacements = losses + step.num_samples;
  if (parts_.config.run.sample_losses) record.by_sample.assign(losses, replacements);
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
      count_replacement(bucket, draw.samples[i], static_cast<int>(replacements[place]), record);
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

// A sample that took another's place: withdrawn where every attempt before it was, else unreadable.
void Trainer::count_replacement(const BucketPlan& bucket, const PlannedSample& planned,
                                int replacement, StepRecord& record) const {
  if (replacement == 0) return;
  bool all_withdrawn = true;
  for (int k = 0; k < replacement; ++k) {
    const int64_t entry = attempted_entry(parts_.plan, bucket, planned, k);
    all_withdrawn &= bucket.is_withdrawn(entry) ||
                     batches_->withdrawals().holds(bucket.source, bucket.entries[entry]);
  }
  ++(all_withdrawn ? record.withdrawn : record.replaced);
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
    const OpenSource& source = parts_.sources[bucket.source];
    nlohmann::json ids = nlohmann::json::array(), replaced = nlohmann::json::array();
    for (const PlannedSample& planned : draw.samples) {
      const auto k = static_cast<int64_t>(replacements[place++]);
      if (k > 0) replaced.push_back({ids.size(), k});
      const int64_t entry = attempted_entry(parts_.plan, bucket, planned, k);
      ids.push_back(source.data.sample(bucket.entries[entry]).id);
    }
    draws.push_back({{"slot", draw.slot},
                     {"bucket", bucket.name},
                     {"first", draw.samples.front().ordinal},
                     {"ids", ids}});
    if (!replaced.empty()) draws.back()["replaced"] = std::move(replaced);
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
  if (parts_.config.rights.recheck.is_due(finished_steps_)) recheck_rights();
  const RunConfig& run = parts_.config.run;
  if (run.validate.is_due(finished_steps_)) validate();
  if (run.sample.is_due(finished_steps_)) draw_samples();
  if (run.evaluate.is_due(finished_steps_)) evaluate();
  if (run.save.is_due(finished_steps_)) save();
  // Tests of recovery: the process ends as if the machine had.
  if (run.inject == text("kill@", finished_steps_)) std::raise(SIGKILL);
  // The same as a signal from outside: the run ends with the next step.
  if (run.inject == text("stop@", finished_steps_)) std::raise(SIGTERM);
  // One process stands still, for which the others wait.
  if (run.inject == text("stall@", finished_steps_) && parts_.world.rank() == 1)
    std::raise(SIGSTOP);
  // And of agreement: one process's weights leave the others'.
  if (run.inject == text("drift@", finished_steps_)) {
    if (parts_.world.rank() == 1) parts_.weights.owned().front().second.detach().add_(1e-3);
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
  const bool is_over = position_.segment == static_cast<int>(parts_.plan.segments.size());
  if (!is_over && parts_.config.rights.recheck.kind == Every::Kind::stage) recheck_rights();
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

std::function<void()> Trainer::forwards_made() const {
  return [this] { parts_.weights.finish_forwards(); };
}

void Trainer::validate() {
  parts_.world.set_place(text("validation after step ", finished_steps_));
  with_average([&] {
    progress_->validation(
        finished_steps_, segment().stage_name,
        validation_.measure(stage(), *objective_, network(widest_group()), device_, widest_group(),
                            batches_->withdrawals(), forwards_made()));
  });
}

void Trainer::draw_samples() {
  parts_.world.set_place(text("sample videos after step ", finished_steps_));
  const std::string folder =
      fmt::format("{}/samples/step-{:08}", parts_.run_folder, finished_steps_);
  with_average([&] {
    progress_->preview(finished_steps_, preview_.draw(stage(), network(widest_group()), device_,
                                                      folder, widest_group()));
    parts_.weights.finish_forwards();
  });
}

void Trainer::evaluate() {
  parts_.world.set_place(text("evaluation after step ", finished_steps_));
  with_average([&] {
    progress_->accuracy(finished_steps_, segment().stage_name,
                        preview_.evaluate(stage(), network(widest_group()), device_, widest_group(),
                                          forwards_made()));
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

}  // namespace pendulum

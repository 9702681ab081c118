// The training loop: one optimiser step, what happens between steps, and how a run stops and goes
// on.
#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include <nlohmann/json.hpp>

#include "attention/slot_groups.h"
#include "batch/batch_builder.h"
#include "checkpoint/checkpoint_store.h"
#include "comm/communicator.h"
#include "config/config.h"
#include "model/video_transformer.h"
#include "objective/flow_matching.h"
#include "optim/optimizer.h"
#include "pendulum/plan.h"
#include "rights/consumption_log.h"
#include "rights/deny_list.h"
#include "rights/signature.h"
#include "shard/sharded_parameters.h"
#include "train/preview.h"
#include "train/progress.h"
#include "train/step_record.h"
#include "train/validation.h"

namespace pendulum {

// The parts a trainer works with; all outlive it.
struct TrainerParts {
  const Config& config;
  const Plan& plan;
  const Sources& sources;
  const Embedder& embedder;
  Communicator& world;
  const Placement& placement;
  const SlotGroups& groups;
  const VideoTransformer& model;
  const std::string& base_fingerprint;  // of the weights beside which adapters train; else empty
  ShardedParameters& weights;           // the model's parameters, dealt out as configured
  Optimizer& optimizer;                 // of those that this rank updates
  double peak_flops;                    // of one process's device, per second; 0: not known
  std::string run_folder;
  nlohmann::json started;  // what the consumption log's start and resume events say beside the plan
  const std::atomic<int>& stop_signal;  // not 0: a signal asked for the end
};

// Of the embedding stage, since the process began.
struct EmbeddingTotals {
  int64_t hits = 0, misses = 0;
  double worker_seconds = 0;
};

// How a run ended.
enum class RunEnd { finished, stopped };

class Trainer {
 public:
  explicit Trainer(TrainerParts parts);

  // Loads a checkpoint whose bytes were verified. ConfigError where the run may not go on from it
  // with this configuration and data. Before run().
  void resume_from(const std::string& folder);

  // Trains to the end of the last stage, or of the one named. RunEnd::stopped after a signal, with
  // everything saved.
  RunEnd run(const std::string& last_stage = "");

 private:
  struct Totals;

  void begin();
  void open_log();
  void recheck_rights();
  StepRecord step();
  void agree(const StepBatches& step);
  void pass(bool has_batch, bool is_last, Totals& totals);
  void accumulate(const Batch& batch, Totals& totals);
  void reduce(Totals& totals);
  StepRecord summarise(const StepBatches& step, const Totals& totals) const;
  void count_replacement(const BucketPlan& bucket, const PlannedSample& planned, int replacement,
                         StepRecord& record) const;
  void log_consumption(const StepBatches& step, const Totals& totals);
  void refuse_broken_sources(const StepRecord& record);
  void after_step(const StepRecord& record);
  void end_stage();
  void with_average(const std::function<void()>& body);
  std::function<void()> forwards_made() const;
  void validate();
  void draw_samples();
  void evaluate();
  NamedTensors held_weights() const;
  void save();
  void finish();

  Network network(SequenceGroup& group) const;
  SequenceGroup& widest_group() const;
  const SegmentPlan& segment() const;
  const StageConfig& stage() const;
  EmbeddingTotals embedding_totals() const;

  TrainerParts parts_;
  at::Device device_;

  // What a checkpoint brings back, besides the tensors.
  Position position_;  // the next optimiser step
  int64_t finished_steps_ = 0;
  uint64_t running_digest_ = 0;

  int64_t saved_steps_ = -1;
  std::string consumption_head_;  // of the checkpoint that was resumed from; empty: none
  int skipped_in_a_row_ = 0;
  int64_t seen_samples_ = 0, replaced_samples_ = 0;
  double last_gradient_norm_ = 0, last_weights_norm_ = 0;
  bool must_stop_ = false;
  EmbeddingTotals embedding_before_;  // when the stage began

  std::optional<FlowMatching> objective_;         // the current stage's
  std::unique_ptr<CheckpointStore> checkpoints_;  // rank 0
  std::unique_ptr<ConsumptionLog> consumption_;   // rank 0
  std::optional<SigningKey> key_;                 // rank 0, where rights.key names one
  std::optional<DenyList> denied_;                // as last read
  std::unique_ptr<Progress> progress_;
  Validation validation_;
  Preview preview_;
  std::unique_ptr<BatchBuilder> batches_;  // last: its threads use what stands above
};

}  // namespace pendulum

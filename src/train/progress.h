// What a run says: a live line and summaries for people, metrics.jsonl and TensorBoard events for
// machines.
#pragma once
#include <chrono>
#include <map>
#include <memory>
#include <string>

#include "generate/evaluation.h"
#include "train/event_writer.h"
#include "train/metrics_file.h"
#include "train/step_record.h"
#include "train/validation.h"

namespace pendulum {

// What the embedding stage did since a stage began.
struct EmbeddingShare {
  double hit_rate = 0;        // of the cache, 0 to 1
  double worker_seconds = 0;  // processor time of the workers
};

// Speaks on rank 0; on the others every call returns at once.
class Progress {
 public:
  // A resumed run passes the steps it has finished: what an earlier process wrote about later ones
  // is dropped. peak_flops: of all devices together, per second; 0 where it is not known, and no
  // MFU is told.
  Progress(const std::string& run_folder, bool is_silent, int64_t finished_steps,
           int64_t total_steps, double peak_flops);

  void step(const StepRecord& record);
  void validation(int64_t step, const std::string& stage, const ValidationLoss& loss);
  void accuracy(int64_t step, const std::string& stage, const Accuracy& accuracy);
  void preview(int64_t step, const std::string& contact_sheet);
  void end_stage(int64_t step, const std::string& stage, const EmbeddingShare& embedding);

 private:
  void print_live(const StepRecord& record);

  struct Sums {  // since the stage began, or was resumed
    double seconds = 0, wait = 0, comm = 0, flops = 0;
    int64_t steps = 0, samples = 0, replaced = 0;
  };

  bool is_silent_;
  int64_t total_steps_;
  double peak_flops_;
  std::unique_ptr<MetricsFile> metrics_;
  std::unique_ptr<EventWriter> events_;
  Sums stage_;
  double smooth_loss_ =
      -1;  // moving average of the mean sample loss; negative before the first step
  std::chrono::steady_clock::time_point last_line_{};
};

}  // namespace pendulum

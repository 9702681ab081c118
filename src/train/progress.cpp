// Progress of a run.
#include "train/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cmath>
#include <fstream>
#include <iterator>
#include <vector>

#include "core/log.h"
#include "core/process_memory.h"
#include "pendulum/report.h"

namespace pendulum {
namespace {

using Clock = std::chrono::steady_clock;

// "1:02:03" or "2:03".
std::string duration(double seconds) {
  const auto s = static_cast<int64_t>(std::max(0.0, seconds) + 0.5);
  return s >= 3600 ? fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60)
                   : fmt::format("{}:{:02}", s / 60, s % 60);
}

// A log file wants few lines, a terminal a lively one.
double seconds_between_lines() { return isatty(STDOUT_FILENO) != 0 ? 0.5 : 10.0; }

}  // namespace

Progress::Progress(const std::string& run_folder, bool is_silent, int64_t finished_steps,
                   int64_t total_steps, double peak_flops)
    : is_silent_(is_silent), total_steps_(total_steps), peak_flops_(peak_flops) {
  if (is_silent_) return;
  metrics_ = std::make_unique<MetricsFile>(run_folder + "/metrics.jsonl", finished_steps);
  events_ = std::make_unique<EventWriter>(run_folder + "/tensorboard", finished_steps);
}

void Progress::step(const StepRecord& r) {
  if (is_silent_) return;
  stage_.seconds += r.seconds;
  stage_.wait += r.wait_seconds;
  stage_.comm += r.comm_seconds;
  stage_.flops += r.flops;
  stage_.samples += r.samples;
  stage_.replaced += r.replaced;
  ++stage_.steps;
  if (std::isfinite(r.sample_loss)) {
    smooth_loss_ = smooth_loss_ < 0 ? r.sample_loss : 0.95 * smooth_loss_ + 0.05 * r.sample_loss;
  }
  nlohmann::json line({{"step", r.step},
                       {"stage", r.stage},
                       {"stage_step", r.stage_step},
                       {"digest", fmt::format("{:016x}", r.digest)},
                       {"loss", r.loss},
                       {"sample_loss", r.sample_loss},
                       {"loss_by_source", r.by_source},
                       {"gradient_norm", r.gradient_norm},
                       {"learning_rate", r.learning_rate},
                       {"skipped", r.is_skipped},
                       {"samples", r.samples},
                       {"tokens", r.tokens},
                       {"flops", r.flops},
                       {"flops_by_source", r.flops_by_source},
                       {"seconds", r.seconds},
                       {"wait_seconds", r.wait_seconds},
                       {"comm_seconds", r.comm_seconds},
                       {"replaced", r.replaced},
                       {"withdrawn", r.withdrawn}});
  if (!r.by_sample.empty()) line["loss_by_sample"] = r.by_sample;
  if (peak_flops_ > 0) line["mfu"] = r.flops / r.seconds / peak_flops_;
  metrics_->append(line);
  std::vector<std::pair<std::string, double>> curves{
      {"loss/optimised", r.loss},
      {"loss/mean", r.sample_loss},
      {"train/gradient_norm", r.gradient_norm},
      {"train/learning_rate", r.learning_rate},
      {"speed/samples_per_second", r.samples / r.seconds},
      {"speed/gflops", r.flops / r.seconds * 1e-9},
      {"speed/wait_share", r.wait_seconds / r.seconds},
      {"speed/comm_share", r.comm_seconds / r.seconds}};
  if (peak_flops_ > 0) curves.emplace_back("speed/mfu", r.flops / r.seconds / peak_flops_);
  for (const auto& [source, loss] : r.by_source) curves.emplace_back("loss/" + source, loss);
  events_->scalars(r.step, curves);
  print_live(r);
}

void Progress::print_live(const StepRecord& r) {
  const bool is_last = r.stage_step == r.stage_steps;
  if (!is_last &&
      std::chrono::duration<double>(Clock::now() - last_line_).count() < seconds_between_lines())
    return;
  last_line_ = Clock::now();
  const double left =
      stage_.seconds / stage_.steps * static_cast<double>(r.stage_steps - r.stage_step);
  const double flops = stage_.flops / stage_.seconds;
  std::string speed = short_number(flops, "FLOP/s");
  if (peak_flops_ > 0) speed += fmt::format(" | MFU {:.1f} %", 100 * flops / peak_flops_);
  std::string shares = fmt::format("wait {:>4.1f} %", 100 * stage_.wait / stage_.seconds);
  if (stage_.comm > 1e-3 * stage_.seconds)
    shares += fmt::format(", comm {:>4.1f} %", 100 * stage_.comm / stage_.seconds);
  const std::string line = fmt::format(
      "{:<9} {:>6}/{:<6} loss {:<7.4f} | lr {:.2e} | {:>6.1f} samples/s | {} | {} | stage ends in "
      "{}",
      r.stage, r.stage_step, r.stage_steps, smooth_loss_, r.learning_rate,
      stage_.samples / stage_.seconds, speed, shares, duration(left));
  if (isatty(STDOUT_FILENO) != 0) {
    progress_line(line);
  } else {
    log_line(line);
  }
}

void Progress::validation(int64_t step, const std::string& stage, const ValidationLoss& loss) {
  if (is_silent_) return;
  nlohmann::json by_source;
  std::vector<std::pair<std::string, double>> curves;
  std::string words;
  for (const auto& [source, by_time] : loss) {
    for (size_t t = 0; t < by_time.size(); ++t) {
      if (!std::isfinite(by_time[t])) continue;
      by_source[source][fmt::format("{:.1f}", kValidationTimes[t])] = by_time[t];
      curves.emplace_back(fmt::format("validation/{} t={:.1f}", source, kValidationTimes[t]),
                          by_time[t]);
    }
    words += fmt::format(" | {} {:.4f}", source, overall({{source, by_time}}));
  }
  metrics_->append({{"step", step},
                    {"stage", stage},
                    {"validation", by_source},
                    {"validation_loss", overall(loss)}});
  events_->scalars(step, curves);
  info("{:<9} step {}: validation loss {:.4f}{}", stage, step, overall(loss), words);
}

void Progress::accuracy(int64_t step, const std::string& stage, const Accuracy& accuracy) {
  if (is_silent_) return;
  metrics_->append({{"step", step}, {"stage", stage}, {"accuracy", to_json(accuracy)}});
  info("{:<9} step {}: {}", stage, step, one_line(accuracy));
}

void Progress::preview(int64_t step, const std::string& contact_sheet) {
  if (is_silent_ || contact_sheet.empty()) return;
  std::ifstream file(contact_sheet, std::ios::binary);
  const std::vector<uint8_t> png{std::istreambuf_iterator<char>(file), {}};
  // The size stands in the IHDR chunk, big endian, at byte 16.
  const auto number = [&](size_t at) {
    return png[at] << 24 | png[at + 1] << 16 | png[at + 2] << 8 | png[at + 3];
  };
  if (png.size() > 24) events_->image(step, "samples", png, number(20), number(16));
  info("samples: {}", contact_sheet);
}

void Progress::end_stage(int64_t step, const std::string& stage, const EmbeddingShare& embedding) {
  if (is_silent_ || stage_.steps == 0) return;
  const double wait_share = stage_.wait / stage_.seconds,
               worker_share = embedding.worker_seconds / stage_.seconds;
  metrics_->append({{"step", step},
                    {"stage", stage},
                    {"stage_seconds", stage_.seconds},
                    {"wait_share", wait_share},
                    {"cache_hit_rate", embedding.hit_rate},
                    {"worker_share", worker_share},
                    {"comm_share", stage_.comm / stage_.seconds},
                    {"peak_memory_bytes", process_memory("VmHWM")},
                    {"samples_per_second", stage_.samples / stage_.seconds}});
  info(
      "{:<9} done: {} steps in {}, {:.1f} samples/s, waited for data {:.1f} % of the time; "
      "embedding: {:.0f} % from "
      "the cache, workers took {:.0f} % of a core; peak memory {}{}",
      stage, stage_.steps, duration(stage_.seconds), stage_.samples / stage_.seconds,
      100 * wait_share, 100 * embedding.hit_rate, 100 * worker_share,
      short_number(static_cast<double>(process_memory("VmHWM")), "B"),
      stage_.replaced ? fmt::format("; {} unreadable samples replaced", stage_.replaced) : "");
  stage_ = {};
  smooth_loss_ = -1;
}

}  // namespace pendulum

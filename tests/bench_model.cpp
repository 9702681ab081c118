// Times one training step (forward, backward, AdamW with average) of wan-tiny at the shapes of the
// quickstart.
//   bench_model [THREADS]
// Prints milliseconds, smallest and median of 10 steps, and the smallest processor time of all
// threads together: on a busy machine that number alone, with one thread, says something.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>

#include "model/video_transformer.h"
#include "ops/adamw.h"

namespace pendulum {
namespace {

struct BenchShape {
  int64_t batch, frames, side, text_tokens;
};

class Step {
 public:
  explicit Step(VideoTransformer& model) : model_(model) {
    for (const auto& [name, parameter] : model.parameters())
      state_.push_back({parameter.detach(),
                        {},
                        at::zeros_like(parameter.detach()),
                        at::zeros_like(parameter.detach()),
                        parameter.detach().clone()});
  }
  void operator()(const at::Tensor& x, const at::Tensor& time, const at::Tensor& text_states) {
    model_.forward(x, time, text_states).square().mean().backward();
    for (size_t i = 0; i < state_.size(); ++i) {
      const at::Tensor& parameter = model_.parameters()[i].second;
      state_[i].gradient = parameter.grad();
      parameter.mutable_grad().reset();
    }
    ++settings_.step;
    settings_.gradient_scale = 1 / std::max(1.0, std::sqrt(sum_of_squares(gradients())));
    adamw_step(state_, settings_);
  }

 private:
  std::vector<at::Tensor> gradients() const {
    std::vector<at::Tensor> out;
    for (const AdamwTensors& t : state_) out.push_back(t.gradient);
    return out;
  }
  VideoTransformer& model_;
  std::vector<AdamwTensors> state_;
  AdamwSettings settings_;
};

void run() {
  VideoTransformer model(wan_config(ModelConfig{}, {48, 384}), 7);
  Step step(model);
  for (const auto& [batch, frames, side, text_tokens] : {BenchShape{64, 1, 8, 16},
                                                         {64, 1, 8, 32},
                                                         {16, 3, 8, 16},
                                                         {16, 3, 8, 32},
                                                         {4, 5, 16, 16},
                                                         {4, 5, 16, 32}}) {
    const at::Tensor x = at::randn({batch, 48, frames, side, side});
    const at::Tensor time = at::rand({batch}) * 1000;
    const at::Tensor text_states = at::randn({batch, text_tokens, 384});
    std::vector<double> times;
    double processor = 1e9;
    for (int i = 0; i < 12; ++i) {
      const auto start = std::chrono::steady_clock::now();
      const std::clock_t ticks = std::clock();
      step(x, time, text_states);
      const std::chrono::duration<double, std::milli> passed =
          std::chrono::steady_clock::now() - start;
      if (i < 2) continue;
      times.push_back(passed.count());
      processor =
          std::min(processor, 1e3 * static_cast<double>(std::clock() - ticks) / CLOCKS_PER_SEC);
    }
    std::sort(times.begin(), times.end());
    std::printf("batch %2ld, latent %ldx%ldx%ld, text %2ld: %6.1f ms, median %6.1f\n", batch,
                frames, side, side, text_tokens, times.front(), times[times.size() / 2]);
    std::fflush(stdout);
  }
}

}  // namespace
}  // namespace pendulum

int main(int argc, char** argv) {
  at::set_num_threads(argc > 1 ? std::atoi(argv[1]) : 2);
  pendulum::run();
}

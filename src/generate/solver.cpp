// Euler and two-step Adams-Bashforth over a shifted time grid.
#include "generate/solver.h"

#include <ATen/ATen.h>

#include "core/error.h"
#include "objective/flow_matching.h"

namespace pendulum {

Solver parse_solver(const std::string& name) {
  if (name == "euler") return Solver::euler;
  if (name == "ab2") return Solver::ab2;
  throw ConfigError(text("solver '", name, "' is not known: euler or ab2"));
}

std::string solver_name(Solver solver) { return solver == Solver::euler ? "euler" : "ab2"; }

std::vector<double> time_grid(int steps, double shift) {
  check(steps >= 1 && shift > 0, "at least one step and a positive shift", steps, " steps, shift ",
        shift);
  std::vector<double> times(steps + 1);
  for (int i = 0; i <= steps; ++i)
    times[i] = shift_time(static_cast<double>(steps - i) / steps, shift);
  times.front() = 1;  // shift / (1 + shift - 1) may round
  return times;
}

at::Tensor integrate(Solver solver, const Velocity& velocity, const at::Tensor& noise,
                     const std::vector<double>& times) {
  check(times.size() >= 2, "at least one interval of time");
  at::Tensor x = noise;
  at::Tensor previous;
  for (size_t i = 0; i + 1 < times.size(); ++i) {
    const double step = times[i + 1] - times[i];
    const at::Tensor v = velocity(x, times[i]);
    x = x + v * step;
    if (solver == Solver::ab2) {
      // The line through the last two velocities, integrated over the step.
      if (previous.defined())
        x = x + (v - previous) * (step * step / (2 * (times[i] - times[i - 1])));
      previous = v;
    }
  }
  return x;
}

}  // namespace pendulum

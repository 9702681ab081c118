// Integrates the flow from noise (t = 1) to data (t = 0): dx/dt = v(x, t), v = eps - x0.
#pragma once
#include <ATen/core/Tensor.h>

#include <functional>
#include <string>
#include <vector>

namespace pendulum {

// Both cost one evaluation per step. euler: first order. ab2: two-step Adams-Bashforth on the
// uneven grid, second order, its first step Euler's; below about 8 steps with a large shift its
// extrapolation gains nothing over euler.
enum class Solver { euler, ab2 };

// "euler" or "ab2"; ConfigError for anything else.
Solver parse_solver(const std::string& name);
std::string solver_name(Solver solver);

// steps + 1 falling times from exactly 1 to exactly 0: the even grid t bent to shift * t / (1 +
// (shift - 1) * t). A shift above 1 spends more of the steps near the noise (Esser et al. 2024,
// section 5.3.2).
std::vector<double> time_grid(int steps, double shift);

// The velocity of the whole batch at one time.
using Velocity = std::function<at::Tensor(const at::Tensor& x, double t)>;

// Follows the velocity from `noise` at times.front() to times.back(); one evaluation per interval,
// none at the end.
at::Tensor integrate(Solver solver, const Velocity& velocity, const at::Tensor& noise,
                     const std::vector<double>& times);

}  // namespace pendulum

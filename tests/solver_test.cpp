// Solvers against flows whose paths are known: order of convergence, exactness, the time grid.
#include "generate/solver.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/error.h"

namespace pendulum {
namespace {

constexpr double kMean = 0.7;
constexpr double kDeviation = 0.4;

// Data drawn from N(kMean, kDeviation^2): x_t is N((1-t) mean, t^2 + (1-t)^2 s^2) and the mean
// velocity given x_t follows by regression of eps - x0 on x_t.
at::Tensor gaussian_velocity(const at::Tensor& x, double t) {
  const double variance = t * t + (1 - t) * (1 - t) * kDeviation * kDeviation;
  const double covariance = t - (1 - t) * kDeviation * kDeviation;
  return (x - (1 - t) * kMean) * (covariance / variance) - kMean;
}

// The flow maps quantile to quantile: standard normal noise z arrives at mean + s z.
double gaussian_error(Solver solver, int steps, double shift) {
  const at::Tensor noise = at::linspace(-2, 2, 17, at::kDouble);
  const at::Tensor end = integrate(solver, gaussian_velocity, noise, time_grid(steps, shift));
  return (end - (kMean + kDeviation * noise)).abs().max().item<double>();
}

class SolverOrder : public testing::TestWithParam<std::tuple<Solver, double>> {};

// Halving the step divides the error by 2^order, up to a term of the next order: it falls with the
// number of steps, and at 1280 the measured order lies within 0.1 of the true one.
TEST_P(SolverOrder, IsTheOneStated) {
  const auto [solver, shift] = GetParam();
  const double coarse = gaussian_error(solver, 1280, shift);
  const double fine = gaussian_error(solver, 2560, shift);
  const double order = std::log2(coarse / fine);
  EXPECT_LE(std::abs(order - (solver == Solver::euler ? 1 : 2)), 0.1) << coarse << " then " << fine;
}

INSTANTIATE_TEST_SUITE_P(Both, SolverOrder,
                         testing::Combine(testing::Values(Solver::euler, Solver::ab2),
                                          testing::Values(1.0, 3.0)));

class SolverSteps : public testing::TestWithParam<std::tuple<Solver, int, double>> {};

// Where the data is one point the velocity is (x - point) / t, constant along every path: both
// solvers arrive at the point whatever the number of steps. Each step rounds a few times; the value
// is of order 3.
TEST_P(SolverSteps, StraightPathsAreExact) {
  const auto [solver, steps, shift] = GetParam();
  const at::Tensor noise = at::linspace(-3, 3, 13, at::kDouble);
  const at::Tensor point = at::linspace(1, 2, 13, at::kDouble);
  int evaluations = 0;
  const Velocity velocity = [&](const at::Tensor& x, double t) {
    ++evaluations;
    return (x - point) / t;
  };
  const at::Tensor end = integrate(solver, velocity, noise, time_grid(steps, shift));
  EXPECT_EQ(evaluations, steps);
  // A rounding error at time t is carried to the velocity divided by t, and t ends near shift /
  // steps / shift^2.
  const double bound = 16.0 * steps * steps * shift * std::numeric_limits<double>::epsilon();
  EXPECT_LE((end - point).abs().max().item<double>(), bound);
}

class AdamsBashforthSteps : public testing::TestWithParam<std::tuple<int, double>> {};

// v = a + 2 b t has the path x(0) = x(1) - a - b. The Adams-Bashforth step is exact for it; its
// Euler start is not, and leaves exactly -b h^2, h the first step.
TEST_P(AdamsBashforthSteps, VelocityLinearInTimeIsExactAfterTheFirstStep) {
  const auto [steps, shift] = GetParam();
  const double a = 0.3, b = -1.2;
  const auto times = time_grid(steps, shift);
  const at::Tensor end = integrate(
      Solver::ab2, [&](const at::Tensor& x, double t) { return at::full_like(x, a + 2 * b * t); },
      at::ones({3}, at::kDouble), times);
  const double first = times[1] - times[0];
  const double expected = 1 - a - b - b * first * first;
  const double bound = 16.0 * steps * std::numeric_limits<double>::epsilon();
  EXPECT_LE((end - expected).abs().max().item<double>(), bound);
}

INSTANTIATE_TEST_SUITE_P(Counts, SolverSteps,
                         testing::Combine(testing::Values(Solver::euler, Solver::ab2),
                                          testing::Values(1, 2, 3, 7, 50),
                                          testing::Values(0.5, 1.0, 5.0)));
INSTANTIATE_TEST_SUITE_P(Counts, AdamsBashforthSteps,
                         testing::Combine(testing::Values(1, 2, 3, 7, 50),
                                          testing::Values(0.5, 1.0, 5.0)));

TEST(TimeGrid, FallsFromExactlyOneToExactlyZero) {
  for (const int steps : {1, 2, 13, 100}) {
    for (const double shift : {0.3, 1.0, 3.0, 12.0}) {
      const auto times = time_grid(steps, shift);
      ASSERT_EQ(static_cast<int>(times.size()), steps + 1);
      EXPECT_EQ(times.front(), 1);
      EXPECT_EQ(times.back(), 0);
      for (int i = 0; i < steps; ++i) EXPECT_LT(times[i + 1], times[i]);
    }
  }
  EXPECT_DOUBLE_EQ(time_grid(2, 3.0)[1], 0.75);  // 3 * 0.5 / (1 + 2 * 0.5)
}

TEST(TimeGrid, RefusesNoStepsAndNoShift) {
  EXPECT_THROW(time_grid(0, 1), Error);
  EXPECT_THROW(time_grid(4, 0), Error);
  EXPECT_THROW(integrate(Solver::euler, gaussian_velocity, at::zeros({1}), {1.0}), Error);
}

TEST(SolverNames, AreInverse) {
  for (const Solver solver : {Solver::euler, Solver::ab2})
    EXPECT_EQ(parse_solver(solver_name(solver)), solver);
  EXPECT_THROW(parse_solver("heun"), ConfigError);
  EXPECT_THROW(parse_solver(""), ConfigError);
}

}  // namespace
}  // namespace pendulum

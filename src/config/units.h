// Values with units, as they stand in the YAML: "every 200 steps", "50 steps", "2 s", "0.5 TFLOP".
#pragma once
#include <compare>
#include <cstdint>
#include <optional>
#include <string>

#include "core/shape.h"

namespace pendulum {

// How often something happens: never, every n optimiser steps, or at the end of every stage.
struct Every {
  enum class Kind { never, steps, stage };
  Kind kind = Kind::never;
  int64_t count = 0;  // with Kind::steps, at least 1

  static Every never() { return {}; }
  static Every steps(int64_t n) { return {Kind::steps, n}; }
  static Every stage() { return {Kind::stage, 0}; }
  // True after optimiser step `done` (1-based count of finished steps of the run).
  bool is_due(int64_t done) const { return kind == Kind::steps && done % count == 0; }
  auto operator<=>(const Every&) const = default;
};

// A stretch of optimiser steps.
struct Steps {
  int64_t count = 0;
  auto operator<=>(const Steps&) const = default;
};

// Target cost of one micro-step of one slot, in seconds or in FLOPs; unset: batches are given per
// stage.
struct Beat {
  double seconds = 0;
  double flops = 0;
  bool is_set() const { return seconds > 0 || flops > 0; }
  auto operator<=>(const Beat&) const = default;
};

// Text forms, the inverse of each other. parse_* return nothing for text that is not of the form.
std::string print(const Every& every);
std::string print(const Steps& steps);
std::string print(const Beat& beat);
std::optional<Every> parse_every(const std::string& words);
std::optional<Steps> parse_steps(const std::string& words);
std::optional<Beat> parse_beat(const std::string& words);

// Work: "20 TFLOP" (FLOP, kFLOP, MFLOP, ... EFLOP), or a bare number of FLOPs. 0 prints as "none",
// which does not parse.
std::string print_flops(double flops);
std::optional<double> parse_flops(const std::string& words);

// "33x256x256", frames x height x width, the inverse of Shape::name(); each from 1 to 16384.
std::optional<Shape> parse_shape(const std::string& words);

}  // namespace pendulum

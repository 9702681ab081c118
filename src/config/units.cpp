// Reads and prints values with units; decimal prefixes move the exponent of the text, so that no
// digit is lost.
#include "config/units.h"

#include <array>
#include <charconv>
#include <cmath>
#include <regex>
#include <string_view>

#include <fmt/format.h>

namespace pendulum {
namespace {

struct Prefix {
  std::string_view unit;
  int exponent;  // power of ten
};
constexpr std::array<Prefix, 7> kFlops{{{"FLOP", 0},
                                        {"kFLOP", 3},
                                        {"MFLOP", 6},
                                        {"GFLOP", 9},
                                        {"TFLOP", 12},
                                        {"PFLOP", 15},
                                        {"EFLOP", 18}}};
constexpr std::array<Prefix, 3> kSeconds{{{"s", 0}, {"ms", -3}, {"us", -6}}};

// "2.5e3" x 10^exponent, read as one decimal number; nothing unless finite and not negative.
std::optional<double> scaled(const std::string& mantissa, int written_exponent, int exponent) {
  const std::string whole = mantissa + "e" + std::to_string(written_exponent + exponent);
  double out = 0;
  const auto [end, error] = std::from_chars(whole.data(), whole.data() + whole.size(), out);
  if (error != std::errc() || end != whole.data() + whole.size()) return {};
  return out;
}

std::optional<int64_t> whole_number(const std::string& digits) {
  int64_t out = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), out);
  if (error != std::errc() || end != digits.data() + digits.size()) return {};
  return out;
}

struct Quantity {
  std::string mantissa;
  int exponent = 0;  // as written after e
  std::string unit;
};

std::optional<Quantity> split(const std::string& words) {
  static const std::regex form(R"(\s*(\d+\.?\d*|\.\d+)(?:[eE]([+-]?\d{1,4}))?\s*([A-Za-z]*)\s*)");
  std::smatch match;
  if (!std::regex_match(words, match, form)) return {};
  return Quantity{match[1], match[2].matched ? std::stoi(match[2].str()) : 0, match[3]};
}

template <size_t N>
std::optional<double> in_units(const Quantity& quantity, const std::array<Prefix, N>& prefixes) {
  for (const Prefix& prefix : prefixes) {
    if (quantity.unit == prefix.unit) {
      return scaled(quantity.mantissa, quantity.exponent, prefix.exponent);
    }
  }
  return {};
}

}  // namespace

std::string print(const Every& every) {
  switch (every.kind) {
    case Every::Kind::never:
      return "never";
    case Every::Kind::stage:
      return "every stage";
    case Every::Kind::steps:
      break;
  }
  return every.count == 1 ? "every step" : fmt::format("every {} steps", every.count);
}

std::string print(const Steps& steps) {
  return steps.count == 1 ? "1 step" : fmt::format("{} steps", steps.count);
}

std::string print_flops(double flops) {
  if (!(flops > 0)) return "none";
  const int power = static_cast<int>(std::floor(std::log10(flops)));
  size_t index = 0;
  while (index + 1 < kFlops.size() && kFlops[index + 1].exponent <= power) ++index;
  // fmt prints the shortest digits that read back to the same number: "2e+13" or "20000"; both
  // split as ours.
  const std::string digits = fmt::format("{}", flops);
  const size_t e = digits.find('e');
  std::string mantissa = digits.substr(0, e);
  int shift =
      kFlops[index].exponent - (e == std::string::npos ? 0 : std::stoi(digits.substr(e + 1)));
  size_t point = mantissa.find('.');
  if (point == std::string::npos) point = mantissa.size();
  mantissa.erase(std::min(point, mantissa.size()), 1);
  // The decimal point moves `shift` digits to the left.
  const int place = static_cast<int>(point) - shift;
  if (place < 1 || place > 24) return fmt::format("{} FLOP", digits);  // outside the prefixes
  if (place > static_cast<int>(mantissa.size())) mantissa.append(place - mantissa.size(), '0');
  std::string tail = mantissa.substr(place);
  while (!tail.empty() && tail.back() == '0') tail.pop_back();
  return fmt::format("{}{}{} {}", mantissa.substr(0, place), tail.empty() ? "" : ".", tail,
                     kFlops[index].unit);
}

std::string print(const Beat& beat) {
  return beat.seconds > 0 ? fmt::format("{} s", beat.seconds) : print_flops(beat.flops);
}

std::optional<Every> parse_every(const std::string& words) {
  static const std::regex form(R"(\s*every\s+(?:(stage)|(step)|(\d+)\s+steps?)\s*)");
  static const std::regex never(R"(\s*never\s*)");
  std::smatch match;
  if (std::regex_match(words, never)) return Every::never();
  if (!std::regex_match(words, match, form)) return {};
  if (match[1].matched) return Every::stage();
  if (match[2].matched) return Every::steps(1);
  const std::optional<int64_t> count = whole_number(match[3]);
  if (!count || *count < 1) return {};
  return Every::steps(*count);
}

std::optional<Steps> parse_steps(const std::string& words) {
  static const std::regex form(R"(\s*(\d+)(?:\s+steps?)?\s*)");
  std::smatch match;
  if (!std::regex_match(words, match, form)) return {};
  const std::optional<int64_t> count = whole_number(match[1]);
  if (!count) return {};
  return Steps{*count};
}

std::optional<double> parse_flops(const std::string& words) {
  std::optional<Quantity> quantity = split(words);
  if (!quantity) return {};
  if (quantity->unit.empty()) quantity->unit = "FLOP";
  return in_units(*quantity, kFlops);
}

std::optional<Shape> parse_shape(const std::string& words) {
  static const std::regex form(R"((\d{1,5})x(\d{1,5})x(\d{1,5}))");
  std::smatch match;
  if (!std::regex_match(words, match, form)) return {};
  const Shape shape{std::stoi(match[1]), std::stoi(match[2]), std::stoi(match[3])};
  for (const int side : {shape.frames, shape.height, shape.width}) {
    if (side < 1 || side > 16384) return {};
  }
  return shape;
}

std::optional<Beat> parse_beat(const std::string& words) {
  if (words == "none") return Beat{};
  const std::optional<Quantity> quantity = split(words);
  if (!quantity) return {};
  Beat beat;
  if (const auto seconds = in_units(*quantity, kSeconds)) beat.seconds = *seconds;
  if (const auto flops = in_units(*quantity, kFlops)) beat.flops = *flops;
  if (!beat.is_set()) return {};
  return beat;
}

}  // namespace pendulum

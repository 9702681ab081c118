// Marks as SVG elements.
#include "pendulum/svg.h"

#include <fmt/format.h>

#include <algorithm>

namespace pendulum {

std::string escaped(const std::string& words) {
  std::string out;
  for (const char c : words) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

namespace {

std::string titled(const std::string& hint) {
  return hint.empty() ? "" : "<title>" + escaped(hint) + "</title>";
}

}  // namespace

void Svg::box(double x, double y, double width, double height, const std::string& colour,
              const std::string& hint, double opacity) {
  marks_ += fmt::format(
      R"(<rect x="{:.1f}" y="{:.1f}" width="{:.2f}" height="{:.1f}" fill="{}" opacity="{:.2f}">{}</rect>)",
      x, y, std::max(0.0, width), height, colour, opacity, titled(hint));
}

void Svg::words(double x, double y, const std::string& words, Anchor anchor,
                const std::string& style) {
  static constexpr const char* kAnchors[] = {"start", "middle", "end"};
  marks_ += fmt::format(R"(<text x="{:.1f}" y="{:.1f}" text-anchor="{}" class="{}">{}</text>)", x,
                        y, kAnchors[static_cast<int>(anchor)], style, escaped(words));
}

void Svg::line(double x1, double y1, double x2, double y2, const std::string& style) {
  marks_ += fmt::format(R"(<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" class="{}"/>)", x1,
                        y1, x2, y2, style);
}

void Svg::curve(const std::vector<std::pair<double, double>>& points, const std::string& colour) {
  std::string list;
  for (const auto& [x, y] : points) list += fmt::format("{:.1f},{:.1f} ", x, y);
  marks_ += fmt::format(
      R"(<polyline points="{}" fill="none" stroke="{}" stroke-width="1.6" stroke-linejoin="round"/>)",
      list, colour);
}

void Svg::dot(double x, double y, double radius, const std::string& fill, const std::string& stroke,
              const std::string& hint) {
  marks_ += fmt::format(
      R"(<circle cx="{:.1f}" cy="{:.1f}" r="{:.1f}" fill="{}" stroke="{}" stroke-width="1.6">{}</circle>)",
      x, y, radius, fill, stroke, titled(hint));
}

std::string Svg::page() const {
  return fmt::format(R"(<svg viewBox="0 0 {:.0f} {:.0f}" role="img">{}</svg>)", width_, height_,
                     marks_);
}

std::string bar_chart(const std::vector<Bar>& bars, double label_width, const Limit& limit,
                      double width) {
  constexpr double kRow = 24, kThick = 15;
  const double right = 70 + 0.08 * width;       // for the words
  double most = std::max(limit.value, 1e-300);  // where all are 0
  for (const Bar& bar : bars) {
    double sum = 0;
    for (const Bar::Part& part : bar.parts) sum += part.value;
    most = std::max(most, sum);
  }
  const double top = limit.value > 0 ? 18 : 2;
  const double scale = (width - label_width - right) / most;
  Svg svg(width, top + kRow * static_cast<double>(bars.size()) + 2);
  double y = top;
  for (const Bar& bar : bars) {
    svg.words(label_width - 8, y + 12, bar.label, Svg::Anchor::end, bar.is_faded ? "soft" : "");
    double x = label_width;
    for (const Bar::Part& part : bar.parts) {
      svg.box(x, y, part.value * scale, kThick, part.colour, part.hint, bar.is_faded ? 0.35 : 1);
      x += part.value * scale;
    }
    svg.words(width - 2, y + 12, bar.words, Svg::Anchor::end, "soft");
    y += kRow;
  }
  if (limit.value > 0) {
    const double x = label_width + limit.value * scale;
    svg.line(x, top - 4, x, y - 4, "limit");
    svg.words(std::min(x, width - 3.1 * static_cast<double>(limit.words.size())), 11, limit.words,
              Svg::Anchor::middle, "soft");
  }
  return svg.page();
}

}  // namespace pendulum

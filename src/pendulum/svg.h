// Drawings for a page: marks added one by one, sizes in pixels of the drawing.
#pragma once
#include <string>
#include <utility>
#include <vector>

namespace pendulum {

// Text that means itself in HTML and SVG.
std::string escaped(const std::string& words);

class Svg {
 public:
  Svg(double width, double height) : width_(width), height_(height) {}

  // `hint` appears under the pointer.
  void box(double x, double y, double width, double height, const std::string& colour,
           const std::string& hint = "", double opacity = 1);
  enum class Anchor { start, middle, end };
  void words(double x, double y, const std::string& words, Anchor anchor = Anchor::start,
             const std::string& style = "");  // a class of the page
  void line(double x1, double y1, double x2, double y2, const std::string& style);
  void curve(const std::vector<std::pair<double, double>>& points, const std::string& colour);
  void dot(double x, double y, double radius, const std::string& fill, const std::string& stroke,
           const std::string& hint = "");

  std::string page() const;  // the <svg> element

 private:
  double width_, height_;
  std::string marks_;
};

// A horizontal bar in parts, with words behind it.
struct Bar {
  struct Part {
    double value = 0;
    std::string colour, hint;
  };
  std::string label;
  std::vector<Part> parts;
  std::string words;
  bool is_faded = false;
};
// All to one scale; a limit above 0 is marked by a line with its words.
struct Limit {
  double value = 0;
  std::string words{};
};
std::string bar_chart(const std::vector<Bar>& bars, double label_width, const Limit& limit = {},
                      double width = 520);

}  // namespace pendulum

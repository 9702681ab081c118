// The parsed form of a policy expression, and its parser.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "rights/expression.h"

namespace pendulum {

// A day as written: fixed, or so many days after as_of.
struct DayTerm {
  bool is_relative = false;
  Date date;           // where it is fixed
  int64_t offset = 0;  // days after as_of, or after `date`
  std::string words;   // as written
};

enum class Compare { equal, not_equal, less, at_most, more, at_least, in, not_in, includes };

// A test on one field. Texts and words stand in `values`, days in `day`.
struct Test {
  std::string field;
  Compare compare = Compare::equal;
  std::vector<std::string> values;
  DayTerm day;
  bool is_negated = false;
  std::string words;  // as written, without a `not` before it
};

struct Expression::Node {
  enum class Kind { all, any, test };
  Kind kind = Kind::test;
  std::vector<std::shared_ptr<const Node>> parts;  // of all and any
  Test test;
};

// ConfigError as Expression says.
std::shared_ptr<const Expression::Node> parse_expression(const std::string& source,
                                                         const std::string& key);

}  // namespace pendulum

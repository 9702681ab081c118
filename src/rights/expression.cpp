// Judging a record by the parsed tree, and saying why not.
#include "rights/expression.h"

#include <algorithm>
#include <optional>

#include "config/nearest.h"
#include "core/error.h"
#include "rights/expression_parser.h"

namespace pendulum {
namespace {

using Node = Expression::Node;

Truth truth(bool holds) { return holds ? Truth::yes : Truth::no; }
Truth opposite(Truth t) {
  return t == Truth::unknown ? t : t == Truth::yes ? Truth::no : Truth::yes;
}

// What the record says of a field that holds one word; empty: nothing.
std::string word_of(const std::string& field, const RightsRecord& record) {
  const RightsTerms& terms = record.terms;
  if (field == "licence") return record.licence;
  if (field == "holder") return record.holder;
  if (field == "basis") return record.basis;
  if (field == "releases.model") return terms.model_release;
  if (field == "releases.property") return terms.property_release;
  if (field == "editorial_only")
    return terms.editorial_only ? (*terms.editorial_only ? "true" : "false") : "";
  const auto found = terms.consent.find(field.substr(field.find('.') + 1));
  return found == terms.consent.end() ? "" : found->second;
}

Date date_of(const DayTerm& day, Date as_of) {
  if (!day.is_relative && day.date == kNever) return kNever;
  return {(day.is_relative ? as_of : day.date).days + day.offset};
}

// "2026-11-24", and for a day that is counted from another "2027-11-24 (as_of + 365d)".
std::string shown(const DayTerm& day, Date as_of) {
  const std::string date = print(date_of(day, as_of));
  return date == day.words ? date : text(date, " (", day.words, ")");
}

bool compare_days(Compare compare, Date a, Date b) {
  switch (compare) {
    case Compare::equal:
      return a == b;
    case Compare::not_equal:
      return a != b;
    case Compare::less:
      return a < b;
    case Compare::at_most:
      return a <= b;
    case Compare::more:
      return a > b;
    default:
      return a >= b;
  }
}

Judgement judge_day(const Test& test, const RightsRecord& record, Date as_of) {
  if (!record.terms.expiry) return {};
  const Date expiry = *record.terms.expiry, other = date_of(test.day, as_of);
  const char* relation = expiry < other ? ", before " : expiry == other ? ", on " : ", after ";
  return {truth(compare_days(test.compare, expiry, other)),
          text("expires ", print(expiry), relation, shown(test.day, as_of)), ""};
}

Judgement judge_territory(const Test& test, const RightsRecord& record) {
  const std::vector<std::string>& places = record.terms.territory;
  if (places.empty()) return {};
  const auto has = [&](const std::string& place) {
    return std::find(places.begin(), places.end(), place) != places.end();
  };
  const bool all = has("worldwide") || std::all_of(test.values.begin(), test.values.end(), has);
  return {truth(all), text("territory is ", listed(places)), ""};
}

Judgement judge_word(const Test& test, const RightsRecord& record) {
  const std::string word = word_of(test.field, record);
  if (word.empty()) return {};
  const bool found = std::find(test.values.begin(), test.values.end(), word) != test.values.end();
  const bool wanted = test.compare == Compare::equal || test.compare == Compare::in;
  return {truth(found == wanted), text(test.field, " is ", word), ""};
}

Judgement judge_test(const Test& test, const RightsRecord& record, Date as_of) {
  Judgement out = test.field == "expiry"      ? judge_day(test, record, as_of)
                  : test.field == "territory" ? judge_territory(test, record)
                                              : judge_word(test, record);
  out.rule = text(test.is_negated ? "not " : "", test.words);
  if (out.truth == Truth::unknown) {
    out.reason = text("the record says nothing of ", test.field, ", which the policy asks for");
    return out;
  }
  if (test.is_negated) out.truth = opposite(out.truth);
  out.reason += "; the policy wants " + out.rule;
  return out;
}

Judgement judge_node(const Node& node, const RightsRecord& record, Date as_of);

// All must hold: the first that fails is the reason, else the first that is not known.
Judgement judge_all(const Node& node, const RightsRecord& record, Date as_of) {
  Judgement out{Truth::yes, "", ""};
  for (const auto& part : node.parts) {
    Judgement next = judge_node(*part, record, as_of);
    if (next.truth < out.truth) out = std::move(next);
  }
  return out;
}

// None holds: the reasons of all of them.
Judgement judge_any(const Node& node, const RightsRecord& record, Date as_of) {
  Judgement out{Truth::no, "", ""};
  for (const auto& part : node.parts) {
    Judgement next = judge_node(*part, record, as_of);
    if (next.truth == Truth::yes) return {Truth::yes, "", ""};
    out.truth = std::max(out.truth, next.truth);
    out.rule += (out.rule.empty() ? "" : " or ") + next.rule;
    out.reason += (out.reason.empty() ? "" : ", and ") + next.reason;
  }
  return out;
}

Judgement judge_node(const Node& node, const RightsRecord& record, Date as_of) {
  switch (node.kind) {
    case Node::Kind::all:
      return judge_all(node, record, as_of);
    case Node::Kind::any:
      return judge_any(node, record, as_of);
    case Node::Kind::test:
      break;
  }
  return judge_test(node.test, record, as_of);
}

bool mentioned(const Node& node, const std::string& field) {
  if (node.kind == Node::Kind::test)
    return node.test.field == field || node.test.field.starts_with(field + ".");
  return std::any_of(node.parts.begin(), node.parts.end(),
                     [&](const auto& part) { return mentioned(*part, field); });
}

}  // namespace

Expression::Expression(const std::string& source, const std::string& key)
    : root_(parse_expression(source, key)) {}

Judgement Expression::judge(const RightsRecord& record, Date as_of) const {
  Judgement out = judge_node(*root_, record, as_of);
  return out.truth == Truth::yes ? Judgement{Truth::yes, "", ""} : out;
}

bool Expression::mentions(const std::string& field) const { return mentioned(*root_, field); }

}  // namespace pendulum

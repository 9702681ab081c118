// The policy language: what it lets pass, how unknown fields spread, and what errors say.
#include "rights/expression.h"

#include <gtest/gtest.h>

#include <functional>
#include <random>

#include "core/error.h"
#include "judged_day.h"

namespace pendulum {
namespace {

RightsRecord full() {
  RightsRecord record{"CC0-1.0", "Jane Doe", "contract 12"};
  record.terms.expiry = parse_date("2027-11-24");
  record.terms.territory = {"DE", "FR"};
  record.terms.model_release = "yes";
  record.terms.property_release = "not-needed";
  record.terms.editorial_only = false;
  record.terms.consent["ai_generative_training"] = "allowed";
  return record;
}

Truth judge(const std::string& source, const RightsRecord& record = full()) {
  return Expression(source, "rights.policy").judge(record, kToday).truth;
}

TEST(Expression, EveryFieldAndComparison) {
  for (const char* yes : {"licence == CC0-1.0",
                          "licence in [MIT, CC0-1.0]",
                          "licence not in [MIT]",
                          "licence != GPL-2.0+",
                          "holder == 'Jane Doe'",
                          "holder == \"Jane Doe\"",
                          "basis in ['contract 12']",
                          "expiry > as_of",
                          "expiry >= as_of + 365d",
                          "expiry == as_of+365d",
                          "expiry < as_of + 366d",
                          "expiry <= 2027-11-24",
                          "expiry != 2027-11-25",
                          "expiry > 2027-11-25 - 2d",
                          "expiry < never",
                          "territory includes DE",
                          "territory includes [FR, DE]",
                          "releases.model == yes",
                          "releases.property in [yes, not-needed]",
                          "not editorial_only",
                          "editorial_only == false",
                          "editorial_only != true",
                          "consent.ai_generative_training == allowed",
                          "not (licence == MIT or editorial_only)",
                          "licence == MIT or licence == CC0-1.0",
                          "not not licence == CC0-1.0",
                          "not licence in [MIT] and not editorial_only"}) {
    EXPECT_EQ(judge(yes), Truth::yes) << yes;
    EXPECT_EQ(judge(std::string("not (") + yes + ")"), Truth::no) << yes;
  }
  EXPECT_EQ(judge("territory includes [DE, US]"), Truth::no);
  RightsRecord record = full();
  record.terms.territory = {"worldwide"};
  EXPECT_EQ(judge("territory includes [DE, US]", record), Truth::yes);
  EXPECT_EQ(judge("territory includes worldwide"), Truth::no);
  record.terms.expiry = kNever;
  EXPECT_EQ(judge("expiry == never", record), Truth::yes);
  EXPECT_EQ(judge("expiry > as_of + 999999d", record), Truth::yes);
}

// `and` binds closer than `or`.
TEST(Expression, Precedence) {
  EXPECT_EQ(judge("licence == CC0-1.0 or licence == MIT and editorial_only"), Truth::yes);
  EXPECT_EQ(judge("(licence == CC0-1.0 or licence == MIT) and editorial_only"), Truth::no);
  EXPECT_EQ(judge("not licence == MIT and licence == CC0-1.0"), Truth::yes);
}

// Kleene's tables, over all pairs of a yes, a no and a field that the record does not have.
TEST(Expression, UnknownSpreadsAsKleeneHasIt) {
  RightsRecord record = full();
  record.terms.editorial_only.reset();
  const std::vector<std::pair<std::string, Truth>> atoms = {{"licence == CC0-1.0", Truth::yes},
                                                            {"editorial_only", Truth::unknown},
                                                            {"licence == MIT", Truth::no}};
  const auto negate = [](Truth t) {
    return t == Truth::unknown ? t : t == Truth::yes ? Truth::no : Truth::yes;
  };
  for (const auto& [a, x] : atoms) {
    EXPECT_EQ(judge("not " + a, record), negate(x));
    for (const auto& [b, y] : atoms) {
      EXPECT_EQ(judge(a + " and " + b, record), std::min(x, y)) << a << b;
      EXPECT_EQ(judge(a + " or " + b, record), std::max(x, y)) << a << b;
      EXPECT_EQ(judge("not (" + a + " and " + b + ")", record), negate(std::min(x, y)));
      EXPECT_EQ(judge("not (" + a + " or " + b + ")", record), negate(std::max(x, y)));
    }
  }
}

// Random formulas against a plain evaluation of the tree that they were written from.
TEST(Expression, RandomFormulasAgreeWithTheirTrees) {
  RightsRecord record = full();
  record.terms.editorial_only.reset();
  std::mt19937 random(7);
  struct Formula {
    std::string words;
    Truth truth;
  };
  const std::function<Formula(int)> make = [&](int depth) -> Formula {
    const unsigned kind = depth == 0 ? random() % 3 : 3 + random() % 3;
    if (kind == 0) return {"licence == CC0-1.0", Truth::yes};
    if (kind == 1) return {"editorial_only", Truth::unknown};
    if (kind == 2) return {"releases.model == no", Truth::no};
    const Formula a = make(depth - 1);
    if (kind == 3) {
      const Truth t = a.truth == Truth::unknown ? a.truth
                      : a.truth == Truth::yes   ? Truth::no
                                                : Truth::yes;
      return {"not (" + a.words + ")", t};
    }
    const Formula b = make(depth - 1);
    if (kind == 4) return {"(" + a.words + ") and (" + b.words + ")", std::min(a.truth, b.truth)};
    return {"(" + a.words + ") or (" + b.words + ")", std::max(a.truth, b.truth)};
  };
  for (int i = 0; i < 2000; ++i) {
    const Formula formula = make(1 + i % 5);
    ASSERT_EQ(judge(formula.words, record), formula.truth) << formula.words;
  }
}

TEST(Expression, AFieldThatIsNotThereNeverPasses) {
  RightsRecord bare{"CC0-1.0", "Jane Doe", "contract 12"};
  for (const char* source :
       {"expiry > as_of", "expiry < as_of", "territory includes DE", "not territory includes DE",
        "releases.model == yes", "releases.model != no", "not editorial_only", "editorial_only",
        "consent.ai_training == allowed", "consent.ai_training not in [notAllowed]"}) {
    const Judgement judgement = Expression(source, "rights.policy").judge(bare, kToday);
    EXPECT_EQ(judgement.truth, Truth::unknown) << source;
    EXPECT_NE(judgement.reason.find("the record says nothing of"), std::string::npos);
  }
}

TEST(Expression, ReasonsTellWhatTheRecordSays) {
  const auto reason = [](const std::string& source) {
    return Expression(source, "rights.policy").judge(full(), kToday).reason;
  };
  EXPECT_EQ(reason("licence == CC0-1.0 and expiry > as_of + 365d"),
            "expires 2027-11-24, on 2027-11-24 (as_of + 365d); the policy wants expiry > as_of + "
            "365d");
  EXPECT_EQ(reason("expiry > 2028-01-01"),
            "expires 2027-11-24, before 2028-01-01; the policy wants expiry > 2028-01-01");
  EXPECT_EQ(reason("releases.model == not-needed or basis == 'x'"),
            "releases.model is yes; the policy wants releases.model == not-needed, and basis is "
            "contract 12; the policy wants basis == 'x'");
  EXPECT_EQ(reason("not territory includes FR"),
            "territory is DE, FR; the policy wants not territory includes FR");
  EXPECT_EQ(reason("licence == CC0-1.0"), "");
}

TEST(Expression, MentionsItsFields) {
  const Expression e("not (licence == MIT or consent.ai_training == allowed)", "k");
  EXPECT_TRUE(e.mentions("consent"));
  EXPECT_TRUE(e.mentions("licence"));
  EXPECT_FALSE(e.mentions("expiry"));
}

TEST(Expression, MistakesAreNamedWithTheirColumn) {
  for (const auto& [source, words] : std::vector<std::pair<std::string, std::string>>{
           {"", "column 1: expected a field, found the end"},
           {"licens == MIT",
            "column 1: expected a field, found \"licens\"; did you mean \"licence\"?"},
           {"licence = MIT", "column 9: expected ==, !=, in or not in after licence, found \"=\""},
           {"licence == ", "column 12: expected a value for licence, found the end"},
           {"licence in MIT", "column 12: expected \"[\", found \"MIT\""},
           {"licence in [MIT", "column 16: expected \",\" or \"]\" in the list, found the end"},
           {"licence in []", "column 13: expected a value for licence"},
           {"licence == MIT licence == MIT", "column 16: expected `and`, `or` or the end"},
           {"(licence == MIT", "column 16: expected \")\", found the end"},
           {"licence == 'MIT", "column 12: the text that begins with ' has no end"},
           {"expiry > tomorrow",
            "column 10: expected a day: as_of, never or one such as 2027-03-31"},
           {"expiry > 2027-02-30", "column 10: expected a day"},
           {"expiry > as_of + 365", "column 18: expected a number of days such as 365d"},
           {"expiry > as_of + 99999999d", "column 18: expected a number of days"},
           {"expiry > never + 1d", "column 16: expected nothing to be added to never"},
           {"expiry in [2027-01-01]",
            "column 8: expected one of ==, !=, <, <=, >, >= after expiry"},
           {"releases.model == Yes",
            "column 19: expected one of yes, no, not-needed for releases.model, found \"Yes\"; did "
            "you mean \"yes\"?"},
           {"releases.modl == yes", "did you mean \"releases.model\"?"},
           {"consent.ai_training == denied", "expected one of allowed, notAllowed, constrained"},
           {"territory == DE", "column 11: expected `includes` after territory"},
           {"territory includes Germany",
            "column 20: expected worldwide or a two-letter country code"},
           {"editorial_only == no", "column 19: expected one of true, false"},
           {"licence > MIT", "column 9: expected ==, !=, in or not in after licence"},
           {"not", "column 4: expected a field"},
           {"licence == MIT &", "column 16: expected `and`, `or` or the end, found \"&\""},
           {std::string(200, '('), "fewer than 100 levels"}}) {
    try {
      const Expression parsed(source, "rights.policy");
      ADD_FAILURE() << source;
    } catch (const ConfigError& error) {
      EXPECT_NE(std::string(error.what()).find("rights.policy, column "), std::string::npos);
      EXPECT_NE(std::string(error.what()).find(words), std::string::npos) << error.what();
    }
  }
}

}  // namespace
}  // namespace pendulum

// Nothing is trained on unless its record is complete and its licence is on the list.
#include "rights/policy.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "judged_day.h"

namespace pendulum {
namespace {

Policy policy(std::vector<std::string> allow, const std::string& expression = "") {
  RightsConfig config;
  config.allow = std::move(allow);
  config.policy = expression;
  return Policy(config, kToday);
}

const RightsRecord kGood{"CC-BY-4.0", "https://example.org/licence", "A. Holder"};

RightsRecord with(const std::string& licence) { return {licence, "Holder", "contract 12"}; }

TEST(Rights, AllowsWhatIsListed) {
  const Policy p = policy({"CC0-1.0", "CC-BY-4.0", "LicenseRef-own"});
  for (const char* id : {"CC0-1.0", "CC-BY-4.0", "LicenseRef-own"}) {
    const Verdict verdict = p.judge(with(id));
    EXPECT_TRUE(verdict.allowed) << id;
    EXPECT_EQ(verdict.reason, id);
  }
  EXPECT_TRUE(p.judge(kGood).allowed);
}

TEST(Rights, DeniesByDefault) {
  EXPECT_FALSE(policy({}).judge(kGood).allowed);
  EXPECT_NE(policy({}).judge(kGood).reason.find("rights.allow is empty"), std::string::npos);
  const Verdict verdict = policy({"CC0-1.0"}).judge(with("Apache-2.0"));
  EXPECT_FALSE(verdict.allowed);
  EXPECT_EQ(verdict.reason, "licence 'Apache-2.0' is not in rights.allow, which has CC0-1.0");
}

TEST(Rights, IncompleteRecordsAreDeniedAndSayWhatIsMissing) {
  const Policy p = policy({"CC0-1.0"});
  EXPECT_EQ(p.judge({}).reason, "the record names no licence, no holder, no basis");
  EXPECT_EQ(p.judge({"CC0-1.0", "", "basis"}).reason, "the record names no holder");
  EXPECT_EQ(p.judge({"CC0-1.0", "holder", " \t\n"}).reason, "the record names no basis");
  EXPECT_FALSE(p.judge({" ", "holder", "basis"}).allowed);
}

TEST(Rights, MisspellingsStayDeniedAndAreNamed) {
  const Policy p = policy({"CC0-1.0", "CC-BY-4.0", "LicenseRef-acme-stock"});
  for (const auto& [given, meant] : std::vector<std::pair<std::string, std::string>>{
           {"cc-by-4.0", "CC-BY-4.0"},
           {"CC-BY-40", "CC-BY-4.0"},
           {"CC0", "CC0-1.0"},
           {"CC-BY", "CC-BY-4.0"},
           {"CC BY 4.0", "CC-BY-4.0"},
           {"LicenseRef-acme-stok", "LicenseRef-acme-stock"},
           {"CC0-1.0 ", "CC0-1.0"}}) {
    const Verdict verdict = p.judge(with(given));
    EXPECT_FALSE(verdict.allowed) << given;
    EXPECT_NE(verdict.reason.find("did you mean " + meant + "?"), std::string::npos)
        << verdict.reason;
  }
  for (const char* other : {"MIT", "CC-BY-NC-ND-4.0", "x", "LicenseRef-other"}) {
    EXPECT_EQ(p.judge(with(other)).reason.find("did you mean"), std::string::npos) << other;
  }
  EXPECT_NE(p.judge(with("CC0-1.0 OR MIT license")).reason.find("not a single identifier"),
            std::string::npos);
}

TEST(Rights, TheListItselfIsChecked) {
  EXPECT_THROW(policy({"CC BY 4.0"}), ConfigError);
  EXPECT_THROW(policy({""}), ConfigError);
  EXPECT_THROW(policy({"LicenseRef-"}), ConfigError);
  EXPECT_THROW(policy({"*"}), ConfigError);
  EXPECT_NO_THROW(policy({"GPL-2.0+"}));
}

RightsRecord told(RightsTerms terms) { return {"CC0-1.0", "Holder", "contract 12", terms}; }

TEST(Rights, WhatHasExpiredIsDeniedWhateverThePolicySays) {
  RightsTerms terms;
  terms.expiry = parse_date("2026-11-23");
  const Verdict verdict = policy({"CC0-1.0"}, "expiry < as_of + 1d").judge(told(terms));
  EXPECT_FALSE(verdict.allowed);
  EXPECT_EQ(verdict.reason, "expires 2026-11-23, before 2026-11-24 (as_of)");
  terms.expiry = kToday;  // the last day counts
  EXPECT_TRUE(policy({"CC0-1.0"}).judge(told(terms)).allowed);
  terms.expiry = kNever;
  EXPECT_TRUE(policy({"CC0-1.0"}).judge(told(terms)).allowed);
}

TEST(Rights, ThePolicyNarrowsTheListAndNeverWidensIt) {
  const Policy both = policy({"CC0-1.0"}, "basis == 'contract 12'");
  EXPECT_TRUE(both.judge(with("CC0-1.0")).allowed);
  EXPECT_FALSE(both.judge(with("MIT")).allowed);
  EXPECT_EQ(both.judge({"CC0-1.0", "Holder", "hearsay"}).reason,
            "basis is hearsay; the policy wants basis == 'contract 12'");
  EXPECT_EQ(both.judge({"CC0-1.0", "Holder", "hearsay"}).rule, "basis == 'contract 12'");
}

TEST(Rights, OwnersWhoSayNoAreHeardUnlessThePolicySpeaksOfIt) {
  RightsTerms terms;
  terms.consent["ai_generative_training"] = "notAllowed";
  EXPECT_EQ(policy({"CC0-1.0"}).judge(told(terms)).reason,
            "its owner says notAllowed for generative training");
  terms.consent["ai_generative_training"] = "constrained";
  EXPECT_FALSE(policy({"CC0-1.0"}).judge(told(terms)).allowed);
  EXPECT_FALSE(
      policy({"CC0-1.0"}, "not editorial_only or holder == Holder").judge(told(terms)).allowed);
  EXPECT_TRUE(policy({"CC0-1.0"}, "consent.ai_generative_training in [allowed, constrained]")
                  .judge(told(terms))
                  .allowed);
  terms.consent = {{"ai_training", "notAllowed"}};  // not of generative models
  EXPECT_TRUE(policy({"CC0-1.0"}).judge(told(terms)).allowed);
  terms = {};
  terms.editorial_only = true;
  EXPECT_EQ(policy({"CC0-1.0"}).judge(told(terms)).reason, "it is for editorial use only");
  EXPECT_TRUE(policy({"CC0-1.0"}, "editorial_only == true").judge(told(terms)).allowed);
}

TEST(Terms, ReadAndWrittenAsDocumented) {
  const auto object = nlohmann::json::parse(R"({"expiry": "2027-03-31", "territory": ["DE", "FR"],
    "releases": {"model": "yes", "property": "not-needed"}, "editorial_only": false,
    "consent": {"cawg.ai_generative_training": "allowed", "c2pa.data_mining": "notAllowed"}})");
  const RightsTerms terms = terms_from_json(object, "m.jsonl:3");
  EXPECT_EQ(print(*terms.expiry), "2027-03-31");
  EXPECT_EQ(terms.territory, (std::vector<std::string>{"DE", "FR"}));
  EXPECT_EQ(terms.model_release, "yes");
  EXPECT_EQ(terms.property_release, "not-needed");
  EXPECT_EQ(terms.editorial_only, false);
  EXPECT_EQ(terms.consent.at("ai_generative_training"), "allowed");
  EXPECT_EQ(terms.consent.at("data_mining"), "notAllowed");
  nlohmann::json written = {{"id", "x"}};
  add_terms(terms, written);
  EXPECT_EQ(terms_from_json(written, ""), terms);
  EXPECT_EQ(terms_from_json(nlohmann::json::object(), ""), RightsTerms());
}

// CAWG Training and Data Mining assertion 1.1: `constrained` without more is notAllowed.
TEST(Terms, TheCawgAssertionIsTakenAsItIs) {
  const auto object = nlohmann::json::parse(R"({"consent": {"entries": {
    "cawg.ai_generative_training": {"use": "constrained"},
    "cawg.ai_training": {"use": "constrained", "constraint_info": "ask us"},
    "cawg.ai_inference": {"use": "allowed"}}, "metadata": {}}})");
  const RightsTerms terms = terms_from_json(object, "");
  EXPECT_EQ(terms.consent.at("ai_generative_training"), "notAllowed");
  EXPECT_EQ(terms.consent.at("ai_training"), "constrained");
  EXPECT_EQ(terms.consent.at("ai_inference"), "allowed");
}

TEST(Terms, WrongFormsAreNamedWithTheirPlace) {
  for (const auto& [source, words] : std::vector<std::pair<std::string, std::string>>{
           {R"({"expiry": "2027-02-29"})", "\"expiry\" is \"2027-02-29\""},
           {R"({"expiry": 2027})", "\"expiry\" is 2027"},
           {R"({"territory": "Germany"})", "\"territory\" holds \"Germany\""},
           {R"({"releases": {"model": "maybe"}})", "\"releases.model\" is \"maybe\""},
           {R"({"releases": {"modle": "yes"}})", "did you mean \"model\"?"},
           {R"({"editorial_only": "no"})", "must be true or false"},
           {R"({"consent": {"cawg.ai_generative_trainin": "allowed"}})",
            "did you mean \"ai_generative_training\"?"},
           {R"({"consent": {"cawg.ai_training": "notallowed"}})", "did you mean \"notAllowed\"?"},
           {R"({"consent": {"cawg.ai_training": "allowed", "c2pa.ai_training": "allowed"}})",
            "twice"}}) {
    try {
      terms_from_json(nlohmann::json::parse(source), "m.jsonl:7");
      ADD_FAILURE() << source;
    } catch (const DataError& error) {
      EXPECT_NE(std::string(error.what()).find("m.jsonl:7: "), std::string::npos) << error.what();
      EXPECT_NE(std::string(error.what()).find(words), std::string::npos) << error.what();
    }
  }
}

TEST(Dates, OnlyRealDaysInTheOneForm) {
  EXPECT_EQ(parse_date("1970-01-02")->days, 1);
  EXPECT_EQ(parse_date("2000-03-01")->days - parse_date("2000-02-28")->days, 2);
  for (const char* words : {"2027-2-3", "27-02-03", "2027/02/03", "2027-13-01", "2027-04-31",
                            "+027-04-01", "2027-04-01 ", "", "never"})
    EXPECT_FALSE(parse_date(words)) << words;
  EXPECT_EQ(print(*parse_date("0999-12-31")), "0999-12-31");
}

}  // namespace
}  // namespace pendulum

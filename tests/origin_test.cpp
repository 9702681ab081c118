// Origins of weights: what is our own, what is known, what must be declared.
#include "rights/origin.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "judged_day.h"
#include "rights/frozen.h"

namespace pendulum {
namespace {

Config config(bool licensed_only, std::vector<std::string> allow) {
  Config out;
  out.rights.allow = std::move(allow);
  out.rights.licensed_only = licensed_only;
  return out;
}

std::string refusal(const Config& c) {
  try {
    judge_origins(c, kToday);
    return "";
  } catch (const ConfigError& error) {
    return error.what();
  }
}

TEST(Origins, FreshWeightsAndHaarAreOurOwnAndMiniLmIsKnown) {
  const auto origins = judge_origins(config(true, {"CC0-1.0", "Apache-2.0"}), kToday);
  ASSERT_EQ(origins.size(), 3u);
  EXPECT_TRUE(origins[0].is_own && origins[1].is_own && !origins[2].is_own);
  EXPECT_EQ(origins[2].declared.licence, "Apache-2.0");
  EXPECT_EQ(describe(origins[0]), "model (fresh weights): this program's own");
}

TEST(Origins, UnderLicensedOnlyTheyAreJudgedAsSamplesAre) {
  EXPECT_NE(refusal(config(true, {"CC0-1.0"}))
                .find("the text (minilm) may not be used: licence "
                      "'Apache-2.0' is not in rights.allow"),
            std::string::npos);
  EXPECT_EQ(refusal(config(false, {"CC0-1.0"})), "");
  Config c = config(true, {"CC0-1.0"});
  c.rights.origin_policy = "licence in [Apache-2.0, MIT]";
  EXPECT_EQ(refusal(c), "");
  c.rights.origin_policy = "licence == MIT";
  EXPECT_NE(refusal(c).find("licence is Apache-2.0; the policy wants licence == MIT"),
            std::string::npos);
}

TEST(Origins, WhatIsNotDeclaredIsRefusedUnderLicensedOnly) {
  Config c = config(true, {"Apache-2.0"});
  c.model.import = "published";
  EXPECT_NE(refusal(c).find("nothing is declared of where the model comes from (weights from "
                            "published); write rights.origins.model:"),
            std::string::npos)
      << refusal(c);
  c.rights.origins["model"] = {"Apache-2.0", "Wan team", "published", "2026-11-23"};
  EXPECT_NE(refusal(c).find("expires 2026-11-23"), std::string::npos);
  c.rights.origins["model"].expiry = "never";
  EXPECT_EQ(refusal(c), "");
  c.rights.origins["model"].expiry = "2026-02-30";
  EXPECT_NE(refusal(c).find("rights.origins.model.expiry"), std::string::npos);
  c.rights.origins["model"].expiry = "";
  c.text.weights = "some/folder";  // no longer the package that is known
  EXPECT_NE(refusal(c).find("rights.origins.text"), std::string::npos);
  c.text.weights = "auto";
  c.image.kind = "clip";
  EXPECT_NE(refusal(c).find("rights.origins.image"), std::string::npos);
  c.image.kind = "none";
  c.codec.kind = "wan";
  EXPECT_NE(refusal(c).find("rights.origins.codec"), std::string::npos);
  c.text.weights = "some/folder";
  c.rights.licensed_only = false;
  EXPECT_EQ(refusal(c), "");
  EXPECT_EQ(describe(judge_origins(c, kToday)[2]), "text (minilm): undeclared");
}

TEST(Origins, SurviveJson) {
  Config c = config(false, {"CC0-1.0"});
  for (const Origin& origin : judge_origins(c, kToday)) {
    const Origin back = origin_from_json(to_json(origin), "here");
    EXPECT_EQ(to_json(back), to_json(origin));
    EXPECT_EQ(describe(back), describe(origin));
  }
  EXPECT_THROW(origin_from_json({{"part", 3}}, "here"), DataError);
}

TEST(FrozenRights, TheDayIsTheStartsUnlessItIsGiven) {
  RightsConfig c;
  EXPECT_EQ(freeze_rights(c, kToday).as_of, kToday);
  c.as_of = "2027-01-31";
  EXPECT_EQ(print(freeze_rights(c, kToday).as_of), "2027-01-31");
  c.as_of = "2027-02-31";
  EXPECT_THROW(freeze_rights(c, kToday), ConfigError);
}

}  // namespace
}  // namespace pendulum

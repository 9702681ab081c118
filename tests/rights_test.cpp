// Nothing is trained on unless its record is complete and its licence is on the list.
#include "rights/policy.h"

#include <gtest/gtest.h>

#include "core/error.h"

namespace pendulum {
namespace {

Policy policy(std::vector<std::string> allow) {
  RightsConfig config;
  config.allow = std::move(allow);
  return Policy(config);
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

}  // namespace
}  // namespace pendulum

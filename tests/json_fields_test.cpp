// core/json_fields: members of the kind asked for, and errors that name file, member and finding.
#include "core/json_fields.h"

#include <gtest/gtest.h>

#include <functional>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "error_message.h"

namespace pendulum {
namespace {

using nlohmann::json;

const json kJson{{"size", 7},
                 {"none", nullptr},
                 {"name", "umt5"},
                 {"ratio", 0.5},
                 {"is_on", true},
                 {"sizes", {1, 2, 3}},
                 {"inner", {{"n", -1}}},
                 {"huge", UINT64_MAX},
                 {"bad", "\xFF"},
                 {"long", std::string(1000, 'x')}};

std::string refusal(const std::function<void(const JsonFields&)>& read) {
  return message_of<DataError>([&] { read(JsonFields(kJson, "f.json")); });
}

TEST(JsonFields, GivesMembers) {
  const JsonFields fields(kJson, "f.json");
  EXPECT_EQ(fields.whole("size", 1, 7), 7);
  EXPECT_EQ(fields.whole_list("sizes", 1, 3), (std::vector<int>{1, 2, 3}));
  EXPECT_EQ(fields.words("name"), "umt5");
  EXPECT_EQ(fields.one_of("name", {"t5", "umt5"}), "umt5");
  EXPECT_EQ(fields.number("ratio"), 0.5);
  EXPECT_EQ(fields.number("size"), 7);
  EXPECT_TRUE(fields.flag("is_on"));
  EXPECT_EQ(fields.object("inner").whole("n", -1), -1);
  EXPECT_TRUE(fields.has("size"));
  EXPECT_FALSE(fields.has("none"));
  EXPECT_FALSE(fields.has("other"));
}

TEST(JsonFields, NamesFileMemberAndFinding) {
  const auto whole = [](const char* key, int least, int most) {
    return refusal([&](const JsonFields& f) { f.whole(key, least, most); });
  };
  EXPECT_EQ(whole("size", 8, 9), "f.json: size is 7: expected a whole number from 8 to 9");
  EXPECT_EQ(whole("size", 1, 6), "f.json: size is 7: expected a whole number from 1 to 6");
  EXPECT_EQ(whole("ratio", 0, 1), "f.json: ratio is 0.5: expected a whole number from 0 to 1");
  EXPECT_EQ(whole("huge", -1, 1),
            "f.json: huge is 18446744073709551615: expected a whole number from -1 to 1");
  EXPECT_EQ(whole("none", 0, 1), "f.json: none is missing");
  EXPECT_EQ(whole("other", 0, 1), "f.json: other is missing");
  EXPECT_EQ(refusal([](const JsonFields& f) { f.object("inner").whole("n", 0, 5); }),
            "f.json: inner.n is -1: expected a whole number from 0 to 5");
  EXPECT_EQ(refusal([](const JsonFields& f) { f.object("inner").object("n"); }),
            "f.json: inner.n is -1: expected a JSON object");
  EXPECT_EQ(refusal([](const JsonFields& f) { f.whole_list("sizes", 1, 2); }),
            "f.json: sizes is [1,2,3]: expected whole numbers from 1 to 2");
  EXPECT_EQ(refusal([](const JsonFields& f) { f.whole_list("size", 1, 2); }),
            "f.json: size is 7: expected a list");
  EXPECT_EQ(refusal([](const JsonFields& f) {
              f.one_of("name", {"t5", "bert", "clip"});
            }),
            "f.json: name is \"umt5\": expected t5, bert or clip");
  EXPECT_EQ(refusal([](const JsonFields& f) { f.words("size"); }),
            "f.json: size is 7: expected text");
  EXPECT_EQ(refusal([](const JsonFields& f) { f.number("name"); }),
            "f.json: name is \"umt5\": expected a number");
  EXPECT_EQ(refusal([](const JsonFields& f) { f.flag("size"); }),
            "f.json: size is 7: expected true or false");
  EXPECT_EQ(message_of<DataError>([] { JsonFields(json::array(), "f.json"); }),
            "f.json: it is []: expected a JSON object");
}

TEST(JsonFields, ShowsOfDamageOnlyWhatCanBeRead) {
  EXPECT_EQ(refusal([](const JsonFields& f) { f.number("bad"); }),
            "f.json: bad is \"\xEF\xBF\xBD\": expected a number");
  EXPECT_LT(refusal([](const JsonFields& f) { f.number("long"); }).size(), 200U);
}

}  // namespace
}  // namespace pendulum

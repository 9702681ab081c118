// The chain holds while it is only appended to, and every way of tampering with it is found at its
// line.
#include "rights/consumption_log.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/error.h"
#include "core/hash.h"

namespace pendulum {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class LogTest : public testing::Test {
 protected:
  LogTest()
      : path_(testing::TempDir() + "consumption_" + std::to_string(::getpid()) + "_" +
              testing::UnitTest::GetInstance()->current_test_info()->name() + ".jsonl") {
    fs::remove(path_);
  }
  ~LogTest() override { fs::remove(path_); }

  // A log of `count` entries after the line that names the run; returns its head.
  std::string write(int count) const {
    ConsumptionLog log(path_, "run");
    for (int i = 0; i < count; ++i)
      log.append({{"step", i}, {"samples", {"a", "b\n", "ü"}}, {"weight", 0.1}});
    log.sync();
    return log.head();
  }
  std::vector<std::string> lines() const {
    std::ifstream file(path_);
    std::vector<std::string> out;
    for (std::string line; std::getline(file, line);) out.push_back(line);
    return out;
  }
  void replace(const std::vector<std::string>& lines) const {
    std::ofstream file(path_, std::ios::trunc);
    for (const std::string& line : lines) file << line << "\n";
  }
  std::string message_on_opening(const std::string& run = "run") const {
    try {
      ConsumptionLog log(path_, run);
      return "opened";
    } catch (const Error& error) {
      return error.what();
    }
  }

  std::string path_;
};

TEST_F(LogTest, LinesAreSealedAsDocumented) {
  write(2);
  const std::vector<std::string> all = lines();
  ASSERT_EQ(all.size(), 3u);
  std::string prev(64, '0');
  for (size_t i = 0; i < 3; ++i) {
    const json line = json::parse(all[i]);
    EXPECT_EQ(line["seq"], i);
    EXPECT_EQ(line["prev"], prev);
    const std::string seal = ",\"hash\":\"" + line["hash"].get<std::string>() + "\"";
    std::string bare = all[i];
    bare.erase(bare.find(seal), seal.size());
    EXPECT_EQ(sha256(bare), line["hash"]);
    prev = line["hash"];
  }
  EXPECT_EQ(json::parse(all[0])["run"], "run");
  EXPECT_EQ(json::parse(all[2])["samples"][1], "b\n");
}

TEST_F(LogTest, GoesOnAfterReopening) {
  const std::string head = write(3);
  {
    ConsumptionLog log(path_, "run");
    EXPECT_EQ(log.head(), head);
    EXPECT_EQ(log.next_seq(), 4);
    EXPECT_EQ(log.note(), "");
    log.append(json::object());
    log.append({{"event", "rollback"}, {"to", 2}});
  }
  const ChainReport report = verify_chain(path_, head);
  EXPECT_EQ(report.lines, 6);
  EXPECT_EQ(report.bad_line, 0) << report.reason;
  EXPECT_EQ(report.run, "run");
}

TEST_F(LogTest, ATornLastLineIsDropped) {
  const std::string head = write(3);
  const std::string whole = lines()[3];
  std::ofstream(path_, std::ios::app) << "{\"seq\":4,\"step\":3,\"sam";
  EXPECT_TRUE(verify_chain(path_).torn);
  EXPECT_EQ(verify_chain(path_).bad_line, 0);
  {
    ConsumptionLog log(path_, "run");
    EXPECT_NE(log.note().find("line 5 was cut off"), std::string::npos) << log.note();
    EXPECT_EQ(log.head(), head);
    log.append({{"step", 3}});
  }
  EXPECT_EQ(verify_chain(path_).lines, 5);
  EXPECT_EQ(lines()[3], whole);
}

TEST_F(LogTest, CutAtEveryByteItOpensAgain) {
  write(2);
  std::ifstream file(path_);
  std::stringstream all;
  all << file.rdbuf();
  const std::string bytes = all.str();
  for (size_t size = 0; size < bytes.size(); ++size) {
    std::ofstream(path_, std::ios::trunc) << bytes.substr(0, size);
    {
      ConsumptionLog log(path_, "run");
      EXPECT_EQ(log.note().empty(), size == 0 || bytes[size - 1] == '\n');
      log.append({{"step", 7}});
    }
    ASSERT_EQ(verify_chain(path_).bad_line, 0) << "cut at " << size;
  }
}

TEST_F(LogTest, TamperingIsFoundAtItsLine) {
  write(5);
  const std::vector<std::string> good = lines();
  auto changed = good;
  changed[2].replace(changed[2].find("\"step\":1"), 8, "\"step\":9");
  replace(changed);
  EXPECT_EQ(verify_chain(path_).bad_line, 3);
  EXPECT_NE(message_on_opening().find(path_ + ", line 3: its content does not match its hash"),
            std::string::npos);

  auto dropped = good;
  dropped.erase(dropped.begin() + 3);
  replace(dropped);
  EXPECT_EQ(verify_chain(path_).bad_line, 4);
  EXPECT_NE(verify_chain(path_).reason.find("sequence number is 4, 3 was expected"),
            std::string::npos);

  auto moved = good;
  std::swap(moved[3], moved[4]);
  replace(moved);
  EXPECT_EQ(verify_chain(path_).bad_line, 4);

  auto first = good;
  first.erase(first.begin());
  replace(first);
  EXPECT_EQ(verify_chain(path_).bad_line, 1);

  auto blank = good;
  blank.insert(blank.begin() + 1, "");
  replace(blank);
  EXPECT_EQ(verify_chain(path_).bad_line, 2);

  // A line rewritten with a hash of its own breaks the next one.
  auto forged = good;
  std::string body = forged[2].substr(0, forged[2].size() - 75);
  body.replace(body.find("\"step\":1"), 8, "\"step\":9");
  forged[2] = body + ",\"hash\":\"" + sha256(body + "}") + "\"}";
  replace(forged);
  EXPECT_EQ(verify_chain(path_).bad_line, 4);
  EXPECT_EQ(verify_chain(path_).reason, "it does not continue the line before");

  replace(good);
  EXPECT_EQ(verify_chain(path_).bad_line, 0);
}

TEST_F(LogTest, EverySingleFlippedByteIsFound) {
  write(1);
  std::ifstream file(path_);
  std::stringstream all;
  all << file.rdbuf();
  const std::string bytes = all.str();
  for (size_t i = 0; i + 1 < bytes.size();
       ++i) {  // without the last line end: that is a cut-off line
    std::string flipped = bytes;
    flipped[i] = static_cast<char>(flipped[i] ^ 1);
    std::ofstream(path_, std::ios::trunc | std::ios::binary) << flipped;
    ASSERT_GE(verify_chain(path_).bad_line, 1) << "byte " << i;
  }
}

TEST_F(LogTest, LinesCutOffAtTheEndAreFoundThroughAKnownHash) {
  const std::string head = write(4);
  auto shorter = lines();
  shorter.pop_back();
  replace(shorter);
  EXPECT_EQ(verify_chain(path_).bad_line, 0);
  EXPECT_EQ(verify_chain(path_, head).bad_line, 5);
}

TEST_F(LogTest, RefusesWhatIsNotItsOwn) {
  write(1);
  EXPECT_NE(message_on_opening("another").find("belongs to run 'run'"), std::string::npos);
  {
    ConsumptionLog log(path_, "run");
    EXPECT_NE(message_on_opening().find("another process"), std::string::npos);
    EXPECT_THROW(log.append({{"hash", "x"}}), Error);
    EXPECT_THROW(log.append(json::array({1})), Error);
  }
  EXPECT_EQ(message_on_opening(), "opened");
  EXPECT_THROW(verify_chain(path_ + ".missing"), DataError);
  EXPECT_THROW(ConsumptionLog("/nonexistent-folder/log.jsonl", "run"), Error);
  std::ofstream(path_, std::ios::trunc) << "some text\n";
  EXPECT_NE(message_on_opening().find("line 1"), std::string::npos);
}

TEST_F(LogTest, TheFirstLineNamesThePublicKeyAndKeepsIt) {
  const std::string key(64, '7');
  { ConsumptionLog log(path_, "run", "", key); }
  EXPECT_EQ(verify_chain(path_).public_key, key);
  EXPECT_EQ(json::parse(lines()[0])["public_key"], key);
  EXPECT_NO_THROW(ConsumptionLog(path_, "run", "", key));
  EXPECT_THROW(ConsumptionLog(path_, "run"), DataError);
  EXPECT_THROW(ConsumptionLog(path_, "run", "", std::string(64, '8')), DataError);
}

TEST_F(LogTest, LogsOfTheFirstFormatAreVerifiedAndGoOn) {
  const std::string body =
      "{\"seq\":0,\"format\":\"pendulum-consumption/1\",\"run\":\"run\",\"prev\":\"" +
      std::string(64, '0') + "\"";
  replace({body + ",\"hash\":\"" + sha256(body + "}") + "\"}"});
  {
    ConsumptionLog log(path_, "run");
    log.append({{"step", 1}});
  }
  EXPECT_EQ(verify_chain(path_).lines, 2);
  EXPECT_EQ(verify_chain(path_).bad_line, 0);
  std::string other = body;
  other.replace(other.find("/1"), 2, "/3");
  replace({other + ",\"hash\":\"" + sha256(other + "}") + "\"}"});
  EXPECT_EQ(verify_chain(path_).bad_line, 1);
}

TEST_F(LogTest, GoodLinesAreHandedOnUpToTheFirstBadOne) {
  write(4);
  auto all = lines();
  std::swap(all[3], all[4]);
  replace(all);
  std::vector<int> steps;
  const ChainReport report = verify_chain(path_, "", [&](const json& line) {
    if (line.contains("step")) steps.push_back(line["step"]);
  });
  EXPECT_EQ(report.bad_line, 4);
  EXPECT_EQ(steps, (std::vector<int>{0, 1}));
}

TEST_F(LogTest, NamesThatAreNotUtf8AreKept) {
  ConsumptionLog log(path_, "run\xff");
  log.append({{"name", "\xc3\x28"}});
  EXPECT_EQ(verify_chain(path_).bad_line, 0);
}

}  // namespace
}  // namespace pendulum

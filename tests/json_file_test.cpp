// core/json_file: what is read, and the error of everything that is no JSON file.
#include "core/json_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "error_message.h"

namespace pendulum {
namespace {

namespace fs = std::filesystem;

class JsonFile : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "json_file_" + std::to_string(::getpid());
    fs::remove_all(folder_);
    fs::create_directories(folder_);
    path_ = folder_ + "/a.json";
  }
  void TearDown() override { fs::remove_all(folder_); }

  void write(const std::string& bytes) const {
    std::ofstream(path_, std::ios::binary | std::ios::trunc) << bytes;
  }
  // Of the error, which must begin with the path, what comes behind it.
  static std::string refusal(const std::string& path) {
    const std::string words = message_of<DataError>([&] { read_json(path); });
    EXPECT_TRUE(words.starts_with(path + ": ")) << words;
    return words.substr(std::min(words.size(), path.size() + 2));
  }
  std::string refusal_of(const std::string& bytes) const {
    write(bytes);
    return refusal(path_);
  }

  std::string folder_, path_;
};

TEST_F(JsonFile, AllKindsOfValuesAreRead) {
  write("{\"a\": [1, -2, 0.5, \"\xC3\xBC\", null, true],\n \"b\": {}}\n");
  const nlohmann::json wanted{{"a", {1, -2, 0.5, "ü", nullptr, true}},
                              {"b", nlohmann::json::object()}};
  EXPECT_EQ(read_json(path_), wanted);
  for (const char* value : {"7", "null", " [] ", "\xEF\xBB\xBF{}"}) {  // one after a mark of UTF-8
    write(value);
    EXPECT_NO_THROW(read_json(path_)) << value;
  }
  fs::create_symlink(path_, folder_ + "/link.json");
  EXPECT_EQ(read_json(folder_ + "/link.json"), nlohmann::json::object());
}

TEST_F(JsonFile, WhatCannotBeReadIsNamed) {
  EXPECT_EQ(refusal(path_), "there is no such file");
  EXPECT_EQ(refusal(folder_ + "/none/a.json"), "there is no such file");
  EXPECT_EQ(refusal(folder_), "is a folder; expected a JSON file");
  EXPECT_EQ(refusal_of(""), "is empty; expected JSON");
  EXPECT_EQ(refusal(path_ + "/b.json"), "there is no such file");  // a file in the way
  // Neither of these may be waited for, or followed for ever.
  const std::string pipe = folder_ + "/pipe.json", circle = folder_ + "/circle.json";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  fs::create_symlink(circle, circle);
  for (const std::string& path : {pipe, circle})
    EXPECT_TRUE(refusal(path).starts_with("cannot be read: ")) << refusal(path);
}

TEST_F(JsonFile, PermissionsAreNamed) {
  if (::geteuid() == 0) GTEST_SKIP() << "root reads everything";
  write("{}");
  fs::permissions(path_, fs::perms::none);
  EXPECT_EQ(refusal(path_), "cannot be opened for reading: Permission denied");
}

// Sparse: neither this test nor the refusal takes the space.
TEST_F(JsonFile, WhatIsTooLargeIsNotRead) {
  write("{}");
  fs::resize_file(path_, kMostJsonBytes + 1);
  EXPECT_EQ(refusal(path_),
            "has 268435457 bytes; a JSON file of at most 268435456 is expected here");
}

TEST_F(JsonFile, WhatIsNoJsonIsPlacedByLineColumnAndByte) {
  const struct {
    std::string bytes, place;
  } cases[] = {
      {"x", "line 1, column 1 (byte 1): "},
      {"{\"a\": 1", "line 1, column 8 (byte 8): "},  // cut off
      {"{\n  \"a\": x}", "line 2, column 8 (byte 10): "},
      {"[1,\n\n2,]", "line 3, column 3 (byte 8): "},
      {"{}\n{}\n", "line 2, column 1 (byte 4): "},
      {"\"\xC3\x28\"", "line 1, column 3 (byte 3): "},
      {std::string("[1,\0]", 5), "line 1, column 4 (byte 4): "},
      {"<html>\n</html>", "line 1, column 1 (byte 1): "},
  };
  for (const auto& each : cases) {
    const std::string found = refusal_of(each.bytes);
    EXPECT_TRUE(found.starts_with("is no JSON: " + each.place)) << found;
    // The parser's own words, without what it read last.
    EXPECT_NE(found.find("while parsing"), std::string::npos) << found;
    EXPECT_EQ(found.find("last read"), std::string::npos) << found;
    EXPECT_EQ(found.find("exception"), std::string::npos) << found;
  }
  EXPECT_EQ(refusal_of("[1e999]"), "is no JSON: number overflow parsing '1e999'");
}

}  // namespace
}  // namespace pendulum

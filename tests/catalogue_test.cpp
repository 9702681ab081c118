// The columns over an index: the same facts as its lines, built once, rebuilt when the index is
// another; and what is wrong with a line is said with its number.
#include "data/catalogue.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>

#include "core/error.h"
#include "core/hash.h"
#include "core/random.h"
#include "data/pack_format.h"

namespace pendulum {
namespace {

namespace fs = std::filesystem;

IndexLine some_line(int64_t i) {
  const uint64_t bits = draw(i, 5);
  IndexLine line;
  line.sample.id = text("s ", i, i % 7 == 0 ? "\"\\\u00e9" : "");
  line.sample.captions = {"a caption, with \"quotes\" and {braces}", "another"};
  line.sample.licence = bits % 2 ? "CC0-1.0" : "CC-BY-4.0";
  line.sample.holder = text("holder ", bits % 3);
  line.sample.basis = "b";
  line.sample.split = bits % 5 ? "train" : "validation";
  line.sample.sha256 = sha256(line.sample.id);
  line.sample.width = 16 + static_cast<int>(bits % 4);
  line.sample.height = 16;
  if (bits % 3) {
    line.sample.kind = MediaKind::clip;
    line.sample.frames = 2 + static_cast<int64_t>(bits % 1000);
    line.sample.seconds = static_cast<double>(line.sample.frames) / (8 + uniform(bits));
    line.sample.fps = static_cast<double>(line.sample.frames) / line.sample.seconds;
    if (bits % 11 == 0) line.sample.excerpt = {0.5 + uniform(bits), 9.25};
  }
  line.place = {0, i * 10, 10};
  return line;
}

class CatalogueTest : public testing::Test {
 protected:
  CatalogueTest()
      : folder_(fs::path(testing::TempDir()) /
                text("catalogue_", testing::UnitTest::GetInstance()->current_test_info()->name())) {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  IndexClaim write(const std::vector<IndexLine>& lines) {
    std::string words;
    for (const IndexLine& line : lines) words += to_line(line);
    return write(words, pack_digest(lines), static_cast<int64_t>(lines.size()));
  }
  IndexClaim write(const std::string& words, const std::string& digest, int64_t samples) {
    std::ofstream(folder_ / kIndexFile, std::ios::binary) << words;
    return {sha256(words), digest, samples, 1};
  }
  std::string refusal(const std::function<void()>& run) {
    try {
      run();
    } catch (const DataError& error) {
      return error.what();
    }
    ADD_FAILURE() << "nothing was thrown";
    return "";
  }
  fs::path folder_;
};

std::vector<IndexLine> some_lines(int64_t count) {
  std::vector<IndexLine> lines;
  for (int64_t i = 0; i < count; ++i) lines.push_back(some_line(i));
  return lines;
}

TEST_F(CatalogueTest, HoldsWhatTheLinesHold) {
  const std::vector<IndexLine> lines = some_lines(2003);
  const IndexClaim claim = write(lines);
  for (const int threads : {1, 3}) {
    fs::remove(folder_ / kColumnsFile);
    const Catalogue catalogue = Catalogue::open(folder_.string(), claim, threads);
    EXPECT_TRUE(catalogue.was_built());
    ASSERT_EQ(catalogue.size(), 2003);
    EXPECT_LE(catalogue.num_classes(), 2 * 3 * 2 * 4 * 2);
    for (int64_t i = 0; i < catalogue.size(); ++i) {
      const Sample& sample = lines[i].sample;
      const SampleFacts facts = catalogue.facts(i);
      ASSERT_EQ(facts.kind, sample.kind);
      ASSERT_EQ(facts.width, sample.width);
      ASSERT_EQ(facts.height, sample.height);
      ASSERT_EQ(facts.frames, sample.frames);
      ASSERT_EQ(facts.seconds, sample.seconds);
      ASSERT_EQ(facts.fps, sample.fps);  // to the bit
      ASSERT_EQ(facts.is_validation, sample.split == "validation");
      const Sample read = index_line(catalogue.line(i), catalogue.where(i)).sample;
      ASSERT_EQ(read.id, sample.id);
      ASSERT_EQ(read.excerpt, sample.excerpt);
      const Sample& like = lines[catalogue.representative(catalogue.class_of(i))].sample;
      ASSERT_EQ(like.licence + like.holder + like.split,
                sample.licence + sample.holder + sample.split);
      ASSERT_EQ(catalogue.find(sample.id), i);
      if (i > 0) {
        ASSERT_LE(catalogue.hash(i - 1), catalogue.hash(i));
      }
    }
    EXPECT_EQ(catalogue.find("none"), std::nullopt);
  }
}

TEST_F(CatalogueTest, IsBuiltOnceAndAgainForAnotherIndex) {
  IndexClaim claim = write(some_lines(50));
  const auto was_built = [&] { return Catalogue::open(folder_.string(), claim).was_built(); };
  EXPECT_TRUE(was_built());
  EXPECT_FALSE(was_built());
  fs::last_write_time(folder_ / kIndexFile,
                      fs::file_time_type::clock::now() + std::chrono::seconds(2));
  EXPECT_TRUE(was_built());
  claim = write(some_lines(51));
  EXPECT_TRUE(was_built());
  EXPECT_FALSE(was_built());
  // Damage of every part of what planning looks at.
  const auto size = static_cast<int64_t>(fs::file_size(folder_ / kColumnsFile));
  for (const int64_t at :
       {int64_t{3}, int64_t{40}, int64_t{4096}, int64_t{4096 + 14 * 51 - 1}, size}) {
    if (at == size) {
      fs::resize_file(folder_ / kColumnsFile, size - 1);
    } else {
      std::fstream file(folder_ / kColumnsFile, std::ios::in | std::ios::out | std::ios::binary);
      file.seekg(at);
      const char byte = static_cast<char>(file.get() ^ 1);
      file.seekp(at);
      file.put(byte);
    }
    EXPECT_TRUE(was_built()) << at;
    EXPECT_FALSE(was_built()) << at;
  }
}

TEST_F(CatalogueTest, ProcessesThatOpenTogetherBuildItOnce) {
  const IndexClaim claim = write(some_lines(20000));
  std::vector<pid_t> children;
  for (int i = 0; i < 4; ++i) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) _exit(Catalogue::open(folder_.string(), claim, 1).was_built() ? 1 : 0);
    children.push_back(child);
  }
  int built = 0;
  for (const pid_t child : children) {
    int status = 0;
    waitpid(child, &status, 0);
    ASSERT_TRUE(WIFEXITED(status));
    built += WEXITSTATUS(status);
  }
  EXPECT_EQ(built, 1);
}

TEST_F(CatalogueTest, SaysWhatIsWrongWithWhichLine) {
  const std::vector<IndexLine> lines = some_lines(70005);
  const auto with_line = [&](int64_t number, const std::string& bad) {
    std::string words;
    for (int64_t i = 0; i < 70005; ++i) words += i == number - 1 ? bad + "\n" : to_line(lines[i]);
    const IndexClaim claim = write(words, pack_digest(lines), 70005);
    return refusal([&] { Catalogue::open(folder_.string(), claim); });
  };
  const std::string path = (folder_ / kIndexFile).string();
  EXPECT_NE(with_line(70001, R"({"id": "x", "sha256")").find(path + ":70001: is damaged"),
            std::string::npos);
  EXPECT_NE(with_line(70001, to_line(lines[3]).substr(0, to_line(lines[3]).size() - 1))
                .find(path + ":70001: repeats the id"),
            std::string::npos);
  IndexLine elsewhere = lines[9];
  elsewhere.place.shard = 1;
  std::string bad = to_line(elsewhere);
  bad.pop_back();
  EXPECT_NE(with_line(10, bad).find(path + ":10: names a place that no shard has"),
            std::string::npos);
  // Another index than the head was written with.
  IndexClaim claim = write(lines);
  claim.sha256 = sha256("x");
  EXPECT_NE(refusal([&] { Catalogue::open(folder_.string(), claim); }).find("is not the index"),
            std::string::npos);
  claim = write(lines);
  claim.digest = sha256("x");
  EXPECT_NE(refusal([&] { Catalogue::open(folder_.string(), claim); }).find("count or digest"),
            std::string::npos);
}

}  // namespace
}  // namespace pendulum

// metrics.jsonl: what is appended stands there at once, and a resumed run drops what it will write
// again.
#include "train/metrics_file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <limits>

#include "core/error.h"
#include "file_contents.h"

namespace pendulum {
namespace {

std::string fresh_path(const std::string& name) {
  const std::string path =
      testing::TempDir() + "metrics_" + name + std::to_string(getpid()) + ".jsonl";
  std::filesystem::remove_all(path);
  return path;
}

void write(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

nlohmann::json record(int64_t step) { return {{"step", step}, {"loss", 0.5}}; }

TEST(MetricsFile, LinesAreThereBeforeTheFileIsClosed) {
  const std::string path = fresh_path("lines");
  MetricsFile file(path, 0);
  EXPECT_EQ(file_contents(path), "");
  file.append(record(1));
  file.append({{"step", 1}, {"validation", {{"clips", 0.25}}}});
  file.append(record(3));
  EXPECT_EQ(file_contents(path),
            "{\"loss\":0.5,\"step\":1}\n{\"step\":1,\"validation\":{\"clips\":0.25}}\n{\"loss\":0."
            "5,\"step\":3}\n");
  EXPECT_EQ(file.last_step(), 3);
}

TEST(MetricsFile, NotANumberIsWrittenAsNull) {
  const std::string path = fresh_path("nan");
  MetricsFile(path, 0).append({{"step", 1}, {"loss", std::numeric_limits<double>::quiet_NaN()}});
  EXPECT_EQ(file_contents(path), "{\"loss\":null,\"step\":1}\n");
}

TEST(MetricsFile, ResumeDropsLaterStepsAndATornLine) {
  const std::string path = fresh_path("resume");
  const std::string upto_two = "{\"step\":1}\n{\"step\":2}\n{\"note\":\"same step\",\"step\":2}\n";
  for (const std::string rest :
       {"", "{\"step\":3}\n{\"step\":4}\n", "{\"st", "{\"step\":2}", "{\"step\":3}\n{\"step\":"}) {
    write(path, upto_two + rest);
    MetricsFile file(path, 2);
    EXPECT_EQ(file_contents(path), upto_two) << "after '" << rest << "'";
    EXPECT_EQ(file.last_step(), 2);
    file.append({{"step", 3}});
    EXPECT_EQ(file_contents(path), upto_two + "{\"step\":3}\n");
  }
}

TEST(MetricsFile, FreshRunDropsEverything) {
  const std::string path = fresh_path("fresh");
  write(path, "{\"step\":1}\n{\"step\":2}\n");
  const MetricsFile file(path, 0);
  EXPECT_EQ(file_contents(path), "");
  EXPECT_EQ(file.last_step(), 0);
}

TEST(MetricsFile, ResumePastTheEndKeepsEverything) {
  const std::string path = fresh_path("past");
  write(path, "{\"step\":1}\n");
  const MetricsFile file(path, 1000);
  EXPECT_EQ(file.last_step(), 1);
}

TEST(MetricsFile, BrokenLineIsNamed) {
  const std::string path = fresh_path("broken");
  for (const std::string line :
       {"not json", "[1]", "{\"loss\":1}", "{\"step\":\"1\"}", "{\"step\":1.5}", ""}) {
    write(path, "{\"step\":1}\n" + line + "\n{\"step\":2}\n");
    try {
      const MetricsFile file(path, 5);
      ADD_FAILURE() << "accepted '" << line << "'";
    } catch (const DataError& error) {
      const std::string message = error.what();
      EXPECT_NE(message.find(path), std::string::npos);
      EXPECT_NE(message.find("line 2"), std::string::npos) << message;
    }
    EXPECT_EQ(file_contents(path), "{\"step\":1}\n" + line + "\n{\"step\":2}\n")
        << "nothing may be lost by an error";
  }
}

TEST(MetricsFile, RecordsWithoutAStepOrOutOfOrderAreOurBug) {
  MetricsFile file(fresh_path("order"), 0);
  EXPECT_THROW(file.append({{"loss", 1.0}}), Error);
  EXPECT_THROW(file.append(3), Error);
  file.append(record(2));
  EXPECT_THROW(file.append(record(1)), Error);
}

TEST(MetricsFile, FileThatCannotBeOpenedIsNamed) {
  const std::string path =
      testing::TempDir() + "no_such_folder_" + std::to_string(getpid()) + "/metrics.jsonl";
  try {
    const MetricsFile file(path, 0);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find(path), std::string::npos);
  }
}

}  // namespace
}  // namespace pendulum

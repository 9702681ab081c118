// A small configuration to change one thing in, and the error that follows.
#pragma once
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <string>

#include "config/config.h"
#include "config/nearest.h"
#include "core/error.h"
#include "error_message.h"

namespace pendulum {

inline const std::string kSmall = R"(version: 1
run: {name: small, validate: every 200 steps, save: never}
rights: {allow: [CC0-1.0]}
sources:
  stills: {data: somewhere/stills}
  clips: {data: somewhere/clips, max_epochs: 2.5}
optim: {lr: 1e-3, warmup: 50 steps}
stages:
  - {name: image, steps: 600, sources: {stills: 1}, shape: {frames: 1, size: 32x48}, batch: {stills: 64}}
  - name: low-res
    steps: 300
    sources: {clips: .8, stills: 0.2}
    shape: {frames: 9, size: 32x32, fps: 4}
    batch: {clips: 8, stills: 16}
    optim: {lr: 2e-3}
    objective: {predict: x, shift: 3}
)";

// A folder of its own for each test.
class ConfigFiles : public testing::Test {
 protected:
  void SetUp() override {
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    folder_ = testing::TempDir() + "config_" + test->name() + "_" + std::to_string(getpid());
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string write(const std::string& name, const std::string& yaml) const {
    const std::string path = folder_ + "/" + name;
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    std::ofstream(path) << yaml;
    return path;
  }

  std::string folder_;
};

inline std::string parse_error(const std::string& yaml) {
  return message_of([&] { parse_config(yaml, "x.yaml"); });
}

// kSmall with one piece of text replaced.
inline std::string with(const std::string& old_text, const std::string& new_text) {
  std::string out = kSmall;
  const size_t at = out.find(old_text);
  EXPECT_NE(at, std::string::npos) << old_text;
  return out.replace(at, old_text.size(), new_text);
}

}  // namespace pendulum

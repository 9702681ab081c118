// safetensors/read_ahead.h: the tensors in the order asked for, and errors where they belong.
#include "safetensors/read_ahead.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "core/error.h"

namespace pendulum {
namespace {

class ReadAheadTest : public testing::Test {
 protected:
  ReadAheadTest() {
    std::filesystem::create_directories(folder_);
    for (int i = 0; i < 40; ++i)
      tensors_.emplace_back(text("t", i), at::full({i, 7}, i, at::kFloat));
    write_sharded_safetensors(folder_, "weights", tensors_, 4000);
  }
  ~ReadAheadTest() override { std::filesystem::remove_all(folder_); }

  const std::string folder_ = testing::TempDir() + "read_ahead_test";
  NamedTensors tensors_;
};

TEST_F(ReadAheadTest, GivesEachTensorInTurn) {
  const ShardedSafetensors files = ShardedSafetensors::open(folder_);
  std::vector<std::string> names;
  for (auto i = tensors_.rbegin(); i != tensors_.rend(); ++i) names.push_back(i->first);
  ReadAhead ahead(files, names);
  for (auto i = tensors_.rbegin(); i != tensors_.rend(); ++i)
    EXPECT_TRUE(ahead.next().equal(i->second)) << i->first;
}

TEST_F(ReadAheadTest, MayBeLeftBeforeItsEnd) {
  const ShardedSafetensors files = ShardedSafetensors::open(folder_);
  ReadAhead ahead(files, {"t3", "t4", "t5"});
  EXPECT_TRUE(ahead.next().equal(tensors_[3].second));
}

TEST_F(ReadAheadTest, ATensorThatIsMissingIsMissingInItsTurn) {
  const ShardedSafetensors files = ShardedSafetensors::open(folder_);
  ReadAhead ahead(files, {"t1", "none", "t2"});
  EXPECT_TRUE(ahead.next().equal(tensors_[1].second));
  EXPECT_THROW(ahead.next(), DataError);
}

}  // namespace
}  // namespace pendulum

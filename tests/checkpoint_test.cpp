// Tests of checkpoints: round trips, damage of every kind, kills and full disks at every single
// system call.
#include "checkpoint/checkpoint.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <filesystem>
#include <fstream>

#include "checkpoint/checkpoint_store.h"
#include "checkpoint/manifest.h"
#include "child_process.h"
#include "core/hash.h"
#include "error_message.h"

// This program's own write, fsync, rename and unlinkat stand before the C library's and can fail or
// kill on demand.
namespace {

std::atomic<int> calls_left{-1};   // -1: calls pass; at 0 the call goes wrong
std::atomic<int> failure_code{0};  // errno of the call that goes wrong; 0: the process is killed

bool goes_wrong() {
  if (calls_left < 0 || calls_left-- != 0) return false;
  if (failure_code == 0) ::kill(::getpid(), SIGKILL);
  errno = failure_code;
  return true;
}

}  // namespace

extern "C" {
ssize_t write(int file, const void* bytes, size_t count) {
  // Half of it reaches the file, as when the disk fills up.
  if (calls_left == 0 && count > 1) syscall(SYS_write, file, bytes, count / 2);
  return goes_wrong() ? -1 : syscall(SYS_write, file, bytes, count);
}
int fsync(int file) { return goes_wrong() ? -1 : static_cast<int>(syscall(SYS_fsync, file)); }
int rename(const char* from, const char* to) noexcept {
  return goes_wrong() ? -1 : static_cast<int>(syscall(SYS_renameat, AT_FDCWD, from, AT_FDCWD, to));
}
int unlinkat(int folder, const char* path, int flags) noexcept {
  return goes_wrong() ? -1 : static_cast<int>(syscall(SYS_unlinkat, folder, path, flags));
}
int mkdir(const char* path, mode_t mode) noexcept {
  return goes_wrong() ? -1 : static_cast<int>(syscall(SYS_mkdirat, AT_FDCWD, path, mode));
}
}

namespace pendulum {
namespace {

namespace fs = std::filesystem;

std::string fresh_folder(const std::string& name) {
  const std::string folder = text(testing::TempDir(), "checkpoint_", name, "_", ::getpid());
  fs::remove_all(folder);
  fs::create_directories(folder);
  return folder;
}

CheckpointContents contents_of(int64_t step) {
  CheckpointContents contents;
  contents.tensors["model"] = {{"a", at::arange(12, at::kFloat).reshape({3, 4}) + step},
                               {"b", at::full({5}, step, at::kLong)}};
  contents.tensors["optimizer"] = {
      {"a.first_moment", at::full({3, 4}, 0.1 * static_cast<double>(step), at::kDouble)}};
  contents.tensors["none"] = {};
  contents.state = {{"step", step},
                    {"loss", 0.1 + static_cast<double>(step)},
                    {"digest", ~uint64_t{0} - step},
                    {"names", {"x", "ü"}}};
  return contents;
}

void expect_equal(const CheckpointContents& got, const CheckpointContents& expected) {
  EXPECT_EQ(got.state, expected.state);
  ASSERT_EQ(got.tensors.size(), expected.tensors.size());
  for (const auto& [stem, tensors] : expected.tensors) {
    ASSERT_TRUE(got.tensors.contains(stem)) << stem;
    ASSERT_EQ(got.tensors.at(stem).size(), tensors.size());
    for (size_t i = 0; i < tensors.size(); ++i) {
      EXPECT_EQ(got.tensors.at(stem)[i].first, tensors[i].first);
      EXPECT_EQ(got.tensors.at(stem)[i].second.scalar_type(), tensors[i].second.scalar_type());
      EXPECT_TRUE(at::equal(got.tensors.at(stem)[i].second, tensors[i].second));
    }
  }
}

std::string step_folder(const std::string& run, const std::string& name) {
  return run + "/checkpoints/" + name;
}

std::vector<std::string> entries(const std::string& run) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(run + "/checkpoints"))
    names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

void expect_latest(const std::string& run, int64_t step, size_t notes = 0) {
  const LatestCheckpoint latest = latest_checkpoint(run);
  ASSERT_TRUE(latest.folder.has_value());
  EXPECT_EQ(latest.step, step);
  EXPECT_EQ(latest.notes.size(), notes);
  expect_equal(load_checkpoint(*latest.folder), contents_of(step));
}

TEST(Checkpoint, RoundTrip) {
  const std::string run = fresh_folder("round");
  EXPECT_FALSE(latest_checkpoint(run).folder.has_value());
  CheckpointStore store(run, 3);
  EXPECT_EQ(store.save(500, contents_of(500)), step_folder(run, "step-00000500"));
  store.save(123456789, contents_of(123456789));
  EXPECT_EQ(entries(run), (std::vector<std::string>{"step-00000500", "step-123456789"}));
  expect_latest(run, 123456789);
  expect_equal(load_checkpoint(step_folder(run, "step-00000500")), contents_of(500));
}

TEST(Checkpoint, TensorsAreReadByNameShapeAndType) {
  const std::string run = fresh_folder("read");
  const std::string folder = CheckpointStore(run, 1).save(1, contents_of(1));
  const CheckpointFiles files = open_checkpoint(folder);
  const at::Tensor a = at::full({3, 4}, NAN), b = at::zeros({5}, at::kLong);
  files.read("model", {{"b", b}, {"a", a}});
  EXPECT_TRUE(at::equal(a, contents_of(1).tensors["model"][0].second));
  EXPECT_TRUE(at::equal(b, contents_of(1).tensors["model"][1].second));
  const auto refusal = [&](const std::string& stem, const NamedTensors& to) {
    return message_of<DataError>([&] { files.read(stem, to); });
  };
  const std::string path = folder + "/model.safetensors";
  EXPECT_EQ(refusal("other", {}), "the checkpoint has no file other.safetensors");
  EXPECT_NE(refusal("model", {{"c", a}}).find(path), std::string::npos);
  EXPECT_EQ(refusal("model", {{"a", at::zeros({4, 3})}}),
            path + ": tensor a has shape [3, 4], here [4, 3]");
  // The same shape, and values that would survive the conversion.
  for (const at::ScalarType type : {at::kDouble, at::kBFloat16, at::kLong}) {
    const at::Tensor other = at::full({3, 4}, 7, type);
    EXPECT_EQ(refusal("model", {{"a", other}}),
              path + text(": tensor a is of type Float, here ", type));
    EXPECT_TRUE(at::equal(other, at::full({3, 4}, 7, type)));
  }
}

TEST(Checkpoint, StateThatJsonCannotCarry) {
  const std::string run = fresh_folder("nan");
  CheckpointStore store(run, 3);
  CheckpointContents contents = contents_of(1);
  contents.state["loss"] = NAN;
  EXPECT_THROW(store.save(1, contents), Error);
  EXPECT_TRUE(entries(run).empty());
}

TEST(Checkpoint, EveryFlippedByteIsNoticed) {
  const std::string run = fresh_folder("flip");
  CheckpointStore store(run, 3);
  store.save(1, contents_of(1));
  const std::string folder = store.save(2, contents_of(2));
  int flips = 0;
  for (const auto& file : fs::directory_iterator(folder)) {
    const auto size = static_cast<int64_t>(fs::file_size(file));
    std::fstream stream(file.path(), std::ios::in | std::ios::out | std::ios::binary);
    for (int64_t place = 0; place < size; place += 7) {
      const auto flip = [&] {
        stream.seekg(place);
        const char byte = static_cast<char>(stream.get() ^ 4);
        stream.seekp(place);
        stream.put(byte).flush();
      };
      flip();
      // A flip in white space between two words of the manifest may change nothing that it says.
      const std::string damage = checkpoint_damage(folder);
      if (damage.empty()) {
        expect_equal(load_checkpoint(folder), contents_of(2));
      } else {
        EXPECT_THROW(load_checkpoint(folder), DataError);
        ++flips;
      }
      flip();
    }
  }
  EXPECT_GE(flips, 100);
  expect_latest(run, 2);
}

TEST(Checkpoint, DamagedOnesArePassedOver) {
  const std::string run = fresh_folder("damage");
  CheckpointStore store(run, 5);
  for (const int64_t step : {1, 2, 3, 4}) store.save(step, contents_of(step));
  fs::resize_file(step_folder(run, "step-00000004/model.safetensors"), 50);
  fs::remove(step_folder(run, "step-00000003/manifest.json"));
  fs::remove(step_folder(run, "step-00000002/optimizer.safetensors"));
  fs::create_directories(step_folder(run, "step-00000009"));
  fs::create_directories(step_folder(run, "step-x"));
  fs::create_directories(step_folder(run, "step-00000008.x"));
  const LatestCheckpoint latest = latest_checkpoint(run);
  ASSERT_EQ(latest.notes.size(), 4U);
  EXPECT_NE(latest.notes[0].find("no manifest.json"), std::string::npos) << latest.notes[0];
  EXPECT_NE(latest.notes[1].find("model.safetensors has 50 bytes"), std::string::npos)
      << latest.notes[1];
  EXPECT_NE(latest.notes[2].find("step-00000003"), std::string::npos);
  EXPECT_NE(latest.notes[3].find("optimizer.safetensors"), std::string::npos);
  expect_latest(run, 1, 4);
}

TEST(Checkpoint, ManifestsThatLie) {
  const std::string run = fresh_folder("manifest");
  CheckpointStore store(run, 5);
  const std::string folder = store.save(1, contents_of(1));
  const auto damage_with = [&](const std::function<void(nlohmann::json&)>& change, bool sealed) {
    nlohmann::json manifest = nlohmann::json::parse(std::ifstream(folder + "/manifest.json"));
    const nlohmann::json before = manifest;
    change(manifest);
    if (sealed) {
      manifest.erase("checksum");
      manifest["checksum"] = sha256(manifest.dump());
    }
    std::ofstream(folder + "/manifest.json") << manifest.dump();
    const std::string damage = checkpoint_damage(folder);
    std::ofstream(folder + "/manifest.json") << before.dump();
    return damage;
  };
  const auto contains = [](const std::string& damage, const std::string& words) {
    EXPECT_NE(damage.find(words), std::string::npos) << damage;
  };
  contains(damage_with([](auto& m) { m["format"] = 2; }, true), "format 2; this program reads 1");
  contains(damage_with([](auto& m) { m["step"] = 2; }, false), "checksum differs");
  contains(damage_with([](auto& m) { m.erase("state"); }, true), "not the manifest");
  contains(damage_with([](auto& m) { m["files"] = 7; }, true), "not the manifest");
  contains(damage_with([](auto& m) { m["files"]["../x"] = m["files"]["model.safetensors"]; }, true),
           "not a file of its folder");
  contains(damage_with([](auto& m) { m = 7; }, false), "not the manifest");
  EXPECT_EQ(checkpoint_damage(folder), "");
}

TEST(CheckpointStore, KeepsTheLastFew) {
  const std::string run = fresh_folder("keep");
  CheckpointStore store(run, 2);
  for (const int64_t step : {1, 2, 3}) store.save(step, contents_of(step));
  EXPECT_EQ(entries(run), (std::vector<std::string>{"step-00000002", "step-00000003"}));
  fs::remove(step_folder(run, "step-00000003/manifest.json"));
  store.save(4, contents_of(4));  // 3 is damaged and does not count, so 2 stays
  EXPECT_EQ(entries(run),
            (std::vector<std::string>{"step-00000002", "step-00000003", "step-00000004"}));
  expect_latest(run, 4);
}

// A resume from an older checkpoint saves a step that is there already, and steps below the newest.
TEST(CheckpointStore, StepSavedOnceMore) {
  const std::string run = fresh_folder("again");
  CheckpointStore store(run, 1);
  store.save(7, contents_of(8));
  store.save(7, contents_of(7));
  EXPECT_EQ(entries(run), (std::vector<std::string>{"step-00000007.1"}));
  expect_latest(run, 7);
}

TEST(CheckpointStore, JustWrittenIsKeptThoughOlderByStep) {
  const std::string run = fresh_folder("older");
  CheckpointStore store(run, 1);
  store.save(9, contents_of(9));
  store.save(5, contents_of(5));
  EXPECT_EQ(entries(run), (std::vector<std::string>{"step-00000005", "step-00000009"}));
}

TEST(CheckpointStore, AsyncWritesTheSameBytesOfThatMoment) {
  const std::string run = fresh_folder("async");
  const std::string other = fresh_folder("sync");
  CheckpointStore store(run, 3);
  CheckpointContents contents = contents_of(5);
  store.save_async(5, contents);
  contents.tensors["model"][0].second.fill_(-1);  // training goes on
  store.finish();
  CheckpointStore(other, 3).save(5, contents_of(5));
  for (const auto& file : fs::directory_iterator(step_folder(other, "step-00000005"))) {
    const std::string name = file.path().filename();
    EXPECT_EQ(sha256_of_file(step_folder(run, "step-00000005/" + name)),
              sha256_of_file(file.path()))
        << name;
  }
  expect_latest(run, 5);
}

TEST(CheckpointStore, FailureOfTheThreadReachesTheNextCall) {
  const std::string run = fresh_folder("thread");
  CheckpointStore store(run, 3);
  failure_code = ENOSPC;
  calls_left = 2;
  store.save_async(5, contents_of(5));
  EXPECT_THROW(store.save_async(6, contents_of(6)), Error);
  calls_left = -1;
  store.save_async(7, contents_of(7));
  store.finish();
  EXPECT_EQ(entries(run), std::vector<std::string>{"step-00000007"});
  calls_left = 2;
  { CheckpointStore(run, 3).save_async(8, contents_of(8)); }  // the destructor only warns
  calls_left = -1;
  expect_latest(run, 7);
}

// The disk is full, or gives errors, from any one call: the save fails by name, the one before
// stays, the next succeeds.
TEST(CheckpointStore, FailureAtEveryCall) {
  const std::string run = fresh_folder("full");
  CheckpointStore store(run, 2);
  store.save(1, contents_of(1));
  int failures = 0;
  for (int call = 0;; ++call) {
    failure_code = call % 2 == 0 ? ENOSPC : EIO;
    calls_left = call;
    std::string failure;
    try {
      store.save(2, contents_of(2));
    } catch (const Error& error) {
      failure = error.what();
    }
    const bool reached = calls_left < 0;
    calls_left = -1;
    if (!reached) break;
    ++failures;
    EXPECT_NE(failure.find(run), std::string::npos) << call << ": " << failure;
    const LatestCheckpoint latest = latest_checkpoint(run);
    ASSERT_TRUE(latest.folder.has_value());
    expect_equal(load_checkpoint(*latest.folder), contents_of(latest.step));
    fs::remove_all(
        step_folder(run, "step-00000002"));  // a failure after the rename leaves it whole
    CheckpointStore sweeping(run, 2);
    EXPECT_EQ(entries(run), std::vector<std::string>{"step-00000001"});
  }
  EXPECT_GE(failures, 20);
  expect_latest(run, 2);
}

TEST(CheckpointStore, FileSizeLimitOfTheSystem) {
  const std::string run = fresh_folder("limit");
  CheckpointStore store(run, 2);
  CheckpointContents large = contents_of(1);
  large.tensors["model"][0].second = at::zeros({1 << 20});
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit limited = before;
  limited.rlim_cur = 1 << 20;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limited), 0);
  std::string failure;
  try {
    store.save(1, large);
  } catch (const Error& error) {
    failure = error.what();
  }
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_NE(failure.find("File too large"), std::string::npos) << failure;
  EXPECT_TRUE(entries(run).empty());
}

// Killed at any one call of a save that also removes an old checkpoint: what is found is whole, and
// the next start clears up.
TEST(CheckpointStore, KilledAtEveryCall) {
  const std::string run = fresh_folder("kill");
  int kills = 0;
  bool saw_old = false;
  bool saw_new = false;
  for (int call = 0;; call += 3) {
    fs::remove_all(run + "/checkpoints");
    {
      CheckpointStore store(run, 2);
      store.save(1, contents_of(1));
      store.save(2, contents_of(2));
    }
    const ChildResult child = run_child(run, {"save", run, std::to_string(call)});
    if (!child.killed()) {
      EXPECT_EQ(child.exit_code(), 0) << child.errors;
      break;
    }
    ++kills;
    const LatestCheckpoint latest = latest_checkpoint(run);
    ASSERT_TRUE(latest.folder.has_value());
    EXPECT_TRUE(latest.notes.empty());
    saw_old |= latest.step == 2;
    saw_new |= latest.step == 3;
    expect_equal(load_checkpoint(*latest.folder), contents_of(latest.step));
    CheckpointStore next(run, 2);
    for (const std::string& name : entries(run)) EXPECT_TRUE(name.starts_with("step-")) << name;
    next.save(4, contents_of(4));
    expect_latest(run, 4);
  }
  EXPECT_GE(kills, 8);
  EXPECT_TRUE(saw_old && saw_new);
}

// The child: saves step 3 and is killed at the given call.
int save_and_die(const std::string& run, int call) {
  CheckpointStore store(run, 2);
  calls_left = call;
  store.save(3, contents_of(3));
  calls_left = -1;
  return 0;
}

}  // namespace
}  // namespace pendulum

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (argc == 4 && std::string(argv[1]) == "save")
    return pendulum::save_and_die(argv[2], std::stoi(argv[3]));
  return RUN_ALL_TESTS();
}

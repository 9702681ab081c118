// embed/umt5_encoder and embed/content_hash: layouts, keys, files and errors.
// tests/oracle/umt5_oracle.py compares the numbers with transformers.
#include "embed/umt5_encoder.h"

#include <ATen/ATen.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "embed/content_hash.h"
#include "error_message.h"
#include "small_umt5.h"

namespace pendulum {
namespace {

using namespace small_umt5;

// Long enough ago that a hash is remembered.
void age(const fs::path& path) {
  fs::last_write_time(path, fs::file_time_type::clock::now() - std::chrono::hours(1));
}

Umt5Encoder open_umt5(const fs::path& path, int length = 8) {
  return Umt5Encoder({"umt5", path.string(), length}, path.string());
}

TEST(Umt5, EveryPlaceGivesTheSameStates) {
  const fs::path folder = small_folder("places");
  const at::Tensor expected = open_umt5(folder).states("a bc");
  EXPECT_EQ(expected.sizes(), (std::vector<int64_t>{5, kWidth}));
  EXPECT_TRUE(expected.isfinite().all().item<bool>());
  EXPECT_GE(expected.abs().max().item<double>(), 0.1);

  fs::copy(folder / "tokenizer/spiece.model", folder / "text_encoder/spiece.model");
  fs::rename(folder / "tokenizer", folder / "elsewhere");
  EXPECT_TRUE(
      at::equal(open_umt5(folder / "text_encoder").states("a bc"), expected));  // all in one
  fs::rename(folder / "elsewhere", folder / "tokenizer");
  fs::remove(folder / "text_encoder/spiece.model");
  EXPECT_TRUE(at::equal(open_umt5(folder / "text_encoder").states("a bc"), expected));  // beside

  const auto tensors = small_tensors();
  write_tensors(folder / "wan.safetensors",
                in_original_names(tensors));  // its tokenizer is in tokenizer/
  EXPECT_TRUE(at::equal(open_umt5(folder / "wan.safetensors").states("a bc"), expected));

  std::map<std::string, at::Tensor> single = tensors;
  single["encoder.embed_tokens.weight"] = single["shared.weight"];
  const std::string spiece = small_spiece();
  single["spiece_model"] = at::empty({static_cast<int64_t>(spiece.size())}, at::kByte);
  std::memcpy(single["spiece_model"].data_ptr(), spiece.data(), spiece.size());
  const fs::path alone = temporary_folder("alone");
  write_tensors(alone / "comfy.safetensors", single);
  EXPECT_TRUE(at::equal(open_umt5(alone / "comfy.safetensors").states("a bc"), expected));
}

TEST(Umt5, PadsWithZerosAndCuts) {
  const Umt5Encoder encoder = open_umt5(small_folder("pads"), 6);
  const at::Tensor states = encoder.encode({"", "a bc", "a a a a a a a a"});
  EXPECT_EQ(states.sizes(), (std::vector<int64_t>{3, 6, kWidth}));
  const int64_t lengths[] = {1, 5, 6};
  for (int i = 0; i < 3; ++i) {
    const at::Tensor sizes = states[i].abs().sum(1);
    EXPECT_GE(sizes.narrow(0, 0, lengths[i]).min().item<double>(), 1e-3);
    if (lengths[i] < 6) {
      EXPECT_EQ(sizes.narrow(0, lengths[i], 6 - lengths[i]).max().item<double>(), 0);
    }
  }
  EXPECT_TRUE(at::equal(encoder.states(" a&nbsp; bc\n"), encoder.states("a bc")));
}

TEST(Umt5, ComputesInPagesAsInMemory) {
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kHalf}) {
    const fs::path folder = temporary_folder("types");
    write_tensors(folder / "x.safetensors", small_tensors(type));
    const std::vector<int64_t> tokens{5, 4, 300, 1};
    const Umt5 mapped(Umt5Weights::open((folder / "x.safetensors").string()));
    const Umt5 held(Umt5Weights::open((folder / "x.safetensors").string()), at::kCPU, at::kFloat);
    const at::Tensor expected = held.forward(tokens);
    // Both multiply the same fp32 numbers; how a product is cut into pieces may order its sums.
    EXPECT_LE((mapped.forward(tokens) - expected).norm().item<double>(),
              1e-6 * expected.norm().item<double>());
  }
}

TEST(Umt5, NamesWhatIsWrongWithTheWeights) {
  const fs::path folder = small_folder("wrong");
  const fs::path file = folder / "text_encoder/model.safetensors";
  const auto with = [&](const std::function<void(std::map<std::string, at::Tensor>&)>& change) {
    auto tensors = small_tensors();
    change(tensors);
    write_tensors(file, tensors);
    return message_of<Error>([&] { open_umt5(folder); });
  };
  const std::string norm = "encoder.block.1.layer.1.layer_norm.weight";
  expect_parts(with([&](auto& t) { t.erase(norm); }), {file.string(), norm, "missing"});
  expect_parts(with([&](auto& t) { t["lm_head.weight"] = at::zeros({2}); }),
               {file.string(), "lm_head.weight", "no place"});
  expect_parts(with([&](auto& t) { t[norm] = at::zeros({kWidth + 1}); }),
               {norm, "[13]", "expected [12]"});
  expect_parts(with([&](auto& t) {
                 t[norm] = at::zeros({kWidth, 1});
               }),
               {norm, "[12, 1]", "expected [12]"});
  expect_parts(with([&](auto& t) { t[norm] = at::zeros({kWidth}, at::kLong); }),
               {norm, "Long", "expected float32"});
  expect_parts(with([&](auto& t) {
                 t = {{"bert.x", at::zeros({2})}};
               }),
               {"not named as a UMT5 encoder's"});
  EXPECT_EQ(with([](auto&) {}), "no error");
  fs::resize_file(file, fs::file_size(file) - 10);
  expect_parts(message_of<Error>([&] { open_umt5(folder); }), {file.string()});
}

TEST(Umt5, NamesWhatIsWrongWithConfigAndTokenizer) {
  const fs::path folder = small_folder("config");
  const auto with = [&](const char* key, const nlohmann::json& value) {
    nlohmann::json config = small_config();
    config[key] = value;
    write(folder / "text_encoder/config.json", config.dump());
    return message_of<Error>([&] { open_umt5(folder); });
  };
  EXPECT_EQ(with("torch_dtype", "bfloat16"), "no error");
  expect_parts(with("model_type", "t5"), {"config.json", "model_type", "umt5"});
  expect_parts(with("feed_forward_proj", "relu"), {"config.json", "feed_forward_proj"});
  expect_parts(with("num_layers", 3), {"encoder.block.2.", "missing"});
  expect_parts(with("d_model", "wide"), {"config.json", "d_model"});
  expect_parts(with("relative_attention_num_buckets", 2), {"config.json", "buckets"});
  write(folder / "text_encoder/config.json", "{");
  expect_parts(message_of<Error>([&] { open_umt5(folder); }), {"config.json"});
  write(folder / "text_encoder/config.json", small_config().dump());

  write(folder / "tokenizer/spiece.model", small_spiece().substr(0, 30));
  expect_parts(message_of<Error>([&] { open_umt5(folder); }), {"spiece.model"});
  write(folder / "tokenizer/spiece.model", small_spiece());
  write(folder / "tokenizer/tokenizer_config.json", R"({"extra_ids": 400})");
  expect_parts(message_of<Error>([&] { open_umt5(folder); }),
               {"spiece.model", "320 rows", "407 tokens"});
  write(folder / "tokenizer/tokenizer_config.json", R"({"extra_ids": -1})");
  expect_parts(message_of<Error>([&] { open_umt5(folder); }),
               {"tokenizer_config.json", "extra_ids"});
  fs::remove_all(folder / "tokenizer");
  expect_parts(message_of<Error>([&] { open_umt5(folder); }),
               {"tokenizer is missing", "spiece.model"});
  EXPECT_THROW(open_umt5(folder), ConfigError);
  EXPECT_THROW(open_umt5("/nowhere/at/all"), ConfigError);
  const fs::path whole = small_folder("lengths");
  EXPECT_THROW(open_umt5(whole, 0), ConfigError);
  EXPECT_THROW(open_umt5(whole, 513), ConfigError);
  EXPECT_EQ(open_umt5(whole, 512).length(), 512);
}

TEST(Umt5, KeyFollowsContentAndLength) {
  const fs::path folder = small_folder("key"), file = folder / "text_encoder/model.safetensors";
  const std::string key = open_umt5(folder).key();
  EXPECT_EQ(open_umt5(folder).key(), key);
  EXPECT_NE(open_umt5(folder, 9).key(), key);
  auto tensors = small_tensors();
  tensors["shared.weight"][7][3] = 0.25;
  write_tensors(file, tensors);
  EXPECT_NE(open_umt5(folder).key(), key);
  write_tensors(file, small_tensors());
  EXPECT_EQ(open_umt5(folder).key(), key);
  write(folder / "tokenizer/spiece.model",
        spiece_bytes(small_pieces({{"▁", -4}, {"▁a", -3}, {"c", -2}, {"b", -2}})));
  EXPECT_NE(open_umt5(folder).key(), key);
}

TEST(Umt5, FilesOpenTheSameEncoderAgain) {
  const fs::path folder = small_folder("files"), copy = temporary_folder("copy");
  const Umt5Encoder encoder = open_umt5(folder);
  std::vector<std::string> names;
  for (const TakenFile& file : encoder.files()) {
    names.push_back(file.name);
    fs::create_directories((copy / file.name).parent_path());
    fs::copy(file.path, copy / file.name);
  }
  EXPECT_EQ(names,
            (std::vector<std::string>{"text_encoder/config.json", "text_encoder/model.safetensors",
                                      "tokenizer/spiece.model"}));
  EXPECT_EQ(open_umt5(copy / "text_encoder").key(), encoder.key());
  EXPECT_TRUE(at::equal(open_umt5(copy).states("a b"), encoder.states("a b")));
}

TEST(ContentHash, IsRememberedOnlyForWhatIsUntouched) {
  const fs::path folder = temporary_folder("hash"), file = folder / "weights",
                 memory = folder / ".pendulum-hashes.json";
  const std::string path = file.string();
  write(file, "one");
  const std::string hash = content_hash({path});
  EXPECT_FALSE(fs::exists(memory));  // it changed just now
  EXPECT_NE(content_hash({path, path}), hash);

  // As if the memory had been written for this very file, with another hash: it is believed.
  struct stat status {};
  const auto remember = [&](const std::string& digest) {
    ASSERT_EQ(::stat(path.c_str(), &status), 0);
    constexpr int64_t kSecond = 1'000'000'000;
    const nlohmann::json entry = {
        {"inode", status.st_ino},
        {"size", status.st_size},
        {"modified", status.st_mtim.tv_sec * kSecond + status.st_mtim.tv_nsec},
        {"changed", status.st_ctim.tv_sec * kSecond + status.st_ctim.tv_nsec},
        {"hash", digest}};
    write(memory, nlohmann::json{{"weights", entry}}.dump());
  };
  remember(std::string(64, 'a'));
  EXPECT_NE(content_hash({path}), hash);
  // Other bytes of the same number, with the old time of modification put back.
  const timespec times[] = {status.st_atim, status.st_mtim};
  write(file, "two");
  ASSERT_EQ(::utimensat(AT_FDCWD, path.c_str(), times, 0), 0);
  const std::string second = content_hash({path});
  write(file, "one");
  EXPECT_EQ(content_hash({path}), hash);
  EXPECT_NE(second, hash);
  remember("short");
  EXPECT_EQ(content_hash({path}), hash);
  write(memory, "{ broken");
  EXPECT_EQ(content_hash({path}), hash);
  EXPECT_NE(message_of<Error>([&] { content_hash({path + ".missing"}); }).find("missing"),
            std::string::npos);
}

TEST(ContentHash, IsRememberedOnceAFileHasSettled) {
  const fs::path folder = temporary_folder("settled"), file = folder / "weights";
  write(file, "one");
  ::usleep(2'100'000);  // the time of change cannot be set
  const std::string hash = content_hash({file.string()});
  ASSERT_TRUE(fs::exists(folder / ".pendulum-hashes.json"));
  EXPECT_EQ(content_hash({file.string()}), hash);
  age(file);  // touched: read again
  EXPECT_EQ(content_hash({file.string()}), hash);
}

// Longer than a piece.
TEST(ContentHash, SeesTheLastByteOfALargeFile) {
  const fs::path file = temporary_folder("large") / "weights";
  write(file, "");
  fs::resize_file(file, (int64_t{64} << 20) + 5);
  const std::string hash = content_hash({file.string()});
  std::fstream(file, std::ios::binary | std::ios::in | std::ios::out)
      .seekp(-1, std::ios::end)
      .put('x');
  EXPECT_NE(content_hash({file.string()}), hash);
}

}  // namespace
}  // namespace pendulum

// Transformers whose blocks' matrices are stored: the bits of plain ones, the bytes that they hold,
// blocks that wait in host memory, loading.
#include "model/stored_blocks.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>

#include "core/error.h"
#include "core/hash.h"
#include "counting_allocator.h"
#include "model/pretrained.h"
#include "model/video_transformer.h"
#include "safetensors/safetensors.h"
#include "support.h"

namespace pendulum {
namespace {

namespace fs = std::filesystem;

constexpr WeightStorage kAllStorages[] = {WeightStorage::fp32, WeightStorage::bf16,
                                          WeightStorage::fp8, WeightStorage::int8};
constexpr ActivationCheckpointing kCheckpointing[] = {ActivationCheckpointing::none,
                                                      ActivationCheckpointing::selective,
                                                      ActivationCheckpointing::full};
constexpr int kStoredLayers = 4;

// Rows of 34 and 72 numbers: a block of scales that is not full, and a second one.
WanConfig small_config() {
  return {.layers = kStoredLayers,
          .heads = 1,
          .head_dim = 34,
          .ffn_dim = 72,
          .freq_dim = 16,
          .in_channels = 3,
          .out_channels = 3,
          .text_dim = 10,
          .image_dim = 6};
}

const LoraConfig kLora{
    .rank = 3,
    .alpha = 6,
    .targets = {"attn1.to_q", "attn1.to_v", "to_out.0", "attn2.to_k", "add_v_proj", "ffn.net.2"}};

using Values = std::map<std::string, at::Tensor>;

Values random_values(const WanConfig& config) {
  Values values;
  for (const ParameterSpec& spec : parameter_specs(config)) {
    const at::Tensor x = random_tensor(spec.shape, hash_name(spec.name));
    values[spec.name] = spec.shape.size() == 1
                            ? x * 0.1 + 0.5
                            : x / std::sqrt(static_cast<double>(x.numel() / x.size(0)));
  }
  return values;
}

void add_adapters(VideoTransformer& model) {
  model.add_adapters(kLora, 8);
  randomise(model.trainable(), 9);
}

VideoTransformer stored_model(WeightStorage storage, const WanConfig& config = small_config(),
                              at::ScalarType master = at::kFloat) {
  VideoTransformer model(config, storage, master);
  Values values = random_values(config);
  for (const auto& [name, parameter] : model.parameters()) {
    parameter.detach().copy_(values.at(name));
    values.erase(name);
  }
  for (const auto& [name, tensor] : values) model.store(name, tensor);
  add_adapters(model);
  return model;
}

// What a stored matrix holds, by ATen in fp64, in fp32.
at::Tensor restored_by_aten(const StoredWeight& weight) {
  at::Tensor x = weight.codes.to(at::kDouble);
  if (weight.scales.defined()) {
    const at::Tensor scales = weight.scales.to(at::kDouble).repeat_interleave(64, 1);
    x = x * scales.slice(1, 0, weight.columns);
  }
  return x.to(at::kFloat);
}

// A plain model with the weights that the stored one computes with.
VideoTransformer plain_like(const VideoTransformer& stored, at::ScalarType master = at::kFloat) {
  VideoTransformer model(stored.config(), std::nullopt, master);
  Values values = random_values(stored.config());
  for (auto& [name, tensor] : values) {
    if (const auto weight = stored.stored()->find(name)) tensor = restored_by_aten(*weight);
  }
  model.load(values);
  add_adapters(model);
  return model;
}

at::Tensor run_stored(const VideoTransformer& model, at::ScalarType type = at::kFloat) {
  return model.forward(
      random_tensor({2, 3, 2, 4, 6}, 1, type), random_tensor({2}, 2, type).sigmoid() * 1000,
      random_tensor({2, 5, 10}, 3, type), nullptr, random_tensor({2, 4, 6}, 4, type));
}

// The output and all adapters' gradients.
std::vector<at::Tensor> results_of(const VideoTransformer& model,
                                   at::ScalarType type = at::kFloat) {
  for (const auto& [name, parameter] : model.trainable())
    at::Tensor(parameter).mutable_grad().reset();
  const at::Tensor out = run_stored(model, type);
  out.backward(random_tensor(out.sizes(), 5, type));
  std::vector<at::Tensor> results{out.detach()};
  for (const auto& [name, parameter] : model.trainable()) results.push_back(parameter.grad());
  return results;
}

void expect_same(const std::vector<at::Tensor>& found, const std::vector<at::Tensor>& want,
                 const std::string& what) {
  ASSERT_EQ(found.size(), want.size());
  for (size_t i = 0; i < want.size(); ++i) {
    ASSERT_TRUE(found[i].defined() && want[i].defined()) << what << ", result " << i;
    EXPECT_TRUE(same_bits(found[i], want[i])) << what << ", result " << i;
    EXPECT_GT(want[i].abs().max().item<double>(), 0) << what << ", result " << i;
  }
}

TEST(StoredBlocks, GiveTheBitsOfThePlainModel) {
  for (const WeightStorage storage : kAllStorages) {
    VideoTransformer model = stored_model(storage);
    VideoTransformer plain = plain_like(model);
    EXPECT_EQ(plain.base().size(), random_values(small_config()).size());
    EXPECT_LT(model.base().size(), plain.base().size());
    for (const at::ScalarType compute : {at::kFloat, at::kBFloat16}) {
      model.set_compute(compute);
      plain.set_compute(compute);
      const auto want = results_of(plain);
      for (const ActivationCheckpointing policy : kCheckpointing) {
        model.set_activation_checkpointing(policy);
        expect_same(results_of(model), want, text(in_words(storage), ", ", compute));
      }
    }
  }
}

// Storing fp32 as it is loses nothing, and fp64 masters compute with what is stored.
TEST(StoredBlocks, TakeTheMastersTypeForTheRest) {
  const VideoTransformer whole = stored_model(WeightStorage::fp32);
  for (const auto& [name, values] : random_values(small_config())) {
    if (const auto weight = whole.stored()->find(name)) {
      EXPECT_TRUE(at::equal(weight->codes, values)) << name;
    }
  }
  const VideoTransformer wide = stored_model(WeightStorage::int8, small_config(), at::kDouble);
  expect_same(results_of(wide, at::kDouble), results_of(plain_like(wide, at::kDouble), at::kDouble),
              "fp64");
}

TEST(StoredBlocks, OnlyFrozenMatricesOfBlocksAreStored) {
  const VideoTransformer model = stored_model(WeightStorage::int8);
  int64_t numbers = 0;
  for (const ParameterSpec& spec : parameter_specs(small_config())) {
    const auto weight = model.stored()->find(spec.name);
    const bool is_matrix = spec.name.starts_with("blocks.") && spec.shape.size() == 2;
    EXPECT_EQ(weight != nullptr, is_matrix) << spec.name;
    if (weight) numbers += spec.shape[0] * spec.shape[1];
  }
  EXPECT_EQ(model.stored()->numbers(), numbers);
  for (const auto& [name, parameter] : model.base())
    EXPECT_FALSE(parameter.requires_grad()) << name;
  VideoTransformer merged = stored_model(WeightStorage::fp32);
  EXPECT_THROW(merged.merge_adapters(), Error);
}

// Most of it matrices of blocks.
WanConfig deep_config() {
  return {.layers = 24,
          .heads = 1,
          .head_dim = 128,
          .ffn_dim = 512,
          .freq_dim = 16,
          .in_channels = 3,
          .out_channels = 3,
          .text_dim = 10};
}

// The most bytes at any time in a forward and backward pass, the weights among them.
int64_t peak_of_pass(VideoTransformer& model) {
  model.set_activation_checkpointing(ActivationCheckpointing::full);
  model.add_adapters({.rank = 1, .targets = {"to_q"}}, 1);
  CountingAllocator::peak = CountingAllocator::held.load();
  model
      .forward(random_tensor({1, 3, 1, 4, 4}, 1), at::full({1}, 300.0F),
               random_tensor({1, 2, 10}, 2))
      .sum()
      .backward();
  return CountingAllocator::peak;
}

TEST(StoredBlocks, HoldFewBytes) {
  const Counting counting;
  int64_t plain = 0;
  {
    VideoTransformer model(deep_config(), 1);
    plain = peak_of_pass(model);
  }
  const auto share = [&](WeightStorage storage, int swapped = 0) {
    VideoTransformer model(deep_config(), storage);
    for (const auto& [name, parameter] : model.parameters()) parameter.detach().fill_(0.01);
    for (const ParameterSpec& spec : parameter_specs(deep_config())) {
      if (model.stored()->find(spec.name)) model.store(spec.name, at::full(spec.shape, 0.01));
    }
    if (swapped > 0) model.set_swap_blocks(swapped);
    return static_cast<double>(peak_of_pass(model)) / static_cast<double>(plain);
  };
  // The rest of the model, activations and one restored matrix are 4 % beside the matrices.
  EXPECT_LE(share(WeightStorage::fp32), 1.01);
  EXPECT_LE(share(WeightStorage::bf16), 0.5 + 0.04);
  EXPECT_LE(share(WeightStorage::fp8), 0.266 + 0.04);
  EXPECT_LE(share(WeightStorage::int8), 0.266 + 0.04);
  // Where host memory is the device's: two places more.
  EXPECT_LE(share(WeightStorage::int8, 20), 0.266 * (1 + 2.0 / 24) + 0.04);
}

// --- blocks that wait in host memory ---

TEST(SwappedBlocks, ChangeNoBits) {
  for (const WeightStorage storage : {WeightStorage::fp32, WeightStorage::int8}) {
    for (const ActivationCheckpointing policy : kCheckpointing) {
      VideoTransformer model = stored_model(storage);
      model.set_activation_checkpointing(policy);
      const auto want = results_of(model);
      for (const int swapped : {1, 2, 3, kStoredLayers, 0}) {
        model.set_swap_blocks(swapped);
        const std::string what = text(in_words(storage), ", ", swapped, " swapped");
        expect_same(results_of(model), want, what);
        {
          const at::NoGradGuard no_grad;
          EXPECT_TRUE(same_bits(run_stored(model), want[0])) << what;
        }
        expect_same(results_of(model), want, what + ", once more");
      }
    }
  }
}

// What is on the device or on its way when a unit's moment has come.
using Seen = std::vector<std::tuple<int, PassMoment, std::vector<int>>>;

Seen moments_of(VideoTransformer& model, bool trains) {
  Seen seen;
  model.set_observer([&](int unit, PassMoment moment) {
    seen.emplace_back(unit - 1, moment, model.stored()->resident());
  });
  if (trains) {
    results_of(model);
  } else {
    const at::NoGradGuard no_grad;
    run_stored(model);
  }
  model.set_observer({});
  return seen;
}

TEST(SwappedBlocks, ComeOneAheadAndGoBehindTheirUse) {
  constexpr auto before_forward = PassMoment::before_forward;
  constexpr auto after_forward = PassMoment::after_forward;
  constexpr auto before_backward = PassMoment::before_backward;
  constexpr auto after_backward = PassMoment::after_backward;
  for (const ActivationCheckpointing policy : kCheckpointing) {
    VideoTransformer model = stored_model(WeightStorage::int8);
    model.set_activation_checkpointing(policy);
    model.set_swap_blocks(3);  // blocks 1, 2 and 3
    const Seen forward{
        {-1, before_forward, {}},    {0, before_forward, {1}}, {0, after_forward, {1}},
        {1, before_forward, {1, 2}}, {1, after_forward, {2}},  {2, before_forward, {2, 3}},
        {2, after_forward, {3}},     {3, before_forward, {3}},
    };
    Seen alone = forward;
    alone.insert(alone.end(), {{3, after_forward, {}}, {-1, after_forward, {}}});
    Seen whole = forward;
    whole.insert(whole.end(), {{3, after_forward, {3}},
                               {-1, after_forward, {3}},
                               {3, before_backward, {2, 3}},
                               {3, after_backward, {2}},
                               {2, before_backward, {1, 2}},
                               {2, after_backward, {1}},
                               {1, before_backward, {1}},
                               {1, after_backward, {}},
                               {0, before_backward, {}},
                               {0, after_backward, {}}});
    for (int pass = 0; pass < 2; ++pass) {
      EXPECT_EQ(moments_of(model, true), whole);
      EXPECT_EQ(moments_of(model, false), alone);
    }
  }
}

TEST(SwappedBlocks, AllOfThemComeFromTheBeginning) {
  VideoTransformer model = stored_model(WeightStorage::fp8);
  model.set_swap_blocks(kStoredLayers);
  const Seen seen = moments_of(model, true);
  EXPECT_EQ(std::get<2>(seen.front()), std::vector<int>{0});
  EXPECT_EQ(std::get<2>(seen.back()), std::vector<int>());
  for (const auto& [block, moment, resident] : seen) {
    EXPECT_LE(resident.size(), 2U);
    const bool is_used =
        moment == PassMoment::before_forward || moment == PassMoment::before_backward;
    if (block >= 0 && is_used) {
      EXPECT_EQ(std::count(resident.begin(), resident.end(), block), 1);
    }
  }
}

// Blocks whose matrices can be read.
std::vector<int> readable(const VideoTransformer& model) {
  std::vector<int> blocks;
  for (int block = 0; block < kStoredLayers; ++block) {
    if (model.stored()->find(text("blocks.", block, ".ffn.net.2.weight"))->codes.defined())
      blocks.push_back(block);
  }
  return blocks;
}

// As after an error: what was there or on its way makes room.
TEST(SwappedBlocks, APassThatIsAbandonedDoesNotMatter) {
  VideoTransformer model = stored_model(WeightStorage::int8);
  const auto want = results_of(model);
  for (const int swapped : {2, kStoredLayers}) {
    model.set_swap_blocks(swapped);
    for (const int last : {1, 2, kStoredLayers}) {  // units
      model.set_observer([&](int unit, PassMoment moment) {
        if (unit == last && moment == PassMoment::before_forward) throw DataError("enough");
      });
      EXPECT_THROW(run_stored(model), DataError);
      model.set_observer([&](int unit, PassMoment moment) {
        if (moment == PassMoment::before_forward || moment == PassMoment::before_backward) {
          const bool is_swapped = unit > kStoredLayers - swapped;
          std::vector<int> now;
          for (int block = 0; block < kStoredLayers - swapped; ++block) now.push_back(block);
          if (is_swapped) now.push_back(unit - 1);
          EXPECT_EQ(readable(model), now) << "unit " << unit;
        }
      });
      run_stored(model);  // the backward pass never comes
      expect_same(results_of(model), want, text(swapped, " swapped, abandoned at ", last));
      EXPECT_TRUE(model.stored()->resident().empty());
    }
    model.set_observer({});
  }
}

// Blocks before the first trained one have no backward pass.
TEST(SwappedBlocks, NoneIsSentForThatNoGradientReaches) {
  VideoTransformer model = stored_model(WeightStorage::int8);
  model.set_swap_blocks(kStoredLayers);
  for (const auto& [name, parameter] : model.trainable()) {
    if (name.starts_with("blocks.0.") || name.starts_with("blocks.1."))
      at::Tensor(parameter).set_requires_grad(false);
  }
  ASSERT_EQ(model.first_trained_block(), 2);
  Seen backward;
  model.set_observer([&](int unit, PassMoment moment) {
    if (moment == PassMoment::before_backward || moment == PassMoment::after_backward)
      backward.emplace_back(unit - 1, moment, model.stored()->resident());
  });
  run_stored(model).sum().backward();
  EXPECT_EQ(backward, (Seen{{3, PassMoment::before_backward, {2, 3}},
                            {3, PassMoment::after_backward, {2}},
                            {2, PassMoment::before_backward, {2}},
                            {2, PassMoment::after_backward, {}}}));
}

TEST(SwappedBlocks, MoreThanThereAreAreRefused) {
  VideoTransformer model = stored_model(WeightStorage::int8);
  try {
    model.set_swap_blocks(kStoredLayers + 1);
    ADD_FAILURE() << "accepted";
  } catch (const ConfigError& error) {
    EXPECT_STREQ(error.what(), "model.swap_blocks is 5, but the model has 4 blocks");
  }
}

// --- loading ---

class LoadingStoredBlocks : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(testing::TempDir()) / ("stored_blocks_" + std::to_string(getpid()));
    fs::create_directories(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }
  std::string write(const Values& values) const {
    const std::string path = (folder_ / "weights.safetensors").string();
    write_safetensors(path, {values.begin(), values.end()});
    return path;
  }
  fs::path folder_;
};

TEST_F(LoadingStoredBlocks, ConvertsEachMatrixAsItComes) {
  const Values values = random_values(deep_config());
  const auto found = PretrainedTransformer::open(write(values));
  const Counting counting;
  for (const WeightStorage storage : kAllStorages) {
    VideoTransformer model(deep_config(), storage);
    const int64_t before = CountingAllocator::held;
    CountingAllocator::peak = before;
    found.load_into(model);
    const int64_t largest = int64_t{4} * 128 * 128 * 6;  // the time's projection
    EXPECT_LE(CountingAllocator::peak - before, 2 * largest) << in_words(storage);
    EXPECT_EQ(CountingAllocator::held, before);
    for (const auto& [name, parameter] : model.parameters())
      EXPECT_TRUE(at::equal(parameter, values.at(name))) << name;
    const auto weight = model.stored()->find("blocks.7.attn1.to_k.weight");
    EXPECT_LE(
        relative_difference(restored_by_aten(*weight), values.at("blocks.7.attn1.to_k.weight")),
        0.04);
  }
}

TEST_F(LoadingStoredBlocks, TheFingerprintIsThatOfTheFile) {
  const auto found = PretrainedTransformer::open(write(random_values(deep_config())));
  VideoTransformer plain(deep_config(), std::nullopt);
  found.load_into(plain);
  const std::string want = fingerprint(plain.parameters());
  for (const WeightStorage storage : kAllStorages) {
    VideoTransformer model(deep_config(), storage);
    Fingerprint read;
    found.load_into(model, &read);
    EXPECT_EQ(read.digits(), want) << in_words(storage);
  }
}

TEST_F(LoadingStoredBlocks, RefusesWhatIsNotFinite) {
  const std::string name = "blocks.3.attn2.to_v.weight";
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    Values values = random_values(deep_config());
    values.at(name)[5][7] = bad;
    const auto found = PretrainedTransformer::open(write(values));
    for (const WeightStorage storage : kAllStorages) {
      VideoTransformer model(deep_config(), storage);
      try {
        found.load_into(model);
        ADD_FAILURE() << "accepted " << bad;
      } catch (const DataError& error) {
        EXPECT_NE(std::string(error.what()).find(name + " holds values that are not finite"),
                  std::string::npos)
            << error.what();
      }
    }
  }
}

}  // namespace
}  // namespace pendulum

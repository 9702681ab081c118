// embed/wan_*: division into pieces and tiles changes nothing, what was drawn and normalised, what
// is refused, threads. Values are judged by oracle/wan_codec_oracle.py.
#include "embed/wan_codec.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "core/error.h"
#include "core/random.h"
#include "counting_allocator.h"
#include "random_frames.h"
#include "random_wan_vae.h"
#include "support.h"

namespace pendulum {
namespace {

namespace fs = std::filesystem;

class WanCodecTest : public testing::TestWithParam<bool> {
 protected:
  // Of small tensors two threads mostly wait for each other, on a busy machine for ever so long.
  // The oracle runs with all.
  static void SetUpTestSuite() { at::set_num_threads(1); }
  void SetUp() override {
    base_ = testing::TempDir() + "wan_codec_" + std::to_string(::getpid());
    fs::remove_all(base_);
    folder_ = base_ + "/vae";
    config_ = small_wan_vae(GetParam());
    write_random_wan_vae(folder_, config_);
  }
  void TearDown() override { fs::remove_all(base_); }

  CodecConfig settings(const std::string& weights = "") const {
    return {.kind = "wan", .weights = weights.empty() ? folder_ : weights, .device = "cpu"};
  }
  std::string write(const NamedTensors& tensors) const {
    const std::string path = base_ + "/one.safetensors";
    write_safetensors(path, tensors);
    return path;
  }
  static bool refuses(const CodecConfig& config) {
    try {
      make_codec(config);
    } catch (const ConfigError&) {
      return true;
    }
    return false;
  }
  template <class Failure>
  std::string refusal(const std::string& path) const {
    try {
      make_codec(settings(path));
    } catch (const Failure& e) {
      return e.what();
    }
    return "nothing was refused";
  }

  std::string base_, folder_;
  WanVaeConfig config_;
};
INSTANTIATE_TEST_SUITE_P(Variants, WanCodecTest, testing::Values(false, true),
                         [](const auto& variant) { return variant.param ? "Wan22" : "Wan21"; });

// The same operations on the same numbers; sums of a convolution may be in another order.
constexpr double kSameSums = 2e-6;

// Three levels with as few blocks as there can be: what tiles reach is a third of Wan's own. The
// oracle has tiles of all four levels.
WanVaeConfig shallow(WanVaeConfig config) {
  config.dim_mult = {1, 2, 2};
  config.num_res_blocks = 1;
  config.temporal_downsample = {config.is_residual, true};
  return config;
}

TEST_P(WanCodecTest, PiecesStripsAndTilesGiveWhatTheWholeGives) {
  config_ = shallow(config_);
  write_random_wan_vae(folder_, config_);
  const int edge = config_.spatial(), latent_frames = GetParam() ? 3 : 4;
  // So large that tiles do not reach everywhere: 6 cells beyond their own, in decoding 8.
  const Shape shape{config_.temporal() * (latent_frames - 1) + 1, 11 * edge, 10 * edge};
  const int height = 12, width = 13;
  const at::Tensor pixels = random_tensor({shape.frames, 3, shape.height, shape.width}, 1);
  const PixelSource source = [&](int64_t first, int64_t count, const FrameRegion& r) {
    return pixels.narrow(0, first, count).narrow(2, r.y, r.height).narrow(3, r.x, r.width);
  };
  const at::Tensor z = random_tensor({config_.z_dim, latent_frames, height, width}, 2);
  const auto decoded = [&](const WanVae& vae, const at::Tensor& latent) {
    at::Tensor out =
        at::full({shape.frames, 3, latent.size(2) * edge, latent.size(3) * edge}, std::nan(""));
    vae.decode(latent, [&](int64_t first, const FrameRegion& r, const at::Tensor& found) {
      out.narrow(0, first, found.size(0))
          .narrow(2, r.y, r.height)
          .narrow(3, r.x, r.width)
          .copy_(found);
    });
    return out;
  };
  const WanVaeWeights weights = WanVaeWeights::open(folder_);
  const WanVae whole(weights, {.pixels_at_once = int64_t{1} << 40});
  const at::Tensor posterior = whole.encode(shape, source), frames = decoded(whole, z);
  EXPECT_GT(posterior.std().item<double>(), 0.1);
  // Rows of single frames; strips of several rows, at the lower levels whole frames; several
  // frames; tiles, in strips too.
  for (const WanVaeOptions& options :
       std::vector<WanVaeOptions>{{.pixels_at_once = 1},
                                  {.pixels_at_once = 600},
                                  {.pixels_at_once = 7000},
                                  {.pixels_at_once = 600, .tile = 3 * edge},
                                  {.tile = 3 * edge}}) {
    const WanVae divided(weights, options);
    EXPECT_LE(relative_difference(divided.encode(shape, source), posterior), kSameSums)
        << options.pixels_at_once << " " << options.tile;
    EXPECT_LE(relative_difference(decoded(divided, z), frames), kSameSums)
        << options.pixels_at_once << " " << options.tile;
  }
  // A tile for every latent pixel, of one row of them.
  const WanVae finest(weights, {.tile = edge});
  const Shape line{shape.frames, edge, 6 * edge};
  EXPECT_LE(relative_difference(finest.encode(line, source), whole.encode(line, source)),
            kSameSums);
  const at::Tensor row = z.narrow(2, 0, 1).narrow(3, 0, 6);
  EXPECT_LE(relative_difference(decoded(finest, row), decoded(whole, row)), kSameSums);
}

TEST_P(WanCodecTest, TheFirstFramesDoNotSeeTheLaterOnes) {
  const WanCodec codec(settings());
  const int edge = config_.spatial();
  const Frames clip = random_frames(13, 2 * edge, 3 * edge, 5);
  const at::Tensor all = codec.encode(clip);
  EXPECT_EQ(all.sizes(), (std::vector<int64_t>{32, 4, 2, 3}));
  for (const int count : {1, 5, 9}) {
    Frames begin(count, clip.height, clip.width);
    std::copy_n(clip.rgb.begin(), begin.rgb.size(), begin.rgb.begin());
    const at::Tensor found = codec.encode(begin);
    EXPECT_LE(relative_difference(found, all.narrow(1, 0, (count - 1) / 4 + 1)), kSameSums);
  }
}

TEST_P(WanCodecTest, EachHalfIsInMemoryFromItsFirstUse) {
  int64_t encoder = 0, decoder = 0;
  for (const WanVaeParameter& parameter : wan_vae_parameters(config_)) {
    const bool decodes =
        parameter.name.starts_with("decoder") || parameter.name.starts_with("post");
    (decodes ? decoder : encoder) += 4 * c10::multiply_integers(parameter.shape);
  }
  const int edge = config_.spatial();
  const Counting counting;
  const int64_t before = CountingAllocator::held;
  const auto held = [&] { return CountingAllocator::held - before; };
  const WanCodec codec(settings());
  const int64_t beside = held();  // statistics of latents
  EXPECT_LE(beside, 4096);
  codec.encode(random_frames(1, edge, edge, 5));
  EXPECT_EQ(held(), beside + encoder);
  codec.decode(at::zeros({16, 1, 1, 1}));
  EXPECT_EQ(held(), beside + encoder + decoder);
}

TEST_P(WanCodecTest, WeightsOverwrittenMeanwhileAreRefused) {
  const WanCodec codec(settings());
  const int edge = config_.spatial();
  const at::Tensor posterior = codec.encode(random_frames(1, edge, edge, 5));
  const fs::path file = folder_ + "/diffusion_pytorch_model.safetensors";
  const auto bytes = static_cast<std::streamoff>(fs::file_size(file));
  std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
  const float other = 0.5F;
  for (std::streamoff place = bytes / 2 / 4 * 4 + bytes % 4; place < bytes; place += 4096)
    stream.seekp(place).write(reinterpret_cast<const char*>(&other), 4);
  stream.close();
  EXPECT_EQ(codec.encode(random_frames(1, edge, edge, 5)).sizes(), posterior.sizes());  // has it
  try {
    codec.decode(at::zeros({16, 1, 1, 1}));
    ADD_FAILURE() << "nothing was refused";
  } catch (const DataError& error) {
    EXPECT_NE(std::string(error.what()).find("have changed on disk"), std::string::npos);
  }
}

TEST_P(WanCodecTest, LatentsAreDrawnAndThenNormalised) {
  const WanCodec drawing(settings());
  CodecConfig settled = settings();
  settled.sample = false;
  const WanCodec codec(settled);
  EXPECT_EQ(codec.channels(), 16);
  const at::Tensor posterior = random_tensor({32, 3, 20, 20}, 3);
  const at::Tensor mean = posterior.narrow(0, 0, 16), log_variance = posterior.narrow(0, 16, 16);
  const at::Tensor shift = at::tensor(config_.latents_mean).view({16, 1, 1, 1});
  const at::Tensor scale = at::tensor(config_.latents_std).view({16, 1, 1, 1});
  EXPECT_TRUE(near(codec.latent(posterior, 1), (mean - shift) / scale, 1e-6));
  EXPECT_TRUE(at::equal(codec.latent(posterior, 1), codec.latent(posterior, 2)));

  const at::Tensor latent = drawing.latent(posterior, 1);
  EXPECT_TRUE(at::equal(latent, drawing.latent(posterior, 1)));
  EXPECT_FALSE(at::equal(latent, drawing.latent(posterior, 2)));
  const at::Tensor noise = (latent * scale + shift - mean) / (log_variance / 2).exp();
  // 19200 standard normal numbers: their mean and mean square are within 5 deviations of 0 and 1.
  EXPECT_LE(std::abs(noise.mean().item<double>()), 5 / std::sqrt(19200));
  EXPECT_LE(std::abs(noise.square().mean().item<double>() - 1), 5 * std::sqrt(2.0 / 19200));

  // decode undoes the normalisation: pixels of z are those of its latent.
  const at::Tensor z = random_tensor({16, 2, 2, 2}, 4);
  const Frames found = codec.decode((z - shift) / scale);
  const WanVae vae(WanVaeWeights::open(folder_), {});
  vae.decode(z, [&](int64_t first, const FrameRegion&, const at::Tensor& pixels) {
    for (int64_t t = 0; t < pixels.size(0); ++t) {
      const double exact = (pixels[t][1][3][2].item<double>() + 1) * 127.5;
      const double level = *(found.pixel(static_cast<int>(first + t), 3, 2) + 1);
      EXPECT_LE(std::abs(std::clamp(exact, 0.0, 255.0) - level), 0.51);
    }
  });
}

TEST_P(WanCodecTest, EveryLayoutIsTheSameCodec) {
  const std::unique_ptr<Codec> codec = make_codec(settings());
  EXPECT_EQ(codec->spatial(), GetParam() ? 16 : 8);
  EXPECT_EQ(codec->temporal(), 4);
  for (const bool original : {false, true}) {
    const std::string path = write(random_wan_vae(config_, original));
    EXPECT_EQ(make_codec(settings(path))->describe(), codec->describe()) << original;
  }
  fs::create_directories(base_ + "/pipeline");
  fs::rename(folder_, base_ + "/pipeline/vae");
  EXPECT_EQ(make_codec(settings(base_ + "/pipeline"))->key(), codec->key());
  make_codec(settings(base_ + "/pipeline"))->write_weights(base_ + "/again");
  EXPECT_EQ(make_codec(settings(base_ + "/again"))->describe(), codec->describe());
}

TEST_P(WanCodecTest, RefusesWhatDoesNotFit) {
  const std::unique_ptr<Codec> codec = make_codec(settings());
  const int edge = codec->spatial();
  EXPECT_THROW(codec->encode(random_frames(4, edge, edge, 5)), ConfigError);
  EXPECT_THROW(codec->encode(random_frames(5, edge, edge + edge / 2, 5)), ConfigError);
  EXPECT_THROW(codec->decode(at::zeros({15, 1, 2, 2})), Error);
  CodecConfig tiled = settings();
  tiled.tile = 24;
  EXPECT_EQ(refuses(tiled), GetParam());  // 16 does not divide 24, 8 does
  EXPECT_NE(refusal<ConfigError>(base_ + "/nowhere").find("codec.weights"), std::string::npos);

  const auto said = [&](const NamedTensors& tensors, const char* words) {
    const std::string message = refusal<DataError>(write(tensors));
    EXPECT_NE(message.find(words), std::string::npos) << message;
  };
  NamedTensors lacking = random_wan_vae(config_, true);
  std::erase_if(lacking, [](const auto& w) { return w.first == "decoder.middle.1.proj.bias"; });
  said(lacking, "decoder.middle.1.proj.bias is missing");
  NamedTensors more = random_wan_vae(config_, true);
  more.emplace_back("decoder.extra", at::zeros({2}));
  said(more, "decoder.extra has no place");
  NamedTensors bent = random_wan_vae(config_, true);
  for (auto& [name, tensor] : bent) {
    if (name == "encoder.head.2.bias") tensor = at::zeros({31});
  }
  said(bent, "encoder.head.2.bias has the shape [31], expected [32]");
  NamedTensors whole_numbers = random_wan_vae(config_, true);
  for (auto& [name, tensor] : whole_numbers) {
    if (name == "conv1.bias") tensor = tensor.to(at::kLong);
  }
  said(whole_numbers, "conv1.bias holds numbers of type Long");
  NamedTensors infinite = random_wan_vae(config_);
  infinite.back().second.view(-1)[0] = std::nan("");
  said(infinite, "not all finite");
  said({{"blocks.0.attn1.to_q.weight", at::zeros({2, 2})}}, "not named as those of Wan's VAE");

  const std::string file = write(random_wan_vae(config_));
  fs::resize_file(file, fs::file_size(file) - 100);
  EXPECT_NE(refusal<DataError>(file).find(file), std::string::npos);
}

TEST_P(WanCodecTest, ConfigurationsAreChecked) {
  const auto said = [&](const char* field, const nlohmann::json& value) {
    nlohmann::json json = wan_vae_config_json(config_);
    json[field] = value;
    std::ofstream(folder_ + "/config.json") << json;
    const std::string message = refusal<DataError>(folder_);
    EXPECT_NE(message.find(field), std::string::npos) << message;
    EXPECT_NE(message.find("config.json"), std::string::npos) << message;
  };
  said("_class_name", "AutoencoderKL");
  said("base_dim", -8);
  said("base_dim", 1e30);
  said("z_dim", "16");
  said("dim_mult", nlohmann::json::array());
  said("dim_mult", {1, 2, 0, 4});
  said("temperal_downsample", {true});
  said("latents_mean", {1, 2});
  said("latents_std", std::vector<double>(16, 0.0));
  said("attn_scales", {0.5});
  said("patch_size", 0);
  said("in_channels", 5);
  std::ofstream(folder_ + "/config.json") << "{";
  EXPECT_NE(refusal<DataError>(folder_).find("no JSON"), std::string::npos);
}

TEST_P(WanCodecTest, ThreadsDoNotDisturbEachOther) {
  const WanCodec codec(settings());
  const int edge = config_.spatial();
  const Frames clip = random_frames(9, 2 * edge, 2 * edge, 5);
  const at::Tensor latent = random_tensor({16, 2, 2, 2}, 6);
  const at::Tensor expected = codec.encode(clip);
  const Frames shown = codec.decode(latent);
  std::vector<double> off(4, 1);
  std::vector<std::thread> threads;
  for (size_t i = 0; i < off.size(); ++i) {
    threads.emplace_back([&, i] {
      at::set_num_threads(1);
      off[i] = 0;
      for (int turn = 0; turn < 3; ++turn) {
        off[i] += relative_difference(codec.encode(clip), expected);
        off[i] += codec.decode(latent).rgb == shown.rgb ? 0 : 1;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const double difference : off) EXPECT_LE(difference, 6 * kSameSums);
}

}  // namespace
}  // namespace pendulum

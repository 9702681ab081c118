// embed/minilm and embed/text_encoder: padding, independence, names and errors.
// tests/oracle/minilm_oracle.py compares the numbers with transformers.
#include "embed/minilm.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "embed/minilm_encoder.h"
#include "error_message.h"
#include "safetensors/safetensors.h"

namespace pendulum {
namespace {

namespace fs = std::filesystem;

std::string weights() { return find_text_weights({}, default_environments()); }

const MiniLmEncoder& encoder() {
  static const MiniLmEncoder instance({"minilm", "auto", 16}, weights());
  return instance;
}

std::string temporary_folder(const std::string& name) {
  const std::string folder = testing::TempDir() + "minilm_" + name + std::to_string(::getpid());
  fs::remove_all(folder);
  fs::create_directories(folder);
  return folder;
}

// A BERT of random weights, width 8, so small that its forward pass can be written down in loops.
struct TinyBert {
  int width = 8, heads = 2, inner = 12, vocabulary = 11, positions = 6;
  std::string folder = temporary_folder("tiny");
  std::map<std::string, at::Tensor> tensors;

  explicit TinyBert(const std::string& prefix = "") {
    const auto add = [&](const std::string& name, at::IntArrayRef shape) {
      const int64_t count = c10::multiply_integers(shape);
      const double seed = static_cast<double>(tensors.size());
      tensors[name] =
          at::sin(at::arange(count, at::kDouble) * 1.7 + seed).reshape(shape).to(at::kFloat);
    };
    add("embeddings.word_embeddings.weight", {vocabulary, width});
    add("embeddings.position_embeddings.weight", {positions, width});
    add("embeddings.token_type_embeddings.weight", {2, width});
    const auto affine = [&](const std::string& name, int64_t out, int64_t in) {
      add(name + ".weight", in > 0 ? at::IntArrayRef{out, in} : at::IntArrayRef{out});
      add(name + ".bias", {out});
    };
    affine("embeddings.LayerNorm", width, 0);
    for (const char* part : {"query", "key", "value"}) {
      affine(std::string("encoder.layer.0.attention.self.") + part, width, width);
    }
    affine("encoder.layer.0.attention.output.dense", width, width);
    affine("encoder.layer.0.attention.output.LayerNorm", width, 0);
    affine("encoder.layer.0.intermediate.dense", inner, width);
    affine("encoder.layer.0.output.dense", width, inner);
    affine("encoder.layer.0.output.LayerNorm", width, 0);
    NamedTensors named;
    for (const auto& [name, tensor] : tensors) named.emplace_back(prefix + name, tensor);
    write_safetensors(folder + "/model.safetensors", named);
    write_config(nlohmann::json::object());
  }

  void write_config(const nlohmann::json& changes) const {
    nlohmann::json config = {{"model_type", "bert"},       {"hidden_act", "gelu"},
                             {"hidden_size", width},       {"num_attention_heads", heads},
                             {"intermediate_size", inner}, {"num_hidden_layers", 1},
                             {"layer_norm_eps", 1e-12}};
    config.update(changes);
    std::ofstream(folder + "/config.json") << config;
  }

  at::Tensor operator[](const std::string& name) const { return tensors.at(name).to(at::kDouble); }

  // The definition, in fp64.
  at::Tensor forward(const std::vector<int64_t>& tokens) const {
    const auto affine = [&](const std::string& name, const at::Tensor& x) {
      return at::matmul(x, (*this)[name + ".weight"].t()) + (*this)[name + ".bias"];
    };
    const auto norm = [&](const std::string& name, const at::Tensor& x) {
      const at::Tensor centred = x - x.mean(-1, true);
      return centred / (centred.square().mean(-1, true) + 1e-12).sqrt() *
                 (*this)[name + ".weight"] +
             (*this)[name + ".bias"];
    };
    const auto count = static_cast<int64_t>(tokens.size());
    at::Tensor x = (*this)["embeddings.word_embeddings.weight"].index_select(
                       0, at::tensor(tokens, at::kLong)) +
                   (*this)["embeddings.position_embeddings.weight"].narrow(0, 0, count) +
                   (*this)["embeddings.token_type_embeddings.weight"][0];
    x = norm("embeddings.LayerNorm", x);
    const std::string layer = "encoder.layer.0.";
    const at::Tensor q = affine(layer + "attention.self.query", x),
                     k = affine(layer + "attention.self.key", x),
                     v = affine(layer + "attention.self.value", x);
    std::vector<at::Tensor> mixed;
    const int64_t size = width / heads;
    for (int64_t h = 0; h < heads; ++h) {
      const at::Tensor scores =
          at::matmul(q.narrow(1, h * size, size), k.narrow(1, h * size, size).t());
      mixed.push_back(
          at::matmul((scores / std::sqrt(size)).softmax(-1), v.narrow(1, h * size, size)));
    }
    x = norm(layer + "attention.output.LayerNorm",
             x + affine(layer + "attention.output.dense", at::cat(mixed, 1)));
    const at::Tensor inner_x = affine(layer + "intermediate.dense", x);
    const at::Tensor gelu = inner_x * 0.5 * (1 + at::erf(inner_x * std::sqrt(0.5)));
    return norm(layer + "output.LayerNorm", x + affine(layer + "output.dense", gelu));
  }
};

TEST(MiniLm, IsTheDefinition) {
  for (const char* prefix : {"", "bert."}) {
    const TinyBert tiny(prefix);
    const MiniLm network(tiny.folder);
    EXPECT_EQ(network.width(), 8);
    EXPECT_EQ(network.max_tokens(), 6);
    for (const std::vector<int64_t>& tokens :
         {std::vector<int64_t>{3}, {0, 10, 5}, {1, 2, 3, 4, 5, 6}}) {
      const at::Tensor expected = tiny.forward(tokens), got = network.forward(tokens);
      ASSERT_EQ(got.sizes(), expected.sizes());
      // About 60 roundings of values up to 5, each carried on through norms whose gain stays near
      // one.
      const double bound = 60 * std::numeric_limits<float>::epsilon() * 5;
      EXPECT_LE((got.to(at::kDouble) - expected).abs().max().item<double>(), bound);
      EXPECT_FALSE(got.requires_grad());
    }
    EXPECT_THROW(network.forward({}), Error);
    EXPECT_THROW(network.forward({11}), Error);
    EXPECT_THROW(network.forward({-1}), Error);
    EXPECT_THROW(network.forward({1, 1, 1, 1, 1, 1, 1}), Error);
  }
}

TEST(MiniLm, NamesWhatDoesNotFit) {
  const TinyBert tiny;
  const auto message = [&] {
    return message_of<Error>([&] { const MiniLm network(tiny.folder); });
  };
  tiny.write_config({{"hidden_act", "relu"}});
  EXPECT_NE(message().find("hidden_act"), std::string::npos) << message();
  tiny.write_config({{"intermediate_size", 13}});
  EXPECT_NE(message().find("encoder.layer.0.intermediate.dense.weight"), std::string::npos)
      << message();
  tiny.write_config({{"num_hidden_layers", 2}});
  EXPECT_NE(message().find("encoder.layer.1."), std::string::npos) << message();
  tiny.write_config({{"num_attention_heads", 3}});
  EXPECT_NE(message().find("heads"), std::string::npos) << message();
  tiny.write_config({{"hidden_size", "wide"}});
  EXPECT_NE(message().find("hidden_size"), std::string::npos) << message();
  std::ofstream(tiny.folder + "/config.json") << "{ not JSON";
  EXPECT_NE(message().find("config.json"), std::string::npos) << message();
}

TEST(TextEncoder, PadsWithZerosBehindTheCaption) {
  const std::vector<std::string> captions{
      "", "a red circle moves to the left on a blue background",
      "one two three four five six seven eight nine ten eleven twelve thirteen "
      "fourteen fifteen sixteen seventeen"};
  const at::Tensor states = encoder().encode(captions);
  EXPECT_EQ(states.sizes(), (std::vector<int64_t>{3, 16, encoder().dim()}));
  const int64_t lengths[] = {2, 13, 16};
  for (int i = 0; i < 3; ++i) {
    const at::Tensor sizes = states[i].abs().sum(1);
    EXPECT_GE(sizes.narrow(0, 0, lengths[i]).min().item<double>(), 1.0);
    if (lengths[i] < 16) {
      EXPECT_EQ(sizes.narrow(0, lengths[i], 16 - lengths[i]).max().item<double>(), 0);
    }
  }
}

TEST(TextEncoder, ACaptionsStatesDependOnNothingElse) {
  const std::vector<std::string> captions{"a red circle", "",
                                          "a small green square drifts upwards over grey"};
  const at::Tensor together = encoder().encode(captions);
  for (int i = 0; i < 3; ++i)
    EXPECT_TRUE(at::equal(encoder().encode({captions[i]})[0], together[i]));
  const at::Tensor states = encoder().states(captions[0]);
  EXPECT_EQ(states.size(0), 5);
  EXPECT_TRUE(at::equal(encoder().pad(states), together[0]));
}

TEST(TextEncoder, KeyFollowsContentAndLength) {
  const MiniLmEncoder longer({"minilm", "auto", 17}, weights());
  EXPECT_NE(longer.key(), encoder().key());
  EXPECT_EQ(MiniLmEncoder({"minilm", "auto", 16}, weights()).key(), encoder().key());
  EXPECT_EQ(encoder().describe()["length"], 16);
}

TEST(TextEncoder, RefusesWhatItCannotDo) {
  EXPECT_THROW(make_text_encoder({"bert", "auto", 16}, weights()), ConfigError);
  EXPECT_THROW(make_text_encoder({"minilm", "auto", 513}, weights()), ConfigError);
  EXPECT_THROW(make_text_encoder({"minilm", "auto", 1}, weights()), ConfigError);
}

TEST(TextEncoder, SaysWhereItLooked) {
  const std::string explicit_path = message_of<Error>([] {
    find_text_weights({"minilm", "/nowhere/at/all", 8}, {});
  });
  EXPECT_NE(explicit_path.find("/nowhere/at/all"), std::string::npos) << explicit_path;
  const std::string automatic = message_of<Error>([] {
    find_text_weights({}, {"/first/.venv", "/second/.venv"});
  });
  EXPECT_NE(automatic.find("/first/.venv"), std::string::npos) << automatic;
  EXPECT_NE(automatic.find("/second/.venv"), std::string::npos) << automatic;
  EXPECT_EQ(find_text_weights({"minilm", weights(), 8}, {}), weights());
}

// Reads a JSON list of captions, writes their padded states.
int encode_file(char** arguments) {
  const MiniLmEncoder text_encoder({"minilm", arguments[1], std::stoi(arguments[4])}, arguments[1]);
  std::ifstream in(arguments[2]);
  const auto captions = nlohmann::json::parse(in).get<std::vector<std::string>>();
  write_safetensors(arguments[3], {{"states", text_encoder.encode(captions)}});
  return 0;
}

}  // namespace
}  // namespace pendulum

// With arguments WEIGHTS IN OUT LENGTH the program encodes captions, for the oracle test to judge.
int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (argc == 5) return pendulum::encode_file(argv);
  return RUN_ALL_TESTS();
}

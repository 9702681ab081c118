// What tests/oracle/umt5_oracle.py judges: cleaned prompts, tokens and states.
//   umt5_probe clean IN.json OUT.json                              a list of texts to cleaned ones
//   umt5_probe tokens VOCABULARY IN.json OUT.json LIMIT            to lists of token numbers
//   umt5_probe states WEIGHTS IN.json OUT.safetensors LENGTH       to "states" (B, length, dim)
//   umt5_probe network WEIGHTS TYPE IN.json OUT.safetensors        lists of tokens to "states.<i>",
//                                          computed in TYPE: mapped (as on the CPU), fp32 or bf16
#include <ATen/ATen.h>

#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>

#include "embed/prompt_clean.h"
#include "embed/umt5_encoder.h"
#include "safetensors/safetensors.h"

namespace pendulum {
namespace {

template <class T>
T read(const std::string& path) {
  std::ifstream file(path);
  return nlohmann::json::parse(file).get<T>();
}
using Texts = std::vector<std::string>;

void clean(const std::string& in, const std::string& out) {
  Texts cleaned;
  for (const std::string& prompt : read<Texts>(in)) cleaned.push_back(clean_prompt(prompt));
  std::ofstream(out) << nlohmann::json(cleaned);
}

void tokens(const std::string& vocabulary, const std::string& in, const std::string& out,
            int limit) {
  const T5Tokenizer tokenizer(read_t5_vocabulary(vocabulary));
  std::vector<std::vector<int64_t>> all;
  for (const std::string& prompt : read<Texts>(in)) all.push_back(tokenizer.encode(prompt, limit));
  std::ofstream(out) << nlohmann::json(all);
}

void states(const std::string& weights, const std::string& in, const std::string& out, int length) {
  const TextConfig config{.kind = "umt5", .weights = weights, .length = length};
  const auto encoder = make_text_encoder(config, weights);
  write_safetensors(out, {{"states", encoder->encode(read<Texts>(in))}});
}

void network(const std::string& weights, const std::string& type, const std::string& in,
             const std::string& out) {
  std::optional<at::ScalarType> compute;
  if (type == "fp32") compute = at::kFloat;
  if (type == "bf16") compute = at::kBFloat16;
  const Umt5 encoder(Umt5Weights::open(weights), at::kCPU, compute);
  NamedTensors results;
  for (const auto& list : read<std::vector<std::vector<int64_t>>>(in))
    results.emplace_back("states." + std::to_string(results.size()), encoder.forward(list));
  write_safetensors(out, results);
}

}  // namespace
}  // namespace pendulum

int main(int argc, char** argv) {
  const std::vector<std::string> a(argv + 1, argv + argc);
  try {
    if (a.size() == 3 && a[0] == "clean") return pendulum::clean(a[1], a[2]), 0;
    if (a.size() == 5 && a[0] == "tokens")
      return pendulum::tokens(a[1], a[2], a[3], std::stoi(a[4])), 0;
    if (a.size() == 5 && a[0] == "states")
      return pendulum::states(a[1], a[2], a[3], std::stoi(a[4])), 0;
    if (a.size() == 5 && a[0] == "network") return pendulum::network(a[1], a[2], a[3], a[4]), 0;
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
  std::cerr << "usage: umt5_probe clean|tokens|states|network ...\n";
  return 2;
}

// Tokens, network, and a key from the content of the three files.
#include "embed/minilm_encoder.h"

#include <algorithm>
#include <filesystem>

#include "core/error.h"
#include "core/hash.h"

namespace pendulum {
namespace {

namespace fs = std::filesystem;

constexpr int kMinilmVersion = 1;  // raise it with every change of a state's values
constexpr const char* kFiles[] = {"model.safetensors", "vocab.txt", "config.json"};

std::string key_of(const std::string& folder, int length) {
  std::string hashes;
  for (const char* name : kFiles) hashes += sha256_of_file(text(folder, "/", name));
  return text("minilm/", sha256(hashes).substr(0, 32), "/l", length, "/v", kMinilmVersion);
}

}  // namespace

bool MiniLmEncoder::has_files(const std::string& folder) {
  std::error_code ignored;
  return std::all_of(std::begin(kFiles), std::end(kFiles), [&](const char* name) {
    return fs::is_regular_file(fs::path(folder) / name, ignored);
  });
}

MiniLmEncoder::MiniLmEncoder(const TextConfig& config, const std::string& folder)
    : TextEncoder(config),
      folder_(folder),
      tokenizer_(folder + "/vocab.txt"),
      network_(folder),
      key_(key_of(folder, config.length)) {
  if (length() < 2 || length() > network_.max_tokens()) {
    throw ConfigError(text("text.length is ", length(), "; expected 2 to ", network_.max_tokens()));
  }
  if (tokenizer_.size() > network_.vocabulary()) {
    throw DataError(text(folder, "/vocab.txt: has ", tokenizer_.size(), " pieces, the network ",
                         network_.vocabulary()));
  }
}

at::Tensor MiniLmEncoder::states(std::string_view caption) const {
  return network_.forward(tokenizer_.encode(caption, length()));
}

std::vector<TakenFile> MiniLmEncoder::files() const {
  std::vector<TakenFile> files;
  for (const char* name : kFiles) {
    files.push_back({text("text_encoder/", name), text(folder_, "/", name)});
  }
  return files;
}

}  // namespace pendulum

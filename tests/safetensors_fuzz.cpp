// Feeds damaged files to the readers of safetensors, of their index and of a transformer's
// config.json: each must be read or refused by a DataError. Built with AddressSanitizer, which ends
// the program at any other access, and at any allocation above what its options allow.
//   safetensors_fuzz INPUTS [FIRST]      inputs FIRST.. of each kind; each is a function of its
//   number
#include <ATen/ATen.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/random.h"
#include "model/diffusers_config.h"
#include "safetensors/safetensors.h"
#include "safetensors/sharded.h"
#include "small_wan.h"

namespace pendulum {
namespace {

namespace fs = std::filesystem;

// A stream of numbers that follows from one number.
class Dice {
 public:
  explicit Dice(uint64_t seed) : seed_(seed) {}
  uint64_t roll(uint64_t sides) { return below(sides, draw(seed_, count_++)); }

 private:
  uint64_t seed_, count_ = 0;
};

// What damaged, hostile or careless writers put into JSON.
const std::vector<std::string> kPieces{
    "18446744073709551615",
    "18446744073709551616",
    "-1",
    "1e400",
    "0.5",
    "9223372036854775807",
    "4294967296",
    "\"F32\"",
    "\"F8_E4M3\"",
    "\"I64\"",
    "\"dtype\"",
    "\"shape\":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]",
    "\"data_offsets\":[0,0]",
    "\"__metadata__\":{\"a\":\"b\"}",
    "\"weight_map\"",
    "\"../x.safetensors\"",
    "\"/etc/passwd\"",
    "null",
    "true",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\\u0000",
    "\\ud800",
    "\xff\xfe",
    std::string(1, '\0'),
    std::string(200, '['),
    std::string(300, '{'),
    std::string(64, '9'),
};

std::string damaged(std::string bytes, Dice& dice) {
  const uint64_t changes = 1 + dice.roll(4);
  for (uint64_t i = 0; i < changes; ++i) {
    const size_t at = dice.roll(bytes.size() + 1);
    const size_t count = std::min<size_t>(1 + dice.roll(12), bytes.size() - at);
    switch (dice.roll(7)) {
      case 0:
        if (at < bytes.size()) bytes[at] = static_cast<char>(bytes[at] ^ (1 << dice.roll(8)));
        break;
      case 1:
        if (at < bytes.size()) bytes[at] = static_cast<char>(dice.roll(256));
        break;
      case 2:
        bytes.resize(at);
        break;
      case 3:
        bytes.erase(at, count);
        break;
      case 4:
        bytes.insert(at, bytes.substr(at, count));
        break;
      case 5:
        bytes.insert(at, kPieces[dice.roll(kPieces.size())]);
        break;
      default:
        bytes.replace(at, count, kPieces[dice.roll(kPieces.size())]);
        break;
    }
  }
  return bytes;
}

// The header alone, its length set right: damage that reaches behind the first eight bytes.
std::string damaged_header(const std::string& file, Dice& dice) {
  uint64_t length = 0;
  std::memcpy(&length, file.data(), sizeof(length));
  const std::string header = damaged(file.substr(8, length), dice);
  const std::string data = file.substr(8 + length);
  length = header.size();
  std::string out(8, '\0');
  std::memcpy(out.data(), &length, sizeof(length));
  return out + header + data;
}

std::string bytes_of(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// A file in memory, under a name that opens it.
class MemoryFile {
 public:
  explicit MemoryFile(const std::string& bytes) : descriptor_(memfd_create("fuzz", 0)) {
    if (descriptor_ < 0 ||
        write(descriptor_, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size()))
      throw Error("memfd_create or write failed");
  }
  ~MemoryFile() { close(descriptor_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  std::string path() const { return text("/proc/self/fd/", descriptor_); }

 private:
  int descriptor_;
};

struct Counts {
  int64_t read = 0, refused = 0;
};

template <class Read>
void attempt(Counts* counts, const char* kind, uint64_t number, const Read& read) {
  try {
    read();
    ++counts->read;
  } catch (const DataError&) {
    ++counts->refused;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s, input %llu: %s\n", kind, static_cast<unsigned long long>(number),
                 error.what());
    std::exit(1);
  }
}

void load_all(const std::string& path) {
  const SafetensorsFile file = SafetensorsFile::open(path);
  for (const std::string& name : file.names()) file.load(name);
}

void fuzz(uint64_t inputs, uint64_t first) {
  const fs::path folder = fs::temp_directory_path() / text("safetensors_fuzz.", getpid());
  fs::create_directories(folder);
  const std::string shard = (folder / "part.safetensors").string();
  write_safetensors(shard,
                    {{"a.weight", at::zeros({3, 4})},
                     {"a.bias", at::zeros({4}, at::kBFloat16)},
                     {"steps", at::zeros({}, at::kLong)},
                     {"none", at::zeros({0, 5})}},
                    {{"format", "pt"}, {"note", "x"}});
  const std::string whole = bytes_of(shard);
  const std::string index =
      nlohmann::json{
          {"metadata", {{"total_size", 64}}},
          {"weight_map", {{"a.weight", "part.safetensors"}, {"steps", "part.safetensors"}}}}
          .dump();
  const std::string index_path = (folder / "m.safetensors.index.json").string();
  const std::string config = diffusers_config(small_wan()).dump();
  Counts files, headers, indices, configs;
  for (uint64_t number = first; number < first + inputs; ++number) {
    Dice dice(number);
    const MemoryFile file(damaged(whole, dice)), header(damaged_header(whole, dice));
    attempt(&files, "file", number, [&] { load_all(file.path()); });
    attempt(&headers, "header", number, [&] { load_all(header.path()); });
    std::ofstream(index_path, std::ios::binary) << damaged(index, dice);
    attempt(&indices, "index", number, [&] {
      const auto set = ShardedSafetensors::open(index_path);
      for (const std::string& name : set.names()) set.load(name);
    });
    const std::string json = damaged(config, dice);
    attempt(&configs, "config", number, [&] {
      const auto parsed = nlohmann::json::parse(json, nullptr, false);
      if (parsed.is_discarded()) throw DataError("no JSON");
      read_diffusers_config(parsed, "config.json");
    });
  }
  fs::remove_all(folder);
  for (const auto& [kind, counts] :
       {std::pair{"files", files}, std::pair{"headers", headers}, std::pair{"indices", indices},
        std::pair{"configs", configs}}) {
    std::printf("%s: %lld read, %lld refused\n", kind, static_cast<long long>(counts.read),
                static_cast<long long>(counts.refused));
    // Damage that never hits, or always does, tests nothing.
    if (counts.read == 0 || counts.refused < counts.read / 10) std::exit(1);
  }
}

}  // namespace
}  // namespace pendulum

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fputs("usage: safetensors_fuzz INPUTS [FIRST]\n", stderr);
    return 2;
  }
  pendulum::fuzz(std::strtoull(argv[1], nullptr, 10),
                 argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 0);
  return 0;
}

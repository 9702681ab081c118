// pendulum bench catalogue: what opening a large data set costs, over a synthetic index.
#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "apps/commands.h"
#include "apps/timing.h"
#include "core/error.h"
#include "core/hash.h"
#include "core/publish.h"
#include "core/random.h"
#include "data/catalogue.h"
#include "data/pack_format.h"

namespace pendulum {
namespace {

struct CatalogueOptions {
  std::string lines = "1M", dir = "bench-catalogue";
  bool keep = false;
};

int64_t count_of(const std::string& words) {
  char* end = nullptr;
  const double number = std::strtod(words.c_str(), &end);
  const std::string unit = end;
  const double count = number * (unit == "k"    ? 1e3
                                 : unit == "M"  ? 1e6
                                 : unit.empty() ? 1.0
                                                : std::nan(""));
  if (!(count >= 1 && count <= 4e9))
    throw ConfigError(text("bench catalogue: --lines is ", words, ", expected such as 10M"));
  return static_cast<int64_t>(count);
}

// A clip of some archive: six sizes, three licences, 300 holders, 1 to 20 s.
IndexLine synthetic_line(int64_t i) {
  static constexpr int kSizes[][2] = {{1920, 1080}, {1280, 720}, {1080, 1920},
                                      {3840, 2160}, {720, 576},  {1080, 1080}};
  const uint64_t bits = draw(i);
  const auto& size = kSizes[bits % 6];
  IndexLine line;
  line.sample.id = fmt::format("archive/{:09}", i);
  line.sample.captions = {
      fmt::format("clip number {} of the archive, seen from camera {}", i, bits % 97)};
  line.sample.licence = bits % 3 == 0 ? "CC-BY-4.0" : bits % 3 == 1 ? "CC0-1.0" : "LicenseRef-own";
  line.sample.holder = fmt::format("Archive {}", bits / 8 % 100);
  line.sample.basis = "licence-page";
  line.sample.sha256 =
      fmt::format("{:016x}{:016x}{:016x}{:016x}", bits, draw(bits), draw(i, 1), draw(i, 2));
  line.sample.kind = MediaKind::clip;
  line.sample.width = size[0];
  line.sample.height = size[1];
  line.sample.frames = 24 + static_cast<int64_t>(bits >> 32) % 456;
  line.sample.seconds =
      static_cast<double>(line.sample.frames) / (bits & 64 ? 25.0 : 24000.0 / 1001);
  line.sample.fps = static_cast<double>(line.sample.frames) / line.sample.seconds;
  line.place = {0, i * 1000, 1000};
  return line;
}

IndexClaim write_index(const std::string& path, int64_t lines) {
  IndexClaim claim{.samples = lines, .shards = 1};
  Sha256 index, digest;
  OutputFile file(path);
  std::string pending;
  for (int64_t i = 0; i < lines; ++i) {
    const IndexLine line = synthetic_line(i);
    pending += to_line(line);
    digest.add(line.sample.id + " " + identity(line.sample) + "\n");
    if (pending.size() < (size_t{4} << 20) && i + 1 < lines) continue;
    index.add(pending);
    file.write(pending);
    pending.clear();
  }
  file.close();
  claim.sha256 = index.hex();
  claim.digest = digest.hex();
  return claim;
}

// Bytes of the mapped columns that this process holds in memory now.
int64_t resident_bytes() {
  std::ifstream maps("/proc/self/smaps");
  int64_t sum = 0;
  bool is_ours = false;
  for (std::string line; std::getline(maps, line);) {
    if (line.find('-') != line.npos && line.find(" r") != line.npos && line.find(':') > 12)
      is_ours = line.find(kColumnsFile) != line.npos;
    if (is_ours && line.starts_with("Rss:"))
      sum += std::strtoll(line.c_str() + 4, nullptr, 10) << 10;
  }
  return sum;
}

void bench_catalogue(const CatalogueOptions& options) {
  const int64_t lines = count_of(options.lines);
  std::filesystem::create_directories(options.dir);
  const std::string index = options.dir + "/" + kIndexFile;
  std::filesystem::remove(options.dir + "/" + kColumnsFile);
  double start = seconds_now();
  const IndexClaim claim = write_index(index, lines);
  fmt::print("{} lines, {:.2f} GB, written in {:.1f} s\n", lines,
             static_cast<double>(std::filesystem::file_size(index)) * 1e-9, seconds_now() - start);
  start = seconds_now();
  { const Catalogue first = Catalogue::open(options.dir, claim); }
  fmt::print("first load: {:.2f} s (verified, parsed and packed into columns)\n",
             seconds_now() - start);
  start = seconds_now();
  const Catalogue later = Catalogue::open(options.dir, claim);
  const double opened = seconds_now() - start;
  check(!later.was_built(), "columns that are used again");
  double watched = 0;
  start = seconds_now();
  for (int64_t i = 0; i < lines; ++i) watched += later.facts(i).seconds;
  const double scanned = seconds_now() - start;
  const auto per_sample = static_cast<double>(resident_bytes()) / static_cast<double>(lines);
  fmt::print("later open: {:.3f} s; facts of every sample in {:.2f} s ({:.0f} h in all)\n", opened,
             scanned, watched / 3600);
  fmt::print(
      "resident: {:.2f} bytes a sample, in pages that all processes of the machine share; {:.2f} "
      "on the disk\n",
      per_sample, static_cast<double>(later.mapped_bytes()) / static_cast<double>(lines));
  start = seconds_now();
  constexpr int kLookups = 1000;
  for (int k = 0; k < kLookups; ++k) {
    const int64_t i = static_cast<int64_t>(below(lines, draw(k, 7)));
    check(later.find(synthetic_line(i).sample.id) == i, "the sample of that id");
  }
  fmt::print("lookup by id: {:.0f} us\n", (seconds_now() - start) / kLookups * 1e6);
  if (!options.keep) std::filesystem::remove_all(options.dir);
}

}  // namespace

void add_bench_catalogue(CLI::App& bench) {
  auto options = std::make_shared<CatalogueOptions>();
  CLI::App* command = bench.add_subcommand(
      "catalogue", "opening the index of a large data set, over synthetic lines");
  command->add_option("--lines", options->lines, "how many, such as 10M")->capture_default_str();
  command->add_option("--dir", options->dir, "folder to make and remove")->capture_default_str();
  command->add_flag("--keep", options->keep, "leave the folder");
  command->callback([options] { bench_catalogue(*options); });
}

}  // namespace pendulum

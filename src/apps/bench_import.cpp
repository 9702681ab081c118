// pendulum bench import: how long published weights take to become a model, beside reading their
// bytes, and in how much memory.
#include <ATen/ATen.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <malloc.h>
#include <unistd.h>

#include <CLI/CLI.hpp>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "apps/commands.h"
#include "apps/timing.h"
#include "core/error.h"
#include "core/process_memory.h"
#include "model/config.h"
#include "model/pretrained.h"
#include "model/video_transformer.h"

namespace pendulum {
namespace {

namespace fs = std::filesystem;

struct ImportOptions {
  std::string path;
  std::string preset = "wan-2.1-1.3b";
  std::string dtype = "bf16";
  int rounds = 3;
};

// The most of it while this lives, looked at every few milliseconds.
class PeakMemory {
 public:
  PeakMemory()
      : thread_([this] {
          while (!done_) {
            peak_ = std::max(peak_.load(), process_memory("RssAnon"));
            std::this_thread::sleep_for(std::chrono::milliseconds(3));
          }
        }) {}
  ~PeakMemory() { stop(); }
  int64_t stop() {
    done_ = true;
    if (thread_.joinable()) thread_.join();
    return std::max(peak_.load(), process_memory("RssAnon"));
  }

 private:
  std::atomic<bool> done_ = false;
  std::atomic<int64_t> peak_ = 0;
  std::thread thread_;
};

// A folder that is gone with this.
struct TemporaryFolder {
  fs::path path = fs::temp_directory_path() / text("pendulum-import-", ::getpid());
  TemporaryFolder() { fs::create_directories(path); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
};

// So that the next to read it reads the disk.
void forget_pages(const std::string& path) {
  const int file = ::open(path.c_str(), O_RDONLY);
  if (file < 0) throw Error(text(path, ": cannot be opened for reading"));
  ::fsync(file);
  ::posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
  ::close(file);
}

int64_t read_bytes(const std::string& path) {
  std::vector<char> buffer(8 << 20);
  std::ifstream file;
  file.rdbuf()->pubsetbuf(nullptr, 0);
  file.open(path, std::ios::binary);
  int64_t total = 0;
  while (file.read(buffer.data(), static_cast<std::streamsize>(buffer.size())) || file.gcount())
    total += file.gcount();
  return total;
}

// Wan's published sizes with random weights.
void write_checkpoint(const std::string& folder, const ImportOptions& options) {
  const ModelInputs inputs{options.preset == "wan-2.2-5b" ? 48 : 16, 4096};
  const VideoTransformer model(wan_config({.preset = options.preset}, inputs), 1);
  NamedTensors tensors;
  const at::ScalarType dtype = options.dtype == "fp32" ? at::kFloat : at::kBFloat16;
  for (const auto& [name, parameter] : model.parameters())
    tensors.emplace_back(name, parameter.detach().to(dtype));
  write_sharded_safetensors(folder, "diffusion_pytorch_model", tensors, uint64_t{5} << 30);
}

void bench_import(const ImportOptions& options) {
  std::optional<TemporaryFolder> temporary;
  std::string path = options.path;
  if (path.empty()) {
    path = temporary.emplace().path.string();
    write_checkpoint(path, options);
  }
  const std::vector<std::string> files = ShardedSafetensors::open(path).paths();
  const auto forget = [&] {
    for (const std::string& file : files) forget_pages(file);
  };
  std::vector<double> reading, importing, filling;
  int64_t bytes = 0, peak = 0, model_bytes = 0;
  for (int round = 0; round < options.rounds; ++round) {
    forget();
    double start = seconds_now();
    bytes = 0;
    for (const std::string& file : files) bytes += read_bytes(file);
    reading.push_back(seconds_now() - start);
    forget();
    ::malloc_trim(0);  // what making the weights left behind
    PeakMemory memory;
    start = seconds_now();
    const PretrainedTransformer found = PretrainedTransformer::open(path);
    VideoTransformer model(found.config(), std::nullopt);
    found.load_into(model);
    importing.push_back(seconds_now() - start);
    peak = std::max(peak, memory.stop());
    model_bytes = 4 * model.parameter_count();
  }
  // What no import can go without: fresh memory, once written to.
  for (int round = 0; round < options.rounds; ++round) {
    ::malloc_trim(0);
    const double start = seconds_now();
    at::ones({model_bytes / 4}, at::kFloat);
    filling.push_back(seconds_now() - start);
  }
  fmt::print(
      "{:.2f} GB of weights: read in {:.2f} s, imported to fp32 in {:.2f} s, {:.2f} times that "
      "(medians of {} turns, nothing of them in memory before)\n"
      "filling as much fresh memory as the model takes: {:.2f} s\n"
      "anonymous memory of the process at most {:.2f} GB: the model's {:.2f} GB and {:.2f} GB\n",
      1e-9 * static_cast<double>(bytes), median(reading), median(importing),
      median(importing) / median(reading), options.rounds, median(filling),
      1e-9 * static_cast<double>(peak), 1e-9 * static_cast<double>(model_bytes),
      1e-9 * static_cast<double>(peak - model_bytes));
}

}  // namespace

void add_bench_import(CLI::App& bench) {
  auto options = std::make_shared<ImportOptions>();
  CLI::App* command = bench.add_subcommand(
      "import", "published weights to a model, beside reading their bytes from disk");
  command->add_option("PATH", options->path,
                      "weights as model.import names them; random ones are made if not given");
  command->add_option("--preset", options->preset, "sizes of the random ones")
      ->capture_default_str();
  command->add_option("--dtype", options->dtype, "in which they are stored, bf16 or fp32")
      ->check(CLI::IsMember({"bf16", "fp32"}))
      ->capture_default_str();
  command->add_option("--rounds", options->rounds, "turns; medians count")
      ->check(CLI::Range(1, kMostOfAnything))
      ->capture_default_str();
  command->callback([options] { bench_import(*options); });
}

}  // namespace pendulum

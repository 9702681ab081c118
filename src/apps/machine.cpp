// Processes, threads, device and signals.
#include "apps/machine.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <string>
#include <thread>
#include <utility>

#ifdef PENDULUM_CUDA
#include <cuda_runtime_api.h>

#include "comm/nccl_communicator.h"
#endif

#include "comm/loopback.h"
#include "comm/staged_communicator.h"
#include "core/error.h"
#include "core/hash.h"
#include "core/log.h"

namespace pendulum {
namespace {

std::atomic<int> g_stop_signal{0};  // a signal handler can reach nothing else
static_assert(std::atomic<int>::is_always_lock_free);

void ask_to_stop(int signal) {
  // The second one ends the program at once: somebody means it.
  if (g_stop_signal.exchange(signal) != 0) std::signal(signal, SIG_DFL);
}

bool was_launched() {
  // Set by Open MPI's mpirun, by srun --mpi=pmix, and by launchers that speak PMI.
  const char* const marks[] = {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_SIZE"};
  return std::any_of(std::begin(marks), std::end(marks),
                     [](const char* m) { return std::getenv(m) != nullptr; });
}

int processes_on_this_machine(Communicator& world) {
  if (world.size() == 1) return 1;
  char name[256] = {};
  gethostname(name, sizeof name - 1);
  return world.split(static_cast<int>(hash_name(name) & 0x7FFFFFFF), world.rank())->size();
}

// Cores this process may run on: launchers bind processes to some of them.
int usable_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
  return static_cast<int>(std::thread::hardware_concurrency());
}

// Dense bf16 with fp32 sums, from NVIDIA's data sheets.
double peak_flops_of(const std::string& gpu) {
  // Names begin so; the longer ones first. Variants that are slower than their name's beginning
  // says are not among them.
  constexpr std::pair<const char*, double> kPeaks[] = {
      {"NVIDIA H100 PCIe", 756e12}, {"NVIDIA H100 80GB", 989e12},
      {"NVIDIA A100-", 312e12},     {"NVIDIA L40S", 362e12},
      {"NVIDIA B200", 2250e12},     {"NVIDIA GeForce RTX 4090", 165.2e12}};
  if (gpu == "NVIDIA H200") return 989e12;  // "NVIDIA H200 NVL" is another
  for (const auto& [name, peak] : kPeaks) {
    if (gpu.starts_with(name) && gpu.find("Laptop") == std::string::npos) return peak;
  }
  return 0;
}

std::string device_name(at::Device device) {
#ifdef PENDULUM_CUDA
  cudaDeviceProp properties{};
  if (device.is_cuda() && cudaGetDeviceProperties(&properties, device.index()) == cudaSuccess)
    return properties.name;
#endif
  return device.str();
}

// Processes that use this one's GPU. Where a launcher shows every process a GPU of its own, each
// calls its own number 0, so that numbers do not tell.
int processes_on_this_gpu([[maybe_unused]] Communicator& world,
                          [[maybe_unused]] at::Device device) {
#ifdef PENDULUM_CUDA
  cudaDeviceProp properties{};
  if (cudaGetDeviceProperties(&properties, device.index()) != cudaSuccess)
    throw Error(text("GPU ", device.index(), " does not say which it is"));
  const std::string name(properties.uuid.bytes, sizeof properties.uuid.bytes);
  const at::Tensor mine = at::full({1}, static_cast<int64_t>(hash_name(name)), at::kLong);
  const at::Tensor all = at::empty({world.size()}, at::kLong);
  world.all_gather(mine, all).wait();
  return static_cast<int>(all.eq(mine).sum().item<int64_t>());
#else
  return 1;
#endif
}

// Kernels are launched on the thread's current GPU, whatever stream they get.
void make_current([[maybe_unused]] at::Device device) {
#ifdef PENDULUM_CUDA
  if (cudaSetDevice(device.index()) != cudaSuccess)
    throw Error(text("GPU ", device.index(), " cannot be used"));
#endif
}

}  // namespace

at::Device choose_device(const std::string& wanted, int local_rank) {
  const bool has_cuda =
      at::hasCUDA() && at::globalContext().hasCUDA() && at::detail::getCUDAHooks().getNumGPUs() > 0;
  if (wanted == "cpu" || (wanted == "auto" && !has_cuda)) return at::kCPU;
  if (!has_cuda) {
    throw ConfigError(
        "mesh.device: cuda was asked for, but this build or this machine has none; use cpu or "
        "auto");
  }
  return {at::kCUDA,
          static_cast<at::DeviceIndex>(local_rank % at::detail::getCUDAHooks().getNumGPUs())};
}

int threads_per_process(const MeshConfig& mesh, int local_processes) {
  if (mesh.threads > 0) return mesh.threads;
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  return std::max(1, std::min(usable_cores(), cores / std::max(1, local_processes)));
}

Machine::Machine(const MeshConfig& mesh) : device_(at::kCPU) {
  if (was_launched()) {
    mpi_ = std::make_unique<MpiWorld>();
    world_ = &mpi_->world();
  } else {
    single_ = single_communicator();
    world_ = single_.get();
  }
  set_log_rank(world_->rank(), world_->size());
  watchdog_ = std::make_unique<Watchdog>(
      world_->rank(), std::chrono::milliseconds(static_cast<int64_t>(mesh.timeout * 1000)));
  world_->set_watchdog(watchdog_.get());
  const int local = processes_on_this_machine(*world_);
  at::set_num_threads(threads_per_process(mesh, local));
  device_ = choose_device(mesh.device, world_->rank() % local);
  peak_flops_ = mesh.device_flops > 0 ? mesh.device_flops : peak_flops_of(device_name(device_));
  if (device_.is_cuda()) {
    make_current(device_);
    const int sharers = processes_on_this_gpu(*world_, device_);
    peak_flops_ /= sharers;  // of each process, where several share a GPU
    if (mpi_) choose_gpu_communicator(sharers);
  }
  std::signal(SIGTERM, ask_to_stop);
  std::signal(SIGINT, ask_to_stop);
  info("{} process{}, {} thread{} each, {} in {}", world_->size(), world_->size() == 1 ? "" : "es",
       at::get_num_threads(), at::get_num_threads() == 1 ? "" : "s", device_name(device_),
       compute_type() == at::kFloat ? "fp32" : "bf16");
}

std::string Machine::device_words() const {
  if (device_.is_cuda()) return device_name(device_);
  std::ifstream processors("/proc/cpuinfo");
  std::string line, model = "cpu";
  while (std::getline(processors, line)) {
    if (!line.starts_with("model name")) continue;
    model = line.substr(std::min(line.size(), line.find(':') + 2));
    break;
  }
  const int threads = at::get_num_threads();
  return fmt::format("{}, {} thread{}", model, threads, threads == 1 ? "" : "s");
}

void Machine::choose_gpu_communicator(int sharers) {
  at::Tensor most = at::full({1}, sharers, at::kLong);  // some machines may have fewer GPUs
  world_->all_reduce(most, Reduce::max).wait();
  if (most.item<int64_t>() > 1) {
    // NCCL refuses two ranks on one GPU.
    warn(
        "{} processes share a GPU: what they exchange goes through the host's memory, slowly; "
        "start one process a GPU to use NCCL",
        most.item<int64_t>());
    on_gpu_ = staged_communicator(*world_, at::kCPU);
  } else {
#ifdef PENDULUM_CUDA
    on_gpu_ = nccl_communicator(*world_, device_, *watchdog_);
#endif
  }
  if (!on_gpu_) return;
  on_gpu_->set_watchdog(watchdog_.get());
  world_ = on_gpu_.get();
}

at::ScalarType Machine::compute_type() const {
  return device_.is_cuda() ? at::kBFloat16 : at::kFloat;
}

const std::atomic<int>& Machine::stop_signal() const { return g_stop_signal; }

}  // namespace pendulum

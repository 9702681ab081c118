// Registration, which all ranks agree on at every step, and which calls go that way.
#include "comm/nccl_windows.h"

#include <ATen/ATen.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#include <cuda_runtime_api.h>
#include <unistd.h>

#include <chrono>
#include <exception>

#include "core/error.h"
#include "core/hash.h"
#include "core/log.h"

namespace pendulum {
namespace {

// For a rank to notice that another one has failed in what all must do together.
constexpr std::chrono::seconds kRegistrationLimit{60};

int nccl_version() {
  int version = 0;
  return ncclGetVersion(&version) == ncclSuccess ? version : 0;
}

std::string version_words(int version) {
  return text("NCCL ", version / 10000, ".", version / 100 % 100, ".", version % 100);
}

// NCCL's memory outlives its window for as long as a tensor holds it. Undefined: there is none.
at::Tensor nccl_memory(int64_t bytes, at::Device device) {
  void* memory = nullptr;
  if (ncclMemAlloc(&memory, static_cast<size_t>(bytes)) != ncclSuccess) {
    c10::cuda::CUDACachingAllocator::emptyCache();  // which PyTorch's allocator kept
    memory = nullptr;
    const ncclResult_t result = ncclMemAlloc(&memory, static_cast<size_t>(bytes));
    cudaGetLastError();  // the next kernel's launch is not to find it
    if (result != ncclSuccess) return {};
  }
  return at::from_blob(
      memory, {bytes}, [](void* old) { ncclMemFree(old); },
      at::TensorOptions().dtype(at::kByte).device(device));
}

// A window on memory that the GPUs see of each other lies on the GPU; where they cannot, NCCL 2.28
// gives a handle on the host, later versions none.
bool is_symmetric_window(const void* window) {
  cudaPointerAttributes attributes{};
  if (window == nullptr) return false;
  if (cudaPointerGetAttributes(&attributes, window) != cudaSuccess) {
    cudaGetLastError();
    return false;
  }
  return attributes.type == cudaMemoryTypeDevice;
}

}  // namespace

// Its window, and the memory with it.
class NcclWindowMemory : public CollectiveMemory {
 public:
  NcclWindowMemory(const at::Tensor& bytes, NcclWindows& windows, NcclWindow window)
      : CollectiveMemory(bytes), windows_(windows), window_(window) {}
  ~NcclWindowMemory() override {
    if (std::uncaught_exceptions() > exceptions_at_start_) {
      // Calls may be under way that never end: the memory stays theirs.
      [[maybe_unused]] const auto* kept = new at::Tensor(bytes());
      return;
    }
    windows_.release(bytes().const_data_ptr(), window_);
  }

 private:
  NcclWindows& windows_;
  const NcclWindow window_;
  const int exceptions_at_start_ = std::uncaught_exceptions();
};

std::unique_ptr<CollectiveMemory> NcclWindows::make(CallKind kind, int64_t bytes) {
  const c10::cuda::CUDAGuard guard(process_->device);
  if (offer_ == Offer::unknown) ask();
  // Without copy engines NCCL's exchange is one message to each rank, for which this communicator
  // would build connections of its own.
  if (offer_ == Offer::none || (kind == CallKind::all_to_all && offer_ != Offer::copy_engines))
    return nullptr;
  // No call may be under way, on any rank: they agree below.
  c10::cuda::device_synchronize();
  if (!comm_ && !open()) return nullptr;
  at::Tensor memory = nccl_memory(bytes, process_->device);
  if (!all(memory.defined())) {
    info("{}: no registered memory for calls: {} MB more are not free on every GPU",
         control_.name(), bytes / 1000000);
    return nullptr;
  }
  NcclWindow window = nullptr;
  if (!register_on_all(memory, window)) return nullptr;
  windows_[static_cast<const char*>(memory.const_data_ptr())] = static_cast<size_t>(bytes);
  return std::make_unique<NcclWindowMemory>(memory, *this, window);
}

bool NcclWindows::register_on_all(const at::Tensor& bytes, NcclWindow& window) {
  comm_->unwatch();
  ncclResult_t result = register_window(comm_->get(), bytes.mutable_data_ptr(),
                                        static_cast<size_t>(bytes.numel()), &window);
  result = comm_->settled(result, kRegistrationLimit);
  if (result != ncclSuccess) {
    warn("{}: NCCL does not register memory: {}, {}", control_.name(), ncclGetErrorString(result),
         ncclGetLastError(comm_->get()));
    comm_->abort();  // the others, which wait for this rank, shall see it
  }
  if (!all(result == ncclSuccess)) {
    close("NCCL does not register it on every rank");
    return false;
  }
  if (!all(is_symmetric_window(window))) {
    close("not all GPUs see each other's memory, or NCCL_WIN_ENABLE or NCCL_CUMEM_ENABLE is 0");
    return false;
  }
  comm_->watch();
  return true;
}

void NcclWindows::ask() {
  if (const std::string why = obstacle(); !why.empty()) return close(why);
  offer_ = all(offers_copy_engines()) ? Offer::copy_engines : Offer::kernels;
  if (offer_ == Offer::copy_engines) {
    info("{}: calls from registered memory, by copy engines", control_.name());
  } else {
    info("{}: gathers from registered memory, by kernels; exchanges as from any ({})",
         control_.name(), version_words(nccl_version()));
  }
}

bool NcclWindows::open() {
  comm_ = std::make_unique<NcclComm>(process_, text(control_.name(), " (windows)"));
  const ncclUniqueId id = shared_nccl_id(control_);
  const bool by_copy_engines = offer_ == Offer::copy_engines;
  const ncclResult_t result =
      comm_->try_join(id, control_.size(), control_.rank(), by_copy_engines, kRegistrationLimit);
  if (result != ncclSuccess) {
    warn("{}: NCCL does not start for registered memory: {}", control_.name(),
         ncclGetErrorString(result));
    comm_->abort();
  }
  if (!all(result == ncclSuccess)) {
    close("NCCL's communicator for it does not start");
    return false;
  }
  comm_->watch();
  return true;
}

// The same words on all ranks, or none on all.
std::string NcclWindows::obstacle() const {
  if (!kNcclHasWindows) return text("built with ", version_words(NCCL_VERSION_CODE));
  // Their settings differ in layout from one version to the next.
  const int version = nccl_version();
  if (!all(version / 100 == NCCL_VERSION_CODE / 100))
    return text(version_words(version), " runs, ", version_words(NCCL_VERSION_CODE),
                " was built with");
  char name[256] = {};
  gethostname(name, sizeof name - 1);
  const auto here = static_cast<int64_t>(hash_name(name));
  const at::Tensor machines = at::empty({control_.size()}, at::kLong);
  control_.all_gather(at::full({1}, here, at::kLong), machines).wait();
  if (!machines.eq(here).all().item<bool>()) return "its processes are on several machines";
  return {};
}

// What is known of NCCL's copies. Flags order them between ranks. Before 2.30.3 these come from
// pageable memory of the host, which CUDA makes wait for the stream, so that nothing is queued
// ahead any more; 2.28 does that only where GPUs have multicast, from compute capability 9 on.
// Before 2.30.3 too, more than 8 copies of a call may overtake the flags of others. From 2.29.7 to
// before 2.31.2 the first call between two ranks hangs (NCCL's issue 2241).
bool NcclWindows::offers_copy_engines() const {
  const int version = nccl_version();
  if (version >= 23102) return true;
  if (version >= 23003) return control_.size() > 2;
  int capability = 0;
  if (cudaDeviceGetAttribute(&capability, cudaDevAttrComputeCapabilityMajor,
                             process_->device.index()) != cudaSuccess)
    return false;
  return version < 22902 && capability < 9 && control_.size() <= 8;
}

bool NcclWindows::hold(const Call& call) const {
  const bool is_served = call.kind == CallKind::all_gather ||
                         (call.kind == CallKind::all_to_all && offer_ == Offer::copy_engines);
  if (!comm_ || !is_served) return false;
  const auto lies_in_window = [this](const at::Tensor& tensor) {
    const auto* first = static_cast<const char*>(tensor.const_data_ptr());
    const auto after = windows_.upper_bound(first);
    if (after == windows_.begin() || tensor.numel() == 0) return false;
    const auto& [start, bytes] = *std::prev(after);
    return first + tensor.nbytes() <= start + bytes;
  };
  return lies_in_window(call.send) && lies_in_window(call.receive);
}

// Local, but no call of this rank may be under way.
void NcclWindows::release(const void* memory, NcclWindow window) {
  cudaSetDevice(process_->device.index());
  cudaDeviceSynchronize();
  windows_.erase(static_cast<const char*>(memory));
  if (comm_) deregister_window(comm_->get(), window);
}

// Memory that was given out before is ordinary memory from now on. Nothing is under way.
void NcclWindows::close(const std::string& why) {
  if (comm_) comm_->abort();
  cudaGetLastError();
  comm_.reset();
  windows_.clear();
  offer_ = Offer::none;
  info("{}: ordinary memory for calls: {}", control_.name(), why);
}

bool NcclWindows::all(bool mine) const {
  const at::Tensor least = at::full({1}, int64_t{mine}, at::kLong);
  control_.all_reduce(least, Reduce::min).wait();
  return least.item<int64_t>() != 0;
}

}  // namespace pendulum

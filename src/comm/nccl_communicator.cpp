// Groups over NCCL communicators that never block the host.
#include "comm/nccl_communicator.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "comm/hand_over.h"
#include "comm/nccl_comm.h"
#include "comm/nccl_features.h"
#include "comm/nccl_windows.h"
#include "comm/reduction.h"
#include "comm/watchdog.h"
#include "core/error.h"
#include "core/random.h"

namespace pendulum {
namespace {

// Below this an all_reduce sends everything to everyone: latency counts, not volume.
constexpr int64_t kGatheredBytes = 65536;

ncclDataType_t type_of(const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kFloat:
      return ncclFloat32;
    case at::kDouble:
      return ncclFloat64;
    case at::kBFloat16:
      return ncclBfloat16;
    case at::kLong:
      return ncclInt64;
    case at::kInt:
      return ncclInt32;
    default:
      return ncclUint8;
  }
}

size_t count_of(const at::Tensor& tensor) { return static_cast<size_t>(tensor.numel()); }

// Puts one call on the communication stream, which is the current one.
class Issue {
 public:
  Issue(const NcclComm& comm, int rank, int size) : comm_(comm), rank_(rank), size_(size) {}

  void operator()(const Call& call) const {
    const at::NoGradGuard no_grad;
    switch (call.kind) {
      case CallKind::all_reduce:
        return all_reduce(call);
      case CallKind::reduce_scatter:
        return reduce_scatter(call);
      case CallKind::all_gather:
        return gather(call.send, call.receive);
      case CallKind::all_to_all:
        return exchange(call.send, call.receive);
      case CallKind::send_recv:
        return send_recv(call);
      case CallKind::broadcast:
        return comm_.take(ncclBroadcast(call.send.const_data_ptr(), call.receive.mutable_data_ptr(),
                                        count_of(call.receive), type_of(call.receive), call.from,
                                        comm_.get(), stream()),
                          "broadcast");
      default:
        check(false, "a call that moves tensors: ", call.name());
    }
  }

 private:
  cudaStream_t stream() const { return comm_.process().stream.stream(); }

  void gather(const at::Tensor& part, const at::Tensor& all) const {
    comm_.take(ncclAllGather(part.const_data_ptr(), all.mutable_data_ptr(), count_of(part),
                             type_of(part), comm_.get(), stream()),
               "gather");
  }
  void exchange(const at::Tensor& send, const at::Tensor& receive) const {
    comm_.take(exchange_parts(send.const_data_ptr(), receive.mutable_data_ptr(),
                              count_of(send) / static_cast<size_t>(size_), send.itemsize(), size_,
                              type_of(send), comm_.get(), stream()),
               "exchange");
  }
  // Both messages in one group, or two ranks that first send would wait for each other.
  void send_recv(const Call& call) const {
    refuse(ncclGroupStart(), "begin a message");
    if (call.to != kNobody)
      refuse(ncclSend(call.send.const_data_ptr(), count_of(call.send), type_of(call.send), call.to,
                      comm_.get(), stream()),
             "send");
    if (call.from != kNobody)
      refuse(ncclRecv(call.receive.mutable_data_ptr(), count_of(call.receive),
                      type_of(call.receive), call.from, comm_.get(), stream()),
             "receive");
    comm_.take(ncclGroupEnd(), "pass a message on");
  }
  // Inside a group nothing has begun yet that could be asked after.
  static void refuse(ncclResult_t result, const char* action) {
    if (result != ncclSuccess && result != ncclInProgress)
      throw Error(text("NCCL failed to ", action, ": ", ncclGetErrorString(result)));
  }
  void reduce_scatter(const Call& call) const {
    const at::Tensor parts = at::empty({size_, call.receive.numel()}, call.receive.options());
    exchange(call.send, parts);
    reduce_in_order(call.receive.view({-1}), parts.unbind(0), call.reduce);
  }
  void all_reduce(const Call& call) const {
    const at::Tensor flat = call.receive.view({-1});
    if (static_cast<int64_t>(flat.nbytes()) <= kGatheredBytes) {
      const at::Tensor all = at::empty({size_, flat.numel()}, flat.options());
      gather(flat, all);
      return reduce_in_order(flat, all.unbind(0), call.reduce);
    }
    // Parts of one length: what is missing at the end is of no consequence to any sum.
    const int64_t part = (flat.numel() + size_ - 1) / size_;
    at::Tensor whole = flat;
    if (part * size_ != flat.numel()) {
      whole = at::zeros({part * size_}, flat.options());
      whole.narrow(0, 0, flat.numel()).copy_(flat);
    }
    const at::Tensor parts = at::empty({size_, part}, flat.options());
    exchange(whole, parts);
    const at::Tensor mine = whole.narrow(0, rank_ * part, part);
    reduce_in_order(mine, parts.unbind(0), call.reduce);
    gather(mine, whole);  // in place: mine lies where the gather puts it
    if (!whole.is_same(flat)) flat.copy_(whole.narrow(0, 0, flat.numel()));
  }

  const NcclComm& comm_;
  const int rank_, size_;
};

class NcclCall : public PendingCall {
 public:
  NcclCall(Call call, std::shared_ptr<const NcclProcess> process)
      : PendingCall(std::move(call), nullptr),
        process_(std::move(process)),
        end_(std::make_shared<c10::cuda::CUDAEvent>()) {}
  // The tensors live until the call has been waited for, so that what their memory is used for next
  // comes behind it: nothing need be recorded for the allocator, which would hold back memory for
  // as long as the host is ahead. That of a call which nobody waits for is not given out before its
  // end.
  ~NcclCall() override {
    if (is_waited_for_) return;
    for (const at::Tensor& tensor : {call_.send, call_.receive}) {
      if (tensor.defined() && tensor.numel() > 0)
        c10::cuda::CUDACachingAllocator::recordStream(tensor.storage().data_ptr(),
                                                      process_->stream);
    }
  }
  // After the call has been issued.
  void record(const std::string& words) {
    end_->record(process_->stream);
    process_->monitor->add(words, end_);
  }
  bool done() override { return end_->query(); }

 protected:
  void block() override {
    end_->block(c10::cuda::getCurrentCUDAStream(process_->device.index()));
    is_waited_for_ = true;
  }

 private:
  const std::shared_ptr<const NcclProcess> process_;
  const std::shared_ptr<c10::cuda::CUDAEvent> end_;
  bool is_waited_for_ = false;
};

class NcclCommunicator : public Communicator {
 public:
  NcclCommunicator(Communicator& control, std::unique_ptr<Communicator> owned,
                   std::shared_ptr<const NcclProcess> process)
      : Communicator(control.rank(), control.size(), control.name()),
        owned_(std::move(owned)),
        control_(control),
        process_(std::move(process)),
        comm_(process_, name()),
        windows_(control, process_) {}

  const NcclProcess& process() const { return *process_; }

  // By all ranks of the group, once.
  void start_group() {
    const c10::cuda::CUDAGuard guard(process_->device);
    comm_.join(shared_nccl_id(control_), size(), rank());
  }

 protected:
  std::shared_ptr<PendingCall> start(Call call, Stream stream) override {
    called_ = draw(called_, call.signature());
    if (call.kind == CallKind::barrier) {
      compare_calls(call);
      return nullptr;
    }
    if (is_on_host(call)) return handed_over(control_, std::move(call));
    const c10::cuda::CUDAGuard guard(process_->device);
    const c10::cuda::CUDAStream before =
        stream.handle ? c10::cuda::getStreamFromExternal(static_cast<cudaStream_t>(stream.handle),
                                                         process_->device.index())
                      : c10::cuda::getCurrentCUDAStream(process_->device.index());
    c10::cuda::CUDAEvent ready;
    ready.record(before);
    ready.block(process_->stream);
    auto pending = std::make_shared<NcclCall>(std::move(call), process_);
    const Call& made = pending->call();
    {
      const c10::cuda::CUDAStreamGuard on_stream(process_->stream);
      Issue(windows_.hold(made) ? windows_.comm() : comm_, rank(), size())(made);
    }
    pending->record(text(made.description(), " in ", name()));
    return pending;
  }

  std::unique_ptr<Communicator> make_group(const Call& call, int color, int key) override {
    called_ = draw(called_, call.signature());
    compare_calls(call);
    std::unique_ptr<Communicator> control = control_.split(color, key);
    Communicator& members = *control;
    auto group = std::make_unique<NcclCommunicator>(members, std::move(control), process_);
    const c10::cuda::CUDAGuard guard(process_->device);
    group->comm_.split_from(comm_, color, key);
    return group;
  }

  std::unique_ptr<CollectiveMemory> make_memory(CallKind kind, int64_t bytes,
                                                at::Device device) override {
    if (device.is_cpu()) return Communicator::make_memory(kind, bytes, device);
    check(device == process_->device, "memory on ", process_->device, ", asked for ", device);
    return size() > 1 ? windows_.make(kind, bytes) : nullptr;
  }

 private:
  bool is_on_host(const Call& call) const {
    bool on_host = false, on_gpu = false;
    for (const at::Tensor& tensor : {call.send, call.receive}) {
      if (!tensor.defined()) continue;
      on_host |= tensor.is_cpu();
      on_gpu |= tensor.device() == process_->device;
      check(tensor.is_cpu() || tensor.device() == process_->device, "tensors on the CPU or on ",
            process_->device, ", found one on ", tensor.device());
    }
    check(!(on_host && on_gpu), "a call on one device");
    return on_host;
  }

  // A digest of all calls so far, from every rank: equal, or somebody made another call.
  void compare_calls(const Call& call) {
    at::Tensor mine = at::zeros({1}, at::kLong);
    std::memcpy(mine.mutable_data_ptr(), &called_, sizeof called_);
    at::Tensor all = at::empty({size()}, at::kLong);
    control_.all_gather(mine, all).wait();
    for (int r = 0; r < size(); ++r) {
      if (all[r].equal(mine[0])) continue;
      throw Error(call_failure(rank(), size(), name(), call,
                               text("rank ", r, " has made other calls than this one up to here")));
    }
  }

  const std::unique_ptr<Communicator> owned_;  // null: control_ belongs to somebody else
  Communicator& control_;
  const std::shared_ptr<const NcclProcess> process_;
  NcclComm comm_;
  NcclWindows windows_;
  uint64_t called_ = 0;  // a digest of the calls that this rank has made
};

}  // namespace

std::unique_ptr<Communicator> nccl_communicator(Communicator& control, at::Device device,
                                                Watchdog& watchdog) {
  const c10::cuda::CUDAGuard guard(device);
  const auto monitor = std::make_shared<NcclMonitor>();
  const auto stream = [&] {
    return c10::cuda::getStreamFromPool(/*isHighPriority=*/true, device.index());
  };
  const auto process =
      std::make_shared<const NcclProcess>(NcclProcess{device, stream(), stream(), monitor});
  watchdog.add_probe(
      {[monitor](std::chrono::milliseconds timeout) { return monitor->trouble(timeout); },
       [monitor] { monitor->abort(); }});
  auto world = std::make_unique<NcclCommunicator>(control, nullptr, process);
  const Watchdog::Section section(&watchdog, [] { return std::string("the start of NCCL"); });
  world->start_group();
  return world;
}

std::optional<c10::cuda::CUDAStream> side_stream_of(const Communicator& group) {
  const auto* nccl = dynamic_cast<const NcclCommunicator*>(&group);
  return nccl ? std::optional(nccl->process().side) : std::nullopt;
}

}  // namespace pendulum

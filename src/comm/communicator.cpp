// Checks on the host, once for all implementations, and hands the call over.
#include "comm/communicator.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <chrono>

#include "comm/watchdog.h"
#include "core/error.h"

namespace pendulum {
namespace {

void check_tensor(const at::Tensor& tensor) {
  constexpr std::array kTypes{at::kFloat, at::kDouble, at::kBFloat16,
                              at::kLong,  at::kInt,    at::kByte};
  check(tensor.defined() && tensor.is_contiguous(), "a contiguous tensor in a collective call");
  check(std::find(kTypes.begin(), kTypes.end(), tensor.scalar_type()) != kTypes.end(),
        "a type that collective calls carry: ", c10::toString(tensor.scalar_type()));
}

void check_pair(const at::Tensor& whole, const at::Tensor& part, int parts) {
  check_tensor(whole);
  check_tensor(part);
  check(whole.scalar_type() == part.scalar_type(),
        "the same type on both sides of a collective call: ", c10::toString(whole.scalar_type()),
        " and ", c10::toString(part.scalar_type()));
  check(whole.device() == part.device(), "both sides of a collective call on one device");
  check(whole.numel() == part.numel() * parts, "counts that fit the ranks: ", whole.numel(),
        " and ", part.numel(), " on ", parts, " ranks");
}

// Adds its lifetime to a sum of seconds.
class Stopwatch {
 public:
  explicit Stopwatch(double& sum) : sum_(sum) {}
  ~Stopwatch() { sum_ += std::chrono::duration<double>(Clock::now() - start_).count(); }
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;

 private:
  using Clock = std::chrono::steady_clock;
  double& sum_;
  Clock::time_point start_ = Clock::now();
};

}  // namespace

void Handle::wait() {
  if (!pending_) return;
  const Stopwatch stopwatch(*waited_);
  pending_->wait();
  pending_.reset();
}

void PendingCall::wait() {
  const Watchdog::Section section(watchdog_, [&] { return call_.description(); });
  block();
}

Call Communicator::next(CallKind kind) {
  Call call;
  call.kind = kind;
  call.sequence = sequence_++;
  return call;
}

Handle Communicator::begin(Call call, Stream stream) {
  // The start of a pair compares the ranks' calls and so may wait for them.
  const Watchdog::Section section(watchdog_, [&] { return call.description(); });
  const Stopwatch stopwatch(*waited_);
  return Handle(start(call, stream), waited_);
}

Handle Communicator::all_reduce(const at::Tensor& tensor, Reduce reduce, Stream stream) {
  check_tensor(tensor);
  Call call = next(CallKind::all_reduce);
  call.send = call.receive = tensor.detach();
  call.reduce = reduce;
  return begin(std::move(call), stream);
}

Handle Communicator::all_gather(const at::Tensor& local, const at::Tensor& all, Stream stream) {
  check_pair(all, local, size_);
  Call call = next(CallKind::all_gather);
  call.send = local.detach();
  call.receive = all.detach();
  return begin(std::move(call), stream);
}

Handle Communicator::reduce_scatter(const at::Tensor& all, const at::Tensor& local, Reduce reduce,
                                    Stream stream) {
  check_pair(all, local, size_);
  Call call = next(CallKind::reduce_scatter);
  call.send = all.detach();
  call.receive = local.detach();
  call.reduce = reduce;
  return begin(std::move(call), stream);
}

Handle Communicator::all_to_all(const at::Tensor& send, const at::Tensor& receive, Stream stream) {
  check_pair(send, receive, 1);
  check(send.numel() % size_ == 0, "a count that divides over the ranks: ", send.numel(), " over ",
        size_);
  check(send.numel() == 0 || send.data_ptr() != receive.data_ptr(), "two tensors in all_to_all");
  Call call = next(CallKind::all_to_all);
  call.send = send.detach();
  call.receive = receive.detach();
  return begin(std::move(call), stream);
}

Handle Communicator::send_recv(const at::Tensor& send, int to, const at::Tensor& receive, int from,
                               Stream stream) {
  check(to >= kNobody && to < size_ && from >= kNobody && from < size_, "peers in the group: ", to,
        " and ", from);
  Call call = next(CallKind::send_recv);
  call.to = to;
  call.from = from;
  if (to != kNobody) {
    check_tensor(send);
    call.send = send.detach();
  }
  if (from != kNobody) {
    check_tensor(receive);
    call.receive = receive.detach();
  }
  return begin(std::move(call), stream);
}

Handle Communicator::broadcast(const at::Tensor& tensor, int root, Stream stream) {
  check_tensor(tensor);
  check(root >= 0 && root < size_, "a root in the group: ", root);
  Call call = next(CallKind::broadcast);
  call.send = call.receive = tensor.detach();
  call.from = root;
  return begin(std::move(call), stream);
}

void Communicator::set_place(const std::string& place) const {
  if (watchdog_) watchdog_->set_place(place);
}

void Communicator::barrier() { begin(next(CallKind::barrier), {}).wait(); }

std::unique_ptr<CollectiveMemory> Communicator::memory_for(CallKind kind, int64_t bytes,
                                                           at::Device device,
                                                           std::unique_ptr<CollectiveMemory> old) {
  const at::Tensor all = at::empty({size_}, at::kLong);
  all_gather(at::full({1}, bytes, at::kLong), all).wait();
  for (int r = 0; r < size_; ++r) {
    const auto other = all[r].item<int64_t>();
    if (other != bytes)
      throw Error(text("rank ", rank_, " of ", size_, " in ", name_, " wants ", bytes,
                       " bytes of memory for calls, rank ", r, " wants ", other));
  }
  const Watchdog::Section section(
      watchdog_, [&] { return text(bytes, " bytes of memory for calls in ", name_); });
  old.reset();  // before there is the new one, so that there are never both
  return make_memory(kind, bytes, device);
}

std::unique_ptr<CollectiveMemory> Communicator::make_memory(CallKind /*kind*/, int64_t bytes,
                                                            at::Device device) {
  if (!device.is_cpu()) return nullptr;
  return std::make_unique<CollectiveMemory>(at::empty({bytes}, at::kByte));
}

std::unique_ptr<Communicator> Communicator::split(int color, int key) {
  check(color >= 0, "a color of 0 or more: ", color);
  const Call call = next(CallKind::split);
  const Watchdog::Section section(watchdog_, [&] { return call.description(); });
  std::unique_ptr<Communicator> group = make_group(call, color, key);
  group->set_watchdog(watchdog_);
  group->waited_ = waited_;
  return group;
}

}  // namespace pendulum

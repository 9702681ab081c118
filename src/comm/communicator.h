// What the ranks of a group can do together: collectives over tensors, the same on MPI and on
// threads of one process.
#pragma once
#include <ATen/core/Tensor.h>

#include <memory>
#include <string>

#include "comm/call.h"

namespace pendulum {

class Watchdog;

// What a call on GPU tensors is queued behind, the current stream if null; CPU tensors have none.
struct Stream {
  void* handle = nullptr;
};

// A call under way. The implementation behind a Handle.
class PendingCall {
 public:
  PendingCall(Call call, Watchdog* watchdog) : call_(std::move(call)), watchdog_(watchdog) {}
  PendingCall(const PendingCall&) = delete;
  PendingCall& operator=(const PendingCall&) = delete;
  virtual ~PendingCall() = default;
  void wait();  // watched
  virtual bool done() = 0;
  const Call& call() const { return call_; }

 protected:
  virtual void block() = 0;
  const Call call_;

 private:
  Watchdog* watchdog_;
};

// The tensors of a call belong to it until wait() has returned: neither write its input nor read
// its output before. Where a GPU makes the call, wait() returns at once, and what the current
// stream is given afterwards comes after it.
class [[nodiscard]] Handle {
 public:
  Handle() = default;
  // `waited` grows by the seconds spent in wait().
  Handle(std::shared_ptr<PendingCall> pending, std::shared_ptr<double> waited)
      : pending_(std::move(pending)), waited_(std::move(waited)) {}
  // Returns when the result is there; Error where the call failed. A second wait returns at once.
  void wait();
  // Never blocks.
  bool done() { return !pending_ || pending_->done(); }

 private:
  std::shared_ptr<PendingCall> pending_;
  std::shared_ptr<double> waited_;
};

// Memory for a CollectiveBuffer (comm/collective_buffer.h), given back when it goes.
class CollectiveMemory {
 public:
  explicit CollectiveMemory(at::Tensor bytes) : bytes_(std::move(bytes)) {}
  CollectiveMemory(const CollectiveMemory&) = delete;
  CollectiveMemory& operator=(const CollectiveMemory&) = delete;
  virtual ~CollectiveMemory() = default;
  const at::Tensor& bytes() const { return bytes_; }  // of type uint8

 private:
  const at::Tensor bytes_;
};

// Every rank of a group makes the same calls in the same order; waits may come in any order.
// Tensors are contiguous, of type fp32, fp64, bf16, int64, int32 or uint8. Counts may exceed 2^31.
// Reductions add in the order of the ranks, bf16 in fp32 with one rounding at the end: results are
// the same to the bit on all ranks, in every run, and on every implementation. An implementation
// compares kind, type and count between the ranks before it moves anything: Error names who
// differs. One thread of a rank calls; a Communicator must outlive its handles.
class Communicator {
 public:
  virtual ~Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  const std::string& name() const { return name_; }  // "world", "world/0": for messages

  // In place.
  Handle all_reduce(const at::Tensor& tensor, Reduce reduce = Reduce::sum, Stream stream = {});
  // all: size() times the numbers of local, in the order of the ranks. local may be its own part of
  // all.
  Handle all_gather(const at::Tensor& local, const at::Tensor& all, Stream stream = {});
  // all: size() times the numbers of local; rank r receives the reduction of the r-th parts.
  Handle reduce_scatter(const at::Tensor& all, const at::Tensor& local, Reduce reduce = Reduce::sum,
                        Stream stream = {});
  // Both hold size() equal parts: part r of send goes to rank r, part r of receive comes from it.
  Handle all_to_all(const at::Tensor& send, const at::Tensor& receive, Stream stream = {});
  // Every rank of the group takes part, with kNobody and an undefined tensor on the side that it
  // does not use. Lengths may differ from pair to pair.
  Handle send_recv(const at::Tensor& send, int to, const at::Tensor& receive, int from,
                   Stream stream = {});
  Handle broadcast(const at::Tensor& tensor, int root, Stream stream = {});
  void barrier();

  // So many bytes, in place of `old`, from which no call is under way, that calls of `kind` are
  // best made from; null where any memory is as good. Error where the ranks ask for different
  // numbers. Collective.
  std::unique_ptr<CollectiveMemory> memory_for(CallKind kind, int64_t bytes, at::Device device,
                                               std::unique_ptr<CollectiveMemory> old);

  // Groups of equal color, ranked by (key, rank). Collective; a group lives on its own, but not
  // beyond the program's MpiWorld.
  std::unique_ptr<Communicator> split(int color, int key);

  // Seconds that this rank has spent in calls of this group, of those split from it, and of the one
  // that it was split from: for others, and for the bytes.
  double waited_seconds() const { return *waited_; }

  // Watches every wait of this group and of the groups split from it afterwards; not owned, may be
  // null.
  void set_watchdog(Watchdog* watchdog) { watchdog_ = watchdog; }
  // What this rank is doing, for the watchdog's report: "stage image, step 40, update".
  void set_place(const std::string& place) const;

 protected:
  Communicator(int rank, int size, std::string name)
      : rank_(rank), size_(size), name_(std::move(name)) {}
  virtual std::shared_ptr<PendingCall> start(Call call, Stream stream) = 0;
  virtual std::unique_ptr<Communicator> make_group(const Call& call, int color, int key) = 0;
  // The same on all ranks.
  virtual std::unique_ptr<CollectiveMemory> make_memory(CallKind kind, int64_t bytes,
                                                        at::Device device);
  Watchdog* watchdog() const { return watchdog_; }

 private:
  Call next(CallKind kind);
  Handle begin(Call call, Stream stream);
  const int rank_;
  const int size_;
  const std::string name_;
  uint64_t sequence_ = 0;
  Watchdog* watchdog_ = nullptr;
  std::shared_ptr<double> waited_ = std::make_shared<double>(0);
};

}  // namespace pendulum

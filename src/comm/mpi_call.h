// A collective call over MPI: where calls are checked a comparison, then rounds of messages between
// pairs of ranks, with arithmetic of our own between the rounds.
//
// MPI's own reductions may add in another order on another number of nodes; here the order is that
// of the ranks. Messages have pointers of their own, so no count or offset is limited to 31 bits.
#pragma once
#include <mpi.h>

#include <array>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "comm/communicator.h"

namespace pendulum {

class MpiCall;

// All calls of this process that are under way, in whichever group. A rank that waits for one moves
// all on, for a peer may wait for another one first.
class MpiProgress {
 public:
  // Keeps the call, and so its tensors, until it is done; MPI writes to them even where no one
  // waits.
  void add(std::shared_ptr<MpiCall> call) { calls_.push_back(std::move(call)); }
  // Moves every call on until ready() holds.
  void run_until(const std::function<bool()>& ready);
  void poll();

 private:
  std::vector<std::shared_ptr<MpiCall>> calls_;
};

struct MpiGroup {
  MPI_Comm comm = MPI_COMM_NULL;
  int rank = 0;
  int size = 1;
  std::string name;
  int tags = 0;  // number of message tags that MPI has
  std::shared_ptr<MpiProgress> progress;

  // Error names rank, group and call where code is not MPI_SUCCESS.
  void require(int code, const Call& call, const char* action) const;
  int tag(const Call& call, int round) const;
  int parcel_tag() const { return tags; }
  int report_tag() const { return tags + 1; }
  // Error says which rank makes another call than this one. All ranks call it, once they know that
  // their calls differ.
  [[noreturn]] void report_disagreement(const Call& call) const;
};

// Whether all ranks make the same call: one small reduction.
class CallComparison {
 public:
  CallComparison(const Call& call, const MpiGroup& group);
  MPI_Request& request() { return request_; }
  // Once the request is complete. Error on all ranks where calls differ.
  void conclude() const;

 private:
  const Call& call_;
  const MpiGroup& group_;
  std::array<uint64_t, 2> mine_, least_{};  // the signature and its complement
  MPI_Request request_ = MPI_REQUEST_NULL;
};

class MpiCall : public PendingCall {
 public:
  // checked: nothing moves before the ranks' calls have been compared. Returns at once all the
  // same.
  MpiCall(Call call, Watchdog* watchdog, std::shared_ptr<const MpiGroup> group, bool checked);
  bool done() override;
  // Begins the next round when the messages of this one have arrived; true when the last one has.
  bool advance();

 protected:
  void block() override;

 private:
  void begin_round();
  void begin_all_reduce();
  void begin_broadcast();
  void begin_exchange(const at::Tensor& send, const at::Tensor& receive);
  void begin_gather(const at::Tensor& local, const std::function<at::Tensor(int)>& place);
  void reduce_buffer(const at::Tensor& out);
  void send(int to, const at::Tensor& numbers);
  void receive(int from, const at::Tensor& numbers);
  at::Tensor chunk(int rank) const;

  std::shared_ptr<const MpiGroup> group_;
  std::unique_ptr<CallComparison> comparison_;  // until it is done
  int round_ = 0;
  bool finished_ = false;
  at::Tensor buffer_;  // (ranks, numbers): what the others sent for a reduction
  std::vector<MPI_Request> requests_;
};

}  // namespace pendulum

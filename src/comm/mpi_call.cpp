// The comparison and the rounds of each collective call.
#include "comm/mpi_call.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <sched.h>

#include <algorithm>
#include <cstring>

#include "comm/reduction.h"
#include "core/error.h"

namespace pendulum {
namespace {

// Below this an all_reduce sends everything to everyone in one round: latency counts, not volume.
constexpr int64_t kSmallBytes = 4096;
constexpr int64_t kLongestMessage = int64_t{1} << 30;  // bytes; MPI counts in int
constexpr int kRounds = 2;                             // the most that a call has

}  // namespace

void MpiProgress::poll() {
  for (size_t i = 0; i < calls_.size();) {
    const std::shared_ptr<MpiCall> call = calls_[i];
    const auto drop = [&] { calls_.erase(calls_.begin() + static_cast<std::ptrdiff_t>(i)); };
    try {
      if (call->advance()) {
        drop();
      } else {
        ++i;
      }
    } catch (const Error&) {
      drop();  // told once
      throw;
    }
  }
}

void MpiProgress::run_until(const std::function<bool()>& ready) {
  while (!ready()) {
    poll();
    ::sched_yield();  // with more ranks than cores the peer needs this one
  }
}

void MpiGroup::require(int code, const Call& call, const char* action) const {
  if (code == MPI_SUCCESS) return;
  char words[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  MPI_Error_string(code, words, &length);
  throw Error(call_failure(rank, size, name, call, text("MPI failed to ", action, ": ", words)));
}

int MpiGroup::tag(const Call& call, int round) const {
  return static_cast<int>((call.sequence * kRounds + static_cast<uint64_t>(round)) %
                          static_cast<uint64_t>(tags));
}

// Messages between pairs: other calls, which not all ranks have begun yet, may stand between this
// one and a collective.
void MpiGroup::report_disagreement(const Call& call) const {
  constexpr int kLength = 96;
  std::vector<std::array<char, kLength>> all(size);
  call.description().copy(all[rank].data(), kLength - 1);
  std::vector<MPI_Request> requests;
  for (int r = 0; r < size; ++r) {
    if (r == rank) continue;
    require(MPI_Irecv(all[r].data(), kLength, MPI_CHAR, r, report_tag(), comm,
                      &requests.emplace_back(MPI_REQUEST_NULL)),
            call, "exchange the ranks' calls");
    require(MPI_Isend(all[rank].data(), kLength, MPI_CHAR, r, report_tag(), comm,
                      &requests.emplace_back(MPI_REQUEST_NULL)),
            call, "exchange the ranks' calls");
  }
  require(MPI_Waitall(static_cast<int>(requests.size()), requests.data(), MPI_STATUSES_IGNORE),
          call, "exchange the ranks' calls");
  for (int r = 0; r < size; ++r) {
    if (std::strcmp(all[r].data(), all[rank].data()) != 0) {
      throw Error(call_failure(rank, size, name, call, text("rank ", r, " calls ", all[r].data())));
    }
  }
  throw Error(call_failure(rank, size, name, call, "the ranks make different calls"));
}

CallComparison::CallComparison(const Call& call, const MpiGroup& group)
    : call_(call), group_(group), mine_{call.signature(), ~call.signature()} {
  group.require(
      MPI_Iallreduce(mine_.data(), least_.data(), 2, MPI_UINT64_T, MPI_MIN, group.comm, &request_),
      call, "compare the ranks' calls");
}

// The smallest complement belongs to the largest signature. All ranks see the same two numbers, so
// all report or none.
void CallComparison::conclude() const {
  if (least_[0] != ~least_[1]) group_.report_disagreement(call_);
}

MpiCall::MpiCall(Call call, Watchdog* watchdog, std::shared_ptr<const MpiGroup> group, bool checked)
    : PendingCall(std::move(call), watchdog), group_(std::move(group)) {
  if (checked) {
    comparison_ = std::make_unique<CallComparison>(call_, *group_);
  } else {
    begin_round();
  }
}

bool MpiCall::done() {
  if (!finished_) group_->progress->poll();
  return finished_;
}

void MpiCall::block() {
  group_->progress->run_until([this] { return finished_; });
}

bool MpiCall::advance() {
  if (comparison_) {
    int arrived = 0;
    group_->require(MPI_Test(&comparison_->request(), &arrived, MPI_STATUS_IGNORE), call_,
                    "compare the ranks' calls");
    if (arrived == 0) return false;
    comparison_->conclude();
    comparison_.reset();
    begin_round();
  }
  while (!finished_) {
    int arrived = 0;
    group_->require(MPI_Testall(static_cast<int>(requests_.size()), requests_.data(), &arrived,
                                MPI_STATUSES_IGNORE),
                    call_, "move messages");
    if (arrived == 0) return false;
    requests_.clear();
    ++round_;
    begin_round();
  }
  return true;
}

void MpiCall::send(int to, const at::Tensor& numbers) {
  const auto* bytes = static_cast<const char*>(numbers.data_ptr());
  const auto total = static_cast<int64_t>(numbers.nbytes());
  for (int64_t at = 0; at < total; at += kLongestMessage) {
    const auto count = static_cast<int>(std::min(kLongestMessage, total - at));
    group_->require(MPI_Isend(bytes + at, count, MPI_BYTE, to, group_->tag(call_, round_),
                              group_->comm, &requests_.emplace_back(MPI_REQUEST_NULL)),
                    call_, "send");
  }
}

void MpiCall::receive(int from, const at::Tensor& numbers) {
  auto* bytes = static_cast<char*>(numbers.data_ptr());
  const auto total = static_cast<int64_t>(numbers.nbytes());
  for (int64_t at = 0; at < total; at += kLongestMessage) {
    const auto count = static_cast<int>(std::min(kLongestMessage, total - at));
    group_->require(MPI_Irecv(bytes + at, count, MPI_BYTE, from, group_->tag(call_, round_),
                              group_->comm, &requests_.emplace_back(MPI_REQUEST_NULL)),
                    call_, "receive");
  }
}

// Rank's share of a tensor that is cut into nearly equal pieces; the last ones may be empty.
at::Tensor MpiCall::chunk(int rank) const {
  const at::Tensor flat = call_.receive.view({-1});
  const int64_t length = (flat.numel() + group_->size - 1) / group_->size;
  const int64_t first = std::min(flat.numel(), rank * length);
  return flat.narrow(0, first, std::min(length, flat.numel() - first));
}

// Part r of send goes to rank r, part r of receive comes from it.
void MpiCall::begin_exchange(const at::Tensor& send_parts, const at::Tensor& receive_parts) {
  const int size = group_->size;
  for (int r = 0; r < size; ++r) {
    if (r != group_->rank) receive(r, part_of(receive_parts, r, size));
  }
  for (int r = 0; r < size; ++r) {
    if (r != group_->rank) send(r, part_of(send_parts, r, size));
  }
  part_of(receive_parts, group_->rank, size).copy_(part_of(send_parts, group_->rank, size));
}

// local goes to everyone; place(r) takes what rank r sends.
void MpiCall::begin_gather(const at::Tensor& local, const std::function<at::Tensor(int)>& place) {
  for (int r = 0; r < group_->size; ++r) {
    if (r != group_->rank) receive(r, place(r));
  }
  for (int r = 0; r < group_->size; ++r) {
    if (r != group_->rank) send(r, local);
  }
}

void MpiCall::reduce_buffer(const at::Tensor& out) {
  reduce_in_order(out, buffer_.unbind(0), call_.reduce);
  buffer_.reset();
}

void MpiCall::begin_all_reduce() {
  const at::Tensor flat = call_.receive.view({-1});
  const bool small = static_cast<int64_t>(flat.nbytes()) <= kSmallBytes;
  const at::Tensor mine = small ? flat : chunk(group_->rank);
  if (round_ == 0) {
    buffer_ = at::empty({group_->size, mine.numel()}, mine.options());
    buffer_.select(0, group_->rank).copy_(mine);
    for (int r = 0; r < group_->size; ++r) {
      if (r == group_->rank) continue;
      receive(r, buffer_.select(0, r));
      send(r, small ? flat : chunk(r));
    }
    return;
  }
  if (round_ == 1) reduce_buffer(mine);
  finished_ = small || round_ == 2;
  if (!finished_) begin_gather(mine, [this](int r) { return chunk(r); });
}

// Round 0: the root deals out the chunks, and its own one to all. Round 1: the others exchange
// theirs.
void MpiCall::begin_broadcast() {
  const int root = call_.from;
  const int me = group_->rank;
  if (round_ == 0) {
    for (int r = 0; r < group_->size; ++r) {
      if (me == root && r != root) {
        send(r, chunk(r));
        send(r, chunk(root));
      }
    }
    if (me != root) {
      receive(root, chunk(me));
      receive(root, chunk(root));
    }
  } else if (round_ == 1 && me != root) {
    for (int r = 0; r < group_->size; ++r) {
      if (r == me || r == root) continue;
      receive(r, chunk(r));
      send(r, chunk(me));
    }
  } else {
    finished_ = true;
  }
}

void MpiCall::begin_round() {
  const at::NoGradGuard no_grad;
  const int size = group_->size;
  if (call_.kind == CallKind::all_reduce) return begin_all_reduce();
  if (call_.kind == CallKind::broadcast) return begin_broadcast();
  if (round_ > 0) {
    if (call_.kind == CallKind::reduce_scatter) reduce_buffer(call_.receive.view({-1}));
    finished_ = true;
    return;
  }
  switch (call_.kind) {
    case CallKind::all_gather:
      part_of(call_.receive, group_->rank, size).copy_(call_.send.view({-1}));
      begin_gather(call_.send, [&](int r) { return part_of(call_.receive, r, size); });
      break;
    case CallKind::reduce_scatter:
      buffer_ = at::empty({size, call_.receive.numel()}, call_.receive.options());
      begin_exchange(call_.send, buffer_);
      break;
    case CallKind::all_to_all:
      begin_exchange(call_.send, call_.receive);
      break;
    case CallKind::send_recv:
      if (call_.from != kNobody) receive(call_.from, call_.receive);
      if (call_.to != kNobody) send(call_.to, call_.send);
      break;
    case CallKind::barrier:
      group_->require(MPI_Ibarrier(group_->comm, &requests_.emplace_back(MPI_REQUEST_NULL)), call_,
                      "start");
      break;
    default:
      check(false, "a call that moves tensors: ", call_.name());
  }
}

}  // namespace pendulum

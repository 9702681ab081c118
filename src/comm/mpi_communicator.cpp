// Groups over MPI communicators, and the comparison of calls before anything moves.
#include "comm/mpi_communicator.h"

#include <ATen/ATen.h>
#include <mpi.h>

#include <algorithm>
#include <exception>
#include <vector>

#include "comm/mpi_call.h"
#include "core/error.h"

namespace pendulum {
namespace {

// What the two ends of a message must agree on.
struct Parcel {
  int64_t type;
  int64_t count;
  bool operator==(const Parcel&) const = default;
};

Parcel parcel(const at::Tensor& tensor) {
  return {static_cast<int64_t>(tensor.scalar_type()), tensor.numel()};
}

class MpiCommunicator : public Communicator {
 public:
  MpiCommunicator(std::shared_ptr<const MpiGroup> group, bool checked)
      : Communicator(group->rank, group->size, group->name),
        group_(std::move(group)),
        checked_(checked) {}

 protected:
  std::shared_ptr<PendingCall> start(Call call, Stream stream) override {
    check(stream.handle == nullptr, "no stream for CPU tensors");
    for (const at::Tensor& tensor : {call.send, call.receive}) {
      check(!tensor.defined() || tensor.is_cpu(), "CPU tensors in a call over MPI");
    }
    // The parcels of a pair are compared before they are sent; all else is compared on the way.
    const bool is_pair = call.kind == CallKind::send_recv;
    if (checked_ && is_pair) {
      compare_calls(call);
      compare_parcels(call);
    }
    auto pending =
        std::make_shared<MpiCall>(std::move(call), watchdog(), group_, checked_ && !is_pair);
    group_->progress->add(pending);
    return pending;
  }

  std::unique_ptr<Communicator> make_group(const Call& call, int color, int key) override;

 private:
  void finish(std::vector<MPI_Request> requests, const Call& call);
  void compare_calls(const Call& call);
  void compare_parcels(const Call& call);

  const std::shared_ptr<const MpiGroup> group_;
  const bool checked_;
};

std::shared_ptr<const MpiGroup> describe(MPI_Comm comm, const std::string& name,
                                         std::shared_ptr<MpiProgress> progress) {
  auto group = std::make_shared<MpiGroup>();
  group->comm = comm;
  group->name = name;
  group->progress = std::move(progress);
  MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN);
  const Call none;
  group->require(MPI_Comm_rank(comm, &group->rank), none, "name the rank");
  group->require(MPI_Comm_size(comm, &group->size), none, "count the ranks");
  int* limit = nullptr;
  int found = 0;
  group->require(MPI_Comm_get_attr(comm, MPI_TAG_UB, &limit, &found), none, "name its largest tag");
  group->tags = found != 0 ? std::min(*limit, 1 << 30) : 32767;  // the standard promises 32767
  group->tags -= 2;  // the last two are those of parcels and reports
  return group;
}

// Blocks, but moves the other calls on meanwhile.
void MpiCommunicator::finish(std::vector<MPI_Request> requests, const Call& call) {
  group_->progress->run_until([&] {
    int arrived = 0;
    group_->require(MPI_Testall(static_cast<int>(requests.size()), requests.data(), &arrived,
                                MPI_STATUSES_IGNORE),
                    call, "compare the ranks' calls");
    return arrived != 0;
  });
}

void MpiCommunicator::compare_calls(const Call& call) {
  CallComparison comparison(call, *group_);
  finish({comparison.request()}, call);
  comparison.conclude();
}

void MpiCommunicator::compare_parcels(const Call& call) {
  const int tag = group_->parcel_tag();
  const Parcel sent = call.to != kNobody ? parcel(call.send) : Parcel{};
  Parcel announced{};
  std::vector<MPI_Request> requests;
  if (call.from != kNobody) {
    group_->require(MPI_Irecv(&announced, sizeof announced, MPI_BYTE, call.from, tag, group_->comm,
                              &requests.emplace_back(MPI_REQUEST_NULL)),
                    call, "announce a message");
  }
  if (call.to != kNobody) {
    group_->require(MPI_Isend(&sent, sizeof sent, MPI_BYTE, call.to, tag, group_->comm,
                              &requests.emplace_back(MPI_REQUEST_NULL)),
                    call, "announce a message");
  }
  finish(requests, call);
  if (call.from == kNobody || announced == parcel(call.receive)) return;
  throw Error(call_failure(
      rank(), size(), name(), call,
      text("expects ", call.receive.numel(), " x ", c10::toString(call.receive.scalar_type()),
           " from rank ", call.from, ", which sends ", announced.count, " x ",
           c10::toString(static_cast<at::ScalarType>(announced.type)))));
}

std::unique_ptr<Communicator> MpiCommunicator::make_group(const Call& call, int color, int key) {
  compare_calls(call);  // always: MPI_Comm_split blocks, so all must be here before it
  MPI_Comm comm = MPI_COMM_NULL;
  group_->require(MPI_Comm_split(group_->comm, color, key, &comm), call, "split the group");
  return std::make_unique<MpiCommunicator>(
      describe(comm, text(name(), "/", color), group_->progress), checked_);
}

}  // namespace

MpiWorld::MpiWorld(bool checked) : exceptions_at_start_(std::uncaught_exceptions()) {
  int provided = 0;
  // A backward pass on a GPU runs on a thread of autograd's while this one waits for it.
  if (MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided) != MPI_SUCCESS ||
      provided < MPI_THREAD_SERIALIZED) {
    throw Error("MPI does not start, or does not allow threads that call it in turns");
  }
  world_ = std::make_unique<MpiCommunicator>(
      describe(MPI_COMM_WORLD, "world", std::make_shared<MpiProgress>()), checked);
}

MpiWorld::~MpiWorld() {
  world_.reset();
  if (std::uncaught_exceptions() > exceptions_at_start_) return;
  MPI_Finalize();
}

}  // namespace pendulum

// Ranks as threads. A call leaves copies of what it sends in a slot; a wait takes its result from
// the others' copies.
#include "comm/loopback.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/AutogradState.h>

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <tuple>
#include <vector>

#include "comm/reduction.h"
#include "core/error.h"

namespace pendulum {
namespace {

// Thrown in the ranks that were well when another one failed; never seen outside run_loopback.
class PeerFailed : public Error {
 public:
  using Error::Error;
};

struct World {
  std::mutex mutex;
  std::condition_variable changed;
  std::chrono::milliseconds timeout;
  bool failed = false;
  std::vector<bool> ended;  // by world rank
};

struct Group;

// What the ranks have brought to one call.
struct Slot {
  std::vector<std::optional<Call>>
      calls;  // with copies of what they send; absent until a rank has come
  std::vector<std::pair<int, int>> color_keys;   // of a split
  std::map<int, std::shared_ptr<Group>> groups;  // of a split, by color
  int left = 0;                                  // ranks that have their result
};

struct Group {
  std::shared_ptr<World> world;
  std::string name;
  std::vector<int> world_ranks;
  std::map<uint64_t, Slot> slots;  // by sequence
  int size() const { return static_cast<int>(world_ranks.size()); }
};

// Ranks whose call this rank's result depends on.
std::vector<int> sources(const Call& call, int size) {
  std::vector<int> ranks;
  for (int r = 0; r < size; ++r) {
    const bool all = call.kind != CallKind::send_recv && call.kind != CallKind::broadcast;
    if (all || r == call.from) ranks.push_back(r);
  }
  return ranks;
}

void finish(const Call& call, int rank, const std::vector<std::optional<Call>>& calls) {
  const at::NoGradGuard no_grad;
  const int size = static_cast<int>(calls.size());
  std::vector<at::Tensor> parts;
  switch (call.kind) {
    case CallKind::all_reduce:
      for (const auto& other : calls) parts.push_back(other->send);
      reduce_in_order(call.receive, parts, call.reduce);
      break;
    case CallKind::reduce_scatter:
      for (const auto& other : calls) parts.push_back(part_of(other->send, rank, size));
      reduce_in_order(call.receive, parts, call.reduce);
      break;
    case CallKind::all_gather:
      for (int r = 0; r < size; ++r)
        part_of(call.receive, r, size).copy_(calls[r]->send.view({-1}));
      break;
    case CallKind::all_to_all:
      for (int r = 0; r < size; ++r)
        part_of(call.receive, r, size).copy_(part_of(calls[r]->send, rank, size));
      break;
    case CallKind::send_recv:
    case CallKind::broadcast:
      if (call.from != kNobody) call.receive.view({-1}).copy_(calls[call.from]->send.view({-1}));
      break;
    case CallKind::barrier:
    case CallKind::split:
      break;
  }
}

// Under the lock: whether every rank in `needed` has come to the slot; throws where one never will.
bool arrived(Group& group, int rank, const Call& call, const std::vector<int>& needed) {
  World& world = *group.world;
  if (world.failed)
    throw PeerFailed(call_failure(rank, group.size(), group.name, call, "another rank failed"));
  const Slot& slot = group.slots[call.sequence];
  for (const int r : needed) {
    if (slot.calls[r]) continue;
    if (!world.ended[group.world_ranks[r]]) return false;
    throw Error(call_failure(rank, group.size(), group.name, call,
                             text("rank ", r, " has ended without this call")));
  }
  return true;
}

void await(Group& group, int rank, const Call& call, const std::vector<int>& needed,
           std::unique_lock<std::mutex>& lock) {
  World& world = *group.world;
  const bool in_time = world.changed.wait_for(lock, world.timeout,
                                              [&] { return arrived(group, rank, call, needed); });
  if (in_time) return;
  throw Error(call_failure(rank, group.size(), group.name, call,
                           text("not all ranks have come within ", world.timeout.count(), " ms")));
}

void check_agreement(const Group& group, int rank, const Call& call, const Slot& slot) {
  for (int r = 0; r < group.size(); ++r) {
    if (!slot.calls[r]) continue;
    const Call& other = *slot.calls[r];
    if (other.signature() != call.signature()) {
      throw Error(call_failure(rank, group.size(), group.name, call,
                               text("rank ", r, " calls ", other.description())));
    }
  }
}

void check_message(const Group& group, int rank, const Call& call, const Slot& slot) {
  if (call.kind != CallKind::send_recv || call.from == kNobody) return;
  const Call& other = *slot.calls[call.from];
  if (other.to != rank || other.send.scalar_type() != call.receive.scalar_type() ||
      other.send.numel() != call.receive.numel()) {
    throw Error(
        call_failure(rank, group.size(), group.name, call,
                     text("expects ", call.receive.numel(), " x ",
                          c10::toString(call.receive.scalar_type()), " from rank ", call.from,
                          ", which makes ", other.description(), " to rank ", other.to)));
  }
}

Slot& enter(Group& group, int rank, const Call& call, const Call& copy) {
  Slot& slot = group.slots[call.sequence];
  slot.calls.resize(group.world_ranks.size());
  slot.color_keys.resize(group.world_ranks.size());
  check_agreement(group, rank, call, slot);
  slot.calls[rank] = copy;
  group.world->changed.notify_all();
  return slot;
}

void leave(Group& group, const Call& call) {
  Slot& slot = group.slots[call.sequence];
  if (++slot.left == group.size()) group.slots.erase(call.sequence);
}

class LoopbackCall : public PendingCall {
 public:
  LoopbackCall(Call call, Watchdog* watchdog, std::shared_ptr<Group> group, int rank)
      : PendingCall(std::move(call), watchdog),
        group_(std::move(group)),
        rank_(rank),
        needed_(sources(call_, group_->size())) {
    Call copy = call_;
    // A copy now: the others take theirs when it suits them, and this rank may go on as soon as it
    // has its own result.
    if (copy.send.defined()) copy.send = copy.send.clone();
    const std::scoped_lock lock(group_->world->mutex);
    enter(*group_, rank_, call_, copy);
  }

  bool done() override {
    if (finished_) return true;
    std::unique_lock lock(group_->world->mutex);
    if (!arrived(*group_, rank_, call_, needed_)) return false;
    take(lock);
    return true;
  }

 protected:
  void block() override {
    if (finished_) return;
    std::unique_lock lock(group_->world->mutex);
    await(*group_, rank_, call_, needed_, lock);
    take(lock);
  }

 private:
  void take(std::unique_lock<std::mutex>& lock) {
    const Slot& slot = group_->slots[call_.sequence];
    check_message(*group_, rank_, call_, slot);
    const std::vector<std::optional<Call>> calls = slot.calls;
    finished_ = true;
    lock.unlock();
    finish(call_, rank_, calls);
    lock.lock();
    leave(*group_, call_);
  }
  std::shared_ptr<Group> group_;
  const int rank_;
  const std::vector<int> needed_;
  bool finished_ = false;
};

class Loopback : public Communicator {
 public:
  Loopback(std::shared_ptr<Group> group, int rank)
      : Communicator(rank, group->size(), group->name), group_(std::move(group)) {}

 protected:
  std::shared_ptr<PendingCall> start(Call call, Stream stream) override {
    check(stream.handle == nullptr, "the default stream in a loopback group");
    if (size() == 1) {
      check(call.to == call.from || call.kind != CallKind::send_recv,
            "one rank that sends to itself or not at all");
      finish(call, 0, {call});
      return nullptr;
    }
    return std::make_shared<LoopbackCall>(std::move(call), watchdog(), group_, rank());
  }

  std::unique_ptr<Communicator> make_group(const Call& call, int color, int key) override {
    std::unique_lock lock(group_->world->mutex);
    enter(*group_, rank(), call, call).color_keys[rank()] = {color, key};
    await(*group_, rank(), call, sources(call, size()), lock);
    Slot& slot = group_->slots[call.sequence];
    std::vector<std::tuple<int, int>> members;  // (key, rank) of this color
    for (int r = 0; r < size(); ++r) {
      if (slot.color_keys[r].first == color) members.emplace_back(slot.color_keys[r].second, r);
    }
    std::sort(members.begin(), members.end());
    std::shared_ptr<Group>& group = slot.groups[color];
    if (!group) {
      group = std::make_shared<Group>(Group{group_->world, text(name(), "/", color), {}, {}});
      for (const auto& [k, r] : members) group->world_ranks.push_back(group_->world_ranks[r]);
    }
    const auto mine = std::find(members.begin(), members.end(), std::tuple(key, rank()));
    auto communicator = std::make_unique<Loopback>(group, static_cast<int>(mine - members.begin()));
    leave(*group_, call);
    return communicator;
  }

 private:
  std::shared_ptr<Group> group_;
};

std::shared_ptr<Group> make_world(int ranks, std::chrono::milliseconds timeout) {
  auto world = std::make_shared<World>();
  world->timeout = timeout;
  world->ended.resize(ranks);
  auto group = std::make_shared<Group>(Group{world, "world", {}, {}});
  for (int r = 0; r < ranks; ++r) group->world_ranks.push_back(r);
  return group;
}

}  // namespace

std::unique_ptr<Communicator> single_communicator() {
  return std::make_unique<Loopback>(make_world(1, std::chrono::minutes(1)), 0);
}

void run_loopback(int ranks, const std::function<void(Communicator&)>& body,
                  std::chrono::milliseconds timeout) {
  check(ranks >= 1, "one rank or more: ", ranks);
  const std::shared_ptr<Group> group = make_world(ranks, timeout);
  World& world = *group->world;
  std::exception_ptr first;
  const auto run = [&](int rank) {
    // With autograd's own threads, ranks that share a device would wait for each other for ever.
    c10::AutogradState::get_tls_state().set_multithreading_enabled(false);
    std::exception_ptr mine;
    bool blameless = false;
    try {
      Loopback communicator(group, rank);
      body(communicator);
    } catch (const PeerFailed&) {
      blameless = true;
    } catch (...) {
      mine = std::current_exception();
    }
    const std::scoped_lock lock(world.mutex);
    world.ended[rank] = true;
    world.failed |= blameless || mine;
    if (mine && !first) first = mine;
    world.changed.notify_all();
  };
  std::vector<std::thread> threads;
  for (int r = 0; r < ranks; ++r) threads.emplace_back(run, r);
  for (std::thread& thread : threads) thread.join();
  if (first) std::rethrow_exception(first);
}

}  // namespace pendulum

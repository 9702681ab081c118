// Frees and allocates the memory under storages.
#include "shard/weight_residence.h"

#include <ATen/ATen.h>

#include <set>

#include "core/error.h"

namespace pendulum {
namespace {

void give_back(const c10::Storage& storage) {
  c10::StorageImpl* memory = storage.unsafeGetStorageImpl();
  memory->set_nbytes(0);
  memory->set_data_ptr_noswap(memory->allocator()->allocate(0));
}

void allocate(const c10::Storage& storage, size_t bytes) {
  c10::StorageImpl* memory = storage.unsafeGetStorageImpl();
  memory->set_data_ptr_noswap(memory->allocator()->allocate(bytes));
  memory->set_nbytes(bytes);
}

}  // namespace

WeightResidence::WeightResidence(const NamedTensors& parameters, const ShardLayout& layout,
                                 Communicator& group, bool writes_ahead)
    : parameters_(parameters),
      gather_(layout.all, group, parameters.front().second.options().requires_grad(false),
              writes_ahead),
      away_(layout.all.size()),
      is_resident_(layout.all.size(), false) {
  std::set<const void*> seen;
  for (size_t i = 0; i < parameters.size(); ++i) {
    const auto& [name, tensor] = parameters[i];
    const c10::Storage& storage = tensor.storage();
    if (layout.owners[i] == group.rank() || !seen.insert(storage.unsafeGetStorageImpl()).second)
      continue;
    check(storage.allocator() != nullptr, "a parameter in memory of its own: ", name);
    away_[layout.units[i]].push_back({storage, storage.nbytes()});
    give_back(storage);
  }
}

// Not through detach(), whose tensors count changes together with the parameter: a graph would take
// the values that come back for other ones.
void WeightResidence::send_for(int unit) {
  if (is_resident_[unit] || gather_.is_under_way(unit)) return;
  if (gather_.writes_ahead()) allocate_unit(unit);
  const auto value = [this](size_t i) { return parameters_[i].second.variable_data().view(-1); };
  gather_.start(unit, value, value);
}

void WeightResidence::allocate_unit(int unit) {
  for (const Away& away : away_[unit]) allocate(away.storage, away.bytes);
}

void WeightResidence::acquire(int unit, int next) {
  send_for(unit);
  if (next != kNone) send_for(next);
  if (is_resident_[unit]) return;
  if (!gather_.writes_ahead()) allocate_unit(unit);
  gather_.finish(unit);
  is_resident_[unit] = true;
}

void WeightResidence::release(int unit) {
  if (!is_resident_[unit]) return;
  for (const Away& away : away_[unit]) give_back(away.storage);
  is_resident_[unit] = false;
}

}  // namespace pendulum

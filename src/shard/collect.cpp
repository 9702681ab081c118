// Names and shapes first, as text, then the tensors.
#include "shard/collect.h"

#include <ATen/ATen.h>

#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

namespace pendulum {
namespace {

using nlohmann::json;

std::string list_of(const NamedTensors& tensors) {
  json list = json::array();
  for (const auto& [name, tensor] : tensors)
    list.push_back({name, tensor.sizes().vec(), static_cast<int>(tensor.scalar_type())});
  return list.dump();
}

}  // namespace

std::string told_by(int from, const std::string& mine, Communicator& group) {
  at::Tensor length = at::full({1}, static_cast<int64_t>(mine.size()), at::kLong);
  group.broadcast(length, from).wait();
  at::Tensor bytes = at::empty({length.item<int64_t>()}, at::kByte);
  if (group.rank() == from) std::memcpy(bytes.data_ptr(), mine.data(), mine.size());
  group.broadcast(bytes, from).wait();
  return {static_cast<const char*>(bytes.const_data_ptr()), static_cast<size_t>(bytes.numel())};
}

NamedTensors collect_on_first(const NamedTensors& mine, Communicator& group) {
  NamedTensors all;
  for (const auto& [name, tensor] : mine) {
    if (group.rank() == 0)
      all.emplace_back(name,
                       tensor.detach().to(at::kCPU, tensor.scalar_type(), false, /*copy=*/true));
  }
  if (group.size() == 1) return all;
  std::set<std::string> known;
  for (const auto& entry : json::parse(told_by(0, list_of(mine), group)))
    known.insert(entry[0].get<std::string>());
  for (int rank = 1; rank < group.size(); ++rank) {
    const json list = json::parse(told_by(rank, list_of(mine), group));
    for (size_t i = 0; i < list.size(); ++i) {
      const auto name = list[i][0].get<std::string>();
      if (!known.insert(name).second) continue;
      if (group.rank() == rank) {
        group.send_recv(mine[i].second.detach().cpu().contiguous(), 0, at::Tensor(), kNobody)
            .wait();
      } else if (group.rank() == 0) {
        const at::Tensor arriving =
            at::empty(list[i][1].get<std::vector<int64_t>>(), list[i][2].get<at::ScalarType>());
        group.send_recv(at::Tensor(), kNobody, arriving, rank).wait();
        all.emplace_back(name, arriving);
      } else {
        group.send_recv(at::Tensor(), kNobody, at::Tensor(), kNobody).wait();
      }
    }
  }
  return all;
}

}  // namespace pendulum

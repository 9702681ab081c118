// Deals storages over ranks, unit by unit.
#include "shard/shard_layout.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <numeric>
#include <utility>

namespace pendulum {
namespace {

// The stretch of a window that a piece fills, and where it stands in the piece.
struct Overlap {
  int64_t in_window, in_piece, count;
};
Overlap overlap(int64_t first, int64_t length, const Part::Piece& piece) {
  const int64_t from = std::max(first, piece.begin);
  const int64_t to = std::min(first + length, piece.begin + piece.count);
  return {from - first, from - piece.begin, std::max<int64_t>(0, to - from)};
}

int unit_of(const std::string& name) {
  const std::string start = "blocks.";
  int block = 0;
  if (!name.starts_with(start)) return 0;
  const auto [end, code] =
      std::from_chars(name.data() + start.size(), name.data() + name.size(), block);
  return code == std::errc() && block >= 0 ? block + 1 : 0;
}

}  // namespace

std::vector<int> deal(const std::vector<int64_t>& sizes, std::vector<int64_t>& load) {
  std::vector<size_t> order(sizes.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return sizes[a] > sizes[b]; });
  std::vector<int64_t> of_these(load.size());
  std::vector<int> part_of(sizes.size());
  for (const size_t i : order) {
    size_t lightest = 0;
    for (size_t part = 1; part < load.size(); ++part) {
      if (std::pair(of_these[part], load[part]) < std::pair(of_these[lightest], load[lightest]))
        lightest = part;
    }
    of_these[lightest] += sizes[i];
    load[lightest] += sizes[i];
    part_of[i] = static_cast<int>(lightest);
  }
  return part_of;
}

int64_t Parts::longest() const {
  int64_t length = 0;
  for (const Part& part : *this) length = std::max(length, part.length);
  return length;
}

void pack(const Part& part, int64_t first, const at::Tensor& window, const Flat& from) {
  for (const Part::Piece& piece : part.pieces) {
    const Overlap o = overlap(first, window.numel(), piece);
    const at::Tensor flat = o.count > 0 ? from(piece.parameter) : at::Tensor();
    if (flat.defined())
      window.narrow(0, o.in_window, o.count).copy_(flat.narrow(0, o.in_piece, o.count));
  }
}

void unpack(const Part& part, int64_t first, const at::Tensor& window, const Flat& to) {
  for (const Part::Piece& piece : part.pieces) {
    const Overlap o = overlap(first, window.numel(), piece);
    if (o.count > 0)
      to(piece.parameter)
          .narrow(0, o.in_piece, o.count)
          .copy_(window.narrow(0, o.in_window, o.count));
  }
}

ShardLayout::ShardLayout(const NamedTensors& parameters, int ranks) {
  struct Item {
    std::vector<size_t> parameters;
    int64_t size = 0;
  };
  std::vector<std::vector<Item>> items;  // by unit: the parameters of one storage
  std::map<std::pair<int, const void*>, size_t> known;
  for (size_t i = 0; i < parameters.size(); ++i) {
    const auto& [name, tensor] = parameters[i];
    const int unit = unit_of(name);
    units.push_back(unit);
    if (items.size() <= static_cast<size_t>(unit)) items.resize(unit + 1);
    const void* storage = tensor.storage().unsafeGetStorageImpl();
    const auto [place, fresh] = known.emplace(std::pair(unit, storage), items[unit].size());
    if (fresh) items[unit].emplace_back();
    Item& item = items[unit][place->second];
    item.parameters.push_back(i);
    item.size += tensor.numel();
  }
  owners.resize(parameters.size());
  std::vector<int64_t> load(ranks);
  for (const std::vector<Item>& unit : items) {
    std::vector<int64_t> sizes;
    for (const Item& item : unit) sizes.push_back(item.size);
    const std::vector<int> dealt = deal(sizes, load);
    for (size_t i = 0; i < unit.size(); ++i) {
      for (const size_t parameter : unit[i].parameters) owners[parameter] = dealt[i];
    }
  }
  all.resize(items.size());
  trained.resize(items.size());
  for (size_t unit = 0; unit < items.size(); ++unit) {
    all[unit].resize(ranks);
    trained[unit].resize(ranks);
  }
  for (size_t i = 0; i < parameters.size(); ++i) {
    const at::Tensor& tensor = parameters[i].second;
    all[units[i]][owners[i]].add(i, tensor.numel());
    if (tensor.requires_grad()) trained[units[i]][owners[i]].add(i, tensor.numel());
  }
}

}  // namespace pendulum

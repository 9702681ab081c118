// Who owns which parameter: parameters in units, as the network needs them, and in each unit the
// part of every rank.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "safetensors/named_tensors.h"

namespace pendulum {

// For each of `sizes` the part of 0..load.size()-1 that takes it: the largest first, each to the
// part that holds least of them, among equals to that of the smallest `load`, which grows by it. A
// function of its arguments alone.
std::vector<int> deal(const std::vector<int64_t>& sizes, std::vector<int64_t>& load);

// The parameters of a unit that one rank owns, one behind the other.
struct Part {
  struct Piece {
    size_t parameter;
    int64_t begin, count;
  };
  std::vector<Piece> pieces;
  int64_t length = 0;
  void add(size_t parameter, int64_t count) {
    pieces.push_back({parameter, length, count});
    length += count;
  }
};

// By rank.
struct Parts : std::vector<Part> {
  int64_t longest() const;
};

// Flat view of a parameter's values or gradient; undefined: none.
using Flat = std::function<at::Tensor(size_t parameter)>;

// Copies what of `part` lies in the window that begins at its number `first`.
void pack(const Part& part, int64_t first, const at::Tensor& window, const Flat& from);
void unpack(const Part& part, int64_t first, const at::Tensor& window, const Flat& to);

// Windows bound the memory that a collective call takes beside the tensors.
inline constexpr int64_t kWindow = int64_t{4} << 20;  // numbers of each rank in one call

struct ShardLayout {
  // Whole tensors are dealt, not stretches of a flat vector: optimisers that work on matrices need
  // them whole. Those that share a storage have one owner, so that it can be given back. A unit is
  // dealt as evenly as its largest tensor allows, for it is exchanged at once. Names say which unit
  // a parameter belongs to: "blocks.<i>." is unit i + 1, all others unit 0.
  ShardLayout(const NamedTensors& parameters, int ranks);

  std::vector<int> owners;     // by parameter
  std::vector<int> units;      // by parameter
  std::vector<Parts> all;      // by unit
  std::vector<Parts> trained;  // by unit: of those that require gradients
};

}  // namespace pendulum

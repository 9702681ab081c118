// Whole tensors are dealt, so a unit is exchanged as fast as the fullest process's part of it.
#include "pendulum/dealt_traffic.h"

#include <algorithm>
#include <cmath>

namespace pendulum {
namespace {

constexpr double kNumber = 4;                // bytes; weights and gradients travel as fp32
constexpr double kWindow = 4.0 * (1 << 20);  // numbers of each process in one call

// What is exchanged at once: its numbers, and those of its largest tensor.
struct Unit {
  double numbers = 0, largest = 0;
};

// Over units: numbers of the fullest parts, to which the others are padded, and calls.
struct Parts {
  double longest = 0, calls = 0;
  Parts operator+(const Parts& other) const {
    return {longest + other.longest, calls + other.calls};
  }
  Parts operator*(double times) const { return {longest * times, calls * times}; }
};

Parts dealt(const Unit& unit, int processes) {
  const double longest = std::max(unit.numbers / processes, std::min(unit.largest, unit.numbers));
  return {longest, std::ceil(longest / kWindow)};
}

// What stands before and behind the blocks. Its largest: the time's embedding as six rows, the
// text's.
Unit outside(const Geometry& g) {
  const double d = g.width;
  return {static_cast<double>(parameter_count(g) - g.layers * block_parameters(g)),
          std::max(6 * d * d, d * g.text_dim)};
}

// A block's largest: queries, keys and values as one tensor, a matrix of the feed-forward layer.
Unit whole_block(const Geometry& g) {
  const double d = g.width;
  return {static_cast<double>(block_parameters(g)), std::max(3 * d * d, d * g.ffn_dim)};
}

// A block's parameters, adapters among them; frozen matrices that are stored are none.
Unit held_block(const Geometry& g) {
  if (!g.part) return whole_block(g);
  Unit block = whole_block(g);
  block.numbers += static_cast<double>(g.part->adapters) / g.layers;
  if (g.frozen_precision == "fp32" && g.swap_blocks == 0) return block;
  return {block.numbers - static_cast<double>(g.part->frozen_in_block), 0};
}

// All units forward; backward the blocks that a gradient reaches, but for the last one, which has
// stayed, as what stands outside of the blocks has.
Parts gathers(const Geometry& g, int processes) {
  const int first = g.part ? g.part->first_block : 0;
  return dealt(outside(g), processes) +
         dealt(held_block(g), processes) * (g.layers + std::max(0, g.layers - first - 1));
}

// Of what trains. Beside frozen weights its tensors are taken to be small, dealt evenly.
Parts trained(const Geometry& g, int processes) {
  if (!g.part) return dealt(outside(g), processes) + dealt(whole_block(g), processes) * g.layers;
  const int blocks = std::max(1, g.layers - g.part->first_block);
  return dealt({static_cast<double>(g.part->parameters) / blocks, 0}, processes) * blocks;
}

}  // namespace

DealtTraffic dealt_traffic(const Geometry& g, const MeshConfig& mesh) {
  const int world = mesh.slot * mesh.slots;
  DealtTraffic out{.level = mesh.zero};
  if (mesh.zero < 2) {
    // With level 1 a process receives the sums of its part and then the weights: as many bytes.
    out.summed = update_bytes(g, world);
    return out;
  }
  out.is_within_slot = mesh.zero_within == "slot" || mesh.slots == 1;
  out.processes = out.is_within_slot ? mesh.slot : world;
  const double others = kNumber * (out.processes - 1);
  const Parts sums = trained(g, out.processes);
  const int groups = world / out.processes;
  out.summed = 2 * kNumber * sums.longest * (groups - 1) / groups;
  if (out.processes == 1) return out;
  out.reduced = others * sums.longest;
  out.calls = sums.calls;
  if (mesh.zero == 2) {
    out.updated = out.reduced;
    return out;
  }
  const Parts weights = gathers(g, out.processes);
  out.gathered = others * weights.longest;
  out.calls += weights.calls;
  return out;
}

double pass_cost(const DealtTraffic& traffic, const CostModel& model) {
  const double per_byte = traffic.is_within_slot ? model.per_byte : model.per_network_byte;
  return traffic.in_pass() * per_byte + traffic.calls * model.per_call;
}

double step_cost(const DealtTraffic& traffic, const CostModel& model) {
  const double per_byte = traffic.is_within_slot ? model.per_byte : model.per_network_byte;
  return traffic.updated * per_byte + traffic.summed * model.per_network_byte;
}

}  // namespace pendulum

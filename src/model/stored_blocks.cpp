// Where matrices lie, and which block's are on the device when.
#include "model/stored_blocks.h"

#include <ATen/ATen.h>

#include <utility>

#include "core/error.h"
#include "model/parameters.h"

namespace pendulum {
namespace {

// Bytes at which a matrix may begin.
int64_t aligned(int64_t bytes) { return (bytes + 63) / 64 * 64; }

// A stretch of the buffer as a matrix.
at::Tensor matrix_at(const at::Tensor& buffer, int64_t from, int64_t rows, int64_t columns,
                     at::ScalarType type) {
  const auto bytes = rows * columns * static_cast<int64_t>(at::elementSize(type));
  return buffer.narrow(0, from, bytes).view(type).view({rows, columns});
}

}  // namespace

StoredBlocks::StoredBlocks(const WanConfig& config, WeightStorage storage)
    : storage_(storage), places_(config.layers) {
  for (const ParameterSpec& spec : parameter_specs(config)) {
    if (!is_block_matrix(spec)) continue;
    const int block = block_of(spec.name);
    auto weight = std::make_shared<StoredWeight>(
        StoredWeight{.storage = storage, .rows = spec.shape[0], .columns = spec.shape[1]});
    by_name_[spec.name] = {block, places_[block].size()};
    places_[block].push_back({std::move(weight), 0, 0});
  }
  // Codes before scales, so that those of neighbours lie one behind the other.
  const auto element = static_cast<int64_t>(at::elementSize(code_type(storage)));
  for (std::vector<Place>& block : places_) {
    int64_t end = 0;
    for (Place& place : block) {
      place.codes_at = end;
      end += aligned(place.weight->rows * place.weight->columns * element);
    }
    for (Place& place : block) {
      place.scales_at = end;
      end += aligned(place.weight->rows * scales_per_row(storage, place.weight->columns) * 4);
    }
    block_bytes_ = end;
  }
  for (int block = 0; block < blocks(); ++block) {
    buffers_.push_back(at::empty({block_bytes_}, at::kByte));
    bind(block, buffers_[block]);
  }
}

std::shared_ptr<const StoredWeight> StoredBlocks::find(const std::string& name) const {
  const auto found = by_name_.find(name);
  if (found == by_name_.end()) return nullptr;
  return places_[found->second.first][found->second.second].weight;
}

void StoredBlocks::set(const std::string& name, const at::Tensor& values) {
  const auto weight = find(name);
  check(weight != nullptr && swapped_ == 0, "a stored matrix, before any are swapped: ", name);
  store(*weight, values);
}

void StoredBlocks::move_to(at::Device device, int swapped) {
  check(swapped >= 0 && swapped <= blocks(), "at most ", blocks(), " blocks, found ", swapped);
  if (slots_) {
    if (bound_ != HostSlots::kNone) release(bound_);
    for (size_t i = 0; i < slots_->buffers().size(); ++i)
      buffers_[first_swapped() + i] = slots_->buffers()[i];
    slots_.reset();
  }
  swapped_ = swapped;
  std::vector<at::Tensor> waiting;
  for (int block = 0; block < blocks(); ++block) {
    if (is_swapped(block)) {
      bind(block, {});
      waiting.push_back(std::exchange(buffers_[block], {}).to(at::kCPU));
    } else {
      buffers_[block] = buffers_[block].to(device);
      bind(block, buffers_[block]);
    }
  }
  if (swapped > 0) slots_ = std::make_unique<HostSlots>(std::move(waiting), device);
}

void StoredBlocks::observe(int unit, PassMoment moment, bool trains, int first_trained) {
  if (!slots_) return;
  const int block = unit - 1;
  switch (moment) {
    case PassMoment::before_forward:
      use(block, block + 1);
      break;
    case PassMoment::after_forward:
      if (!trains || block != blocks() - 1) release(block);
      break;
    case PassMoment::before_backward:
      use(block, block > first_trained ? block - 1 : HostSlots::kNone);
      break;
    case PassMoment::after_backward:
      release(block);
      break;
  }
}

void StoredBlocks::use(int block, int next) {
  if (bound_ != HostSlots::kNone && bound_ != block) release(bound_);
  const int ahead = is_swapped(next) ? next - first_swapped() : HostSlots::kNone;
  if (is_swapped(block)) {
    bind(block, slots_->acquire(block - first_swapped(), ahead));
    bound_ = block;
  } else if (ahead != HostSlots::kNone) {
    slots_->fetch(ahead);
  }
}

void StoredBlocks::release(int block) {
  if (!is_swapped(block)) return;
  bind(block, {});
  slots_->release(block - first_swapped());
  if (bound_ == block) bound_ = HostSlots::kNone;
}

// Undefined: the block's matrices are elsewhere.
void StoredBlocks::bind(int block, const at::Tensor& buffer) {
  for (const Place& place : places_[block]) {
    StoredWeight& weight = *place.weight;
    weight.codes = weight.scales = at::Tensor();
    if (!buffer.defined()) continue;
    weight.codes =
        matrix_at(buffer, place.codes_at, weight.rows, weight.columns, code_type(storage_));
    const int64_t scales = scales_per_row(storage_, weight.columns);
    if (scales > 0)
      weight.scales = matrix_at(buffer, place.scales_at, weight.rows, scales, at::kFloat);
  }
}

std::vector<int> StoredBlocks::resident() const {
  std::vector<int> here = slots_ ? slots_->resident() : std::vector<int>();
  for (int& block : here) block += first_swapped();
  return here;
}

int64_t StoredBlocks::numbers() const {
  int64_t count = 0;
  for (const auto& block : places_) {
    for (const Place& place : block) count += place.weight->rows * place.weight->columns;
  }
  return count;
}

}  // namespace pendulum

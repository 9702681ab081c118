// The frozen matrices of a transformer's blocks: each block's in one buffer, on the device or, of
// the last blocks, in host memory until they are used.
#pragma once
#include <ATen/core/Tensor.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "model/config.h"
#include "ops/host_slots.h"
#include "ops/stored_weight.h"
#include "shard/pass_moment.h"

namespace pendulum {

class StoredBlocks {
 public:
  // On the CPU, without values yet.
  StoredBlocks(const WanConfig& config, WeightStorage storage);

  // Null where the name is none of a matrix of a block. Its tensors come and go with the block.
  std::shared_ptr<const StoredWeight> find(const std::string& name) const;
  // Before any blocks are swapped. `values` (M, K) storable, on the CPU.
  void set(const std::string& name, const at::Tensor& values);

  // Moves all to the device, but the last `swapped` blocks to host memory, where they wait.
  void move_to(at::Device device, int swapped);

  // Told of every unit's moments (shard/pass_moment.h): a swapped block's matrices are here between
  // before_ and after_, those of the next one are on their way. In a pass that `trains`, the
  // backward pass begins with the last block, which stays; it ends with block `first_trained`.
  void observe(int unit, PassMoment moment, bool trains, int first_trained);

  WeightStorage storage() const { return storage_; }
  int swapped() const { return swapped_; }
  // Of the swapped blocks, those on the device or on their way.
  std::vector<int> resident() const;
  int64_t numbers() const;                              // of all matrices
  int64_t block_bytes() const { return block_bytes_; }  // that those of a block take

 private:
  // Where a matrix lies in its block's buffer.
  struct Place {
    std::shared_ptr<StoredWeight> weight;
    int64_t codes_at, scales_at;
  };
  bool is_swapped(int block) const { return block >= first_swapped() && block < blocks(); }
  int blocks() const { return static_cast<int>(places_.size()); }
  int first_swapped() const { return blocks() - swapped_; }
  void use(int block, int next);
  void release(int block);
  void bind(int block, const at::Tensor& buffer);

  WeightStorage storage_;
  std::vector<std::vector<Place>> places_;                 // by block
  std::map<std::string, std::pair<int, size_t>> by_name_;  // block, and place in it
  int64_t block_bytes_ = 0;
  std::vector<at::Tensor> buffers_;  // by block, (bytes) uint8; of those that are not swapped
  int swapped_ = 0;
  std::unique_ptr<HostSlots> slots_;  // of the swapped blocks
  int bound_ = HostSlots::kNone;      // the swapped block that is in use
};

}  // namespace pendulum

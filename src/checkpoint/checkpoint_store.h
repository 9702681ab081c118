// The checkpoints of a run: saving without stopping training, finding the newest good one, keeping
// the last few.
#pragma once
#include <cstdint>
#include <future>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"

namespace pendulum {

struct LatestCheckpoint {
  std::optional<std::string> folder;  // of the newest complete and undamaged checkpoint
  int64_t step = 0;                   // its step
  std::vector<std::string>
      notes;  // one line for each newer one that was passed over, with the reason
};

// Looks in <run_folder>/checkpoints and reads every byte of what it offers.
LatestCheckpoint latest_checkpoint(const std::string& run_folder);

// The one writer of a run's checkpoints, on one process. Folders are
// <run_folder>/checkpoints/step-00000500, and step-00000500.1 where the step is saved once more, as
// after a resume from an older checkpoint.
class CheckpointStore {
 public:
  // keep: how many to keep, 1 or more. Creates the folders, and removes what an interrupted save
  // has left.
  CheckpointStore(std::string run_folder, int keep);
  // Waits for a save under way; its failure, which no one can hear any more, becomes a warning.
  // Call finish() before.
  ~CheckpointStore();
  CheckpointStore(const CheckpointStore&) = delete;
  CheckpointStore& operator=(const CheckpointStore&) = delete;

  // Returns the new checkpoint's folder. Error where this or the save before has failed.
  std::string save(int64_t step, const CheckpointContents& contents);

  // Copies the tensors to CPU memory and returns; a thread writes them. Waits first for the save
  // before, and throws its Error.
  void save_async(int64_t step, const CheckpointContents& contents);
  // The same without a copy: of contents on the CPU to which nobody writes any more.
  void save_async(int64_t step, CheckpointContents&& contents);

  // Waits for the save under way and throws its Error.
  void finish();

 private:
  std::string write(int64_t step, const CheckpointContents& contents) const;
  void remove_old(const std::string& newest) const;

  const std::string folder_;
  const int keep_;
  std::future<void> under_way_;
};

}  // namespace pendulum

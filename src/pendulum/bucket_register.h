// Which bucket of the run a bucket of a segment is, and what its permanent entries are.
#pragma once
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "pendulum/plan.h"

namespace pendulum {

class BucketRegister {
 public:
  // Knows the buckets of `saved`, which stand at `cursors` (by name); null: a run that begins.
  BucketRegister(const Plan* saved, const std::map<std::string, int64_t>& cursors);

  // In: source, shape, and as entries the samples that may be drawn, ascending. Out: name, uid,
  // index, and all entries, the withdrawn among them.
  //
  // A bucket goes on from the same stage before the change, or from an earlier stage when its
  // samples are the same. The same shape with other samples (a longer stage takes the long clips
  // away) is another bucket and carries its stage's name.
  void identify(BucketPlan* bucket, const std::string& stage_name);

  // All buckets, cursors at 0.
  std::vector<Bucket> take() { return std::move(buckets_); }

 private:
  struct Known {
    std::string base;              // "clips/9x32x32"
    std::vector<int64_t> entries;  // sample numbers
    size_t saved = 0;              // entries that it had before the change
    bool is_settled = false;       // its additions are decided
  };
  bool goes_on(size_t index, BucketPlan* bucket);
  void use(size_t index, BucketPlan* bucket) const;

  std::vector<Known> known_;
  std::vector<Bucket> buckets_;
  std::map<std::pair<std::string, std::string>, size_t>
      by_stage_;  // (stage, base) before the change
};

}  // namespace pendulum

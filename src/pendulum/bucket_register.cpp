// Entries are permanent: old ones first, withdrawn ones among them, additions behind.
#include "pendulum/bucket_register.h"

#include <algorithm>
#include <iterator>

#include "core/error.h"
#include "core/hash.h"

namespace pendulum {
namespace {

std::string base_of(const BucketPlan& bucket) { return bucket.source + "/" + bucket.shape.name(); }

// Those of `all` that are not in `known`; `all` ascends.
std::vector<int64_t> missing_from(const std::vector<int64_t>& all, std::vector<int64_t> known) {
  std::sort(known.begin(), known.end());
  std::vector<int64_t> out;
  std::set_difference(all.begin(), all.end(), known.begin(), known.end(), std::back_inserter(out));
  return out;
}

}  // namespace

BucketRegister::BucketRegister(const Plan* saved, const std::map<std::string, int64_t>& cursors) {
  if (!saved) return;
  buckets_ = saved->buckets;
  known_.resize(buckets_.size());
  for (const SegmentPlan& segment : saved->segments) {
    for (const BucketPlan& bucket : segment.buckets) {
      Known& known = known_[bucket.index];
      known.base = base_of(bucket);
      if (bucket.entries.size() > known.entries.size()) known.entries = bucket.entries;
      known.saved = known.entries.size();
      by_stage_[{segment.stage_name, known.base}] = bucket.index;
    }
  }
  for (Bucket& bucket : buckets_) bucket.cursor = cursors.at(bucket.name);
}

// Whether the bucket can be the known one: additions are taken once, from the first stage that has
// some; a stage with others is another bucket.
bool BucketRegister::goes_on(size_t index, BucketPlan* bucket) {
  Known& known = known_[index];
  const std::vector<int64_t> added = missing_from(bucket->entries, known.entries);
  if (known.is_settled) {
    const std::vector<int64_t>& live = bucket->entries;
    const bool has_all = std::all_of(
        known.entries.begin() + static_cast<std::ptrdiff_t>(known.saved), known.entries.end(),
        [&](int64_t sample) { return std::binary_search(live.begin(), live.end(), sample); });
    if (!added.empty() || !has_all) return false;
  }
  known.is_settled = true;
  if (!added.empty()) {
    known.entries.insert(known.entries.end(), added.begin(), added.end());
    buckets_[index].grow(static_cast<int64_t>(known.entries.size()));
  }
  return true;
}

void BucketRegister::use(size_t index, BucketPlan* bucket) const {
  const std::vector<int64_t> live = std::move(bucket->entries);
  bucket->entries = known_[index].entries;
  bucket->withdrawn.clear();
  for (size_t i = 0; i < bucket->entries.size(); ++i) {
    if (!std::binary_search(live.begin(), live.end(), bucket->entries[i]))
      bucket->withdrawn.push_back(static_cast<int64_t>(i));
  }
  bucket->index = static_cast<int>(index);
  bucket->name = buckets_[index].name;
  bucket->uid = buckets_[index].uid;
  bucket->pieces = static_cast<int>(buckets_[index].pieces.size());
}

void BucketRegister::identify(BucketPlan* bucket, const std::string& stage_name) {
  const std::string base = base_of(*bucket);
  const auto before = by_stage_.find({stage_name, base});
  if (before != by_stage_.end() && goes_on(before->second, bucket))
    return use(before->second, bucket);
  bool is_taken = false;
  for (size_t i = 0; i < known_.size(); ++i) {
    if (known_[i].base != base) continue;
    is_taken = true;
    if (known_[i].entries == bucket->entries) {
      known_[i].is_settled = true;
      return use(i, bucket);
    }
  }
  std::string name = is_taken ? base + "@" + stage_name : base;
  const std::string stem = name;
  const auto is_used = [&](const Bucket& other) { return other.name == name; };
  for (int n = 2; std::any_of(buckets_.begin(), buckets_.end(), is_used); ++n)
    name = text(stem, ".", n);
  const uint64_t uid = hash_name(name);
  for (const Bucket& other : buckets_) {
    check(other.uid != uid, "bucket names with different hashes: ", other.name, " and ", name);
  }
  known_.push_back({base, bucket->entries, bucket->entries.size(), true});
  buckets_.emplace_back(name, static_cast<int64_t>(bucket->entries.size()));
  use(known_.size() - 1, bucket);
}

}  // namespace pendulum

// Builds batches ahead of the trainer.
#include "batch/batch_builder.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "core/error.h"
#include "core/log.h"

namespace pendulum {
namespace {

// So many entries of a bucket in a row that do not read mean that the bucket is broken, not a
// sample.
constexpr int kMaxReplacements = 64;

}  // namespace

Placement place(int rank, int world, const MeshConfig& mesh) {
  const WorldLayout layout = lay_out_world(world, mesh);
  if (rank == 0 && !layout.warning.empty()) warn("{}", layout.warning);
  return {layout.physical_slots, layout.processes_per_slot, rank / layout.processes_per_slot,
          rank % layout.processes_per_slot};
}

BatchBuilder::BatchBuilder(const Plan& plan, PlanWalker walker, const Sources& sources,
                           const Config& config, const Embedder& embedder, Placement placement,
                           const SlotGroups& groups)
    : plan_(plan),
      walker_(std::move(walker)),
      sources_(sources),
      config_(config),
      embedder_(embedder),
      placement_(placement),
      groups_(groups),
      workers_(config.embed.workers, config.embed.prefetch) {
  top_up();
}

// Plans steps until the queue ahead of the trainer is full, and hands their groups to the workers.
// The queue may reach into the next stage: its first batches are ready when it begins.
void BatchBuilder::top_up() {
  while (workers_.has_room()) {
    if (waiting_.empty()) {
      if (walker_.done()) return;
      plan_step();
      continue;
    }
    workers_.submit([this, planned = std::move(waiting_.front()), withdrawals = withdrawals_] {
      return build(planned, withdrawals);
    });
    waiting_.pop_front();
  }
}

void BatchBuilder::plan_step() {
  StepBatches step{walker_.next()};
  const int processes = placement_.processes;
  std::vector<int> passes(placement_.slots * processes);  // so far, by process
  const SegmentPlan& segment = plan_.segments[step.plan.segment];
  for (size_t i = 0; i < step.plan.draws.size(); ++i) {
    const Draw& draw = step.plan.draws[i];
    const BucketPlan& bucket = segment.buckets[draw.bucket];
    const auto count = static_cast<int64_t>(draw.samples.size());
    const auto slot = static_cast<int>(i % placement_.slots);
    SequenceGroup& sharers = groups_.of(bucket.width);
    const int width = sharers.width();
    for (int64_t begin = 0; begin < count; begin += bucket.batch) {
      const auto turn = static_cast<int>((begin / bucket.batch) % (processes / width));
      const auto first_sharer = passes.begin() + slot * processes + turn * width;
      const int pass = *std::max_element(first_sharer, first_sharer + width);
      std::fill(first_sharer, first_sharer + width, pass + 1);
      if (slot != placement_.slot || turn != placement_.member / width) continue;
      step.passes.resize(pass);
      step.passes.push_back(true);
      const auto first = draw.samples.begin() + begin;
      PlannedBatch planned{step.plan.segment,
                           draw.bucket,
                           {first, first + std::min<int64_t>(bucket.batch, count - begin)},
                           step.num_samples + begin};
      const auto embedder = static_cast<int>(dealt_[&sharers]++ % width);
      if (embedder == sharers.rank()) waiting_.push_back(planned);
      expected_.push_back({std::move(planned), &sharers, embedder});
      ++step.num_batches;
    }
    step.num_samples += count;
  }
  step.passes.resize(*std::max_element(passes.begin(), passes.end()));
  steps_.push_back(std::move(step));
}

StepBatches BatchBuilder::begin_step() {
  while (steps_.empty() && !walker_.done()) plan_step();
  top_up();
  check(!steps_.empty(), "the plan has another step");
  StepBatches step = std::move(steps_.front());
  steps_.pop_front();
  return step;
}

WorkerStats BatchBuilder::stats() const {
  WorkerStats stats = workers_.stats();
  stats.waited_seconds += waited_in_calls_;
  return stats;
}

Batch BatchBuilder::next() {
  check(!expected_.empty(), "a batch of the step that was begun");
  const Expected expected = std::move(expected_.front());
  expected_.pop_front();
  Batch batch;
  if (expected.embedder == expected.sharers->rank()) {
    batch = workers_.next();
    if (is_outdated(expected.planned, batch)) {
      OrderedWorkers<Batch> once(1, 1);  // a worker's thread: the same bits as any other batch's
      once.submit([&] { return build(expected.planned, withdrawals_); });
      batch = once.next();
    }
  }
  top_up();
  if (expected.sharers->width() > 1) share(expected, &batch);
  return batch;
}

// From the process that embedded the batch to the others of its group. They know the plan; they
// lack the numbers, and which entries had to be replaced.
void BatchBuilder::share(const Expected& expected, Batch* batch) {
  const PlannedBatch& planned = expected.planned;
  const BucketPlan& bucket = plan_.segments[planned.segment].buckets[planned.bucket];
  const auto size = static_cast<int64_t>(planned.samples.size());
  at::Tensor replacements = at::empty({size}, at::kLong);
  if (expected.embedder == expected.sharers->rank()) {
    for (int64_t i = 0; i < size; ++i) replacements[i] = batch->consumed[i].replacement;
  } else {
    const LatentShape s = embedder_.codec().latent_shape(bucket.shape);
    batch->latents =
        at::empty({size, embedder_.codec().channels(), s.frames, s.height, s.width}, at::kFloat);
    batch->conditions = embedder_.empty_conditions(size, bucket.shape);
  }
  Communicator& members = expected.sharers->members();
  const double before = members.waited_seconds();
  members.broadcast(replacements, expected.embedder).wait();
  if (expected.embedder != members.rank()) waited_in_calls_ += members.waited_seconds() - before;
  members.broadcast(batch->latents, expected.embedder).wait();
  batch->conditions.map([&](const at::Tensor& part) {
    members.broadcast(part, expected.embedder).wait();
    return part;
  });
  if (expected.embedder == members.rank()) return;

  batch->bucket = planned.bucket;
  for (int64_t i = 0; i < size; ++i) {
    const PlannedSample& sample = planned.samples[i];
    const auto k = static_cast<int>(replacements[i].item<int64_t>());
    const int64_t entry = attempted_entry(plan_, bucket, sample, k);
    batch->keys.push_back({bucket.uid, sample.ordinal});
    batch->consumed.push_back(
        {planned.first_place + i, sample.ordinal, sample.entry, k, bucket.entries[entry]});
  }
}

void BatchBuilder::withdraw(Withdrawals withdrawals, int segment) {
  withdrawals.check_what_is_left(plan_, segment);
  withdrawals_ = std::make_shared<const Withdrawals>(std::move(withdrawals));
}

// Whether any entry that was tried for the batch is judged otherwise now. Only then could another
// be used: what reads and what does not is the same in every attempt.
bool BatchBuilder::is_outdated(const PlannedBatch& planned, const Batch& batch) const {
  if (batch.withdrawals == withdrawals_) return false;
  const BucketPlan& bucket = plan_.segments[planned.segment].buckets[planned.bucket];
  for (size_t i = 0; i < planned.samples.size(); ++i) {
    for (int k = 0; k <= batch.consumed[i].replacement; ++k) {
      const int64_t sample = bucket.entries[attempted_entry(plan_, bucket, planned.samples[i], k)];
      if (batch.withdrawals->holds(bucket.source, sample) !=
          withdrawals_->holds(bucket.source, sample))
        return true;
    }
  }
  return false;
}

Batch BatchBuilder::build(const PlannedBatch& batch_plan,
                          const std::shared_ptr<const Withdrawals>& withdrawals) const {
  const SegmentPlan& segment = plan_.segments[batch_plan.segment];
  const BucketPlan& bucket = segment.buckets[batch_plan.bucket];
  const OpenSource& source = sources_[bucket.source];
  const double fps = config_.stages[segment.stage].fps;
  const ClipRequest request{bucket.shape.frames, fps, bucket.shape.height, bucket.shape.width};

  Batch batch;
  batch.bucket = batch_plan.bucket;
  batch.withdrawals = withdrawals;
  std::vector<at::Tensor> latents;
  std::vector<Conditions> conditions;
  for (size_t i = 0; i < batch_plan.samples.size(); ++i) {
    const PlannedSample& planned = batch_plan.samples[i];
    ConsumedSample consumed{.place = batch_plan.first_place + static_cast<int64_t>(i),
                            .ordinal = planned.ordinal,
                            .entry = planned.entry};
    const uint64_t caption = draw(Purpose::caption_choice, plan_.seed, bucket.uid, planned.ordinal);
    const uint64_t latent = draw(Purpose::posterior, plan_.seed, bucket.uid, planned.ordinal);
    for (int unreadable = 0;; ++consumed.replacement) {
      const int64_t entry = attempted_entry(plan_, bucket, planned, consumed.replacement);
      consumed.sample = bucket.entries[entry];
      // Before anything is read: a withdrawn sample's latent may lie in the cache.
      if (bucket.is_withdrawn(entry) || withdrawals->holds(bucket.source, consumed.sample))
        continue;
      auto embedded = embedder_.embed(source.data, consumed.sample, request, caption, latent);
      if (auto* good = std::get_if<Embedded>(&embedded)) {
        latents.push_back(std::move(good->latent));
        conditions.push_back(std::move(good->conditions));
        break;
      }
      batch.unreadable.push_back(text("sources.", bucket.source, ": ",
                                      source.data.sample(consumed.sample).id, ": ",
                                      std::get<ReadFailure>(embedded).reason));
      if (++unreadable > kMaxReplacements) {
        throw DataError(text("bucket ", bucket.name, ": ", kMaxReplacements,
                             " samples in a row cannot be read; the last, ",
                             batch.unreadable.back()));
      }
    }
    batch.keys.push_back({bucket.uid, planned.ordinal});
    batch.consumed.push_back(consumed);
  }
  batch.latents = at::stack(latents);
  batch.conditions = stack(conditions);
  return batch;
}

}  // namespace pendulum

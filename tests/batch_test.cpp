// batch/: the plan's samples arrive whole and in order on any placement, ahead of the trainer, with
// unreadable ones replaced by the plan's rule.
#include "batch/batch_builder.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <set>

#include "batch/sources.h"
#include "comm/loopback.h"
#include "core/error.h"
#include "judged_day.h"
#include "packed_synth.h"

namespace pendulum {
namespace {

namespace fs = std::filesystem;

// One data set for all tests of this file.
class BatchTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = testing::TempDir() + "batch_" + std::to_string(getpid());
    pack_stills_and_clips(folder_, 60);
  }
  static void TearDownTestSuite() { fs::remove_all(folder_); }

  static Config config(const std::string& allow = "CC0-1.0") {
    return parse_config(
        "version: 1\n"
        "rights: {allow: [" +
        allow +
        "]}\n"
        "mesh: {slots: 4, dwell: 2}\n"
        "codec: {drop: 1}\n"
        "text: {length: 16}\n"
        "embed: {workers: 2, prefetch: 3, cache: 'off'}\n"
        "sources:\n"
        "  stills: {data: " +
        folder_ +
        "/stills.pack}\n"
        "  clips: {data: " +
        folder_ +
        "/clips.pack}\n"
        "stages:\n"
        "  - {name: a, steps: 3, sources: {stills: .5, clips: .5}, shape: {frames: 5, size: 32x32},"
        " batch: {stills: 4, clips: 2}}\n"
        "  - {name: b, steps: 2, sources: {clips: 1}, shape: {frames: 9, size: 32x32},"
        " batch: {clips: 2}}\n");
  }

  static Geometry geometry(const Config& config, const Codec& codec) {
    return {.layers = 1,
            .width = 16,
            .ffn_dim = 32,
            .text_length = config.text.length,
            .text_dim = 384,
            .spatial = codec.spatial(),
            .temporal = codec.temporal(),
            .channels = codec.channels()};
  }

  // A copy of the stills with damage in the middle of the shard: it spoils the samples there and no
  // others.
  static std::string broken_stills(const std::string& name) {
    const std::string broken = folder_ + "/" + name + ".pack";
    fs::copy(folder_ + "/stills.pack", broken);
    const std::string shard = broken + "/shard-00000.h5";
    std::fstream file(shard, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(fs::file_size(shard)) / 2);
    file.write(std::string(400, '\x5A').data(), 400);
    return broken;
  }

  static std::string folder_;
};
std::string BatchTest::folder_;

// The parts of a run up to its batches.
struct Parts {
  // `members` share the slot; null: this process is alone in it.
  Parts(const Config& c, Placement placement, const Geometry& geometry,
        Communicator* members = nullptr)
      : config(c),
        codec(make_codec(config.codec)),
        text(
            make_text_encoder(config.text, find_text_weights(config.text, default_environments()))),
        embedder(*codec, *text, nullptr),
        sources(open_sources(config, kRights)),
        plan(make_plan(config, catalogues(sources, config, geometry), geometry)),
        alone(single_communicator()),
        groups(members ? *members : *alone, placement.processes, plan.widths(), 1),
        builder(plan, PlanWalker(plan), sources, config, embedder, placement, groups) {}

  const Config config;
  const std::unique_ptr<Codec> codec;
  const std::unique_ptr<TextEncoder> text;
  const Embedder embedder;
  const Sources sources;
  const Plan plan;
  const std::unique_ptr<Communicator> alone;
  const SlotGroups groups;
  BatchBuilder builder;
};

TEST_F(BatchTest, EverySampleOfThePlanArrivesOnceOnAnyPlacement) {
  const Config c = config();
  const Geometry g = geometry(c, *make_codec(c.codec));
  Parts whole(c, {}, g);
  Parts first(c, {.slots = 2, .processes = 1, .slot = 0, .member = 0}, g);
  Parts second(c, {.slots = 2, .processes = 1, .slot = 1, .member = 0}, g);
  for (int64_t step = 0; step < whole.plan.total_steps(); ++step) {
    const StepBatches all = whole.builder.begin_step();
    std::vector<at::Tensor> latents(all.num_samples);
    std::set<int64_t> places;
    for (int i = 0; i < all.num_batches; ++i) {
      const Batch batch = whole.builder.next();
      const BucketPlan& bucket = whole.plan.segments[all.plan.segment].buckets[batch.bucket];
      EXPECT_EQ(batch.latents.size(0), bucket.batch);
      EXPECT_EQ(batch.conditions.text.sizes(), (std::vector<int64_t>{bucket.batch, 16, 384}));
      for (size_t b = 0; b < batch.consumed.size(); ++b) {
        EXPECT_EQ(batch.keys[b].bucket, bucket.uid);
        EXPECT_EQ(batch.keys[b].ordinal, batch.consumed[b].ordinal);
        EXPECT_EQ(batch.consumed[b].sample, bucket.entries[batch.consumed[b].entry]);
        EXPECT_TRUE(places.insert(batch.consumed[b].place).second);
        latents[batch.consumed[b].place] = batch.latents[static_cast<int64_t>(b)];
      }
    }
    EXPECT_EQ(static_cast<int64_t>(places.size()), all.num_samples);
    int64_t found = 0;
    for (Parts* part : {&first, &second}) {
      const StepBatches mine = part->builder.begin_step();
      EXPECT_EQ(mine.plan.digest, all.plan.digest);
      EXPECT_EQ(mine.num_samples, all.num_samples);
      for (int i = 0; i < mine.num_batches; ++i) {
        const Batch batch = part->builder.next();
        for (size_t b = 0; b < batch.consumed.size(); ++b, ++found) {
          EXPECT_TRUE(
              at::equal(batch.latents[static_cast<int64_t>(b)], latents[batch.consumed[b].place]));
        }
      }
    }
    EXPECT_EQ(found, all.num_samples);
  }
}

TEST_F(BatchTest, HeldOutSamplesAreNotTrainedOn) {
  const Sources sources = open_sources(config(), kRights);
  for (const OpenSource& source : sources.open) {
    EXPECT_FALSE(source.validation.empty());
    EXPECT_EQ(source.training.size() + source.validation.size(), 60u);
    for (const int64_t i : source.validation) EXPECT_EQ(source.data.sample(i).split, "validation");
  }
  EXPECT_TRUE(sources.refused.empty());
}

TEST_F(BatchTest, WhatTheLicencesForbidIsRefusedWithTheReason) {
  try {
    open_sources(config("CC-BY-4.0"), kRights);
    FAIL() << "samples without an allowed licence were opened";
  } catch (const ConfigError& e) {
    EXPECT_NE(std::string(e.what()).find("CC0-1.0"), std::string::npos) << e.what();
  }
}

TEST_F(BatchTest, UnreadableSamplesAreReplacedByThePlansRule) {
  Config c = config();
  c.sources["stills"].data = {broken_stills("broken")};
  c.stages.resize(1);
  c.stages[0].steps = 12;
  Parts parts(c, {}, geometry(c, *make_codec(c.codec)));
  int replaced = 0;
  for (int64_t step = 0; step < 12; ++step) {
    const StepBatches mine = parts.builder.begin_step();
    for (int i = 0; i < mine.num_batches; ++i) {
      const Batch batch = parts.builder.next();
      const BucketPlan& bucket = parts.plan.segments[0].buckets[batch.bucket];
      for (const ConsumedSample& used : batch.consumed) {
        const Bucket& order = parts.plan.buckets[bucket.index];
        const int64_t entry =
            used.replacement == 0
                ? used.entry
                : order.replacement(parts.plan.seed, used.ordinal, used.replacement);
        EXPECT_EQ(used.sample, bucket.entries[entry]);
        replaced += used.replacement > 0;
      }
      EXPECT_EQ(batch.unreadable.empty(),
                std::none_of(batch.consumed.begin(), batch.consumed.end(),
                             [](const auto& u) { return u.replacement > 0; }));
    }
  }
  EXPECT_GT(replaced, 0);
}

// Withdrawn at a step, samples are not used from that step on, at any prefetch depth, and what
// takes their place is the same; given back, they are used again.
TEST_F(BatchTest, WithdrawnSamplesAreReplacedFromTheStepOnWhateverWasPrefetched) {
  Config c = config();
  c.stages.resize(1);
  c.stages[0].steps = 12;
  std::vector<std::vector<int64_t>> used_by_depth;
  for (const int prefetch : {1, 7, 64}) {
    c.embed.prefetch = prefetch;
    Parts parts(c, {}, geometry(c, *make_codec(c.codec)));
    std::string lines;
    for (const OpenSource& source : parts.sources.open) {
      for (size_t i = 0; i < source.training.size(); i += 3)
        lines += "id:" + source.data.sample(source.training[i]).id + "\n";
    }
    const Withdrawals withdrawn(parts.sources, DenyList::parse(lines, "test"));
    EXPECT_GT(withdrawn.size(), 30);
    std::vector<int64_t> used;
    int replaced = 0, unreplaced = 0;
    for (int64_t step = 0; step < 12; ++step) {
      if (step == 4) parts.builder.withdraw(withdrawn, 0);
      if (step == 8) parts.builder.withdraw({}, 0);
      const StepBatches mine = parts.builder.begin_step();
      for (int i = 0; i < mine.num_batches; ++i) {
        const Batch batch = parts.builder.next();
        const BucketPlan& bucket = parts.plan.segments[0].buckets[batch.bucket];
        EXPECT_TRUE(batch.unreadable.empty());
        for (const ConsumedSample& sample : batch.consumed) {
          const bool is_withdrawn = withdrawn.holds(bucket.source, sample.sample);
          const bool is_denied = step >= 4 && step < 8;
          EXPECT_FALSE(is_denied && is_withdrawn) << "step " << step;
          EXPECT_TRUE(is_denied || sample.replacement == 0) << "step " << step;
          replaced += sample.replacement > 0;
          unreplaced += is_withdrawn;
          used.push_back(sample.sample);
        }
      }
    }
    EXPECT_GT(replaced, 10);
    EXPECT_GT(unreplaced, 10);
    used_by_depth.push_back(used);
  }
  EXPECT_EQ(used_by_depth[0], used_by_depth[1]);
  EXPECT_EQ(used_by_depth[0], used_by_depth[2]);
}

TEST_F(BatchTest, ABucketWithoutAnySampleLeftIsAnError) {
  const Config c = config();
  Parts parts(c, {}, geometry(c, *make_codec(c.codec)));
  std::string lines;
  const OpenSource& clips = parts.sources["clips"];
  for (const int64_t i : clips.training) lines += "sha256:" + clips.data.sample(i).sha256 + "\n";
  const Withdrawals all(parts.sources, DenyList::parse(lines, "test"));
  EXPECT_EQ(all.size(), static_cast<int64_t>(clips.training.size()));
  EXPECT_THROW(parts.builder.withdraw(all, 0), DataError);
  EXPECT_NO_THROW(parts.builder.withdraw(all, 2));  // the run is past them
}

TEST_F(BatchTest, WhatIsDeniedAtTheStartIsNotPlanned) {
  const Sources before = open_sources(config(), kRights);
  const Sample denied = before["clips"].data.sample(before["clips"].training[3]);
  FrozenRights rights = kRights;
  rights.denied =
      DenyList::parse("phash:" + print_phash(denied.phashes.at(0)) + "/0\nid:no such id\n", "test");
  const Sources sources = open_sources(config(), rights);
  ASSERT_GE(sources.refused.size(), 1u);
  EXPECT_EQ(sources.refused[0].rule, "rights.deny");
  EXPECT_NE(sources.refused[0].reason.find("it looks like phash:"), std::string::npos);
  bool is_found = false;
  for (const RefusedSample& refused : sources.refused) is_found |= refused.id == denied.id;
  EXPECT_TRUE(is_found);
  for (const int64_t i : sources["clips"].training)
    EXPECT_NE(sources["clips"].data.sample(i).id, denied.id);
  EXPECT_EQ(sources.denials().at("rights.deny"), static_cast<int64_t>(sources.refused.size()));
}

// A slot of four: stills on pairs, clips on all four. Each batch is embedded once, and reaches all
// that share it with the same numbers and the same replacements.
TEST_F(BatchTest, ProcessesThatShareASampleGetTheSameBatch) {
  Config c = config();
  c.sources["stills"].data = {broken_stills("shared")};
  c.mesh.slot = 4;
  c.mesh.slots = 2;
  for (StageConfig& stage : c.stages) stage.width = {{"clips", 4}};
  c.stages[0].width["stills"] = 2;
  c.stages[0].steps = 24;  // more than one pass over the stills
  const Geometry g = geometry(c, *make_codec(c.codec));
  Parts whole(c, {}, g);
  std::vector<std::vector<Batch>> wanted;
  std::vector<int64_t> replaced(4);
  for (int64_t step = 0; step < whole.plan.total_steps(); ++step) {
    const StepBatches all = whole.builder.begin_step();
    wanted.emplace_back(all.num_samples);  // by the place of a batch's first sample
    for (int i = 0; i < all.num_batches; ++i) {
      Batch batch = whole.builder.next();
      const int64_t place = batch.consumed[0].place;
      wanted.back()[place] = std::move(batch);
    }
  }
  std::mutex mutex;
  std::map<std::pair<size_t, int64_t>, std::set<size_t>> passes;  // by step and batch
  run_loopback(4, [&](Communicator& members) {
    const int rank = members.rank();
    size_t steps = 0;
    Parts part(c, {.slots = 1, .processes = 4, .slot = 0, .member = rank}, g, &members);
    for (const std::vector<Batch>& step : wanted) {
      const StepBatches mine = part.builder.begin_step();
      EXPECT_EQ(std::count(mine.passes.begin(), mine.passes.end(), true), mine.num_batches);
      size_t pass = 0;
      for (int i = 0; i < mine.num_batches; ++i) {
        const Batch batch = part.builder.next();
        while (!mine.passes[pass]) ++pass;
        {
          const std::scoped_lock lock(mutex);
          passes[{steps, batch.consumed[0].place}].insert(pass);
          passes[{steps, -1}].insert(mine.passes.size());
        }
        ++pass;
        const Batch& want = step[batch.consumed[0].place];
        ASSERT_TRUE(at::equal(batch.latents, want.latents));
        ASSERT_TRUE(at::equal(batch.conditions.text, want.conditions.text));
        ASSERT_EQ(batch.consumed.size(), want.consumed.size());
        for (size_t b = 0; b < want.consumed.size(); ++b) {
          EXPECT_EQ(batch.keys[b].ordinal, want.keys[b].ordinal);
          EXPECT_EQ(batch.consumed[b].sample, want.consumed[b].sample);
          EXPECT_EQ(batch.consumed[b].replacement, want.consumed[b].replacement);
          replaced[rank] += want.consumed[b].replacement > 0;
        }
      }
      ++steps;
    }
    EXPECT_LT(part.builder.stats().results, static_cast<int64_t>(2 * wanted.size()));
  });
  EXPECT_GT(replaced[0] + replaced[2], 0);
  // Those who share a batch make the same pass of it, and all make as many.
  for (const auto& [batch, found] : passes) EXPECT_EQ(found.size(), 1U) << batch.first;
}

TEST(Placement, WorldSizesThatDoNotFitAreRefusedByName) {
  MeshConfig mesh;
  mesh.slots = 4;
  EXPECT_EQ(place(3, 4, mesh).slot, 3);
  EXPECT_THROW(place(0, 5, mesh), ConfigError);
}

}  // namespace
}  // namespace pendulum

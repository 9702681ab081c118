// embed/embedding_stage and embed/embedder: order, exceptions, an end at any time; media and
// captions through the cache.
#include "embed/embedding_stage.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <thread>

#include "core/error.h"
#include "core/random.h"
#include "data/media_writer.h"
#include "embed/haar_codec.h"
#include "embed/minilm_encoder.h"

namespace pendulum {
namespace {

using std::chrono::milliseconds;

TEST(OrderedWorkers, ResultsComeInTheOrderOfTheJobs) {
  for (const int workers : {1, 3, 8}) {
    OrderedWorkers<int> stage(workers, 16);
    int submitted = 0;
    for (int taken = 0; taken < 300; ++taken) {
      for (; submitted < 300 && stage.has_room(); ++submitted) {
        stage.submit([submitted] {
          std::this_thread::sleep_for(std::chrono::microseconds(below(300, draw(1, submitted))));
          return submitted;
        });
      }
      ASSERT_EQ(stage.next(), taken);
    }
    EXPECT_EQ(stage.stats().results, 300);
    EXPECT_EQ(stage.outstanding(), 0u);
  }
}

TEST(OrderedWorkers, MovesResultsThatCannotBeCopied) {
  OrderedWorkers<std::unique_ptr<int>> stage(1, 1);
  stage.submit([] { return std::make_unique<int>(7); });
  EXPECT_EQ(*stage.next(), 7);
}

TEST(OrderedWorkers, HandsExceptionsToTheConsumerInTheirPlace) {
  OrderedWorkers<int> stage(2, 8);
  for (int i = 0; i < 4; ++i) {
    stage.submit([i]() -> int {
      if (i == 1) throw DataError("the second job fails");
      if (i == 2) throw std::runtime_error("and the third, otherwise");
      return i;
    });
  }
  EXPECT_EQ(stage.next(), 0);
  EXPECT_THROW(stage.next(), DataError);
  EXPECT_THROW(stage.next(), std::runtime_error);
  EXPECT_EQ(stage.next(), 3);
}

TEST(OrderedWorkers, MisuseIsAnErrorNotADeadlock) {
  OrderedWorkers<int> stage(1, 2);
  EXPECT_THROW(stage.next(), Error);
  stage.submit([] { return 1; });
  stage.submit([] { return 2; });
  EXPECT_FALSE(stage.has_room());
  EXPECT_THROW(stage.submit([] { return 3; }), Error);
  EXPECT_EQ(stage.next(), 1);
  EXPECT_TRUE(stage.has_room());
  EXPECT_THROW(OrderedWorkers<int>(0, 1), Error);
  EXPECT_THROW(OrderedWorkers<int>(1, 0), Error);
}

TEST(OrderedWorkers, EndsWithWorkInFlight) {
  for (int trial = 0; trial < 50; ++trial) {
    std::atomic<int> begun = 0, ended = 0;
    {
      OrderedWorkers<int> stage(3, 64);
      for (int i = 0; i < 64; ++i) {
        stage.submit([&] {
          ++begun;
          std::this_thread::sleep_for(milliseconds(1));
          ++ended;
          return 0;
        });
      }
      if (trial % 2 == 0) stage.next();
    }
    EXPECT_EQ(begun, ended);
    EXPECT_LE(begun, 64);
  }
}

// Share of the process's processor time that the calling thread takes for an operator ATen would
// split: near 1 when it runs alone, near 1/n on n threads.
double own_share() {
  const at::Tensor x = at::rand({1 << 22});
  const std::clock_t process_start = std::clock();
  const double start = thread_cpu_seconds();
  for (int i = 0; i < 4; ++i) at::erf(x);
  const double own = thread_cpu_seconds() - start;
  return own * CLOCKS_PER_SEC / static_cast<double>(std::clock() - process_start);
}

TEST(OrderedWorkers, WorkersKeepToOneThreadAndTheCallerKeepsItsOwn) {
  for (const int callers : {2, 3}) {
    at::set_num_threads(callers);
    OrderedWorkers<std::pair<int, double>> stage(3, 4);
    EXPECT_EQ(at::get_num_threads(), callers);
    for (int i = 0; i < 6; ++i) {
      stage.submit([] {
        const double share = own_share();
        return std::pair(at::get_num_threads(), share);
      });
      const auto [threads, share] = stage.next();
      EXPECT_EQ(threads, 1);
      EXPECT_GE(share, 0.8);
    }
    EXPECT_EQ(at::get_num_threads(), callers);
    EXPECT_LE(own_share(), 0.8);
    // Threads that begin later are the caller's kind, not the workers'.
    int later = 0;
    std::thread([&] { later = at::get_num_threads(); }).join();
    EXPECT_EQ(later, callers);
  }
}

TEST(OrderedWorkers, CountsWaitingAndWork) {
  OrderedWorkers<int> stage(1, 4);
  stage.submit([] {
    std::this_thread::sleep_for(milliseconds(50));
    return 0;
  });
  stage.next();
  stage.submit([] {
    const double start = thread_cpu_seconds();
    while (thread_cpu_seconds() - start < 0.02) {
    }
    return 0;
  });
  stage.next();
  const WorkerStats stats = stage.stats();
  EXPECT_GE(stats.waited_seconds, 0.05);
  EXPECT_GE(stats.worked_seconds, 0.02);
  EXPECT_LE(stats.worked_seconds, stats.waited_seconds + 0.01);  // sleeping is not work
}

std::vector<uint8_t> picture_bytes(const std::string& name) {
  Frames frames(1, 24, 40);
  for (size_t i = 0; i < frames.rgb.size(); ++i) frames.rgb[i] = draw(5, i / 300) & 255;
  const std::string path = testing::TempDir() + name + std::to_string(::getpid()) + ".png";
  write_image(path, frames);
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

class EmbedderTest : public testing::Test {
 protected:
  HaarCodec codec{CodecConfig{}};
  MiniLmEncoder text_encoder{{"minilm", "auto", 12}, find_text_weights({}, default_environments())};
  EmbeddingCache cache{"", CacheLimits{}};
  Embedder embedder{codec, text_encoder, &cache};
  ClipRequest request{.frames = 1, .fps = 8, .height = 16, .width = 32};
};

TEST_F(EmbedderTest, ReadsMediaOnceAndGivesTheSameAgain) {
  const std::vector<uint8_t> picture = picture_bytes("embedder");
  int reads = 0;
  const MediaBytes media = [&] {
    ++reads;
    return std::variant<std::vector<uint8_t>, ReadFailure>(picture);
  };
  const auto first = std::get<at::Tensor>(embedder.posterior("hash", media, request));
  const auto again = std::get<at::Tensor>(embedder.posterior("hash", media, request));
  EXPECT_EQ(reads, 1);
  EXPECT_TRUE(at::equal(first, again));
  const auto frames = std::get<Frames>(read_clip(picture, request));
  EXPECT_TRUE(at::equal(first, codec.encode(frames)));
  request.width = 16;
  EXPECT_EQ(std::get<at::Tensor>(embedder.posterior("hash", media, request)).size(3), 4);
  EXPECT_EQ(reads, 2);
}

TEST_F(EmbedderTest, FailuresAreReturnedAndNotKept) {
  const MediaBytes missing = [] {
    return std::variant<std::vector<uint8_t>, ReadFailure>(ReadFailure{"gone"});
  };
  EXPECT_EQ(std::get<ReadFailure>(embedder.posterior("a", missing, request)).reason, "gone");
  const MediaBytes broken = [] {
    return std::variant<std::vector<uint8_t>, ReadFailure>(std::vector<uint8_t>{1, 2, 3});
  };
  EXPECT_TRUE(std::holds_alternative<ReadFailure>(embedder.posterior("a", broken, request)));
  EXPECT_EQ(embedder.cache_stats().stored, 0);
}

TEST_F(EmbedderTest, CaptionsComeFromMemoryTheSecondTime) {
  for (const Embedder& with :
       {Embedder(codec, text_encoder, &cache), Embedder(codec, text_encoder, nullptr)}) {
    const at::Tensor first = with.text("a red circle"), again = with.text("a red circle");
    EXPECT_TRUE(at::equal(first, again));
    EXPECT_TRUE(at::equal(first, text_encoder.encode({"a red circle"})[0]));
    EXPECT_EQ(with.cache_stats().hits, 1);
    EXPECT_EQ(with.cache_stats().misses, 1);
  }
}

}  // namespace
}  // namespace pendulum

// HDF5 files and packs as they are read: round trips, damage of every byte region, many threads.
#include "data/packed_data.h"

#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <functional>
#include <thread>

#include "core/error.h"
#include "core/hash.h"
#include "core/random.h"
#include "data/hdf5_file.h"
#include "data/media_writer.h"
#include "data/pack.h"
#include "data/pack_format.h"
#include "data/scene.h"

namespace pendulum {
namespace {

namespace fs = std::filesystem;

// A folder of its own for each test, empty.
fs::path fresh_folder(const std::string& name) {
  const fs::path folder = fs::path(testing::TempDir()) / ("packed_data_test_" + name);
  fs::remove_all(folder);
  fs::create_directories(folder);
  return folder;
}

void flip(const fs::path& path, int64_t at) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(at);
  const char byte = static_cast<char>(file.get() ^ 0x10);
  file.seekp(at);
  file.put(byte);
}

// Packs `count` small PNGs and returns the pack's folder.
fs::path small_pack(const std::string& name, int count) {
  const fs::path folder = fresh_folder(name);
  fs::create_directories(folder / "in");
  for (int i = 0; i < count; ++i) {
    const std::string stem = (folder / "in" / text("p", 100 + i)).string();
    write_image(stem + ".png", draw_scene(still_scene(1, i), 1, 32));
    std::ofstream(stem + ".txt") << still_caption(still_scene(1, i));
  }
  pack({.input = (folder / "in").string(),
        .out = (folder / "out").string(),
        .licence = "CC0-1.0",
        .holder = "me"});
  return folder / "out";
}

TEST(Hdf5File, RoundTripsEveryKind) {
  const std::string path = (fresh_folder("round") / "a.h5").string();
  std::vector<uint8_t> bytes(200003);  // three chunks and a prime rest
  std::vector<float> floats(40001);
  std::vector<int64_t> integers = {0, -1, int64_t{1} << 62};
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(draw(i));
  for (size_t i = 0; i < floats.size(); ++i) floats[i] = static_cast<float>(normal(i));
  {
    Hdf5File file = Hdf5File::create(path);
    file.write("bytes", bytes);
    file.write("floats", floats);
    file.write("integers", integers);
    file.write("nothing", std::vector<uint8_t>{});
    file.write("one", std::vector<uint8_t>{7});
    file.write_attribute("words", "a b\nc");
    file.write_attribute("empty", "");
    file.close();
  }
  const Hdf5File file = Hdf5File::open(path);
  EXPECT_EQ(file.read_bytes("bytes"), bytes);
  EXPECT_EQ(file.read_floats("floats"), floats);
  EXPECT_EQ(file.read_integers("integers"), integers);
  EXPECT_TRUE(file.read_bytes("nothing").empty());
  EXPECT_EQ(file.read_bytes("one"), std::vector<uint8_t>{7});
  EXPECT_EQ(file.read_attribute("words"), "a b\nc");
  EXPECT_EQ(file.read_attribute("empty"), "");
  EXPECT_EQ(file.length("floats"), 40001);
  EXPECT_TRUE(file.has("one"));
  EXPECT_FALSE(file.has("two"));
  // Around the border of a chunk of 65536 bytes.
  for (const int64_t first : {0, 1, 65535, 65536, 131071, 200002}) {
    for (const int64_t count : {0, 1, 2, 1009}) {
      if (first + count > 200003) continue;
      EXPECT_EQ(file.read_bytes("bytes", first, count),
                std::vector<uint8_t>(bytes.begin() + first, bytes.begin() + first + count));
    }
  }
  EXPECT_EQ(file.read_floats("floats", 16383, 3),
            std::vector<float>(floats.begin() + 16383, floats.begin() + 16386));
}

TEST(Hdf5File, NamesWhatIsWrong) {
  const fs::path folder = fresh_folder("wrong");
  const std::string path = (folder / "a.h5").string();
  EXPECT_THROW(Hdf5File::open(path), DataError);
  EXPECT_THROW(Hdf5File::create("/nowhere/a.h5"), DataError);
  std::ofstream(path) << "no HDF5";
  EXPECT_THROW(Hdf5File::open(path), DataError);
  Hdf5File file = Hdf5File::create(path);
  file.write("x", std::vector<uint8_t>(10));
  EXPECT_THROW(file.write("x", std::vector<uint8_t>(10)), DataError);
  file.close();
  const Hdf5File again = Hdf5File::open(path);
  EXPECT_THROW(again.read_bytes("y"), DataError);
  EXPECT_THROW(again.read_bytes("x", 5, 6), DataError);
  EXPECT_THROW(again.read_bytes("x", -1, 2), DataError);
  EXPECT_THROW(again.read_attribute("x"), DataError);
  try {
    again.read_bytes("y");
  } catch (const DataError& e) {
    EXPECT_NE(std::string(e.what()).find(path), std::string::npos);
  }
}

TEST(Hdf5File, ChecksumsSeeAFlippedByte) {
  const std::string path = (fresh_folder("flip") / "a.h5").string();
  Hdf5File file = Hdf5File::create(path);
  file.write("x", std::vector<uint8_t>(50000, 0x5a));
  file.close();
  flip(path, static_cast<int64_t>(fs::file_size(path)) / 2);
  const Hdf5File damaged = Hdf5File::open(path);
  EXPECT_THROW(damaged.read_bytes("x"), DataError);
}

TEST(PackedData, GivesBackWhatWasPacked) {
  const fs::path folder = small_pack("back", 30);
  const PackedData data = PackedData::open(folder.string());
  ASSERT_EQ(data.size(), 30);
  for (int i = 0; i < 30; ++i) {
    const Sample& sample = data.sample(i);
    EXPECT_EQ(sample.id, text("p", 100 + i, ".png"));
    EXPECT_EQ(sample.captions, std::vector{still_caption(still_scene(1, i))});
    EXPECT_EQ(sample.licence, "CC0-1.0");
    EXPECT_EQ(sample.basis, "owner-attested");
    EXPECT_EQ(sample.width, 32);
    const auto media = std::get<std::vector<uint8_t>>(data.media(i));
    EXPECT_EQ(media, encode_png(draw_scene(still_scene(1, i), 1, 32)));
    EXPECT_EQ(sha256(media), sample.sha256);
  }
  EXPECT_THROW(data.sample(30), Error);
  EXPECT_THROW(data.media(-1), Error);
  // The digest says what the data is, not where.
  fs::rename(folder, folder.string() + "2");
  EXPECT_EQ(PackedData::open(folder.string() + "2").digest(), data.digest());
}

TEST(PackedData, ServesManyThreads) {
  const PackedData data = PackedData::open(small_pack("threads", 20).string());
  std::atomic<int> good = 0;
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 8; ++t) {
      threads.emplace_back([&, t] {
        for (int i = 0; i < 100; ++i)
          good += std::holds_alternative<std::vector<uint8_t>>(data.media((i * 7 + t) % 20));
      });
    }
  }
  EXPECT_EQ(good, 800);
}

TEST(PackedData, SeesAFlippedByteAnywhereInAShard) {
  const fs::path folder = small_pack("shard", 40);
  const fs::path shard = folder / "shard-00000.h5";
  const fs::path copy = folder / "copy";
  fs::copy_file(shard, copy);
  const auto size = static_cast<int64_t>(fs::file_size(shard));
  int noticed = 0, unharmed = 0;
  for (int64_t i = 0; i < 60; ++i) {
    fs::copy_file(copy, shard, fs::copy_options::overwrite_existing);
    flip(shard, size * i / 60);
    const CheckReport report = check_pack(folder.string(), 1);
    EXPECT_FALSE(report.problems.empty()) << i;
    // Whatever a reader is given is what was packed.
    const PackedData data = PackedData::open(folder.string());
    for (int64_t k = 0; k < data.size(); ++k) {
      const auto media = data.media(k);
      if (std::holds_alternative<ReadFailure>(media)) {
        ++noticed;
      } else {
        ++unharmed;
        EXPECT_EQ(sha256(std::get<std::vector<uint8_t>>(media)), data.sample(k).sha256);
      }
    }
  }
  EXPECT_GT(noticed, 0);
  EXPECT_GT(unharmed, 0);
}

TEST(PackedData, RefusesAPackWhoseFilesDoNotFit) {
  const fs::path folder = small_pack("fit", 3);
  const auto refused = [&](const std::string& what) {
    try {
      PackedData::open(folder.string());
      ADD_FAILURE() << what;
    } catch (const DataError& e) {
      EXPECT_NE(std::string(e.what()).find(folder.string()), std::string::npos) << e.what();
    }
  };
  const auto with_change = [&](const char* file,
                               const std::function<void(const fs::path&)>& change) {
    const fs::path path = folder / file, keep = folder / "keep";
    fs::copy_file(path, keep, fs::copy_options::overwrite_existing);
    change(path);
    refused(file);
    fs::copy_file(keep, path, fs::copy_options::overwrite_existing);
  };
  with_change("index.jsonl", [](const fs::path& p) { flip(p, 20); });
  with_change("index.jsonl", [](const fs::path& p) { fs::resize_file(p, fs::file_size(p) / 2); });
  with_change("pack.json", [](const fs::path& p) { fs::resize_file(p, fs::file_size(p) / 2); });
  with_change("pack.json", [](const fs::path& p) {
    std::ofstream(p) << R"({"format": "pendulum-pack", "version": 99})";
  });
  with_change("pack.json", [](const fs::path& p) { fs::remove(p); });
  with_change("shard-00000.h5",
              [](const fs::path& p) { fs::resize_file(p, fs::file_size(p) - 1); });
  with_change("shard-00000.h5", [](const fs::path& p) { fs::remove(p); });
  EXPECT_EQ(PackedData::open(folder.string()).size(), 3);
}

TEST(ClipFrames, IsTheLargestThatFits) {
  Sample clip;
  clip.kind = MediaKind::clip;
  clip.frames = 17;
  clip.fps = 8;
  clip.seconds = 17.0 / 8;
  EXPECT_EQ(clip_frames(clip, 17, 8), 17);
  EXPECT_EQ(clip_frames(clip, 81, 8), 17);
  EXPECT_EQ(clip_frames(clip, 16, 8), 13);
  EXPECT_EQ(clip_frames(clip, 17, 4), 9);
  EXPECT_EQ(clip_frames(clip, 81, 16), 33);
  EXPECT_EQ(clip_frames(clip, 3, 8), 1);
  clip.frames = 4;
  clip.seconds = 0.5;
  EXPECT_EQ(clip_frames(clip, 17, 8), 1);
  Sample still;
  EXPECT_EQ(clip_frames(still, 81, 8), 1);
}

}  // namespace
}  // namespace pendulum

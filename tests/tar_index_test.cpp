// WebDataset shards as tar programs write them: indexed without unpacking, read in place, and every
// way in which they can be broken.
#include "data/tar_index.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>

#include "core/error.h"
#include "data/media_writer.h"
#include "data/pack.h"
#include "data/packed_data.h"
#include "data/scene.h"
#include "file_contents.h"

namespace pendulum {
namespace {

namespace fs = std::filesystem;

void put_file(const fs::path& path, const std::string& words) {
  std::ofstream(path, std::ios::binary) << words;
}
class TarTest : public testing::Test {
 protected:
  TarTest()
      : folder_(fs::path(testing::TempDir()) /
                text("tar_", testing::UnitTest::GetInstance()->current_test_info()->name())) {
    fs::remove_all(folder_);
    fs::create_directories(folder_ / "in/deep");
    fs::create_directories(folder_ / "set");
  }
  void tar(const std::string& name, const std::string& members, const std::string& format) {
    const std::string command = "tar --format=" + format + " -C '" + (folder_ / "in").string() +
                                "' -cf '" + (folder_ / "set" / name).string() + "' " + members;
    ASSERT_EQ(std::system(command.c_str()), 0) << command;
  }
  std::string refusal(const std::string& path) {
    int64_t without = 0;
    try {
      read_webdataset(path, &without);
    } catch (const DataError& error) {
      return error.what();
    }
    ADD_FAILURE() << path;
    return "";
  }
  fs::path folder_;
};

TEST_F(TarTest, IndexIsWhatTarSays) {
  const std::string longest = std::string(120, 'n') + "/" + std::string(130, 'm') + ".txt";
  fs::create_directories(folder_ / "in" / std::string(120, 'n'));
  put_file(folder_ / "in" / longest, "far");
  put_file(folder_ / "in/a.txt", std::string(512, 'x'));
  put_file(folder_ / "in/b.txt", "");
  put_file(folder_ / "in/deep/c.txt", std::string(1000, 'y'));
  for (const std::string format : {"gnu", "pax", "ustar"}) {
    tar("t.tar", format == "ustar" ? "a.txt b.txt deep" : "a.txt b.txt deep " + longest, format);
    const std::string path = (folder_ / "set/t.tar").string();
    const std::string bytes = file_contents(path);
    const std::vector<TarMember> members = read_tar_index(path);
    ASSERT_EQ(members.size(), format == "ustar" ? 3u : 4u);
    for (const TarMember& member : members)
      EXPECT_EQ(bytes.substr(member.offset, member.bytes),
                file_contents(folder_ / "in" / member.name));
    if (format != "ustar") {
      EXPECT_EQ(members.back().name, longest);
    }
  }
}

TEST_F(TarTest, ShardsAreTrainedOnInPlace) {
  for (int i = 0; i < 6; ++i) {
    const std::string stem = (folder_ / "in" / text("s", i)).string();
    if (i % 2) {
      write_video(stem + ".mp4", draw_scene(clip_scene(1, i), 17, 32), 8);
    } else {
      write_image(stem + ".png", draw_scene(still_scene(1, i), 1, 32));
    }
    if (i < 4) put_file(stem + ".txt", text("caption  ", i, "\n"));
    put_file(stem + ".json", text(R"({"url": "x", "key": 7, "license": "CC-BY-4.0")",
                                  i >= 4 ? R"(, "captions": ["one", "two"])" : "",
                                  i == 5 ? R"(, "start": 1.0, "end": 2.125})" : "}"));
  }
  put_file(folder_ / "in/lone.txt", "no medium");
  tar("0.tar", "s0.png s0.txt s0.json s1.mp4 s1.txt s1.json lone.txt", "gnu");
  tar("1.tar", "s2.json s2.png s2.txt s3.txt s3.mp4 s3.json s4.png s4.json s5.mp4 s5.json", "pax");
  for (const bool in_place : {true, false}) {
    const std::string out = (folder_ / (in_place ? "index" : "pack")).string();
    const PackReport report = pack({.input = (folder_ / "set").string(),
                                    .out = out,
                                    .licence = "LicenseRef-own",
                                    .holder = "me",
                                    .validation = 0,
                                    .in_place = in_place});
    EXPECT_EQ(report.packed, 6) << describe(report);
    EXPECT_EQ(fs::exists(fs::path(out) / "shard-00000.h5"), !in_place);
    const PackedData data = PackedData::open(out);
    ASSERT_EQ(data.size(), 6);
    for (int i = 0; i < 6; ++i) {
      const Sample sample = data.sample(i);
      EXPECT_EQ(sample.id, text("s", i));
      EXPECT_EQ(sample.licence, "CC-BY-4.0");
      EXPECT_EQ(sample.captions.front(), i < 4 ? text("caption ", i) : "one");
      const auto media = std::get<std::vector<uint8_t>>(data.media(i));
      EXPECT_EQ(std::string(media.begin(), media.end()),
                file_contents(folder_ / "in" / text("s", i, i % 2 ? ".mp4" : ".png")));
    }
    EXPECT_EQ(data.sample(5).frames, 9);
    EXPECT_TRUE(check_pack(out).problems.empty());
  }
  // The same samples, wherever they lie.
  EXPECT_EQ(PackedData::open((folder_ / "index").string()).digest(),
            PackedData::open((folder_ / "pack").string()).digest());
  // What was changed since is a sample that does not read.
  std::string bytes = file_contents(folder_ / "set/0.tar");
  bytes[600] ^= 1;
  put_file(folder_ / "set/0.tar", bytes);
  const PackedData data = PackedData::open((folder_ / "index").string());
  EXPECT_TRUE(std::holds_alternative<ReadFailure>(data.media(0)));
  EXPECT_FALSE(std::holds_alternative<ReadFailure>(data.media(1)));
  fs::remove(folder_ / "set/0.tar");
  EXPECT_TRUE(std::holds_alternative<ReadFailure>(data.media(1)));
}

TEST_F(TarTest, AManifestsFilesAreTrainedOnInPlace) {
  write_image((folder_ / "in/a.png").string(), draw_scene(still_scene(1, 1), 1, 32));
  put_file(
      folder_ / "in/m.jsonl",
      R"({"id":"a","media":"a.png","caption":"c","licence":"CC0-1.0","holder":"h","basis":"b"})");
  const std::string out = (folder_ / "out").string();
  EXPECT_EQ(pack({.input = (folder_ / "in/m.jsonl").string(), .out = out, .in_place = true}).packed,
            1);
  const auto media = PackedData::open(out).media(0);
  EXPECT_EQ(std::get<std::vector<uint8_t>>(media).size(), fs::file_size(folder_ / "in/a.png"));
}

TEST_F(TarTest, BrokenShardsAreNamed) {
  write_image((folder_ / "in/a.png").string(), draw_scene(still_scene(1, 1), 1, 32));
  put_file(folder_ / "in/a.json", "{broken");
  put_file(folder_ / "in/b.json", R"({"caption": 7})");
  put_file(folder_ / "in/c.json", R"({"caption": "c", "start": 3, "end": 2})");
  tar("a.tar", "a.png a.json", "gnu");
  const std::string path = (folder_ / "set/a.tar").string();
  EXPECT_NE(refusal(path).find("a.tar: a.json: is no JSON object"), std::string::npos);
  tar("a.tar", "a.png b.json", "gnu");
  EXPECT_NE(refusal(path).find("b.json: \"caption\" must be text"), std::string::npos);
  tar("a.tar", "a.png c.json", "gnu");
  EXPECT_NE(refusal(path).find("c.json: the clip ends at 2 s"), std::string::npos);
  tar("a.tar", "a.png", "gnu");
  const std::string whole = file_contents(path);
  put_file(path, whole.substr(0, 700));
  EXPECT_NE(refusal(path).find("broken off"), std::string::npos);
  std::string damaged = whole;
  damaged[10] = 'z';
  put_file(path, damaged);
  EXPECT_NE(refusal(path).find("no tar head at byte 0"), std::string::npos);
  put_file(path, "");
  EXPECT_NE(refusal(path).find("broken off"), std::string::npos);
  put_file(path, whole);
  tar("b.tar", "a.png", "gnu");
  EXPECT_NE(refusal((folder_ / "set").string()).find("the key a is in"), std::string::npos);
  fs::copy_file(folder_ / "in/a.png", folder_ / "in/a.jpg");
  tar("b.tar", "a.png a.jpg", "gnu");
  EXPECT_NE(refusal((folder_ / "set/b.tar").string()).find("has a medium already"),
            std::string::npos);
}

}  // namespace
}  // namespace pendulum

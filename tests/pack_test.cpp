// Packing: folders, manifests, what is refused, what is an error, and what a killed run leaves
// behind.
#include "data/pack.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/hash.h"
#include "data/manifest.h"
#include "data/media_writer.h"
#include "data/packed_data.h"
#include "data/scene.h"
#include "data/synth.h"
#include "error_message.h"
#include "file_contents.h"

namespace pendulum {
namespace {

namespace fs = std::filesystem;

fs::path fresh(const std::string& name) {
  const fs::path folder = fs::path(testing::TempDir()) / ("pack_test_" + name);
  fs::remove_all(folder);
  fs::create_directories(folder / "in");
  return folder;
}

void put(const fs::path& path, const std::string& words) {
  std::ofstream(path, std::ios::binary) << words;
}

void put_still(const fs::path& path, int number) {
  write_image(path.string(), draw_scene(still_scene(1, number), 1, 32));
}

PackOptions own(const fs::path& folder) {
  return {.input = (folder / "in").string(),
          .out = (folder / "out").string(),
          .licence = "LicenseRef-own",
          .holder = "me"};
}

std::map<std::string, std::string> refused(const PackReport& report) {
  std::map<std::string, std::string> out;
  for (const Refusal& r : report.refused) out[r.id] = r.reason;
  return out;
}

TEST(Pack, TakesAFolderAndListsWhatItRefuses) {
  const fs::path folder = fresh("folder"), in = folder / "in";
  fs::create_directories(in / "sub dir");
  put_still(in / "a.png", 1);
  put(in / "a.txt", "  a red\n circle ");
  put_still(in / "sub dir" / "b.JPEG.jpg", 2);
  put(in / "sub dir" / "b.JPEG.txt", "ein gr\xc3\xbcnes Quadrat");
  write_video((in / "c.mp4").string(), draw_scene(clip_scene(1, 3), 9, 32), 8);
  put(in / "c.txt", "a moving thing");
  put_still(in / "no_caption.png", 4);
  put_still(in / "blank_caption.png", 5);
  put(in / "blank_caption.txt", " \n\t ");
  put_still(in / "bad_caption.png", 6);
  put(in / "bad_caption.txt", "\xff\xfe words");
  fs::copy_file(in / "a.png", in / "z_same.png");
  put(in / "z_same.txt", "another caption");
  put(in / "text.mp4", "this is no video");
  put(in / "text.txt", "x");
  put(in / "empty.png", "");
  put(in / "empty.txt", "x");
  put(in / "broken.mp4", file_contents(in / "c.mp4").substr(0, 2000));
  put(in / "broken.txt", "x");
  put(in / "notes.md", "not media");
  put(in / ".hidden.png", "not looked at");
  fs::create_symlink("nowhere.png", in / "dangling.png");
  put(in / "dangling.txt", "x");

  const PackReport report = pack(own(folder));
  EXPECT_EQ(report.packed, 3);
  EXPECT_EQ(report.stills, 2);
  EXPECT_EQ(report.clips, 1);
  const auto no = refused(report);
  EXPECT_EQ(no.size(), 8u);
  EXPECT_EQ(no.at("no_caption.png"), "has no caption");
  EXPECT_EQ(no.at("blank_caption.png"), "has no caption");
  EXPECT_EQ(no.at("bad_caption.png"), "its caption is not UTF-8");
  EXPECT_EQ(no.at("z_same.png"), "has the same bytes as a.png");
  for (const char* id : {"text.mp4", "empty.png", "broken.mp4", "dangling.png"})
    EXPECT_FALSE(no.at(id).empty()) << id;
  const std::string list = file_contents(folder / "out" / "refused.jsonl");
  EXPECT_EQ(std::count(list.begin(), list.end(), '\n'), 8);

  const PackedData data = PackedData::open((folder / "out").string());
  ASSERT_EQ(data.size(), 3);
  EXPECT_EQ(data.sample(0).captions.at(0), "a red circle");
  EXPECT_EQ(data.sample(1).kind, MediaKind::clip);
  EXPECT_EQ(data.sample(1).frames, 9);
  EXPECT_NEAR(data.sample(1).fps, 8, 1e-6);
  EXPECT_EQ(data.sample(2).id, "sub dir/b.JPEG.jpg");
  EXPECT_EQ(data.sample(2).holder, "me");
  EXPECT_TRUE(check_pack((folder / "out").string()).problems.empty());
  EXPECT_NE(describe(report).find("refused: 8"), std::string::npos);
  const PackStats stats = pack_stats((folder / "out").string(), 8);
  int64_t counted = 0;
  for (const auto& [reason, count] : stats.refused) counted += count;
  EXPECT_EQ(counted, 8);
  for (const auto& [id, reason] : no) EXPECT_GE(stats.refused.at(reason), 1) << id;
  EXPECT_NE(describe(stats).find("refused when it was packed: 8\n"), std::string::npos);
}

TEST(Pack, TakesAManifestAndDeniesByDefault) {
  const fs::path folder = fresh("manifest"), in = folder / "in";
  for (int i = 0; i < 6; ++i) put_still(in / (std::to_string(i) + ".png"), i);
  put(in / "m.jsonl",
      R"({"id":"a","media":"0.png","captions":["one","two"],"licence":"CC0-1.0","holder":"h","basis":"b"}
{"id":"b","media":"1.png","caption":"c","licence":"CC0-1.0","holder":"h","basis":"b","split":"validation"}

{"id":"no licence","media":"2.png","caption":"c","holder":"h","basis":"b"}
{"id":"no holder","media":"3.png","caption":"c","licence":"CC0-1.0","basis":"b"}
{"id":"no basis","media":"4.png","caption":"c","licence":"CC0-1.0","holder":"h","basis":""}
{"id":"no caption","media":"5.png","captions":[],"licence":"CC0-1.0","holder":"h","basis":"b"}
{"id":"no file","media":"6.png","caption":"c","licence":"CC0-1.0","holder":"h","basis":"b"}
)");
  PackOptions options{.input = (in / "m.jsonl").string(), .out = (folder / "out").string()};
  const PackReport report = pack(options);
  EXPECT_EQ(report.packed, 2);
  EXPECT_EQ(report.validation, 1);
  const auto no = refused(report);
  EXPECT_EQ(no.at("no licence"), "names no licence");
  EXPECT_EQ(no.at("no holder"), "names no holder");
  EXPECT_EQ(no.at("no basis"), "names no basis: why it may be used");
  EXPECT_EQ(no.at("no caption"), "has no caption");
  EXPECT_FALSE(no.at("no file").empty());
  EXPECT_EQ(PackedData::open(options.out).sample(0).captions,
            (std::vector<std::string>{"one", "two"}));
  // The owner's word fills what the lines leave open.
  options.licence = "LicenseRef-own";
  options.holder = "me";
  options.out = (folder / "out2").string();
  EXPECT_EQ(pack(options).packed, 5);
  EXPECT_EQ(PackedData::open(options.out).sample(2).licence, "LicenseRef-own");
  EXPECT_EQ(PackedData::open(options.out).sample(2).basis, "b");
}

TEST(Pack, ClipsOfOneFileShareItsBytes) {
  const fs::path folder = fresh("excerpts"), in = folder / "in";
  write_video((in / "long.mp4").string(), draw_scene(clip_scene(1, 3), 33, 32), 8);
  const std::string rest =
      R"("media":"long.mp4","caption":"c","licence":"CC0-1.0","holder":"h","basis":"b"})";
  put(in / "m.jsonl", "{\"id\":\"whole\"," + rest + "\n{\"id\":\"a\",\"end\":1.125," + rest +
                          "\n{\"id\":\"b\",\"start\":2,\"end\":4.125," + rest +
                          "\n{\"id\":\"late\",\"start\":3,\"end\":5," + rest +
                          "\n{\"id\":\"same\",\"start\":0,\"end\":1.125," + rest + "\n");
  const PackReport report =
      pack({.input = (in / "m.jsonl").string(), .out = (folder / "out").string()});
  EXPECT_EQ(report.packed, 3);
  EXPECT_EQ(report.bytes, static_cast<int64_t>(fs::file_size(in / "long.mp4")));
  const auto no = refused(report);
  EXPECT_NE(no.at("late").find("the clip is to end at 5 s"), std::string::npos);
  EXPECT_EQ(no.at("same"), "has the same bytes as a");
  const PackedData data = PackedData::open((folder / "out").string());
  EXPECT_EQ(data.sample(0).frames, 33);
  EXPECT_EQ(data.sample(1).frames, 9);
  EXPECT_EQ(data.sample(2).frames, 17);
  EXPECT_EQ(data.sample(2).excerpt, (Excerpt{2, 4.125}));
  EXPECT_EQ(clip_frames(data.sample(2), 81, 8), 17);
  EXPECT_TRUE(check_pack((folder / "out").string()).problems.empty());
}

TEST(Pack, BadManifestsNameFileAndLine) {
  const fs::path folder = fresh("bad"), in = folder / "in";
  put_still(in / "0.png", 0);
  put_still(folder / "outside.png", 1);
  fs::create_symlink(folder / "outside.png", in / "link.png");
  fs::create_symlink("loop_b.png", in / "loop_a.png");
  fs::create_symlink("loop_a.png", in / "loop_b.png");
  const std::string good =
      R"({"id":"a","media":"0.png","caption":"c","licence":"CC0-1.0","holder":"h","basis":"b"})";
  const auto refusal = [&](const std::string& line) {
    put(in / "m.jsonl", good + "\n" + line + "\n");
    const std::string message =
        message_of<DataError>([&] { read_manifest((in / "m.jsonl").string()); });
    EXPECT_NE(message.find((in / "m.jsonl:2").string()), std::string::npos) << message;
    return message;
  };
  const auto contains = [](const std::string& words, const std::string& part) {
    return words.find(part) != std::string::npos;
  };
  EXPECT_TRUE(contains(refusal(R"({"id":"b","media":"0.png")"), "broken JSON"));
  EXPECT_TRUE(contains(refusal("[1]"), "object"));
  EXPECT_TRUE(contains(refusal(R"({"id":"b","media":"0.png","license":"CC0-1.0"})"),
                       "did you mean \"licence\""));
  EXPECT_TRUE(contains(refusal(R"({"media":"0.png"})"), "\"id\" is missing"));
  EXPECT_TRUE(contains(refusal(R"({"id":"b"})"), "\"media\" is missing"));
  EXPECT_TRUE(contains(refusal(R"({"id":7,"media":"0.png"})"), "must be text"));
  EXPECT_TRUE(contains(refusal(R"({"id":"b","media":"0.png","captions":"c"})"), "list"));
  EXPECT_TRUE(contains(refusal(R"({"id":"b","media":"0.png","captions":[1]})"), "list"));
  EXPECT_TRUE(contains(refusal(R"({"id":"b","media":"0.png","caption":"c","captions":["c"]})"),
                       "not both"));
  EXPECT_TRUE(contains(refusal(R"({"id":"b","media":"0.png","split":"test"})"), "validation"));
  EXPECT_TRUE(contains(refusal(R"({"id":"b","media":"0.png","start":2,"end":2})"),
                       "ends at 2 s, not behind its start at 2 s"));
  EXPECT_TRUE(contains(refusal(R"({"id":"b","media":"0.png","start":"2"})"), "seconds from 0"));
  EXPECT_TRUE(contains(refusal(R"({"id":"b","media":"0.png","end":-1})"), "seconds from 0"));
  EXPECT_TRUE(contains(refusal(good), "line 1"));
  EXPECT_TRUE(contains(refusal(R"({"id":"b","media":"../outside.png"})"), "outside"));
  EXPECT_TRUE(contains(refusal(R"({"id":"b","media":"x/../../outside.png"})"), "outside"));
  EXPECT_TRUE(contains(refusal(R"({"id":"b","media":"/etc/hostname"})"), "outside"));
  EXPECT_TRUE(contains(refusal(R"({"id":"b","media":"link.png"})"), "symbolic link"));
  refusal(R"({"id":"b","media":"loop_a.png"})");
  refusal("{\"id\":\"\xff\",\"media\":\"0.png\"}");
  // Far into a long manifest.
  std::string many;
  for (int i = 1; i <= 70010; ++i) {
    many += i == 70001 ? "{\"id\": \"x\n" : text("{\"id\":\"", i, "\",\"media\":\"0.png\"}\n");
  }
  put(in / "m.jsonl", many);
  EXPECT_TRUE(contains(message_of<DataError>([&] { read_manifest((in / "m.jsonl").string()); }),
                       "m.jsonl:70001: broken JSON"));
  put(in / "m.jsonl", "\n\n");
  EXPECT_THROW(read_manifest((in / "m.jsonl").string()), DataError);
  EXPECT_THROW(read_manifest((in / "none.jsonl").string()), DataError);
  // In a folder a loop is an error too, not an endless walk.
  EXPECT_TRUE(contains(message_of<DataError>([&] { read_media_folder(in.string()); }), "loop"));
}

TEST(Pack, AsksForWhatTheUserMustSay) {
  const fs::path folder = fresh("ask");
  put_still(folder / "in" / "a.png", 0);
  put(folder / "in" / "a.txt", "a");
  PackOptions options = own(folder);
  options.holder = "";
  EXPECT_NE(message_of<ConfigError>([&] { pack(options); }).find("--holder"), std::string::npos);
  options = own(folder);
  options.input = (folder / "none").string();
  EXPECT_THROW(pack(options), ConfigError);
  options = own(folder);
  options.validation = 1;
  EXPECT_THROW(pack(options), ConfigError);
  options = own(folder);
  pack(options);
  EXPECT_NE(message_of<ConfigError>([&] { pack(options); }).find("exists already"),
            std::string::npos);
  // Nothing to pack: an error with the reason, and no folder.
  fs::remove(folder / "in" / "a.txt");
  options.out = (folder / "out2").string();
  EXPECT_NE(message_of<DataError>([&] { pack(options); }).find("has no caption"),
            std::string::npos);
  EXPECT_FALSE(fs::exists(options.out));
  for (const auto& entry : fs::directory_iterator(folder)) {
    EXPECT_EQ(entry.path().filename().string().find(".tmp"), std::string::npos) << entry.path();
  }
}

TEST(Pack, GivesTheSameBytesAgainWithAnyThreadCount) {
  const fs::path folder = fresh("same");
  synthesize({.stills = 30, .clips = 10, .size = 32, .frames = 5, .out = (folder / "in").string()});
  std::vector<std::string> packs;
  for (const int threads : {1, 2, 5}) {
    const std::string out = (folder / ("out" + std::to_string(threads))).string();
    const PackReport report =
        pack({.input = (folder / "in" / "clips.jsonl").string(), .out = out, .threads = threads});
    EXPECT_EQ(report.packed, 10);
    packs.push_back(file_contents(fs::path(out) / "pack.json"));
  }
  EXPECT_EQ(packs[0], packs[1]);
  EXPECT_EQ(packs[0], packs[2]);
}

TEST(Pack, HoldsOutAShareOfAFolderByContent) {
  const fs::path folder = fresh("split");
  for (int i = 0; i < 200; ++i) {
    put_still(folder / "in" / (std::to_string(i) + ".png"), i);
    put(folder / "in" / (std::to_string(i) + ".txt"), "x");
  }
  PackOptions options = own(folder);
  options.validation = 0.25;
  const PackReport report = pack(options);
  // 200 draws at 0.25: 50 +- 6.1; five standard deviations.
  EXPECT_NEAR(static_cast<double>(report.validation), 50, 31);
  const PackStats stats = pack_stats(options.out, 8);
  EXPECT_EQ(stats.validation, report.validation);
  EXPECT_EQ(stats.stills, report.packed);
  EXPECT_EQ(stats.licences.at("LicenseRef-own"), report.packed);
}

TEST(Pack, AKilledRunLeavesNothingThatLoads) {
  const fs::path folder = fresh("killed");
  synthesize({.stills = 1500, .clips = 0, .size = 32, .out = (folder / "in").string()});
  const PackOptions options{.input = (folder / "in" / "stills.jsonl").string(),
                            .out = (folder / "out").string(),
                            .threads = 1};
  int killed = 0;
  for (int delay = 5; delay < 400; delay = delay * 3 / 2) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      pack(options);
      _exit(0);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(delay));
    kill(child, SIGKILL);
    int status = 0;
    waitpid(child, &status, 0);
    if (fs::exists(options.out)) {  // it was faster: then it is whole
      EXPECT_TRUE(check_pack(options.out).problems.empty());
      fs::remove_all(options.out);
    } else {
      killed += WIFSIGNALED(status);
      EXPECT_THROW(PackedData::open(options.out), DataError);
    }
  }
  EXPECT_GT(killed, 0);
  // The next run clears what is left and succeeds.
  EXPECT_EQ(pack(options).packed, 1500);
  int left = 0;
  for (const auto& entry : fs::directory_iterator(folder))
    left += entry.path().filename().string().find(".tmp") != std::string::npos;
  EXPECT_EQ(left, 0);
}

TEST(Pack, StatsCountWhatIsThere) {
  const fs::path folder = fresh("stats");
  synthesize({.stills = 0,
              .clips = 60,
              .size = 32,
              .frames = 17,
              .fps = 8,
              .out = (folder / "in").string()});
  const std::string out = (folder / "out").string();
  pack({.input = (folder / "in" / "clips.jsonl").string(), .out = out});
  const PackStats stats = pack_stats(out, 8);
  EXPECT_EQ(stats.clips, 60);
  EXPECT_EQ(stats.validation, 1);
  EXPECT_EQ(stats.frames, 60 * 17);
  EXPECT_NEAR(stats.seconds, 60 * 17 / 8.0, 1e-3);
  EXPECT_EQ(stats.sizes.at("32x32"), 60);
  EXPECT_EQ(stats.fits.at(17), 60);
  EXPECT_EQ(stats.fits.at(33), 0);
  EXPECT_EQ(pack_stats(out, 4).fits.at(9), 60);
  EXPECT_EQ(pack_stats(out, 4).fits.at(17), 0);
  EXPECT_NE(describe(stats).find("60 clips"), std::string::npos);
  EXPECT_THROW(pack_stats(out, 0), ConfigError);
}

TEST(Manifest, TheExampleInTheRepositoryIsValid) {
  const auto entries =
      read_manifest(std::string(PENDULUM_SOURCE_DIR) + "/data/example_manifest.jsonl");
  EXPECT_GE(entries.size(), 3u);
}

// Terms travel from the manifest to the pack's index; perceptual hashes are computed there.
TEST(Pack, CarriesTermsAndPerceptualHashes) {
  const fs::path folder = fresh("terms");
  put_still(folder / "in/a.png", 1);
  put(folder / "in/m.jsonl",
      R"({"id":"a","media":"a.png","caption":"c","licence":"CC0-1.0","holder":"h","basis":"b",)"
      R"("expiry":"2027-03-31","territory":"worldwide","releases":{"model":"not-needed"},)"
      R"("editorial_only":false,"consent":{"cawg.ai_generative_training":"allowed"}})"
      "\n");
  pack({.input = (folder / "in/m.jsonl").string(), .out = (folder / "out").string()});
  const PackedData data = PackedData::open((folder / "out").string());
  const RightsTerms& terms = data.sample(0).terms;
  EXPECT_EQ(print(*terms.expiry), "2027-03-31");
  EXPECT_EQ(terms.territory, std::vector<std::string>{"worldwide"});
  EXPECT_EQ(terms.model_release, "not-needed");
  EXPECT_EQ(terms.property_release, "");
  EXPECT_EQ(terms.editorial_only, false);
  EXPECT_EQ(terms.consent.at("ai_generative_training"), "allowed");
  EXPECT_EQ(data.sample(0).phashes.size(), 1u);
}

TEST(Pack, WhatADenyListNamesIsNotPacked) {
  const fs::path folder = fresh("denied");
  for (int i = 0; i < 4; ++i) put_still(folder / "in" / (std::to_string(i) + ".png"), i);
  for (int i = 0; i < 4; ++i) put(folder / "in" / (std::to_string(i) + ".txt"), "words");
  pack(own(folder));
  const PackedData all = PackedData::open((folder / "out").string());
  PackOptions options = own(folder);
  options.out = (folder / "fewer").string();
  options.deny = {(folder / "deny.txt").string()};
  put(folder / "deny.txt", "id:0.png\nsha256:" + all.sample(1).sha256 +
                               "\nphash:" + print_phash(all.sample(2).phashes.at(0)) + "/0\n");
  const PackReport report = pack(options);
  EXPECT_GE(report.refused.size(), 3u);
  EXPECT_EQ(refused(report)["0.png"], "denied: the deny-list names its id");
  EXPECT_EQ(refused(report)["1.png"], "denied: the deny-list names its content");
  EXPECT_TRUE(refused(report)["2.png"].starts_with("denied: it looks like phash:"));
  options.deny.push_back((folder / "missing").string());
  options.out = (folder / "none").string();
  EXPECT_THROW(pack(options), ConfigError);
}

// A pack of format 1: without terms and perceptual hashes, and with that number in its head.
TEST(Pack, PacksOfTheFirstFormatAreRead) {
  const fs::path folder = fresh("first_format");
  put_still(folder / "in/a.png", 1);
  put(folder / "in/a.txt", "words");
  pack(own(folder));
  auto line = nlohmann::json::parse(file_contents(folder / "out/index.jsonl"));
  line.erase("phashes");
  const std::string index = line.dump() + "\n";
  put(folder / "out/index.jsonl", index);
  auto head = nlohmann::json::parse(file_contents(folder / "out/pack.json"));
  head["version"] = 1;
  head["index_sha256"] = sha256(index);
  put(folder / "out/pack.json", head.dump());
  const PackedData data = PackedData::open((folder / "out").string());
  EXPECT_EQ(data.size(), 1);
  EXPECT_TRUE(data.sample(0).phashes.empty());
  EXPECT_EQ(data.sample(0).terms, RightsTerms());
}

}  // namespace
}  // namespace pendulum

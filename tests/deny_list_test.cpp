// Deny-lists: each kind of line denies what it names and nothing else.
#include "rights/deny_list.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>

#include "core/error.h"

namespace pendulum {
namespace {

const std::string kContent(64, 'a'), kOther(64, 'b');

TEST(DenyList, ByIdByContentAndByLikeness) {
  const DenyList list =
      DenyList::parse("# withdrawn in March\n\nid:a clip/1.mp4\r\nsha256:" + kContent +
                          "\nphash:00000000000000ff/2  \n",
                      "deny.txt");
  EXPECT_EQ(list.size(), 3u);
  EXPECT_EQ(list.reason("a clip/1.mp4", kOther, {}), "the deny-list names its id");
  EXPECT_EQ(list.reason("other", kContent, {}), "the deny-list names its content");
  EXPECT_FALSE(list.reason("other", kOther, {}));
  EXPECT_FALSE(list.reason("1.mp4", kOther, {}));
  EXPECT_TRUE(list.reason("x", kOther, {0xff}));
  EXPECT_TRUE(list.reason("x", kOther, {~uint64_t{0}, 0xfc}));  // any of its frames
  EXPECT_TRUE(list.reason("x", kOther, {0x1fe}));               // two bits
  EXPECT_FALSE(list.reason("x", kOther, {0x3fe}));              // three
  EXPECT_FALSE(list.reason("x", kOther, {0xf}));
}

TEST(DenyList, TheRadiusIsSixUnlessSaid) {
  const DenyList list = DenyList::parse("phash:0000000000000000", "d");
  EXPECT_TRUE(list.reason("x", kOther, {0x3f}));
  EXPECT_FALSE(list.reason("x", kOther, {0x7f}));
}

TEST(DenyList, CanonicalTextIsTheSameList) {
  const DenyList a = DenyList::parse("id:b\nid:a\nphash:00000000000000ff\nid:b\n", "d");
  const DenyList b = DenyList::parse("phash:00000000000000ff/6\nid:a\nid:b", "d");
  EXPECT_EQ(a, b);
  EXPECT_EQ(a.canonical(), "id:a\nid:b\nphash:00000000000000ff/6\n");
  EXPECT_EQ(DenyList::parse(a.canonical(), "d"), a);
  EXPECT_EQ(DenyList().canonical(), "");
}

TEST(DenyList, SeveralFilesAreOneList) {
  const std::string one = testing::TempDir() + "deny1." + std::to_string(::getpid()),
                    two = testing::TempDir() + "deny2." + std::to_string(::getpid());
  std::ofstream(one) << "id:a\n";
  std::ofstream(two) << "id:b\nphash:000000000000000f\n";
  EXPECT_EQ(DenyList::read({one, two}).canonical(), "id:a\nid:b\nphash:000000000000000f/6\n");
  std::remove(two.c_str());
  EXPECT_THROW(DenyList::read({one, two}), ConfigError);
  std::remove(one.c_str());
}

TEST(DenyList, MistakesAreNamedWithTheirLine) {
  for (const char* line :
       {"clip-1", "id:", "sha256:abc", "sha512:00", "phash:12", "phash:000000000000000f/17",
        "phash:000000000000000f/-1", "phash:000000000000000f/2x", "phash:000000000000000F"}) {
    try {
      DenyList::parse(std::string("id:fine\n") + line, "deny.txt");
      ADD_FAILURE() << line;
    } catch (const ConfigError& error) {
      EXPECT_NE(std::string(error.what()).find("deny.txt:2: "), std::string::npos) << error.what();
    }
  }
}

}  // namespace
}  // namespace pendulum

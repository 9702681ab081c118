// Ed25519 signatures: the published vector, and that nothing else passes.
#include "rights/signature.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "core/error.h"

namespace pendulum {
namespace {

namespace fs = std::filesystem;

class SignatureTest : public testing::Test {
 protected:
  SignatureTest()
      : folder_(fs::path(testing::TempDir()) /
                (std::string("keys.") +
                 testing::UnitTest::GetInstance()->current_test_info()->name() + "." +
                 std::to_string(::getpid()))) {
    fs::create_directories(folder_);
  }
  ~SignatureTest() override { fs::remove_all(folder_); }
  std::string path(const std::string& name) const { return (folder_ / name).string(); }

  fs::path folder_;
  const SignedHead head_{"run", 12, std::string(64, 'c')};
};

TEST_F(SignatureTest, WhatIsSignedIsVerifiedByThePublicKeyAlone) {
  const SigningKey key = SigningKey::generate(path("key.pem"));
  const std::string signature = key.sign(head_);
  EXPECT_EQ(key.public_key().size(), 64u);
  EXPECT_EQ(signature.size(), 128u);
  EXPECT_TRUE(is_signed(head_, key.public_key(), signature));
  const SigningKey again = SigningKey::read(path("key.pem"));
  EXPECT_EQ(again.public_key(), key.public_key());
  EXPECT_EQ(again.sign(head_), signature);  // Ed25519 has no randomness of its own
  EXPECT_EQ(read_public_key(path("key.pem.pub")), key.public_key());
  EXPECT_EQ(read_public_key(key.public_key()), key.public_key());
}

// RFC 8032, 7.1, TEST 1: the public half of the secret key.
TEST_F(SignatureTest, TheKeyPairOfTheStandard) {
  std::ofstream(path("rfc.pem"))
      << "-----BEGIN PRIVATE KEY-----\n"
         "MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n"
         "-----END PRIVATE KEY-----\n";
  ::chmod(path("rfc.pem").c_str(), 0600);
  EXPECT_EQ(SigningKey::read(path("rfc.pem")).public_key(),
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
}

TEST_F(SignatureTest, AnotherHeadKeyOrSignatureDoesNotPass) {
  const SigningKey key = SigningKey::generate(path("key.pem"));
  const std::string signature = key.sign(head_);
  for (SignedHead other : {SignedHead{"rum", 12, head_.head}, SignedHead{"run", 13, head_.head},
                           SignedHead{"run", 12, std::string(64, 'd')}})
    EXPECT_FALSE(is_signed(other, key.public_key(), signature));
  EXPECT_FALSE(is_signed(head_, SigningKey::generate(path("b.pem")).public_key(), signature));
  for (size_t i = 0; i < signature.size(); i += 7) {
    std::string flipped = signature;
    flipped[i] = flipped[i] == '0' ? '1' : '0';
    EXPECT_FALSE(is_signed(head_, key.public_key(), flipped)) << i;
  }
  EXPECT_FALSE(is_signed(head_, key.public_key(), ""));
  EXPECT_FALSE(is_signed(head_, "", signature));
  EXPECT_FALSE(is_signed(head_, key.public_key(), std::string(128, 'x')));
}

TEST_F(SignatureTest, KeysThatOthersMayReadOrThatAreNoneAreRefused) {
  SigningKey::generate(path("key.pem"));
  struct stat status {};
  ASSERT_EQ(::stat(path("key.pem").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
  ::chmod(path("key.pem").c_str(), 0644);
  EXPECT_THROW(SigningKey::read(path("key.pem")), ConfigError);
  EXPECT_THROW(SigningKey::generate(path("key.pem")), ConfigError);  // nothing is overwritten
  EXPECT_THROW(SigningKey::read(path("missing.pem")), ConfigError);
  std::ofstream(path("text.pem")) << "not a key\n";
  ::chmod(path("text.pem").c_str(), 0600);
  EXPECT_THROW(SigningKey::read(path("text.pem")), ConfigError);
  EXPECT_THROW(read_public_key(path("text.pem")), ConfigError);
  EXPECT_THROW(read_public_key("abc"), ConfigError);
}

}  // namespace
}  // namespace pendulum

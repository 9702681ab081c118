// Ed25519 signatures (RFC 8032) over what a consumption log says, by OpenSSL.
#pragma once
#include <cstdint>
#include <memory>
#include <string>

namespace pendulum {

// What a signature vouches for: that line `seq` of the log of `run` has the hash `head`, and with
// it, through the chain, all lines before.
struct SignedHead {
  std::string run;
  int64_t seq = 0;
  std::string head;
};

class SigningKey {
 public:
  // A PEM file with an Ed25519 private key, as `pendulum data keygen` or
  // `openssl genpkey -algorithm ed25519` writes it. ConfigError where it is not one, or where
  // others than its owner may read the file.
  static SigningKey read(const std::string& path);
  // A fresh one, in a new file that its owner alone may read; the public half goes to path.pub.
  // ConfigError where either exists.
  static SigningKey generate(const std::string& path);

  const std::string& public_key() const { return public_key_; }  // 64 hexadecimal digits
  std::string sign(const SignedHead& head) const;                // 128 hexadecimal digits

 private:
  struct Key;
  std::shared_ptr<const Key> key_;
  std::string public_key_;
};

// Whether the signature is that key's over the head. False for digits that are no key or signature.
bool is_signed(const SignedHead& head, const std::string& public_key, const std::string& signature);

// 64 hexadecimal digits as they are, or those of a PEM file with a public key. ConfigError where
// it is neither.
std::string read_public_key(const std::string& digits_or_path);

}  // namespace pendulum

// SHA-256 through OpenSSL.
#include "core/hash.h"

#include <openssl/evp.h>

#include <fstream>
#include <memory>
#include <vector>

#include "core/error.h"

namespace pendulum {

struct Sha256::Context {
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> of{EVP_MD_CTX_new(), EVP_MD_CTX_free};
};

Sha256::Sha256() : context_(std::make_unique<Context>()) {
  check(context_->of && EVP_DigestInit_ex(context_->of.get(), EVP_sha256(), nullptr) == 1,
        "OpenSSL offers SHA-256");
}
Sha256::~Sha256() = default;

void Sha256::add(const void* bytes, size_t count) {
  check(EVP_DigestUpdate(context_->of.get(), bytes, count) == 1, "SHA-256 takes more bytes");
}

std::string Sha256::hex() {
  unsigned char digest[32];
  check(EVP_DigestFinal_ex(context_->of.get(), digest, nullptr) == 1, "SHA-256 ends");
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  for (const unsigned char byte : digest) out += {kDigits[byte >> 4], kDigits[byte & 15]};
  return out;
}
std::string sha256(std::span<const uint8_t> bytes) {
  Sha256 hash;
  hash.add(bytes.data(), bytes.size());
  return hash.hex();
}

std::string sha256(std::string_view bytes) {
  Sha256 hash;
  hash.add(bytes.data(), bytes.size());
  return hash.hex();
}

std::string sha256_of_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw DataError(text(path, ": cannot be opened for reading"));
  Sha256 hash;
  std::vector<char> piece(1 << 20);
  while (file.read(piece.data(), piece.size()), file.gcount() > 0)
    hash.add(piece.data(), file.gcount());
  if (file.bad()) throw DataError(text(path, ": reading failed before its end"));
  return hash.hex();
}

}  // namespace pendulum

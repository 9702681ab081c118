// Keys and signatures through OpenSSL's EVP interface.
#include "rights/signature.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <span>
#include <vector>

#include "core/error.h"

namespace pendulum {
namespace {

struct FreeKey {
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
};
struct FreeContext {
  void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
};
struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using KeyHandle = std::unique_ptr<EVP_PKEY, FreeKey>;
using Context = std::unique_ptr<EVP_MD_CTX, FreeContext>;
using File = std::unique_ptr<std::FILE, CloseFile>;

constexpr size_t kKeyBytes = 32, kSignatureBytes = 64;

std::string hex(std::span<const uint8_t> bytes) {
  std::string out;
  for (const uint8_t byte : bytes) out += fmt::format("{:02x}", byte);
  return out;
}

// Empty where the text is not so many bytes in lower-case digits.
std::vector<uint8_t> bytes_of(const std::string& digits, size_t count) {
  if (digits.size() != 2 * count ||
      digits.find_first_not_of("0123456789abcdef") != std::string::npos)
    return {};
  std::vector<uint8_t> out;
  for (size_t i = 0; i < count; ++i)
    out.push_back(static_cast<uint8_t>(std::stoi(digits.substr(2 * i, 2), nullptr, 16)));
  return out;
}

// One form of what is signed, so that a signature cannot be taken for one over something else.
std::string message(const SignedHead& head) {
  return text("pendulum consumption log\nrun ", head.run.size(), " ", head.run, "\nseq ", head.seq,
              "\nhead ", head.head, "\n");
}

std::string public_digits(const EVP_PKEY* key) {
  std::array<uint8_t, kKeyBytes> raw{};
  size_t length = raw.size();
  check(EVP_PKEY_get_raw_public_key(key, raw.data(), &length) == 1 && length == kKeyBytes,
        "the 32 bytes of an Ed25519 public key");
  return hex(raw);
}

bool is_ed25519(const EVP_PKEY* key) { return EVP_PKEY_get_base_id(key) == EVP_PKEY_ED25519; }

// A pass phrase would be asked for on the terminal, in the middle of a job.
int no_pass_phrase(char*, int, int, void*) { return -1; }

void write_pem(const std::string& path, mode_t mode, const EVP_PKEY* key, bool is_private) {
  const int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
  File file(descriptor < 0 ? nullptr : ::fdopen(descriptor, "w"));
  if (!file) throw ConfigError(text(path, ": cannot be made, or exists already"));
  const int wrote =
      is_private ? PEM_write_PrivateKey(file.get(), key, nullptr, nullptr, 0, nullptr, nullptr)
                 : PEM_write_PUBKEY(file.get(), key);
  if (wrote != 1 || std::fflush(file.get()) != 0 || ::fsync(descriptor) != 0)
    throw Error(text(path, ": the key could not be written"));
}

}  // namespace

struct SigningKey::Key {
  KeyHandle handle;
};

SigningKey SigningKey::read(const std::string& path) {
  File file(std::fopen(path.c_str(), "rb"));
  if (!file) throw ConfigError(text("rights.key: ", path, " cannot be read"));
  struct stat status {};
  if (::fstat(::fileno(file.get()), &status) != 0 || (status.st_mode & (S_IRWXG | S_IRWXO)) != 0) {
    throw ConfigError(text("rights.key: ", path,
                           " may be read by others than its owner, who could then sign in your "
                           "name: chmod 600 ",
                           path));
  }
  KeyHandle handle(PEM_read_PrivateKey(file.get(), nullptr, no_pass_phrase, nullptr));
  ERR_clear_error();
  if (!handle || !is_ed25519(handle.get())) {
    throw ConfigError(text("rights.key: ", path,
                           " is not a PEM file with an Ed25519 private key without a pass phrase; "
                           "make one with `pendulum data keygen`"));
  }
  SigningKey out;
  out.public_key_ = public_digits(handle.get());
  out.key_ = std::make_shared<const Key>(Key{std::move(handle)});
  return out;
}

SigningKey SigningKey::generate(const std::string& path) {
  if (std::filesystem::exists(path + ".pub")) throw ConfigError(text(path, ".pub: exists already"));
  KeyHandle handle(EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519"));
  check(handle != nullptr, "OpenSSL to make an Ed25519 key");
  write_pem(path, 0600, handle.get(), true);
  write_pem(path + ".pub", 0644, handle.get(), false);
  return read(path);
}

std::string SigningKey::sign(const SignedHead& head) const {
  const std::string words = message(head);
  const Context context(EVP_MD_CTX_new());
  std::array<uint8_t, kSignatureBytes> signature{};
  size_t length = signature.size();
  const bool done =
      context &&
      EVP_DigestSignInit(context.get(), nullptr, nullptr, nullptr, key_->handle.get()) == 1 &&
      EVP_DigestSign(context.get(), signature.data(), &length,
                     reinterpret_cast<const uint8_t*>(words.data()), words.size()) == 1;
  check(done && length == kSignatureBytes, "OpenSSL to sign");
  return hex(signature);
}

bool is_signed(const SignedHead& head, const std::string& public_key,
               const std::string& signature) {
  const std::vector<uint8_t> raw = bytes_of(public_key, kKeyBytes),
                             sealed = bytes_of(signature, kSignatureBytes);
  if (raw.empty() || sealed.empty()) return false;
  const KeyHandle key(
      EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, raw.data(), raw.size()));
  const Context context(EVP_MD_CTX_new());
  const std::string words = message(head);
  const bool holds =
      key && context &&
      EVP_DigestVerifyInit(context.get(), nullptr, nullptr, nullptr, key.get()) == 1 &&
      EVP_DigestVerify(context.get(), sealed.data(), sealed.size(),
                       reinterpret_cast<const uint8_t*>(words.data()), words.size()) == 1;
  ERR_clear_error();
  return holds;
}

std::string read_public_key(const std::string& digits_or_path) {
  if (!bytes_of(digits_or_path, kKeyBytes).empty()) return digits_or_path;
  const File file(std::fopen(digits_or_path.c_str(), "rb"));
  const KeyHandle key(file ? PEM_read_PUBKEY(file.get(), nullptr, no_pass_phrase, nullptr)
                           : nullptr);
  ERR_clear_error();
  if (!key || !is_ed25519(key.get())) {
    throw ConfigError(text("--public-key: ", digits_or_path,
                           " is neither 64 hexadecimal digits nor a PEM file with an Ed25519 "
                           "public key"));
  }
  return public_digits(key.get());
}

}  // namespace pendulum

// What must not be trained on whatever its record says: by id, by content, by likeness.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

namespace pendulum {

// Of the 64 bits of a perceptual hash (data/perceptual_hash.h), how many may differ.
inline constexpr int kDefaultHashRadius = 6;
inline constexpr int kMostHashRadius = 16;

// Text, a line each; empty lines and those that begin with # are skipped:
//   id:clips/0001.mp4            a sample's id, in every data set
//   sha256:<64 digits>           the encoded bytes
//   phash:<16 digits>[/radius]   a frame whose hash differs in at most `radius` bits (default 6)
class DenyList {
 public:
  DenyList() = default;
  // `name` stands in errors: ConfigError "name:line: ..." for a line that is none of these.
  static DenyList parse(const std::string& content, const std::string& name);
  // All files as one list. ConfigError naming a file that cannot be read or a line.
  static DenyList read(const std::vector<std::string>& paths);

  // Why the sample is denied, or nothing. phashes: of the frames that were looked at.
  std::optional<std::string> reason(const std::string& id, const std::string& sha256,
                                    const std::vector<uint64_t>& phashes) const;

  // Its entries, sorted, each once, a line each: what parse() makes the same list of.
  std::string canonical() const;
  size_t size() const;
  bool operator==(const DenyList& other) const { return canonical() == other.canonical(); }

 private:
  struct Likeness {
    uint64_t hash = 0;
    int radius = 0;
  };
  void add(const std::string& line, const std::string& where);
  void add_likeness(const std::string& value, const std::string& where);

  std::unordered_set<std::string> ids_, hashes_;
  std::vector<Likeness> likenesses_;
};

// A perceptual hash as 16 hexadecimal digits and back; nothing for other texts.
std::string print_phash(uint64_t hash);
std::optional<uint64_t> parse_phash(const std::string& words);

}  // namespace pendulum

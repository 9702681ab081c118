// The samples of an index as columns: built once from index.jsonl, then mapped, so that the
// processes of a machine share its pages.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/frames.h"
#include "data/sample.h"

namespace pendulum {

inline constexpr const char* kColumnsFile = "index.columns";

// What an index must agree with.
struct IndexClaim {
  std::string sha256{};  // of index.jsonl
  std::string digest{};  // of the data
  int64_t samples = 0;
  int shards = 0;  // that places may name
};

// What planning looks at costs 14 bytes a sample: seconds (8), frames (3), class (3). Samples of
// one class have kind, size, split and rights in common; everything else of a sample is read from
// its line in index.jsonl when it is asked for. Finding a sample by its id and its line costs 20
// more on the disk, which are in memory only where they are looked at. Format: docs/files.md.
class Catalogue {
 public:
  // Takes <folder>/index.columns where it was built from this index.jsonl (its length and time of
  // change, and the claim) and its checksum holds; builds it otherwise, one process at a time.
  // Where the folder cannot be written to, a copy of this process's own. DataError names file and
  // line: an index that is not what was claimed, an id twice, a place that no shard has.
  static Catalogue open(const std::string& folder, const IndexClaim& claim, int threads = 0);

  Catalogue(Catalogue&&) noexcept;
  Catalogue& operator=(Catalogue&&) noexcept;
  ~Catalogue();

  int64_t size() const;
  SampleFacts facts(int64_t index) const;
  int class_of(int64_t index) const;
  int num_classes() const;
  int64_t representative(int sample_class) const;  // a sample of it

  std::string line(int64_t index) const;   // of index.jsonl, without its end
  std::string where(int64_t index) const;  // "file:line", for errors
  std::optional<int64_t> find(const std::string& id) const;
  // The sample with the k-th smallest hash_name(id).
  int64_t by_hash(int64_t k) const;
  uint64_t hash(int64_t k) const;

  int64_t mapped_bytes() const;
  bool was_built() const;  // by this call of open

 private:
  struct State;
  explicit Catalogue(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace pendulum

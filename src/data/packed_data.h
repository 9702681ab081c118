// Packed data sets, open for reading as one: samples from their indices, encoded bytes from their
// HDF5 shards or from where they lie.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "data/frames.h"
#include "data/sample.h"

namespace pendulum {

class PackedData {
 public:
  // Checks pack.json, the index and the shards' lengths against each other; the index line by line
  // when it is opened for the first time, by its columns from then on. DataError names the file and
  // what is wrong with it. Bytes are verified when they are read.
  static PackedData open(const std::string& folder);
  // One behind the other: a folder that is added last leaves the numbers of all samples as they
  // were. DataError besides where two folders have a sample of the same id.
  static PackedData open(const std::vector<std::string>& folders);

  PackedData(PackedData&&) noexcept;
  PackedData& operator=(PackedData&&) noexcept;
  ~PackedData();

  int64_t size() const;
  // Read from the index's line: for what the facts do not tell.
  Sample sample(int64_t index) const;
  SampleFacts facts(int64_t index) const;  // from memory
  int64_t bytes(int64_t index) const;      // encoded
  std::optional<int64_t> find(const std::string& id) const;

  // Samples of one class have kind, size, split and rights in common.
  int num_classes() const;
  int class_of(int64_t index) const;
  Sample representative(int sample_class) const;

  // Of those that are accepted, the samples with the smallest hash_name(id), in its order.
  std::vector<int64_t> smallest_hashes(int64_t count,
                                       const std::function<bool(int64_t)>& accept) const;

  // The encoded bytes of a sample, SHA-256 verified. Any number of threads may call it: reading is
  // one at a time (HDF5 has one lock), hashing is not.
  std::variant<std::vector<uint8_t>, ReadFailure> media(int64_t index) const;

  // SHA-256 over ids and content hashes, in order: what the data set is, wherever it lies. Of
  // several folders the hash of theirs.
  const std::string& digest() const;
  // Of each folder.
  std::vector<std::string> parts() const;

 private:
  void check_ids() const;
  struct State;
  explicit PackedData(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace pendulum

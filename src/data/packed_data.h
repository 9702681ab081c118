// A packed data set, open for reading: samples from its index, encoded bytes from its HDF5 shards.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "data/frames.h"
#include "data/sample.h"

namespace pendulum {

class PackedData {
 public:
  // Reads pack.json and index.jsonl and checks them against each other and against the shards'
  // lengths. DataError names the file and what is wrong with it. Bytes are verified when they are
  // read.
  static PackedData open(const std::string& folder);

  PackedData(PackedData&&) noexcept;
  PackedData& operator=(PackedData&&) noexcept;
  ~PackedData();

  int64_t size() const;
  const Sample& sample(int64_t index) const;
  // The encoded bytes of a sample, SHA-256 verified. Any number of threads may call it: reading is
  // one at a time (HDF5 has one lock), hashing is not.
  std::variant<std::vector<uint8_t>, ReadFailure> media(int64_t index) const;

  const std::string& folder() const;
  // SHA-256 over ids and content hashes, in order: what the data set is, wherever it lies.
  const std::string& digest() const;

 private:
  struct State;
  explicit PackedData(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace pendulum

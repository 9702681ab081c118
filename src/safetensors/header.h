// The header of a safetensors file: which tensor lies where. Parsing trusts nothing that it reads.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace pendulum {

struct TensorInfo {
  at::ScalarType dtype = at::ScalarType::Float;
  std::vector<int64_t> shape;
};

// A tensor's place: bytes begin <= i < end, counted from the end of the header.
struct TensorPlace {
  TensorInfo info;
  uint64_t begin = 0;
  uint64_t end = 0;
};

struct SafetensorsHeader {
  std::map<std::string, TensorPlace> tensors;
  std::map<std::string, std::string> metadata;
};

// Longest header that is read, as in the reference implementation
// (github.com/huggingface/safetensors).
inline constexpr uint64_t kMaxHeaderBytes = 100'000'000;

// json: the header's text; data_bytes: how much follows it in the file. The tensors must cover
// these bytes exactly, without gap or overlap. DataError names path, and the tensor where there is
// one.
SafetensorsHeader parse_header(std::string_view json, uint64_t data_bytes, const std::string& path);

// The header's text, padded with spaces to a multiple of 8; tensors stand in the order of their
// places.
std::string format_header(const SafetensorsHeader& header);

// The order in which the reference implementation lays tensors out: widest type first, so that each
// lies aligned.
int layout_rank(at::ScalarType dtype);

}  // namespace pendulum

// The names, shapes and first values of a video transformer's parameters.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "model/config.h"
#include "safetensors/named_tensors.h"

namespace pendulum {

// How a parameter starts.
//   uniform: +-1/sqrt(fan_in), as torch's Linear and Conv3d; normal: standard deviation 1/sqrt(D),
//   as the modulation tables of diffusers; ones: norm weights; zeros: norm biases, and the last
//   projection, so that training starts from a prediction of zero whatever the input (Peebles and
//   Xie, arXiv 2212.09748, section 3.2).
enum class Start { uniform, normal, ones, zeros };

struct ParameterSpec {
  std::string name;  // that of diffusers' WanTransformer3DModel.state_dict()
  std::vector<int64_t> shape;
  Start start = Start::uniform;
  int64_t fan_in = 1;  // inputs of one output of the layer; D for `normal`
};

// In the order of diffusers' state_dict.
std::vector<ParameterSpec> parameter_specs(const WanConfig& config);

// The block that a parameter or layer of this name belongs to; -1: none.
int block_of(const std::string& name);
// A matrix of a block's linear layer.
bool is_block_matrix(const ParameterSpec& spec);

// Fills an fp32 or fp64 CPU tensor. Element i depends on (seed, name, i) alone, fp64 holds the fp32
// values.
void start_parameter(at::Tensor& parameter, const ParameterSpec& spec, uint64_t seed);

// 16 hexadecimal digits that change with any name, shape, type or byte of the tensors (XXH3): tells
// which weights these are, not who made them.
std::string fingerprint(const NamedTensors& tensors);
// The same of tensors that are never all there at once, told one by one in their order.
class Fingerprint {
 public:
  void add(const std::string& name, const at::Tensor& tensor);
  std::string digits() const;

 private:
  std::vector<uint64_t> hashes_;
};

// For checks: random values in place of all, functions of (seed, name, element), so that no path
// through the network is switched off by a zero. Rows of a product have unit variance, vectors lie
// near one half.
void randomise(const NamedTensors& parameters, uint64_t seed);

}  // namespace pendulum

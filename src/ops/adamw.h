// The optimiser's update and the gradient norm over lists of tensors.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace pendulum {

struct AdamwSettings {
  double lr = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.99;
  double eps = 1e-8;
  double weight_decay =
      0.01;  // decoupled: the parameter shrinks by lr * weight_decay, whatever its gradient
  double gradient_scale = 1;  // the clipping factor
  double ema = 0.999;         // the average keeps this share of itself
  int64_t step = 1;           // counts from 1, for the bias corrections
};

// A parameter and its state, all of one shape, type (fp32; fp64 on the CPU) and device, contiguous.
// With scales (fp32, of quantisation_blocks() numbers) the moments are in 8 bits, bytes of the maps
// in kernels/dynamic_map.h, and the parameter is fp32.
struct AdamwTensors {
  at::Tensor parameter, gradient, first_moment, second_moment;
  at::Tensor average;  // undefined: no average is kept
  bool decays = true;  // whether weight_decay acts on it
  at::Tensor first_scale{}, second_scale{};
};

// Whether a tensor of these sizes is worth moments in 8 bits: a matrix or more, of at least 4096
// numbers. The others keep fp32.
bool has_8bit_moments(at::IntArrayRef sizes);
// Scales of so many numbers in 8 bits: one for each 256 of a tensor in the order of memory.
int64_t quantisation_blocks(int64_t numbers);
// What a first moment of zero is in 8 bits; a second moment's is 0.
uint8_t zero_of_first_moments();

// One update in place of all tensors with the same settings, in one launch on a GPU for each way in
// which moments are kept; formulas in kernels/adamw.h. The result does not depend on the number of
// threads, nor on what else is in the list. All parameters are of one type and on one device.
void adamw_step(const std::vector<AdamwTensors>& tensors, const AdamwSettings& settings);

// The same for one tensor.
void adamw_step(const at::Tensor& parameter, const at::Tensor& gradient,
                const at::Tensor& first_moment, const at::Tensor& second_moment,
                const at::Tensor& average, const AdamwSettings& settings);

// Sum of the squares of each tensor's elements, in fp64; on the CPU the same to the bit for any
// number of threads. All of one type and on one device. Every tensor's stands for itself, whatever
// the others are.
std::vector<double> squares_of(const std::vector<at::Tensor>& tensors);

// Their sum, in the tensors' order.
double sum_of_squares(const std::vector<at::Tensor>& tensors);

}  // namespace pendulum

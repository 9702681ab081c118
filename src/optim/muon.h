// Muon: momentum that is made nearly orthogonal, matrix by matrix, before it is applied.
//
// Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024). All directions
// of a matrix move alike, also those that a gradient hardly shows, so a short run learns from fewer
// samples.
#pragma once
#include <ATen/core/Tensor.h>

#include <vector>

namespace pendulum {

struct MuonSettings {
  double lr = 1e-3;
  double momentum = 0.95;
  double rms = 0.2;            // root mean square of a matrix's update, in units of lr
  double weight_decay = 0.01;  // decoupled: the parameter shrinks by lr * weight_decay
  double gradient_scale = 1;   // the clipping factor
  double ema = 0.999;          // the average keeps this share of itself
};

// A matrix (rows, columns) and its state, all of one shape, type and device.
struct MuonTensors {
  at::Tensor parameter, gradient, momentum;
  at::Tensor average;  // undefined: no average is kept
};

// Near the orthogonal factor of each matrix (B, rows, columns): its singular values become 0.7 to
// 1.2, except those below about a hundredth of the matrix's norm. Five steps of the quintic
// Newton-Schulz iteration whose coefficients rise fastest from zero; bf16 on a GPU.
at::Tensor orthogonalise(const at::Tensor& matrices);

// One update in place:
//   momentum = m momentum + (1 - m) s g;  direction = orthogonalise((1 - m) s g + m momentum)
//   parameter = parameter (1 - lr decay) - lr rms sqrt(max(rows, columns)) direction
// so that every matrix moves by lr * rms per element, whatever its shape (Liu et al., arXiv
// 2502.16982, where 0.2 lets AdamW's rates serve).
void muon_step(const std::vector<MuonTensors>& tensors, const MuonSettings& settings);

}  // namespace pendulum

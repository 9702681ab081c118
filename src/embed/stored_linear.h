// Products with weights that stay in the type and the place in which they are stored.
#pragma once
#include <ATen/core/Tensor.h>

namespace pendulum {

// x (T, in) fp32 times a weight (out, in) of any floating type, such as the pages of a mapped file:
// (T, out) fp32. Rows are converted to fp32 a few at a time, so that no copy of the whole is made.
at::Tensor stored_linear(const at::Tensor& x, const at::Tensor& weight);

}  // namespace pendulum

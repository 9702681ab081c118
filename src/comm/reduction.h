// Sums, largest and smallest over ranks in a fixed order, shared by all communicators.
#pragma once
#include <ATen/core/Tensor.h>

#include <vector>

#include "comm/call.h"

namespace pendulum {

// Writes the elementwise reduction of parts, taken in their order, to out. All are of out's type
// and count; out may be one of the parts only where there is no other. bf16 is added in fp32 and
// rounded once. NaN wins over every number.
void reduce_in_order(const at::Tensor& out, const std::vector<at::Tensor>& parts, Reduce reduce);

}  // namespace pendulum

// Averages of weights that are kept in host memory, whatever device the weights are on.
#pragma once
#include <ATen/core/Tensor.h>

#include <vector>

namespace pendulum {

// averages[i] += (1 - ema) (parameters[i] - averages[i]), in place and to the bit as adamw_step
// moves an average beside its parameter. Averages are on the CPU and contiguous, of their
// parameter's shape and type (fp32; fp64 where parameters are on the CPU too); parameters are
// contiguous and on one device. From a GPU values come in pieces through a little pinned memory,
// one on its way while another is worked on; all is done on return.
void move_host_averages(const std::vector<at::Tensor>& averages,
                        const std::vector<at::Tensor>& parameters, double ema);

}  // namespace pendulum

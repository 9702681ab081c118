// Root-mean-square norm over channels and SiLU, as Wan's VAE has them before every convolution:
// with y = x / max(|x|, 1e-12) * sqrt(dim) * gamma, out = y / (1 + e^-y).
#pragma once
#include <cstdint>

namespace pendulum::kernels {

// For rows begin..end.  out, x (rows, dim); gamma (dim). Inference alone: there is no backward, and
// no CUDA version.
template <class T>
void rms_silu(T* out, const T* x, const T* gamma, int64_t dim, int64_t begin, int64_t end);

}  // namespace pendulum::kernels

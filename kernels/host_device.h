// Marks functions that both sides compile: the CPU twins and the GPU's code, or the GPU's code and
// its emulation on a host.
#pragma once

#ifdef __CUDACC__
#define PENDULUM_HOST_DEVICE __host__ __device__
#define PENDULUM_DEVICE __device__ inline
#else
#define PENDULUM_HOST_DEVICE
#define PENDULUM_DEVICE inline
#endif

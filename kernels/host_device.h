// Marks a function that both sides compile: the CPU twins and the GPU's code.
#pragma once

#ifdef __CUDACC__
#define PENDULUM_HOST_DEVICE __host__ __device__
#else
#define PENDULUM_HOST_DEVICE
#endif

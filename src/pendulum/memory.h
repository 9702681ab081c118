// What one process holds in training: weights, gradients, optimiser state and activations, in
// bytes.
#pragma once
#include "pendulum/cost.h"

namespace pendulum {

// How state is dealt: the ZeRO level, and over how many processes.
struct Dealing {
  int level = 0;
  int processes = 1;
};

// What the optimiser keeps of each trained number besides its gradient: two moments or, of what
// Muon updates, one; and the average.
struct OptimizerMemory {
  bool has_average = false;
  bool average_on_host = false;
  bool has_8bit_moments = false;  // a byte, and an fp32 scale for 256 of them
  bool is_muon = false;           // which updates the geometry's hidden_matrices
};

struct ProcessMemory {
  double weights = 0, gradients = 0, moments = 0, average = 0, activations = 0;
  double host = 0;  // of frozen matrices, the average and activations that wait in host memory

  double state() const { return weights + gradients + moments + average; }
  double total() const { return state() + activations; }  // on the device
};

// What stays: weights, of which those that train and those outside of blocks' matrices are fp32;
// of what trains, fp32 gradients, moments and the average; those that the level deals divided by
// the processes. With them what is there at a time: at level 2 two blocks' gradients; at level 3
// also two blocks' weights, and the weights before and behind the blocks. Of blocks whose frozen
// matrices wait in host memory, two at a time.
ProcessMemory state_memory(const Geometry& geometry, const OptimizerMemory& optimizer,
                           const Dealing& dealing = {});
// Its bytes on the device.
double state_bytes(const Geometry& geometry, const OptimizerMemory& optimizer,
                   const Dealing& dealing = {});

// Estimate of what one process keeps for the backward pass of `batch` samples: 16 rows of the
// model's width and 2 of the hidden layer's for every token and layer that a gradient reaches, or
// what activation checkpointing leaves of them; beside adapters 2 rows of a hidden layer more; and
// of frozen matrices that are not of the products' type the copies in that type.
double activation_bytes(const Geometry& geometry, const Shape& shape, int batch, int width,
                        int number_bytes);

// All of it in a pass; `number_bytes` are an activation's.
ProcessMemory pass_memory(const Geometry& geometry, const OptimizerMemory& optimizer,
                          const Dealing& dealing, const Shape& shape, int batch, int width,
                          int number_bytes);

}  // namespace pendulum

// What the program runs on: processes, threads, device, and the signals that ask it to stop.
#pragma once
#include <ATen/core/Tensor.h>

#include <atomic>
#include <memory>

#include "comm/communicator.h"
#include "comm/mpi_communicator.h"
#include "comm/watchdog.h"
#include "config/config.h"

namespace pendulum {

class Machine {
 public:
  // Joins the job's processes where mpirun or srun started them, else stands alone. Sets LibTorch's
  // threads and installs handlers for SIGTERM and SIGINT. ConfigError where the device that is
  // asked for is not there.
  explicit Machine(const MeshConfig& mesh);

  Communicator& world() const { return *world_; }
  at::Device device() const { return device_; }
  // bf16 on GPUs, fp32 on CPUs, where bf16 products are a hundred times slower.
  at::ScalarType compute_type() const;
  // FLOPs a second that one process's share of its device does at best: mesh.device_flops, else for
  // known GPUs the data sheet's in dense bf16; 0 where it is not known.
  double peak_flops() const { return peak_flops_; }
  // The number of the signal that asked for the end, 0 before.
  const std::atomic<int>& stop_signal() const;

 private:
  std::unique_ptr<MpiWorld> mpi_;  // null: a single process
  std::unique_ptr<Communicator> single_;
  std::unique_ptr<Watchdog> watchdog_;
  Communicator* world_ = nullptr;
  at::Device device_;
  double peak_flops_ = 0;
};

// Threads per process: as configured, or the cores divided by the processes on this machine.
int threads_per_process(const MeshConfig& mesh, int local_processes);

}  // namespace pendulum

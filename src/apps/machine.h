// What the program runs on: processes, threads, device, and the signals that ask it to stop.
#pragma once
#include <ATen/core/Tensor.h>

#include <atomic>
#include <memory>
#include <string>

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
  // "NVIDIA H100 80GB HBM3", or a processor's name with the threads that a process uses of it.
  std::string device_words() const;
  // The number of the signal that asked for the end, 0 before.
  const std::atomic<int>& stop_signal() const;

 private:
  // CUDA tensors of several processes: NCCL, or through the host where some share a GPU.
  void choose_gpu_communicator(int sharers);

  std::unique_ptr<MpiWorld> mpi_;  // null: a single process
  std::unique_ptr<Communicator> single_;
  std::unique_ptr<Watchdog> watchdog_;
  std::unique_ptr<Communicator> on_gpu_;  // null: world_ is the one above
  Communicator* world_ = nullptr;
  at::Device device_;
  double peak_flops_ = 0;
};

// Where `wanted`, of mesh.device, leads a process that is number local_rank on its machine.
at::Device choose_device(const std::string& wanted, int local_rank);

// Threads per process: as configured, or the cores divided by the processes on this machine.
int threads_per_process(const MeshConfig& mesh, int local_processes);

}  // namespace pendulum

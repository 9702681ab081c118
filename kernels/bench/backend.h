// Where a bench runs: memory with numbers in it, and a clock, on the host and on a GPU.
#pragma once
#include <algorithm>
#include <bit>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/types.h"

#ifdef PENDULUM_CUDA
#include <cuda_runtime.h>
#endif

namespace pendulum::kernels {

inline double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

// Numbers in (-1, 1), times `scale`, plus `shift`.
inline std::vector<float> bench_numbers(int64_t count, float scale, float shift) {
  std::vector<float> out(static_cast<size_t>(count));
  uint64_t state = 12345;
  for (float& x : out) {
    state = state * 6364136223846793005 + 1442695040888963407;
    x = shift + scale * (static_cast<float>(state >> 40) * 0x1p-23F - 1.0F);
  }
  return out;
}

// One thread of the host; the twins in fp32.
struct HostBackend {
  using Element = float;
  static constexpr bool kIsGpu = false;

  template <class T>
  T* take(int64_t count, float scale = 1, float shift = 0) {
    static_assert(sizeof(T) == sizeof(float) || sizeof(T) == sizeof(double));
    const auto numbers = bench_numbers(count, scale, shift);
    held_.push_back(std::make_unique<std::vector<double>>(static_cast<size_t>(count)));
    auto* data = reinterpret_cast<T*>(held_.back()->data());
    std::copy(numbers.begin(), numbers.end(), data);
    return data;
  }
  uint8_t* bytes(int64_t count, int value) {
    auto* data = reinterpret_cast<uint8_t*>(take<double>(count / 8 + 1));
    std::memset(data, value, static_cast<size_t>(count));
    return data;
  }
  template <class Entry>
  const Entry* table(const std::vector<Entry>& entries) {
    return entries.data();  // outlives the bench
  }
  void copy(void* to, const void* from, int64_t bytes) {
    std::memcpy(to, from, static_cast<size_t>(bytes));
  }
  // Seconds of one run, the median of `runs` after one that warms up.
  double time(int runs, const std::function<void()>& run) {
    std::vector<double> seconds;
    for (int i = 0; i <= runs; ++i) {
      const auto start = std::chrono::steady_clock::now();
      run();
      const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start;
      if (i > 0) seconds.push_back(passed.count());
    }
    return median(seconds);
  }
  void release() { held_.clear(); }
  std::string name() const { return "one thread of the host, fp32"; }
  Stream stream() const { return nullptr; }

 private:
  std::vector<std::unique_ptr<std::vector<double>>> held_;
};

#ifdef PENDULUM_CUDA

// The current GPU, its default stream; bf16 where the kernels take it.
struct GpuBackend {
  using Element = bf16;
  static constexpr bool kIsGpu = true;

  GpuBackend() {
    require(cudaEventCreate(&start_));
    require(cudaEventCreate(&end_));
  }
  ~GpuBackend() {
    release();
    cudaEventDestroy(start_);
    cudaEventDestroy(end_);
  }
  GpuBackend(const GpuBackend&) = delete;
  GpuBackend& operator=(const GpuBackend&) = delete;

  static bool exists() {
    int devices = 0;
    return cudaGetDeviceCount(&devices) == cudaSuccess && devices > 0;
  }

  template <class T>
  T* take(int64_t count, float scale = 1, float shift = 0) {
    // A short stretch again and again: filling gigabytes from the host takes longer than the bench.
    const int64_t stretch = std::min<int64_t>(count, 1 << 20);
    std::vector<T> host;
    for (const float x : bench_numbers(stretch, scale, shift)) host.push_back(element<T>(x));
    T* data = static_cast<T*>(room(count * static_cast<int64_t>(sizeof(T))));
    for (int64_t at = 0; at < count; at += stretch)
      require(cudaMemcpy(data + at, host.data(), std::min(stretch, count - at) * sizeof(T),
                         cudaMemcpyHostToDevice));
    return data;
  }
  uint8_t* bytes(int64_t count, int value) {
    void* data = room(count);
    require(cudaMemset(data, value, static_cast<size_t>(count)));
    return static_cast<uint8_t*>(data);
  }
  template <class Entry>
  const Entry* table(const std::vector<Entry>& entries) {
    void* data = room(static_cast<int64_t>(entries.size() * sizeof(Entry)));
    require(
        cudaMemcpy(data, entries.data(), entries.size() * sizeof(Entry), cudaMemcpyHostToDevice));
    return static_cast<const Entry*>(data);
  }
  void* room(int64_t bytes) {
    void* data = nullptr;
    require(cudaMalloc(&data, static_cast<size_t>(std::max<int64_t>(bytes, 1))));
    held_.push_back(data);
    return data;
  }
  void copy(void* to, const void* from, int64_t bytes) {
    require(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyDeviceToDevice));
  }
  // Of each run by itself, so that what varies shows; ten that warm up, for the clocks' sake.
  double time(int runs, const std::function<void()>& run) {
    std::vector<double> seconds;
    for (int i = 0; i < runs + 10; ++i) {
      require(cudaEventRecord(start_));
      run();
      require(cudaEventRecord(end_));
      require(cudaEventSynchronize(end_));
      float milliseconds = 0;
      require(cudaEventElapsedTime(&milliseconds, start_, end_));
      if (i >= 10) seconds.push_back(milliseconds * 1e-3);
    }
    return median(seconds);
  }
  void release() {
    for (void* data : held_) cudaFree(data);
    held_.clear();
  }
  std::string name() const {
    cudaDeviceProp properties{};
    require(cudaGetDeviceProperties(&properties, 0));
    return std::string(properties.name) + ", bf16";
  }
  Stream stream() const { return nullptr; }

 private:
  template <class T>
  static T element(float x) {
    if constexpr (sizeof(T) == 2) {
      return {static_cast<uint16_t>(std::bit_cast<uint32_t>(x) >> 16)};
    } else {
      return static_cast<T>(x);
    }
  }
  static void require(cudaError_t error) {
    if (error != cudaSuccess) throw std::runtime_error(cudaGetErrorString(error));
  }
  cudaEvent_t start_ = nullptr, end_ = nullptr;
  std::vector<void*> held_;
};

#endif

}  // namespace pendulum::kernels

// Device memory for the tests of the CUDA kernels, and bf16 on the host.
#pragma once
#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <bit>
#include <vector>

#include "compare.h"
#include "kernels/types.h"

namespace pendulum::kernels {

using Values = std::vector<float>;

class CudaTest : public ::testing::Test {
 protected:
  void SetUp() override {
    int devices = 0;
    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0)
      GTEST_SKIP() << "no CUDA device";
  }
};

inline bf16 narrowed(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  return {static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16)};
}
inline float widened(bf16 x) { return std::bit_cast<float>(static_cast<uint32_t>(x.bits) << 16); }

template <class T>
T element(float x);
template <>
inline float element<float>(float x) {
  return x;
}
template <>
inline bf16 element<bf16>(float x) {
  return narrowed(x);
}
inline float number(float x) { return x; }
inline float number(bf16 x) { return widened(x); }

// What a tensor of T holds of these values.
template <class T>
Values rounded(Values x) {
  for (float& v : x) v = number(element<T>(v));
  return x;
}

// Device memory; starts as NaN bits, so that an unwritten element shows.
template <class T>
class Device {
 public:
  explicit Device(int64_t count) : count_(count) {
    EXPECT_EQ(cudaMalloc(&data_, bytes() + 1), cudaSuccess);
    EXPECT_EQ(cudaMemset(data_, 0xFF, bytes()), cudaSuccess);
  }
  explicit Device(const Values& values) : Device(static_cast<int64_t>(values.size())) {
    std::vector<T> host;
    for (const float v : values) host.push_back(element<T>(v));
    EXPECT_EQ(cudaMemcpy(data_, host.data(), bytes(), cudaMemcpyHostToDevice), cudaSuccess);
  }
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;
  ~Device() { cudaFree(data_); }
  T* data() { return data_; }
  Values values() const {
    std::vector<T> host(static_cast<size_t>(count_));
    EXPECT_EQ(cudaMemcpy(host.data(), data_, bytes(), cudaMemcpyDeviceToHost), cudaSuccess);
    Values out;
    for (const T v : host) out.push_back(number(v));
    return out;
  }

 private:
  size_t bytes() const { return static_cast<size_t>(count_) * sizeof(T); }
  int64_t count_;
  T* data_ = nullptr;
};

// Both compute in fp32 in other orders: `terms` additions of numbers up to the largest value; then
// one rounding to T.
template <class T>
void expect_close(const Values& actual, const Values& twin, double terms) {
  double largest = 0;
  for (const float v : twin) largest = std::max(largest, static_cast<double>(std::abs(v)));
  const double rounding = sizeof(T) == 2 ? 0x1p-8 : 0;
  EXPECT_LE(worst_error(actual, twin), largest * (rounding + (8 + terms) * 0x1p-23));
}

// A table of plain structs in the device's memory.
template <class Entry>
class DeviceTable {
 public:
  explicit DeviceTable(const std::vector<Entry>& entries) {
    EXPECT_EQ(cudaMalloc(&data_, entries.size() * sizeof(Entry) + 1), cudaSuccess);  // or null
    EXPECT_EQ(
        cudaMemcpy(data_, entries.data(), entries.size() * sizeof(Entry), cudaMemcpyHostToDevice),
        cudaSuccess);
  }
  DeviceTable(const DeviceTable&) = delete;
  DeviceTable& operator=(const DeviceTable&) = delete;
  ~DeviceTable() { cudaFree(data_); }
  Entry* data() { return data_; }
  std::vector<Entry> entries(size_t count) const {
    std::vector<Entry> host(count);
    EXPECT_EQ(cudaMemcpy(host.data(), data_, count * sizeof(Entry), cudaMemcpyDeviceToHost),
              cudaSuccess);
    return host;
  }

 private:
  Entry* data_ = nullptr;
};

}  // namespace pendulum::kernels

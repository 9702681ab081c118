// AdamW with moments in 8 bits on a GPU against its CPU twin. Skipped where there is no device.
#include <gtest/gtest.h>

#include <memory>

#include "device.h"
#include "kernels/adamw8bit.h"

namespace pendulum::kernels {
namespace {

template <class T>
using Table = std::unique_ptr<DeviceTable<T>>;

// One tensor on both sides, its moments those of an earlier step on the host.
struct Both {
  Both(int64_t count, uint64_t seed, bool has_average)
      : p(random_values<float>(count, seed)),
        a(p),
        g(random_values<float>(count + 1, seed + 1)),
        first(count, kFirstMap.zero),
        second(count, kSecondMap.zero),
        first_scale((count + kQuantBlock - 1) / kQuantBlock),
        second_scale(first_scale) {
    host = {p.data(),
            g.data(),
            first.data(),
            second.data(),
            first_scale.data(),
            second_scale.data(),
            has_average ? a.data() : nullptr,
            count,
            0.1 * static_cast<double>(seed % 3)};
    adamw8bit(host, AdamWStep{.rate = 0.01}, 0.5, 0, count);
    g = random_values<float>(count + 1, seed + 2);
    host.gradient = g.data() + 1;  // beside an aligned address
    d_p = std::make_unique<DeviceTable<float>>(p);
    d_a = std::make_unique<DeviceTable<float>>(a);
    d_g = std::make_unique<DeviceTable<float>>(g);
    d_first = std::make_unique<DeviceTable<uint8_t>>(first);
    d_second = std::make_unique<DeviceTable<uint8_t>>(second);
    d_first_scale = std::make_unique<DeviceTable<float>>(first_scale);
    d_second_scale = std::make_unique<DeviceTable<float>>(second_scale);
    device = {d_p->data(),
              d_g->data() + 1,
              d_first->data(),
              d_second->data(),
              d_first_scale->data(),
              d_second_scale->data(),
              has_average ? d_a->data() : nullptr,
              count,
              host.decay};
  }
  std::vector<float> p, a, g;
  std::vector<uint8_t> first, second;
  std::vector<float> first_scale, second_scale;
  Table<float> d_p, d_a, d_g, d_first_scale, d_second_scale;
  Table<uint8_t> d_first, d_second;
  AdamW8bitTensor host, device;
};

// Moments that lie within rounding of a border may fall on either side of it.
void expect_bytes(const std::vector<uint8_t>& found, const std::vector<uint8_t>& want) {
  size_t differing = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    EXPECT_LE(std::abs(int{found[i]} - int{want[i]}), 1) << i;
    differing += found[i] != want[i];
  }
  EXPECT_LE(differing, 1 + want.size() / 1000);
}

TEST_F(CudaTest, AdamW8bit) {
  std::vector<std::unique_ptr<Both>> tensors;
  std::vector<AdamW8bitTensor> table;
  std::vector<int64_t> counts;
  for (const int64_t count : {1, 255, 256, 257, 5000, 70000, 0, 16384}) {
    tensors.push_back(std::make_unique<Both>(count, 5 * tensors.size(), tensors.size() % 2 == 0));
    table.push_back(tensors.back()->device);
    counts.push_back(count);
  }
  const auto chunks = chunks_of(counts);
  DeviceTable<AdamW8bitTensor> device_table(table);
  DeviceTable<Chunk> chunk_table(chunks);
  const AdamWStep step{.rate = 0.01, .step = 2};
  adamw8bit_cuda(device_table.data(), chunk_table.data(), static_cast<int64_t>(chunks.size()), step,
                 0.5, nullptr);
  for (const auto& t : tensors) {
    adamw8bit(t->host, step, 0.5, 0, t->host.count);
    const size_t count = t->p.size();
    expect_close<float>(t->d_p->entries(count), t->p, 0);
    expect_close<float>(t->d_a->entries(count), t->a, 0);
    expect_close<float>(t->d_first_scale->entries(t->first_scale.size()), t->first_scale, 0);
    expect_close<float>(t->d_second_scale->entries(t->second_scale.size()), t->second_scale, 0);
    expect_bytes(t->d_first->entries(count), t->first);
    expect_bytes(t->d_second->entries(count), t->second);
  }
}

}  // namespace
}  // namespace pendulum::kernels

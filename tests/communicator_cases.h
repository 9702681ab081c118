// What every communicator must do, as functions over a group: run on threads by one test and under
// mpirun by another.
#pragma once
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "comm/collective_buffer.h"
#include "comm/communicator.h"
#include "core/error.h"
#include "core/random.h"

namespace pendulum {

inline const std::vector<at::ScalarType> kCarried{at::kFloat, at::kDouble, at::kBFloat16,
                                                  at::kLong,  at::kInt,    at::kByte};

// Numbers that every rank can compute for every other one.
inline at::Tensor numbers(int rank, int64_t count, at::ScalarType dtype, uint64_t salt = 0) {
  at::Tensor values = at::empty({count}, at::kFloat);
  fill_normal(values.data_ptr<float>(), count, draw(rank, salt));
  return at::isIntegralType(dtype, true) ? values.mul(10).abs().to(dtype) : values.to(dtype);
}

// Every output starts as nonsense.
inline at::Tensor unset(int64_t count, at::ScalarType dtype) {
  return at::isFloatingType(dtype) ? at::full({count}, NAN, dtype) : at::full({count}, 99, dtype);
}

inline at::Tensor expected_reduction(const Communicator& group, int64_t count, at::ScalarType dtype,
                                     Reduce reduce) {
  const bool wide = dtype == at::kBFloat16;
  at::Tensor result = numbers(0, count, dtype).to(wide ? at::kFloat : dtype);
  for (int r = 1; r < group.size(); ++r) {
    const at::Tensor next = numbers(r, count, dtype).to(result.scalar_type());
    result = reduce == Reduce::sum   ? result + next
             : reduce == Reduce::max ? at::maximum(result, next)
                                     : at::minimum(result, next);
  }
  return result.to(dtype);
}

// Counts: none, one, primes, below, at and above the size up to which an all_reduce takes one round
// (4096 bytes).
inline void check_reductions(Communicator& group) {
  for (const auto dtype : kCarried) {
    for (const int64_t count : {0, 1, 3, 511, 512, 513, 1024, 1025, 10007}) {
      for (const Reduce reduce : {Reduce::sum, Reduce::max, Reduce::min}) {
        const at::Tensor expected = expected_reduction(group, count, dtype, reduce);
        const at::Tensor all = numbers(group.rank(), count, dtype);
        group.all_reduce(all, reduce).wait();
        EXPECT_TRUE(at::equal(all, expected)) << c10::toString(dtype) << " " << count;
        if (count % group.size() != 0) continue;
        const int64_t part = count / group.size();
        const at::Tensor mine = unset(part, dtype);
        group.reduce_scatter(numbers(group.rank(), count, dtype), mine, reduce).wait();
        EXPECT_TRUE(at::equal(mine, expected.narrow(0, group.rank() * part, part)))
            << c10::toString(dtype) << " " << count;
      }
    }
  }
}

// Gathers in place and exchanges from memory that is used again at once, grows, and holds what the
// round before has left, while ranks are late in turn: what a call reads or writes too early or too
// late is another round's.
inline void check_buffers(Communicator& group, at::Device device = at::kCPU) {
  const int size = group.size();
  const int rank = group.rank();
  const auto lag = [&](int round) {
    std::this_thread::sleep_for(std::chrono::microseconds(draw(rank, round) % 400));
  };
  const auto others = [&](int r, int64_t count, at::ScalarType type, int round) {
    return numbers(r, count, type, round).to(device);
  };
  CollectiveBuffer gathered(group, CallKind::all_gather);
  CollectiveBuffer sent(group, CallKind::all_to_all), received(group, CallKind::all_to_all);
  for (int round = 0; round < 36; ++round) {
    const at::ScalarType type = kCarried[round % 6];
    const int64_t count = std::vector<int64_t>{7, 257, 0, 64, 4096, 1, 5003}[round % 7];
    const auto options = at::TensorOptions().device(device).dtype(type);
    lag(2 * round);
    const at::Tensor all = gathered.take({size, count}, options);
    all[rank].copy_(others(rank, count, type, round));
    Handle gather = group.all_gather(all[rank], all);
    const at::Tensor out = sent.take({size, count}, options).view(-1);
    const at::Tensor in = received.take({size, count}, options).view(-1);
    out.copy_(others(rank, size * count, type, round));
    Handle exchange = group.all_to_all(out, in);
    lag(2 * round + 1);
    exchange.wait();
    gather.wait();
    for (int r = 0; r < size; ++r) {
      EXPECT_TRUE(at::equal(all[r], others(r, count, type, round)));
      EXPECT_TRUE(at::equal(in.narrow(0, r * count, count),
                            others(r, size * count, type, round).narrow(0, rank * count, count)));
    }
    all.fill_(1);
    out.fill_(2);
    in.fill_(3);
  }
  group.barrier();
}

inline void check_movement(Communicator& group) {
  const int size = group.size();
  const int rank = group.rank();
  for (const auto dtype : kCarried) {
    for (const int64_t count : {0, 1, 7, 1024, 4099}) {
      const at::Tensor all = unset(size * count, dtype);
      group.all_gather(numbers(rank, count, dtype), all).wait();
      const at::Tensor in_place = unset(size * count, dtype);
      in_place.narrow(0, rank * count, count).copy_(numbers(rank, count, dtype));
      group.all_gather(in_place.narrow(0, rank * count, count), in_place).wait();
      EXPECT_TRUE(at::equal(in_place, all));
      const at::Tensor back = unset(size * count, dtype);
      group.all_to_all(numbers(rank, size * count, dtype), back).wait();
      for (int r = 0; r < size; ++r) {
        EXPECT_TRUE(at::equal(all.narrow(0, r * count, count), numbers(r, count, dtype)));
        EXPECT_TRUE(at::equal(back.narrow(0, r * count, count),
                              numbers(r, size * count, dtype).narrow(0, rank * count, count)));
      }
      for (int root = 0; root < size; ++root) {
        const at::Tensor from_root =
            rank == root ? numbers(root, count, dtype) : unset(count, dtype);
        group.broadcast(from_root, root).wait();
        EXPECT_TRUE(at::equal(from_root, numbers(root, count, dtype)));
      }
      // A ring whose messages differ in length from pair to pair.
      const int next = (rank + 1) % size;
      const int before = (rank + size - 1) % size;
      const at::Tensor from_before = unset(count + before, dtype);
      group.send_recv(numbers(rank, count + rank, dtype), next, from_before, before).wait();
      EXPECT_TRUE(at::equal(from_before, numbers(before, count + before, dtype)));
    }
  }
  // A line: the first only sends, the last only receives.
  const at::Tensor got = unset(5, at::kFloat);
  group.send_recv(numbers(rank, 5, at::kFloat), rank + 1 < size ? rank + 1 : kNobody, got, rank - 1)
      .wait();
  EXPECT_TRUE(rank == 0 || at::equal(got, numbers(rank - 1, 5, at::kFloat)));
  check_buffers(group);
}

// <A x, y> = <x, A' y>: all_gather is the transpose of reduce_scatter, all_to_all of itself. In
// fp64 with sums of some thousand terms near 1: 1e-10 leaves a factor of a hundred.
inline void check_transposes(Communicator& group) {
  const int64_t count = 257;
  const int64_t whole = count * group.size();
  const auto dot = [&](const at::Tensor& a, const at::Tensor& b) {
    const at::Tensor sum = a.dot(b).reshape({1});
    group.all_reduce(sum).wait();
    return sum.item<double>();
  };
  const at::Tensor x = numbers(group.rank(), count, at::kDouble, 1);
  const at::Tensor y = numbers(group.rank(), whole, at::kDouble, 2);
  const at::Tensor gathered = unset(whole, at::kDouble);
  const at::Tensor scattered = unset(count, at::kDouble);
  group.all_gather(x, gathered).wait();
  group.reduce_scatter(y, scattered).wait();
  EXPECT_LE(std::abs(dot(gathered, y) - dot(x, scattered)), 1e-10);
  const at::Tensor z = numbers(group.rank(), whole, at::kDouble, 3);
  const at::Tensor exchanged = unset(whole, at::kDouble);
  const at::Tensor returned = unset(whole, at::kDouble);
  group.all_to_all(z, exchanged).wait();
  group.all_to_all(y, returned).wait();
  EXPECT_LE(std::abs(dot(exchanged, y) - dot(z, returned)), 1e-10);
}

// Handles waited for in another order on every rank, in two groups, and one that nobody waits for.
inline void check_overlap(Communicator& group) {
  const auto other = group.split(0, -group.rank());  // the same ranks, backwards
  EXPECT_EQ(other->rank(), group.size() - 1 - group.rank());
  for (int round = 0; round < 20; ++round) {
    std::vector<at::Tensor> tensors;
    std::vector<Handle> handles;
    for (int i = 0; i < 6; ++i) {
      tensors.push_back(numbers(group.rank(), 5000 + i, at::kFloat));
      handles.push_back((i % 2 == 0 ? group : *other).all_reduce(tensors.back()));
    }
    const at::Tensor dropped = numbers(group.rank(), 5000, at::kFloat);
    { [[maybe_unused]] const Handle unused = group.all_reduce(dropped); }
    for (int i = 0; i < 6; ++i) handles[(i * 5 + group.rank() + round) % 6].wait();
    for (int i = 0; i < 6; i += 2)
      EXPECT_TRUE(
          at::equal(tensors[i], expected_reduction(group, 5000 + i, at::kFloat, Reduce::sum)));
    while (!handles[0].done()) {
    }
    handles[0].wait();  // a second wait is nothing
  }
  group.barrier();
}

inline void check_splits(Communicator& group) {
  const int rank = group.rank();
  const auto half = group.split(rank % 2, rank);
  EXPECT_EQ(half->rank(), rank / 2);
  EXPECT_EQ(half->size(), (group.size() + 1 - rank % 2) / 2);
  EXPECT_EQ(half->name(), text(group.name(), "/", rank % 2));
  const at::Tensor ranks = at::full({1}, rank, at::kLong);
  half->all_reduce(ranks).wait();
  int64_t expected = 0;
  for (int r = rank % 2; r < group.size(); r += 2) expected += r;
  EXPECT_EQ(ranks.item<int64_t>(), expected);
  const auto alone = half->split(half->rank(), 0);
  EXPECT_EQ(alone->size(), 1);
  alone->barrier();
}

inline std::string failure_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

// Wrong on one rank alone: refused on the host before the call is counted, so that the group stays
// usable.
inline void check_arguments(Communicator& group) {
  const at::Tensor flat = at::zeros({group.size() * 2});
  const at::Tensor square = at::zeros({2, 3});
  EXPECT_NE(failure_of([&] { (void)group.all_reduce(square.t()); }).find("contiguous"),
            std::string::npos);
  EXPECT_NE(failure_of([&] { (void)group.all_reduce(at::Tensor()); }).find("contiguous"),
            std::string::npos);
  EXPECT_NE(failure_of([&] { (void)group.all_reduce(flat.to(at::kHalf)); }).find("Half"),
            std::string::npos);
  EXPECT_NE(
      failure_of([&] { (void)group.all_gather(flat, flat.to(at::kDouble)); }).find("same type"),
      std::string::npos);
  EXPECT_NE(failure_of([&] {
              (void)group.all_gather(flat, at::zeros({flat.numel() * group.size() + 1}));
            }).find("counts"),
            std::string::npos);
  EXPECT_NE(failure_of([&] { (void)group.all_to_all(flat, flat); }).find("two tensors"),
            std::string::npos);
  EXPECT_NE(failure_of([&] { (void)group.broadcast(flat, group.size()); }).find("root"),
            std::string::npos);
  EXPECT_NE(failure_of([&] { (void)group.send_recv(flat, 0, flat, group.size()); }).find("peers"),
            std::string::npos);
  group.barrier();
}

// NaN on one rank reaches all, whatever the reduction.
inline void check_nan(Communicator& group) {
  for (const auto dtype : {at::kFloat, at::kDouble, at::kBFloat16}) {
    for (const Reduce reduce : {Reduce::sum, Reduce::max, Reduce::min}) {
      const at::Tensor value = at::full({3}, group.rank() == 0 ? NAN : 1.0, dtype);
      group.all_reduce(value, reduce).wait();
      EXPECT_TRUE(value.isnan().all().item<bool>());
    }
  }
}

}  // namespace pendulum

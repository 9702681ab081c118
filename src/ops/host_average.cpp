// Averages of weights that are kept in host memory, whatever device the weights are on.
#include "ops/host_average.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <array>

#ifdef PENDULUM_CUDA
#include <ATen/cuda/CUDAEvent.h>
#include <c10/cuda/CUDAStream.h>
#endif

#include "core/error.h"
#include "kernels/adamw.h"
#include "kernels/chunks.h"
#include "ops/launch.h"
#include "ops/parallel.h"

namespace pendulum {
namespace {

constexpr int64_t kPiece = 256 * kernels::kChunk;  // 16 MiB of fp32

// The same elements of an average and of its parameter, at most kPiece.
struct Piece {
  at::Tensor average, parameter;
};

std::vector<Piece> pieces_of(const std::vector<at::Tensor>& averages,
                             const std::vector<at::Tensor>& parameters) {
  check(averages.size() == parameters.size(), "an average for every parameter, found ",
        averages.size(), " for ", parameters.size());
  std::vector<Piece> pieces;
  for (size_t i = 0; i < averages.size(); ++i) {
    const at::Tensor &average = averages[i], &parameter = parameters[i];
    check(average.is_cpu() && average.is_contiguous() && parameter.is_contiguous() &&
              average.sizes() == parameter.sizes() &&
              average.scalar_type() == parameter.scalar_type() &&
              parameter.device() == parameters.front().device(),
          "an average on the CPU shaped as its parameter, found ", average.sizes(), " for ",
          parameter.sizes());
    for (int64_t begin = 0; begin < average.numel(); begin += kPiece) {
      const int64_t end = std::min(begin + kPiece, average.numel());
      pieces.push_back(
          {average.view(-1).slice(0, begin, end), parameter.view(-1).slice(0, begin, end)});
    }
  }
  return pieces;
}

// Pieces of parameters on their way to the host, two at a time in turn.
class Arrivals {
 public:
  void send(size_t turn, const at::Tensor& values) {
    at::Tensor& host = host_[turn % 2];
    if (values.is_cpu()) {
      host = values;
      return;
    }
#ifdef PENDULUM_CUDA
    at::Tensor& room = room_[turn % 2];
    if (!room.defined())
      room = at::empty({kPiece}, values.options().device(at::kCPU).pinned_memory(true));
    host = room.narrow(0, 0, values.numel());
    host.copy_(values, /*non_blocking=*/true);
    arrived_[turn % 2].record(c10::cuda::getCurrentCUDAStream(values.device().index()));
#else
    check(false, "a build with CUDA for a tensor on ", values.device());
#endif
  }
  // Valid until the turn after the next is sent.
  const at::Tensor& wait(size_t turn) {
#ifdef PENDULUM_CUDA
    arrived_[turn % 2].synchronize();  // at once where nothing was recorded
#endif
    return host_[turn % 2];
  }

 private:
  std::array<at::Tensor, 2> host_;
#ifdef PENDULUM_CUDA
  std::array<at::Tensor, 2> room_;
  std::array<at::cuda::CUDAEvent, 2> arrived_;
#endif
};

void move(const at::Tensor& average, const at::Tensor& values, double ema) {
  const int64_t count = average.numel();
  const int64_t chunks = (count + kernels::kChunk - 1) / kernels::kChunk;
  with_element(average, [&]<class T>(T) {
    T* const a = pointer<T>(average);
    const T* const p = const_pointer<T>(values);
    parallel_for(0, chunks, 4, [&](int64_t begin, int64_t end) {
      kernels::move_average(a, p, ema, begin * kernels::kChunk,
                            std::min(end * kernels::kChunk, count));
    });
  });
}

}  // namespace

void move_host_averages(const std::vector<at::Tensor>& averages,
                        const std::vector<at::Tensor>& parameters, double ema) {
  const at::NoGradGuard no_grad;
  const std::vector<Piece> pieces = pieces_of(averages, parameters);
  Arrivals arrivals;
  if (!pieces.empty()) arrivals.send(0, pieces.front().parameter);
  for (size_t i = 0; i < pieces.size(); ++i) {
    if (i + 1 < pieces.size()) arrivals.send(i + 1, pieces[i + 1].parameter);
    move(pieces[i].average, arrivals.wait(i), ema);
  }
}

}  // namespace pendulum

// The optimiser's update and the gradient norm over lists of tensors.
#include "ops/adamw.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <numeric>

#include "core/error.h"
#include "kernels/adamw.h"
#include "ops/launch.h"

namespace pendulum {
namespace {

// Elements a thread takes at a time: a piece never spans two tensors, and its borders do not depend
// on the threads.
constexpr int64_t kPiece = 16384;

struct Piece {
  size_t tensor;
  int64_t begin, end;  // elements
};

std::vector<Piece> pieces_over(const std::vector<int64_t>& counts) {
  std::vector<Piece> pieces;
  for (size_t i = 0; i < counts.size(); ++i) {
    for (int64_t begin = 0; begin < counts[i]; begin += kPiece)
      pieces.push_back({i, begin, std::min(counts[i], begin + kPiece)});
  }
  return pieces;
}

template <class T>
kernels::AdamWTensor<T> pointers_of(const AdamwTensors& t, double decay) {
  return {.parameter = pointer<T>(t.parameter),
          .gradient = const_pointer<T>(t.gradient),
          .first = pointer<T>(t.first_moment),
          .second = pointer<T>(t.second_moment),
          .average = pointer<T>(t.average),
          .count = t.parameter.numel(),
          .decay = decay};
}

// Gradients may arrive as slices of a larger one; all else is ours and checked.
AdamwTensors checked(const AdamwTensors& t) {
  for (const at::Tensor& other : {t.first_moment, t.second_moment, t.average}) {
    if (!other.defined()) continue;
    check(other.is_contiguous() && other.sizes() == t.parameter.sizes() &&
              other.scalar_type() == t.parameter.scalar_type() &&
              other.device() == t.parameter.device(),
          "state shaped as its parameter, found ", other.sizes(), " for ", t.parameter.sizes());
  }
  check(t.parameter.is_contiguous() && t.gradient.sizes() == t.parameter.sizes() &&
            t.gradient.scalar_type() == t.parameter.scalar_type(),
        "a gradient shaped as its parameter, found ", t.gradient.sizes(), " for ",
        t.parameter.sizes());
  AdamwTensors out = t;
  out.gradient = t.gradient.contiguous();
  return out;
}

template <class T>
void update_on_cpu(const std::vector<AdamwTensors>& tensors, const kernels::AdamWStep& step,
                   const AdamwSettings& settings) {
  std::vector<kernels::AdamWTensor<T>> pointers;
  std::vector<int64_t> counts;
  for (const AdamwTensors& t : tensors) {
    pointers.push_back(pointers_of<T>(t, settings.weight_decay));
    counts.push_back(pointers.back().count);
  }
  const std::vector<Piece> pieces = pieces_over(counts);
  at::parallel_for(0, static_cast<int64_t>(pieces.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const Piece& piece = pieces[static_cast<size_t>(i)];
      kernels::adamw(pointers[piece.tensor], step, settings.gradient_scale, piece.begin, piece.end);
    }
  });
}

std::vector<double> squares_on_gpu(const std::vector<at::Tensor>& tensors) {
#ifdef PENDULUM_CUDA
  const at::Tensor partial = at::zeros({static_cast<int64_t>(tensors.size()), kernels::kSumBlocks},
                                       tensors.front().options().dtype(at::kDouble));
  for (size_t i = 0; i < tensors.size(); ++i) {
    const at::Tensor& t = tensors[i];
    check(t.scalar_type() == at::kFloat, "fp32 gradients on a GPU");
    if (t.numel() == 0) continue;
    kernels::sum_of_squares_cuda(pointer<double>(partial[static_cast<int64_t>(i)]),
                                 const_pointer<float>(t), t.numel(), current_stream(t));
  }
  const at::Tensor sums = partial.sum(1).cpu();
  return {sums.const_data_ptr<double>(), sums.const_data_ptr<double>() + sums.numel()};
#else
  check(false, "a build with CUDA for a tensor on ", tensors.front().device());
  return {};
#endif
}

}  // namespace

void adamw_step(const std::vector<AdamwTensors>& tensors, const AdamwSettings& settings) {
  if (tensors.empty()) return;
  std::vector<AdamwTensors> ready;
  for (const AdamwTensors& t : tensors) ready.push_back(checked(t));
  const kernels::AdamWStep step{.rate = settings.lr,
                                .beta1 = settings.beta1,
                                .beta2 = settings.beta2,
                                .eps = settings.eps,
                                .average_decay = settings.ema,
                                .step = settings.step};
  const at::Tensor& first = ready.front().parameter;
  if (first.is_cuda()) {
#ifdef PENDULUM_CUDA
    std::vector<kernels::AdamWTensor<float>> pointers;
    for (const AdamwTensors& t : ready) {
      check(t.parameter.scalar_type() == at::kFloat, "fp32 parameters on a GPU");
      pointers.push_back(pointers_of<float>(t, settings.weight_decay));
    }
    kernels::adamw_cuda(pointers.data(), static_cast<int64_t>(pointers.size()), step,
                        settings.gradient_scale, current_stream(first));
#else
    check(false, "a build with CUDA");
#endif
    return;
  }
  with_element(first, [&]<class T>(T) { update_on_cpu<T>(ready, step, settings); });
}

void adamw_step(const at::Tensor& parameter, const at::Tensor& gradient,
                const at::Tensor& first_moment, const at::Tensor& second_moment,
                const at::Tensor& average, const AdamwSettings& settings) {
  adamw_step({{parameter, gradient, first_moment, second_moment, average}}, settings);
}

std::vector<double> squares_of(const std::vector<at::Tensor>& tensors) {
  if (tensors.empty()) return {};
  std::vector<at::Tensor> ready;
  std::vector<int64_t> counts;
  for (const at::Tensor& t : tensors) {
    ready.push_back(t.detach().contiguous());
    counts.push_back(t.numel());
  }
  if (ready.front().is_cuda()) return squares_on_gpu(ready);
  const std::vector<Piece> pieces = pieces_over(counts);
  std::vector<double> sums(pieces.size());
  at::parallel_for(0, static_cast<int64_t>(pieces.size()), 4, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const Piece& piece = pieces[static_cast<size_t>(i)];
      const at::Tensor& t = ready[piece.tensor];
      with_element(t, [&]<class T>(T) {
        sums[static_cast<size_t>(i)] =
            kernels::sum_of_squares(const_pointer<T>(t), piece.begin, piece.end);
      });
    }
  });
  std::vector<double> by_tensor(tensors.size());
  for (size_t i = 0; i < pieces.size(); ++i) by_tensor[pieces[i].tensor] += sums[i];
  return by_tensor;
}

double sum_of_squares(const std::vector<at::Tensor>& tensors) {
  const std::vector<double> squares = squares_of(tensors);
  return std::accumulate(squares.begin(), squares.end(), 0.0);
}

}  // namespace pendulum

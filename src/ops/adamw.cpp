// The optimiser's update and the gradient norm over lists of tensors.
#include "ops/adamw.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstring>
#include <numeric>

#include "core/error.h"
#include "kernels/adamw.h"
#include "kernels/adamw8bit.h"
#include "ops/launch.h"
#include "ops/parallel.h"

namespace pendulum {
namespace {

template <class T>
kernels::AdamWTensor<T> entry_of(const AdamwTensors& t, const AdamwSettings& settings) {
  return {.parameter = pointer<T>(t.parameter),
          .gradient = const_pointer<T>(t.gradient),
          .first = pointer<T>(t.first_moment),
          .second = pointer<T>(t.second_moment),
          .average = pointer<T>(t.average),
          .count = t.parameter.numel(),
          .decay = t.decays ? settings.weight_decay : 0};
}

kernels::AdamW8bitTensor entry_in_8bit(const AdamwTensors& t, const AdamwSettings& settings) {
  return {.parameter = pointer<float>(t.parameter),
          .gradient = const_pointer<float>(t.gradient),
          .first = pointer<uint8_t>(t.first_moment),
          .second = pointer<uint8_t>(t.second_moment),
          .first_scale = pointer<float>(t.first_scale),
          .second_scale = pointer<float>(t.second_scale),
          .average = pointer<float>(t.average),
          .count = t.parameter.numel(),
          .decay = t.decays ? settings.weight_decay : 0};
}

template <class Entry>
std::vector<Entry> table_of(const std::vector<AdamwTensors>& tensors, const AdamwSettings& settings,
                            Entry (*entry)(const AdamwTensors&, const AdamwSettings&)) {
  std::vector<Entry> table;
  for (const AdamwTensors& t : tensors) table.push_back(entry(t, settings));
  return table;
}

bool is_in_8bit(const AdamwTensors& t) { return t.first_scale.defined(); }

void check_state(const at::Tensor& state, at::IntArrayRef sizes, at::ScalarType type,
                 const at::Tensor& parameter) {
  check(state.is_contiguous() && state.sizes() == sizes && state.scalar_type() == type &&
            state.device() == parameter.device(),
        "state of shape ", sizes, ", ", type, ", found ", state.sizes(), ", ", state.scalar_type(),
        " for ", parameter.sizes());
}

// Gradients may arrive as slices of a larger one; all else is ours and checked.
AdamwTensors checked(const AdamwTensors& t) {
  const at::ScalarType type = t.parameter.scalar_type();
  const at::ScalarType kept = is_in_8bit(t) ? at::kByte : type;
  check_state(t.first_moment, t.parameter.sizes(), kept, t.parameter);
  check_state(t.second_moment, t.parameter.sizes(), kept, t.parameter);
  if (is_in_8bit(t)) {
    check(type == at::kFloat, "fp32 parameters of moments in 8 bits, found ", type);
    const int64_t blocks = quantisation_blocks(t.parameter.numel());
    check_state(t.first_scale, {blocks}, at::kFloat, t.parameter);
    check_state(t.second_scale, {blocks}, at::kFloat, t.parameter);
  }
  if (t.average.defined()) check_state(t.average, t.parameter.sizes(), type, t.parameter);
  check(t.parameter.is_contiguous() && t.gradient.sizes() == t.parameter.sizes() &&
            t.gradient.scalar_type() == type,
        "a gradient shaped as its parameter, found ", t.gradient.sizes(), " for ",
        t.parameter.sizes());
  AdamwTensors out = t;
  out.gradient = t.gradient.contiguous();
  return out;
}

std::vector<kernels::Chunk> chunks_over(const std::vector<at::Tensor>& tensors) {
  std::vector<int64_t> counts;
  for (const at::Tensor& t : tensors) counts.push_back(t.numel());
  return kernels::chunks_of(counts);
}

#ifdef PENDULUM_CUDA
// A table of plain structs in the memory of `device`; the copy does not wait for the device.
template <class Entry>
at::Tensor on_device(const std::vector<Entry>& entries, at::Device device) {
  const auto bytes = static_cast<int64_t>(entries.size() * sizeof(Entry));
  const at::Tensor host = at::empty({bytes}, at::TensorOptions(at::kByte).pinned_memory(true));
  std::memcpy(host.mutable_data_ptr(), entries.data(), static_cast<size_t>(bytes));
  return host.to(device, /*non_blocking=*/true);
}

void update_on_gpu(const std::vector<AdamwTensors>& tensors,
                   const std::vector<kernels::Chunk>& chunks, const kernels::AdamWStep& step,
                   const AdamwSettings& settings) {
  const at::Tensor& first = tensors.front().parameter;
  check(first.scalar_type() == at::kFloat, "fp32 parameters on a GPU");
  const c10::DeviceGuard guard(first.device());
  const at::Tensor chunk_table = on_device(chunks, first.device());
  const auto* places = const_pointer<kernels::Chunk>(chunk_table);
  const auto count = static_cast<int64_t>(chunks.size());
  if (is_in_8bit(tensors.front())) {
    const at::Tensor table = on_device(table_of(tensors, settings, entry_in_8bit), first.device());
    kernels::adamw8bit_cuda(const_pointer<kernels::AdamW8bitTensor>(table), places, count, step,
                            settings.gradient_scale, current_stream(first));
  } else {
    const at::Tensor table =
        on_device(table_of(tensors, settings, entry_of<float>), first.device());
    kernels::adamw_cuda(const_pointer<kernels::AdamWTensor<float>>(table), places, count, step,
                        settings.gradient_scale, current_stream(first));
  }
}

void squares_on_gpu(std::vector<double>& sums, const std::vector<at::Tensor>& tensors,
                    const std::vector<kernels::Chunk>& chunks) {
  const at::Tensor& first = tensors.front();
  const c10::DeviceGuard guard(first.device());
  std::vector<const float*> pointers;
  for (const at::Tensor& t : tensors) {
    check(t.scalar_type() == at::kFloat, "fp32 gradients on a GPU");
    pointers.push_back(const_pointer<float>(t));
  }
  const at::Tensor table = on_device(pointers, first.device());
  const at::Tensor chunk_table = on_device(chunks, first.device());
  const at::Tensor partial =
      at::empty({static_cast<int64_t>(chunks.size())}, first.options().dtype(at::kDouble));
  kernels::sum_of_squares_cuda(pointer<double>(partial), const_pointer<const float*>(table),
                               const_pointer<kernels::Chunk>(chunk_table),
                               static_cast<int64_t>(chunks.size()), current_stream(first));
  const at::Tensor host = partial.cpu();
  std::copy_n(host.const_data_ptr<double>(), sums.size(), sums.begin());
}
#endif

void update_on_cpu(const std::vector<AdamwTensors>& tensors,
                   const std::vector<kernels::Chunk>& chunks, const kernels::AdamWStep& step,
                   const AdamwSettings& settings) {
  const auto count = static_cast<int64_t>(chunks.size());
  const double scale = settings.gradient_scale;
  if (is_in_8bit(tensors.front())) {
    const auto table = table_of(tensors, settings, entry_in_8bit);
    parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
      kernels::adamw8bit(table.data(), chunks.data(), step, scale, begin, end);
    });
    return;
  }
  with_element(tensors.front().parameter, [&]<class T>(T) {
    const auto table = table_of(tensors, settings, entry_of<T>);
    parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
      kernels::adamw(table.data(), chunks.data(), step, scale, begin, end);
    });
  });
}

// All of one type, on one device, with moments of one kind.
void update(const std::vector<AdamwTensors>& tensors, const AdamwSettings& settings) {
  std::vector<at::Tensor> parameters;
  for (const AdamwTensors& t : tensors) parameters.push_back(t.parameter);
  const std::vector<kernels::Chunk> chunks = chunks_over(parameters);
  if (chunks.empty()) return;
  const kernels::AdamWStep step{.rate = settings.lr,
                                .beta1 = settings.beta1,
                                .beta2 = settings.beta2,
                                .eps = settings.eps,
                                .average_decay = settings.ema,
                                .step = settings.step};
  if (!parameters.front().is_cuda()) return update_on_cpu(tensors, chunks, step, settings);
#ifdef PENDULUM_CUDA
  update_on_gpu(tensors, chunks, step, settings);
#else
  check(false, "a build with CUDA");
#endif
}

}  // namespace

bool has_8bit_moments(at::IntArrayRef sizes) {
  constexpr int64_t kFewest = 4096;
  return sizes.size() >= 2 && c10::multiply_integers(sizes) >= kFewest;
}

int64_t quantisation_blocks(int64_t numbers) {
  return (numbers + kernels::kQuantBlock - 1) / kernels::kQuantBlock;
}

uint8_t zero_of_first_moments() { return kernels::kFirstMap.zero; }

void adamw_step(const std::vector<AdamwTensors>& tensors, const AdamwSettings& settings) {
  std::vector<AdamwTensors> plain, in_8bit;
  for (const AdamwTensors& t : tensors) {
    check(t.parameter.device() == tensors.front().parameter.device() &&
              t.parameter.scalar_type() == tensors.front().parameter.scalar_type(),
          "parameters of one type on one device");
    (is_in_8bit(t) ? in_8bit : plain).push_back(checked(t));
  }
  update(plain, settings);
  update(in_8bit, settings);
}

void adamw_step(const at::Tensor& parameter, const at::Tensor& gradient,
                const at::Tensor& first_moment, const at::Tensor& second_moment,
                const at::Tensor& average, const AdamwSettings& settings) {
  adamw_step({{parameter, gradient, first_moment, second_moment, average}}, settings);
}

std::vector<double> squares_of(const std::vector<at::Tensor>& tensors) {
  std::vector<double> by_tensor(tensors.size());
  std::vector<at::Tensor> ready;
  for (const at::Tensor& t : tensors) {
    check(
        t.device() == tensors.front().device() && t.scalar_type() == tensors.front().scalar_type(),
        "tensors of one type on one device");
    ready.push_back(t.detach().contiguous());
  }
  const std::vector<kernels::Chunk> chunks = chunks_over(ready);
  if (chunks.empty()) return by_tensor;
  std::vector<double> sums(chunks.size());
  if (ready.front().is_cuda()) {
#ifdef PENDULUM_CUDA
    squares_on_gpu(sums, ready, chunks);
#else
    check(false, "a build with CUDA for a tensor on ", ready.front().device());
#endif
  } else {
    with_element(ready.front(), [&]<class T>(T) {
      std::vector<const T*> table;
      for (const at::Tensor& t : ready) table.push_back(const_pointer<T>(t));
      parallel_for(0, static_cast<int64_t>(chunks.size()), 4, [&](int64_t begin, int64_t end) {
        kernels::sum_of_squares(sums.data(), table.data(), chunks.data(), begin, end);
      });
    });
  }
  for (size_t i = 0; i < chunks.size(); ++i)
    by_tensor[static_cast<size_t>(chunks[i].tensor)] += sums[i];
  return by_tensor;
}

double sum_of_squares(const std::vector<at::Tensor>& tensors) {
  const std::vector<double> squares = squares_of(tensors);
  return std::accumulate(squares.begin(), squares.end(), 0.0);
}

}  // namespace pendulum

// Given frames by masks.
#include "objective/first_latent.h"

#include <ATen/ATen.h>

#include "core/error.h"

namespace pendulum {

at::Tensor with_first_latent(const at::Tensor& x, const at::Tensor& start,
                             const at::Tensor& given) {
  const at::Tensor first =
      at::where(given.view({-1, 1, 1, 1, 1}), start.to(x.scalar_type()), x.narrow(2, 0, 1));
  return x.size(2) == 1 ? first : at::cat({first, x.narrow(2, 1, x.size(2) - 1)}, 2);
}

at::Tensor first_latent_time(const at::Tensor& time, const at::Tensor& given,
                             at::IntArrayRef latents, const std::array<int, 3>& patch) {
  check(patch[0] == 1, "a token of the first latent frame alone: patch of ", patch[0], " frames");
  const int64_t frame_tokens = latents[3] / patch[1] * (latents[4] / patch[2]);
  const int64_t tokens = latents[2] * frame_tokens;
  const at::Tensor whole = time.dim() == 1 ? time.unsqueeze(1).expand({-1, tokens}) : time;
  const at::Tensor is_first = at::arange(tokens, given.options().dtype(at::kLong)) < frame_tokens;
  return whole.masked_fill(given.unsqueeze(1).logical_and(is_first), 0);
}

at::Tensor mean_of_made(const at::Tensor& squares, const at::Tensor& given) {
  const at::Tensor by_frame = squares.mean({1, 3, 4});  // (B, F)
  const int64_t frames = by_frame.size(1);
  if (frames == 1) return by_frame.squeeze(1);
  const at::Tensor others = by_frame.narrow(1, 1, frames - 1).mean(1);
  return at::where(given, others, by_frame.mean(1));
}

}  // namespace pendulum

// What a network is told of a clip beside its noisy latent and the time.
#pragma once
#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

namespace pendulum {

// How an image-to-video model is given a clip's first frame.
//   channels: as input channels beside the latent, a mask of the frames that are given and the
//     latent of a clip that is grey but for the first frame (Wan 2.1, 2.2 A14B)
//   latent: the first latent frame stands in the latent, free of noise, at time 0 (Wan 2.2 5B)
enum class FirstFrame { none, channels, latent };

// Of B samples, or of one without the dimension B. Legend: L text tokens, D text width, M + C
// input channels beside the latent's C, S image states, W their width.
struct Conditions {
  at::Tensor text;  // (B, L, D) fp32, zeros behind the captions
  // Undefined where nothing of the kind is given; zeros where it is not given to one sample.
  at::Tensor start{};  // (B, M + C, F, h, w) with FirstFrame::channels, (B, C, 1, h, w) with latent
  at::Tensor image{};  // (B, S, W)

  // Each tensor that is there, changed.
  Conditions map(const std::function<at::Tensor(const at::Tensor&)>& change) const;
  Conditions to(at::Device device) const;
};

// One behind the other: samples as a batch, batches as a larger one. All have the same tensors.
Conditions stack(const std::vector<Conditions>& samples);
Conditions cat(const Conditions& a, const Conditions& b);

}  // namespace pendulum

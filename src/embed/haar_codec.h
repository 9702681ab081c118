// The codec "haar": the space-time Haar transform of haar.h.
#pragma once
#include <vector>

#include "embed/codec.h"
#include "embed/haar.h"

namespace pendulum {

// Has no weights and no variance: its posterior is the latent.
class HaarCodec final : public Codec {
 public:
  // ConfigError for factors that are no powers of two, or more levels dropped than there are.
  explicit HaarCodec(const CodecConfig& config);

  int channels() const override { return layout_.channels(); }
  int spatial() const override { return layout_.spatial; }
  int temporal() const override { return layout_.temporal; }

  // Scaled to a standard deviation near 0.5; pixels of [-1, 1] give a mean channel of the same
  // range.
  at::Tensor encode(const Frames& frames) const override;
  at::Tensor latent(const at::Tensor& posterior, uint64_t) const override { return posterior; }
  at::Tensor mean(const at::Tensor& posterior) const override { return posterior; }
  at::Tensor encode_first(const Frames& first, int frames) const override;
  // Without drop the frames that were encoded, to the bit; with drop n their mean over 2^n x 2^n
  // pixels. Values that no frame has are clamped.
  Frames decode(const at::Tensor& latent) const override;

  // What each channel was multiplied with; decode divides by it.
  std::vector<float> gains() const { return haar_gains(layout_); }
  // False for the channels that are zero in the first latent frame whatever the clip: it holds one
  // image, so there is no change in time.
  std::vector<bool> first_frame_channels() const;

  std::string key() const override;
  nlohmann::json describe() const override;
  void write_weights(const std::string&) const override {}

 private:
  HaarLayout layout_;
};

}  // namespace pendulum

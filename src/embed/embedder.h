// A sample's media and caption to what the network is trained on, through the cache.
#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "data/media_reader.h"
#include "data/packed_data.h"
#include "embed/codec.h"
#include "embed/conditions.h"
#include "embed/embedding_cache.h"
#include "embed/first_frame.h"
#include "embed/text_encoder.h"

namespace pendulum {

struct Embedded {
  at::Tensor latent;      // (C, F, h, w) fp32, drawn
  Conditions conditions;  // of one sample, the first frame given wherever there is more than one
};

// Gives the encoded bytes of a sample; called only when its posterior is not in the cache.
using MediaBytes = std::function<std::variant<std::vector<uint8_t>, ReadFailure>()>;

// Thread-safe. Tensors it returns may be shared: never write into them.
class Embedder {
 public:
  // The parts must outlive it. Without a cache it keeps what was used last in memory: captions come
  // again and again.
  Embedder(const Codec& codec, const TextEncoder& text_encoder, EmbeddingCache* cache,
           FirstFrameEncoder first_frame = {});

  // A sample with the caption that the bits choose among its captions (0: the first), and the
  // latent that belongs to latent_key among those its posterior allows. ReadFailure where its media
  // cannot be had or decoded.
  std::variant<Embedded, ReadFailure> embed(const PackedData& data, int64_t sample,
                                            const ClipRequest& request, uint64_t caption_bits,
                                            uint64_t latent_key) const;

  // What the codec makes of a clip before anything is drawn: Codec::encode. sha256: of the encoded
  // bytes; request.excerpt says which part of them.
  std::variant<at::Tensor, ReadFailure> posterior(const std::string& sha256,
                                                  const MediaBytes& media,
                                                  const ClipRequest& request) const;
  at::Tensor text(const std::string& caption) const;

  // Of `batch` samples of this shape, to be filled.
  Conditions empty_conditions(int64_t batch, const Shape& shape) const;

  const Codec& codec() const { return *codec_; }
  const TextEncoder& text_encoder() const { return *text_encoder_; }
  const FirstFrameEncoder& first_frame() const { return first_frame_; }
  CacheStats cache_stats() const { return cache_->stats(); }

 private:
  class Clip;
  std::variant<at::Tensor, ReadFailure> posterior(Clip& clip) const;
  std::variant<at::Tensor, ReadFailure> cached(
      const std::string& key, Clip& clip,
      const std::function<at::Tensor(const Frames&)>& encode) const;
  std::optional<ReadFailure> give_first_frame(Clip& clip, const at::Tensor& posterior,
                                              Conditions* conditions) const;

  const Codec* codec_;
  const TextEncoder* text_encoder_;
  std::unique_ptr<EmbeddingCache> memory_;  // where no cache was given
  EmbeddingCache* cache_;
  FirstFrameEncoder first_frame_;
};

}  // namespace pendulum

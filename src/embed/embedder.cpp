// Cache, then decode and encode.
#include "embed/embedder.h"

#include <utility>

#include "core/error.h"
#include "core/random.h"

namespace pendulum {

Embedder::Embedder(const Codec& codec, const TextEncoder& text_encoder, EmbeddingCache* cache)
    : codec_(&codec),
      text_encoder_(&text_encoder),
      memory_(cache ? nullptr : std::make_unique<EmbeddingCache>("", CacheLimits{})),
      cache_(cache ? cache : memory_.get()) {}

std::variant<at::Tensor, ReadFailure> Embedder::posterior(const std::string& sha256,
                                                          const MediaBytes& media,
                                                          const ClipRequest& request) const {
  const std::string key = posterior_key(sha256, request, codec_->key());
  if (auto cached = cache_->get(key)) return *std::move(cached);
  const auto bytes = media();
  if (const auto* failure = std::get_if<ReadFailure>(&bytes)) return *failure;
  const auto read = read_clip(std::get<std::vector<uint8_t>>(bytes), request);
  if (const auto* failure = std::get_if<ReadFailure>(&read)) return *failure;
  const Frames& frames = std::get<Frames>(read);
  check(frames.count == request.frames && frames.height == request.height &&
            frames.width == request.width,
        "frames as requested: ", frames.count, "x", frames.height, "x", frames.width);
  at::Tensor posterior = codec_->encode(frames);
  cache_->put(key, posterior);
  return posterior;
}

at::Tensor Embedder::text(const std::string& caption) const {
  // Kept without the padding, which is most of it.
  const std::string key = text_key(caption, text_encoder_->key());
  if (const auto cached = cache_->get(key)) return text_encoder_->pad(*cached);
  const at::Tensor states = text_encoder_->states(caption);
  cache_->put(key, states);
  return text_encoder_->pad(states);
}

std::variant<Embedded, ReadFailure> Embedder::embed(const PackedData& data, int64_t sample,
                                                    const ClipRequest& request,
                                                    uint64_t caption_bits,
                                                    uint64_t latent_key) const {
  const Sample& known = data.sample(sample);
  ClipRequest part = request;
  part.excerpt = known.excerpt;
  auto found = posterior(
      known.sha256, [&] { return data.media(sample); }, part);
  if (auto* failure = std::get_if<ReadFailure>(&found)) return std::move(*failure);
  const std::string& caption = known.captions[below(known.captions.size(), caption_bits)];
  return Embedded{codec_->latent(std::get<at::Tensor>(found), latent_key), text(caption)};
}

}  // namespace pendulum

// Cache, then decode and encode.
#include "embed/embedder.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "core/error.h"
#include "core/random.h"

namespace pendulum {
namespace {

Frames first_of(const Frames& frames) {
  Frames first(1, frames.height, frames.width);
  std::copy_n(frames.rgb.begin(), first.frame_bytes(), first.rgb.begin());
  return first;
}

std::vector<int64_t> with_batch(int64_t batch, const at::Tensor& x) {
  std::vector<int64_t> sizes = x.sizes().vec();
  sizes.insert(sizes.begin(), batch);
  return sizes;
}

}  // namespace

// A sample's frames, decoded when something first asks for them.
class Embedder::Clip {
 public:
  Clip(const std::string& sha256, const MediaBytes& media, const ClipRequest& request)
      : sha256(sha256), request(request), media_(media) {}

  const std::variant<Frames, ReadFailure>& frames() {
    if (!frames_) frames_ = read();
    return *frames_;
  }

  const std::string& sha256;
  const ClipRequest& request;

 private:
  std::variant<Frames, ReadFailure> read() const {
    const auto bytes = media_();
    if (const auto* failure = std::get_if<ReadFailure>(&bytes)) return *failure;
    auto read = read_clip(std::get<std::vector<uint8_t>>(bytes), request);
    if (const auto* frames = std::get_if<Frames>(&read)) {
      check(frames->count == request.frames && frames->height == request.height &&
                frames->width == request.width,
            "frames as requested: ", frames->count, "x", frames->height, "x", frames->width);
    }
    return read;
  }

  const MediaBytes& media_;
  std::optional<std::variant<Frames, ReadFailure>> frames_;
};

Embedder::Embedder(const Codec& codec, const TextEncoder& text_encoder, EmbeddingCache* cache,
                   FirstFrameEncoder first_frame)
    : codec_(&codec),
      text_encoder_(&text_encoder),
      memory_(cache ? nullptr : std::make_unique<EmbeddingCache>("", CacheLimits{})),
      cache_(cache ? cache : memory_.get()),
      first_frame_(first_frame) {}

std::variant<at::Tensor, ReadFailure> Embedder::cached(
    const std::string& key, Clip& clip,
    const std::function<at::Tensor(const Frames&)>& encode) const {
  if (auto found = cache_->get(key)) return *std::move(found);
  const auto& frames = clip.frames();
  if (const auto* failure = std::get_if<ReadFailure>(&frames)) return *failure;
  at::Tensor encoded = encode(std::get<Frames>(frames));
  cache_->put(key, encoded);
  return encoded;
}

std::variant<at::Tensor, ReadFailure> Embedder::posterior(Clip& clip) const {
  return cached(posterior_key(clip.sha256, clip.request, codec_->key()), clip,
                [&](const Frames& frames) { return codec_->encode(frames); });
}

std::variant<at::Tensor, ReadFailure> Embedder::posterior(const std::string& sha256,
                                                          const MediaBytes& media,
                                                          const ClipRequest& request) const {
  Clip clip(sha256, media, request);
  return posterior(clip);
}

at::Tensor Embedder::text(const std::string& caption) const {
  // Kept without the padding, which is most of it.
  const std::string key = text_key(caption, text_encoder_->key());
  if (const auto cached = cache_->get(key)) return text_encoder_->pad(*cached);
  const at::Tensor states = text_encoder_->states(caption);
  cache_->put(key, states);
  return text_encoder_->pad(states);
}

Conditions Embedder::empty_conditions(int64_t batch, const Shape& shape) const {
  Conditions one = first_frame_.nothing(shape);
  one.text = at::zeros({text_encoder_->length(), text_encoder_->dim()}, at::kFloat);
  return one.map([&](const at::Tensor& x) { return x.expand(with_batch(batch, x)).clone(); });
}

// Fills in what the model is given of the clip's first frame.
std::optional<ReadFailure> Embedder::give_first_frame(Clip& clip, const at::Tensor& posterior,
                                                      Conditions* conditions) const {
  const ClipRequest& request = clip.request;
  if (request.frames == 1) {  // a still: there is nothing to make of its first frame
    const Conditions nothing = first_frame_.nothing({1, request.height, request.width});
    conditions->start = nothing.start;
    conditions->image = nothing.image;
    return std::nullopt;
  }
  if (first_frame_.kind() == FirstFrame::latent) {
    // The codec is causal: the first latent frame is the first frame's alone.
    conditions->start = codec_->mean(posterior).narrow(1, 0, 1);
    return std::nullopt;
  }
  const auto grey = cached(posterior_key(clip.sha256, request, codec_->key() + "/first"), clip,
                           [&](const Frames& frames) {
                             return first_frame_.grey_clip(first_of(frames), request.frames);
                           });
  if (const auto* failure = std::get_if<ReadFailure>(&grey)) return *failure;
  conditions->start = first_frame_.with_mask(std::get<at::Tensor>(grey));
  if (!first_frame_.has_image_states()) return std::nullopt;
  const auto states =
      cached(posterior_key(clip.sha256, request, first_frame_.key()), clip,
             [&](const Frames& frames) { return first_frame_.image(first_of(frames)); });
  if (const auto* failure = std::get_if<ReadFailure>(&states)) return *failure;
  conditions->image = std::get<at::Tensor>(states);
  return std::nullopt;
}

std::variant<Embedded, ReadFailure> Embedder::embed(const PackedData& data, int64_t sample,
                                                    const ClipRequest& request,
                                                    uint64_t caption_bits,
                                                    uint64_t latent_key) const {
  const Sample& known = data.sample(sample);
  ClipRequest part = request;
  part.excerpt = known.excerpt;
  const MediaBytes media = [&] { return data.media(sample); };
  Clip clip(known.sha256, media, part);
  const auto found = posterior(clip);
  if (const auto* failure = std::get_if<ReadFailure>(&found)) return *failure;
  const at::Tensor& posterior = std::get<at::Tensor>(found);
  const std::string& caption = known.captions[below(known.captions.size(), caption_bits)];
  Embedded out{codec_->latent(posterior, latent_key), {text(caption)}};
  if (first_frame_.kind() == FirstFrame::none) return out;
  if (auto failure = give_first_frame(clip, posterior, &out.conditions)) return *failure;
  return out;
}

}  // namespace pendulum

// Decoding: which frames of a track are shown when, and the whole way from bytes to RGB.
#include "data/media_reader.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <utility>

#include "core/error.h"
#include "data/av_handles.h"
#include "data/demuxer.h"
#include "data/frame_scaler.h"

namespace pendulum {
namespace {

// What the receiver of a frame wants next: more, no more, or to give up for a reason.
enum class Next { more, enough };
using OnFrame = std::function<std::variant<Next, ReadFailure>(const AVFrame& frame, double time)>;

std::variant<AvCodec, ReadFailure> open_decoder(const Track& track) {
  const AVCodec* codec = avcodec_find_decoder(track.codec->codec_id);
  if (codec == nullptr) {
    return ReadFailure{
        text("its codec, ", avcodec_get_name(track.codec->codec_id), ", has no decoder here")};
  }
  AvCodec decoder(avcodec_alloc_context3(codec));
  check(decoder != nullptr, "memory for a decoder");
  if (avcodec_parameters_to_context(decoder.get(), track.codec.get()) < 0) {
    return ReadFailure{"its codec parameters are damaged"};
  }
  decoder->thread_count = 1;  // the caller has as many threads as it wants
  decoder->pkt_timebase = track.time_base;
  decoder->max_pixels = kMaxPixels;
  decoder->err_recognition = AV_EF_CRCCHECK | AV_EF_EXPLODE;
  decoder->flags |= AV_CODEC_FLAG_BITEXACT;
  // H.264 without a stated reordering depth: take the largest, never guess and swap frames.
  decoder->strict_std_compliance =
      track.codec->codec_id == AV_CODEC_ID_H264 ? FF_COMPLIANCE_STRICT : FF_COMPLIANCE_NORMAL;
  if (const int code = avcodec_open2(decoder.get(), codec, nullptr); code < 0) {
    return ReadFailure{text("its decoder, ", codec->name, ", refuses it: ", av_words(code))};
  }
  return decoder;
}

std::optional<ReadFailure> refuse(const AVFrame& frame) {
  if ((frame.flags & AV_FRAME_FLAG_CORRUPT) || frame.decode_error_flags != 0) {
    return ReadFailure{"a frame is damaged"};
  }
  if (frame.width < 1 || frame.height < 1 || frame.width > kMaxSide || frame.height > kMaxSide) {
    return ReadFailure{text("its frames are ", frame.width, "x", frame.height, "; at most ",
                            kMaxSide, " pixels a side are read")};
  }
  return std::nullopt;
}

// Decodes from packet `first` on and hands frames to on_frame in the order of their time.
std::optional<ReadFailure> decode(const Track& track, size_t first, const OnFrame& on_frame) {
  auto opened = open_decoder(track);
  if (auto* failure = std::get_if<ReadFailure>(&opened)) return *failure;
  AVCodecContext* decoder = std::get<AvCodec>(opened).get();
  const AvFrame frame(av_frame_alloc());
  check(frame != nullptr, "memory for a frame");
  size_t shown = 0;
  for (size_t i = first; i <= track.packets.size(); ++i) {
    const AVPacket* packet = i < track.packets.size() ? track.packets[i].get() : nullptr;
    if (const int code = avcodec_send_packet(decoder, packet); code < 0 && code != AVERROR_EOF) {
      return ReadFailure{text("frame ", i, " cannot be decoded: ", av_words(code))};
    }
    while (true) {
      const int code = avcodec_receive_frame(decoder, frame.get());
      if (code == AVERROR(EAGAIN) || code == AVERROR_EOF) break;
      if (code < 0) return ReadFailure{text("frame ", i, " cannot be decoded: ", av_words(code))};
      if (auto failure = refuse(*frame)) return failure;
      const bool stamped = track.has_stamps && frame->best_effort_timestamp != AV_NOPTS_VALUE;
      const double time = stamped ? frame->best_effort_timestamp * av_q2d(track.time_base)
                                  : track.times[std::min(shown, track.times.size() - 1)];
      ++shown;
      auto next = on_frame(*frame, time);
      if (auto* failure = std::get_if<ReadFailure>(&next)) return *failure;
      if (std::get<Next>(next) == Next::enough) return std::nullopt;
    }
  }
  if (shown == 0) return ReadFailure{"no frame can be decoded"};
  return std::nullopt;
}

// The last key frame that is shown no later than `time`.
size_t packet_before(const Track& track, double time) {
  size_t best = 0;
  if (!track.has_stamps) return best;
  for (size_t i = 0; i < track.packets.size(); ++i) {
    const AVPacket& packet = *track.packets[i];
    if ((packet.flags & AV_PKT_FLAG_KEY) && packet.pts * av_q2d(track.time_base) <= time) best = i;
  }
  return best;
}

// The instants asked for, and how far a time stamp may lie behind its instant and still count.
struct Window {
  double start, step, tolerance;
  double instant(int i) const { return start + i * step; }
};

Window centred_window(const Track& track, const ClipRequest& request) {
  const double first = track.times[track.first], last = track.times[track.last];
  const double span = (request.frames - 1) / request.fps;
  return {first + std::max(0.0, (last - first - span) / 2), 1 / request.fps, track.tolerance()};
}

// Draws a frame into every place i whose instant lies in [its time, the next frame's time).
class Picker {
 public:
  // must_cover: a first frame later than the first instant is a failure, not a clip that begins
  // late.
  Picker(const Track& track, const ClipRequest& request, bool must_cover)
      : track_(track),
        must_cover_(must_cover),
        window_(centred_window(track, request)),
        scaler_(request.height, request.width),
        held_(av_frame_alloc()),
        frames_(request.frames, request.height, request.width) {
    check(held_ != nullptr, "memory for a frame");
  }

  std::variant<Next, ReadFailure> take(const AVFrame& frame, double time) {
    if (!has_held_ && must_cover_ && time > window_.instant(0) + window_.tolerance) {
      return ReadFailure{"decoding begins only after the frames wanted"};
    }
    if (auto failure = fill_before(time)) return *failure;
    const bool is_behind =
        track_.is_excerpt() && time > track_.times[track_.last] + window_.tolerance;
    if (is_behind || next_ == frames_.count) return Next::enough;
    av_frame_unref(held_.get());
    check(av_frame_ref(held_.get(), &frame) == 0, "memory for a frame");
    has_held_ = true;
    return Next::more;
  }

  // After the last frame: it holds for the rest.
  std::optional<ReadFailure> finish() {
    return fill_before(std::numeric_limits<double>::infinity());
  }
  Frames result() && { return std::move(frames_); }

 private:
  std::optional<ReadFailure> fill_before(double time) {
    if (!has_held_) return std::nullopt;
    const int first = next_;
    while (next_ < frames_.count && window_.instant(next_) + window_.tolerance < time) {
      const auto out = frames_.frame(next_);
      if (next_ > first) {  // the same frame again
        std::copy_n(frames_.frame(first).begin(), out.size(), out.begin());
      } else if (auto failure = scaler_.draw(*held_, pixel_aspect(*held_, track_.sample_aspect),
                                             orientation_of(*held_, track_.rotation), out)) {
        return failure;
      }
      ++next_;
    }
    return std::nullopt;
  }

  const Track& track_;
  bool must_cover_;
  Window window_;
  FrameScaler scaler_;
  AvFrame held_;  // the latest frame whose time has come
  bool has_held_ = false;
  int next_ = 0;  // the first place not yet drawn
  Frames frames_;
};

std::variant<Frames, ReadFailure> read_from(const Track& track, const ClipRequest& request,
                                            size_t first_packet) {
  Picker picker(track, request, first_packet > 0);
  if (auto failure = decode(track, first_packet, [&](const AVFrame& frame, double time) {
        return picker.take(frame, time);
      })) {
    return *failure;
  }
  if (auto failure = picker.finish()) return *failure;
  return std::move(picker).result();
}

}  // namespace

std::variant<MediaInfo, ReadFailure> probe_media(std::span<const uint8_t> bytes,
                                                 const Excerpt& excerpt) {
  auto demuxed = demux_whole(bytes, excerpt);
  if (auto* failure = std::get_if<ReadFailure>(&demuxed)) return *failure;
  const Track& track = std::get<Track>(demuxed);
  MediaInfo info;
  if (auto failure = decode(track, 0, [&](const AVFrame& frame, double) {
        const double aspect = pixel_aspect(frame, track.sample_aspect);
        // Pixels are widened, never thrown away.
        info.width = static_cast<int>(std::lround(frame.width * std::max(1.0, aspect)));
        info.height = static_cast<int>(std::lround(frame.height * std::max(1.0, 1 / aspect)));
        if (orientation_of(frame, track.rotation).transpose) std::swap(info.width, info.height);
        return Next::enough;
      })) {
    return *failure;
  }
  info.format = track.packets.size() == 1 && track.format.find(',') == track.format.npos
                    ? track.format
                    : text(track.format, "/", avcodec_get_name(track.codec->codec_id));
  info.frames = static_cast<int64_t>(track.last - track.first) + 1;
  if (info.frames > 1) {
    info.kind = MediaKind::clip;
    info.seconds = track.last_ends() - track.times[track.first];
    if (!(info.seconds > 0)) return ReadFailure{"all its frames are shown at the same time"};
    info.fps = static_cast<double>(info.frames) / info.seconds;
  }
  return info;
}

std::variant<Frames, ReadFailure> read_clip(std::span<const uint8_t> bytes,
                                            const ClipRequest& request) {
  check(request.frames > 0 && request.fps > 0 && request.height > 0 && request.width > 0 &&
            request.height <= kMaxSide && request.width <= kMaxSide,
        "a clip of positive size: ", request.frames, " frames of ", request.width, "x",
        request.height, " at ", request.fps);
  auto demuxed = demux(bytes, request.excerpt);
  if (auto* failure = std::get_if<ReadFailure>(&demuxed)) return *failure;
  const Track& track = std::get<Track>(demuxed);
  const size_t key = packet_before(track, centred_window(track, request).start);
  auto frames = read_from(track, request, key);
  // Frames behind a key frame may lean on frames before it (open groups of pictures): then from the
  // beginning.
  if (std::holds_alternative<ReadFailure>(frames) && key > 0) frames = read_from(track, request, 0);
  return frames;
}

std::variant<Frames, ReadFailure> read_first_frame(std::span<const uint8_t> bytes, int height,
                                                   int width) {
  auto demuxed = demux(bytes, {});
  if (auto* failure = std::get_if<ReadFailure>(&demuxed)) return *failure;
  const Track& track = std::get<Track>(demuxed);
  Frames out(1, height, width);
  FrameScaler scaler(height, width);
  const auto draw = [&](const AVFrame& frame, double) -> std::variant<Next, ReadFailure> {
    if (auto failure = scaler.draw(frame, pixel_aspect(frame, track.sample_aspect),
                                   orientation_of(frame, track.rotation), out.frame(0)))
      return *failure;
    return Next::enough;
  };
  if (auto failure = decode(track, 0, draw)) return *failure;
  return out;
}

std::variant<int64_t, ReadFailure> decode_every_frame(std::span<const uint8_t> bytes,
                                                      const Excerpt& excerpt) {
  auto demuxed = demux(bytes, excerpt);
  if (auto* failure = std::get_if<ReadFailure>(&demuxed)) return *failure;
  const Track& track = std::get<Track>(demuxed);
  const double tolerance = track.tolerance();
  const double first = track.times[track.first] - tolerance;
  const double last = track.times[track.last] + tolerance;
  const auto count_from = [&](size_t packet) -> std::variant<int64_t, ReadFailure> {
    int64_t count = 0;
    if (auto failure = decode(track, packet, [&](const AVFrame&, double time) {
          if (track.is_excerpt() && time > last) return Next::enough;
          count += !track.is_excerpt() || time >= first;
          return Next::more;
        })) {
      return *failure;
    }
    return count;
  };
  if (!track.is_excerpt()) return count_from(0);
  const size_t key = packet_before(track, track.times[track.first]);
  const auto wanted = static_cast<int64_t>(track.last - track.first) + 1;
  auto count = count_from(key);
  const auto* found = std::get_if<int64_t>(&count);
  return found && *found == wanted ? count : count_from(0);
}

}  // namespace pendulum

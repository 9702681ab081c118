// Demuxing from memory through libavformat, with every way out of the given bytes closed.
#include "data/demuxer.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <string_view>

#include "core/error.h"

namespace pendulum {
namespace {

constexpr int kBufferBytes = 32 << 10;
constexpr size_t kMaxPackets = size_t{1} << 22;  // 38 hours at 30 frames a second

// What libavformat reads from: a position in bytes that somebody else owns.
struct Memory {
  std::span<const uint8_t> bytes;
  int64_t position = 0;
};

int read_memory(void* opaque, uint8_t* out, int wanted) {
  auto* memory = static_cast<Memory*>(opaque);
  const int64_t left = static_cast<int64_t>(memory->bytes.size()) - memory->position;
  if (left <= 0) return AVERROR_EOF;
  const int count = static_cast<int>(std::min<int64_t>(left, wanted));
  std::memcpy(out, memory->bytes.data() + memory->position, count);
  memory->position += count;
  return count;
}

int64_t seek_memory(void* opaque, int64_t offset, int whence) {
  auto* memory = static_cast<Memory*>(opaque);
  const auto size = static_cast<int64_t>(memory->bytes.size());
  if (whence & AVSEEK_SIZE) return size;
  whence &= ~AVSEEK_FORCE;
  if (whence == SEEK_CUR) offset += memory->position;
  if (whence == SEEK_END) offset += size;
  if (offset < 0 || offset > size) return AVERROR(EINVAL);
  return memory->position = offset;
}

// Playlists and edit lists that name other files or addresses: nothing but the given bytes is ever
// opened.
int refuse_to_open(AVFormatContext*, AVIOContext**, const char*, int, AVDictionary**) {
  return AVERROR(EACCES);
}

// The format context over a Memory. Both must outlive each other, so it stays where it is.
class Input {
 public:
  explicit Input(std::span<const uint8_t> bytes) : memory_{bytes} {
    auto* buffer = static_cast<uint8_t*>(av_malloc(kBufferBytes));
    check(buffer != nullptr, "memory for a read buffer");
    io_ = avio_alloc_context(buffer, kBufferBytes, 0, &memory_, read_memory, nullptr, seek_memory);
    check(io_ != nullptr, "memory for a read context");
  }
  Input(const Input&) = delete;
  Input& operator=(const Input&) = delete;
  ~Input() {
    avformat_close_input(&context_);
    av_freep(&io_->buffer);
    avio_context_free(&io_);
  }

  // 0 or an error code. avformat_open_input frees the context when it fails.
  int open() {
    context_ = avformat_alloc_context();
    check(context_ != nullptr, "memory for a format context");
    context_->pb = io_;
    context_->io_open = refuse_to_open;
    context_->flags |= AVFMT_FLAG_CUSTOM_IO;
    context_->max_streams = 64;
    return avformat_open_input(&context_, "", nullptr, nullptr);
  }
  AVFormatContext* operator->() { return context_; }
  AVFormatContext* get() { return context_; }

 private:
  Memory memory_;
  AVIOContext* io_ = nullptr;
  AVFormatContext* context_ = nullptr;
};

bool starts_with(std::span<const uint8_t> bytes, size_t at, std::string_view magic) {
  return bytes.size() >= at + magic.size() &&
         std::memcmp(bytes.data() + at, magic.data(), magic.size()) == 0;
}

uint32_t big_endian(const uint8_t* p) {
  return uint32_t{p[0]} << 24 | uint32_t{p[1]} << 16 | uint32_t{p[2]} << 8 | p[3];
}

// A PNG with an animation chunk before its picture is a clip, and libavformat's.
bool is_animated_png(std::span<const uint8_t> bytes) {
  for (size_t at = 8; at + 12 <= bytes.size();) {
    if (starts_with(bytes, at + 4, "acTL")) return true;
    if (starts_with(bytes, at + 4, "IDAT")) return false;
    at += 12 + size_t{big_endian(bytes.data() + at)};
  }
  return false;
}

struct Picture {
  AVCodecID codec;
  const char* name;
};

std::optional<Picture> plain_picture(std::span<const uint8_t> bytes) {
  using namespace std::string_view_literals;
  if (starts_with(bytes, 0, "\x89PNG\r\n\x1a\n"sv) && !is_animated_png(bytes)) {
    return Picture{AV_CODEC_ID_PNG, "png"};
  }
  if (starts_with(bytes, 0, "\xff\xd8\xff"sv)) return Picture{AV_CODEC_ID_MJPEG, "jpeg"};
  if (starts_with(bytes, 0, "RIFF"sv) && starts_with(bytes, 8, "WEBP"sv)) {
    return Picture{AV_CODEC_ID_WEBP, "webp"};
  }
  return std::nullopt;
}

Track picture_track(const Picture& picture, std::span<const uint8_t> bytes) {
  Track track;
  track.format = picture.name;
  track.codec.reset(avcodec_parameters_alloc());
  AvPacket packet(av_packet_alloc());
  check(track.codec && packet && av_new_packet(packet.get(), static_cast<int>(bytes.size())) == 0,
        "memory for a picture of so many bytes: ", bytes.size());
  std::memcpy(packet->data, bytes.data(), bytes.size());
  packet->flags |= AV_PKT_FLAG_KEY;
  track.codec->codec_type = AVMEDIA_TYPE_VIDEO;
  track.codec->codec_id = picture.codec;
  track.packets.push_back(std::move(packet));
  track.times = {0.0};
  return track;
}

// MP4 and Matroska say in their headers all that is needed; other containers are looked into.
bool header_suffices(AVFormatContext* context) {
  const std::string_view name = context->iformat->name;
  if (name.find("mp4") == name.npos && name.find("matroska") == name.npos) return false;
  for (unsigned i = 0; i < context->nb_streams; ++i) {
    const AVCodecParameters& codec = *context->streams[i]->codecpar;
    if (codec.codec_type == AVMEDIA_TYPE_VIDEO &&
        (codec.codec_id == AV_CODEC_ID_NONE || codec.width <= 0 || codec.height <= 0)) {
      return false;
    }
  }
  return context->nb_streams > 0;
}

// libavformat has demuxers for text as pictures; a text file named .mp4 is not a video.
bool is_text(AVCodecID codec) {
  return codec == AV_CODEC_ID_ANSI || codec == AV_CODEC_ID_BINTEXT || codec == AV_CODEC_ID_XBIN ||
         codec == AV_CODEC_ID_IDF;
}

double seconds(int64_t stamp, AVRational base) { return static_cast<double>(stamp) * av_q2d(base); }

// Collects the packets of one stream up to `until` seconds behind the first frame; nothing, or why
// not. A frame is decoded no later than it is shown, so no packet behind one whose decoding stamp
// is later belongs to what is wanted.
std::optional<ReadFailure> collect(Input& input, const AVStream& stream, double until,
                                   std::vector<AvPacket>& packets) {
  int64_t earliest = std::numeric_limits<int64_t>::max();
  while (true) {
    AvPacket packet(av_packet_alloc());
    check(packet != nullptr, "memory for a packet");
    const int code = av_read_frame(input.get(), packet.get());
    if (code == AVERROR_EOF) return std::nullopt;
    if (code < 0) return ReadFailure{"is broken off or damaged: " + av_words(code)};
    if (packet->stream_index != stream.index || packet->size == 0) continue;
    if (packet->flags & AV_PKT_FLAG_CORRUPT) return ReadFailure{"is broken off or damaged"};
    if (packets.size() == kMaxPackets) return ReadFailure{"has more than 4 million frames"};
    const bool has_stamps = packet->pts != AV_NOPTS_VALUE && packet->dts != AV_NOPTS_VALUE;
    const bool is_shown = !(packet->flags & AV_PKT_FLAG_DISCARD);
    if (has_stamps && is_shown) earliest = std::min(earliest, packet->pts);
    const bool is_behind = has_stamps && packet->dts > earliest &&
                           seconds(packet->dts - earliest, stream.time_base) > until;
    packets.push_back(std::move(packet));
    if (is_behind) return std::nullopt;
  }
}

// Fills times and end from the packets. Without presentation stamps the decoding stamps serve,
// which are the same times in another order; without any, the stream's nominal rate.
void find_times(Track& track, AVRational nominal_rate) {
  const double nominal = nominal_rate.num > 0 && nominal_rate.den > 0 ? av_q2d(nominal_rate) : 25.0;
  bool has_pts = true, has_dts = true;
  for (const AvPacket& packet : track.packets) {
    has_pts &= packet->pts != AV_NOPTS_VALUE;
    has_dts &= packet->dts != AV_NOPTS_VALUE;
  }
  track.has_stamps = has_pts;
  double last_duration = 0;
  for (const AvPacket& packet : track.packets) {
    if (packet->flags & AV_PKT_FLAG_DISCARD) continue;  // decoded, never shown: cut by an edit list
    const double time = has_pts   ? seconds(packet->pts, track.time_base)
                        : has_dts ? seconds(packet->dts, track.time_base)
                                  : static_cast<double>(track.times.size()) / nominal;
    if (track.times.empty() || time >= track.end) {
      track.end = time;
      last_duration = seconds(std::max<int64_t>(packet->duration, 0), track.time_base);
    }
    track.times.push_back(time);
  }
  std::sort(track.times.begin(), track.times.end());
  if (track.times.empty()) return;
  const auto gaps = static_cast<double>(track.times.size() - 1);
  if (last_duration <= 0 && gaps > 0) last_duration = (track.end - track.times.front()) / gaps;
  track.end += last_duration > 0 ? last_duration : 1.0 / nominal;
}

// Marks the excerpt's frames.
std::optional<ReadFailure> choose(const Excerpt& excerpt, Track& track) {
  track.last = track.times.size() - 1;
  if (excerpt.is_whole()) return std::nullopt;
  if (track.times.size() < 2) return ReadFailure{"is a still: start and end are for clips"};
  const double zero = track.times.front() - track.tolerance();
  const auto place = [&](double time) {
    return static_cast<size_t>(std::lower_bound(track.times.begin(), track.times.end(), time) -
                               track.times.begin());
  };
  const size_t first = place(zero + excerpt.start), behind = place(zero + excerpt.end);
  if (behind < first + 2) {
    return ReadFailure{text("has ", behind > first ? "a single frame" : "no frame", " between ",
                            excerpt.start, " s and ", excerpt.end, " s")};
  }
  track.first = first;
  track.last = behind - 1;
  return std::nullopt;
}

std::variant<Track, ReadFailure> demux_until(std::span<const uint8_t> bytes, double until) {
  prepare_libav();
  if (bytes.empty()) return ReadFailure{"is empty"};
  if (bytes.size() > size_t{1} << 32) return ReadFailure{"has more than 4 GiB"};
  if (const auto picture = plain_picture(bytes)) {
    if (bytes.size() > size_t{1} << 29) return ReadFailure{"is a picture of more than 512 MiB"};
    return picture_track(*picture, bytes);
  }

  Input input(bytes);
  if (const int code = input.open(); code < 0) {
    return ReadFailure{"is no picture or video that libav knows, or its head is damaged: " +
                       av_words(code)};
  }
  if (!header_suffices(input.get())) {
    if (const int code = avformat_find_stream_info(input.get(), nullptr); code < 0) {
      return ReadFailure{"its streams cannot be told apart: " + av_words(code)};
    }
  }
  const int number = av_find_best_stream(input.get(), AVMEDIA_TYPE_VIDEO, -1, -1, nullptr, 0);
  if (number < 0) return ReadFailure{"has no video track"};
  AVStream& stream = *input->streams[number];
  if (stream.disposition & AV_DISPOSITION_ATTACHED_PIC)
    return ReadFailure{"has no video track, only a cover"};
  if (is_text(stream.codecpar->codec_id)) return ReadFailure{"is text, not pictures"};

  Track track;
  track.format = input->iformat->name;
  track.time_base = stream.time_base;
  track.sample_aspect = stream.sample_aspect_ratio;
  track.codec.reset(avcodec_parameters_alloc());
  check(track.codec && avcodec_parameters_copy(track.codec.get(), stream.codecpar) >= 0,
        "memory for codec parameters");
  decltype(AVPacketSideData::size) matrix_bytes = 0;  // int in FFmpeg 4, size_t since
  if (const uint8_t* matrix =
          av_stream_get_side_data(&stream, AV_PKT_DATA_DISPLAYMATRIX, &matrix_bytes);
      matrix != nullptr && static_cast<size_t>(matrix_bytes) >= 9 * sizeof(int32_t)) {
    std::memcpy(track.rotation.emplace().data(), matrix, 9 * sizeof(int32_t));
  }
  if (auto failure = collect(input, stream, until, track.packets)) return *failure;
  // Nothing before the first key frame can be decoded.
  const auto key = std::find_if(track.packets.begin(), track.packets.end(),
                                [](const AvPacket& p) { return p->flags & AV_PKT_FLAG_KEY; });
  if (key != track.packets.end()) track.packets.erase(track.packets.begin(), key);
  find_times(track, av_guess_frame_rate(input.get(), &stream, nullptr));
  if (track.times.empty()) return ReadFailure{"has no frames"};
  return track;
}

std::variant<Track, ReadFailure> chosen(std::variant<Track, ReadFailure> found,
                                        const Excerpt& excerpt) {
  if (auto* track = std::get_if<Track>(&found)) {
    if (auto failure = choose(excerpt, *track)) return *failure;
  }
  return found;
}

}  // namespace

double Track::tolerance() const {
  const double mean_gap =
      times.size() > 1 ? (times.back() - times.front()) / static_cast<double>(times.size() - 1)
                       : 1.0;
  return std::min(av_q2d(time_base), 0.1 * mean_gap) + 1e-9;
}

std::variant<Track, ReadFailure> demux(std::span<const uint8_t> bytes, const Excerpt& excerpt) {
  return chosen(demux_until(bytes, excerpt.end), excerpt);
}

std::variant<Track, ReadFailure> demux_whole(std::span<const uint8_t> bytes,
                                             const Excerpt& excerpt) {
  auto found = demux_until(bytes, std::numeric_limits<double>::infinity());
  if (const auto* track = std::get_if<Track>(&found); track && track->times.size() > 1) {
    const double length = track->end - track->times.front();
    const double half_a_frame = 0.5 * length / static_cast<double>(track->times.size());
    const bool is_bounded = excerpt.end < std::numeric_limits<double>::infinity();
    if (excerpt.start >= length || (is_bounded && excerpt.end > length + half_a_frame)) {
      return ReadFailure{text("lasts ", length, " s, the clip is to ",
                              excerpt.start >= length ? "start" : "end", " at ",
                              excerpt.start >= length ? excerpt.start : excerpt.end, " s")};
    }
  }
  return chosen(std::move(found), excerpt);
}

}  // namespace pendulum

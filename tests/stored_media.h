// Media that tests make for themselves through libav: every pixel says which frame and which place
// it is.
#pragma once
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>

#include "data/av_handles.h"
#include "data/media_reader.h"
#include "data/media_writer.h"

namespace pendulum {

using Bytes = std::vector<uint8_t>;

inline Bytes bytes_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// How a test clip is stored. Lossless FFV1 in RGB unless told otherwise.
struct Storage {
  const char* container = "matroska";
  const char* codec = "ffv1";
  AVPixelFormat format = AV_PIX_FMT_BGR0;
  AVRational time_base{1, 1000};
  AVRational sample_aspect{1, 1};
  std::vector<int32_t> rotation = {};  // display matrix
  AVColorSpace space = AVCOL_SPC_UNSPECIFIED;
  AVColorRange range = AVCOL_RANGE_UNSPECIFIED;
  const char* options = "";  // of the encoder: "crf=0,preset=ultrafast"
  int gop = 12;
};

// Writes frames of width x height at the given stamps through libav; paint(t, frame) fills the
// planes.
inline Bytes store(int width, int height, const std::vector<int64_t>& stamps, const Storage& how,
                   const std::function<void(int, AVFrame&)>& paint) {
  // Tests run side by side: a name of its own for each.
  const std::string path = testing::TempDir() + "stored_media_" +
                           testing::UnitTest::GetInstance()->current_test_info()->name();
  AVFormatContext* output = nullptr;
  EXPECT_GE(avformat_alloc_output_context2(&output, nullptr, how.container, path.c_str()), 0);
  const AVCodec* codec = avcodec_find_encoder_by_name(how.codec);
  AvCodec encoder(avcodec_alloc_context3(codec));
  encoder->width = width;
  encoder->height = height;
  encoder->pix_fmt = how.format;
  encoder->time_base = how.time_base;
  encoder->sample_aspect_ratio = how.sample_aspect;
  encoder->colorspace = how.space;
  encoder->color_range = how.range;
  encoder->gop_size = how.gop;
  encoder->strict_std_compliance = FF_COMPLIANCE_UNOFFICIAL;
  if (output->oformat->flags & AVFMT_GLOBALHEADER) encoder->flags |= AV_CODEC_FLAG_GLOBAL_HEADER;
  AVDictionary* options = nullptr;
  av_dict_parse_string(&options, how.options, "=", ",", 0);
  EXPECT_GE(avcodec_open2(encoder.get(), codec, &options), 0) << how.codec;
  av_dict_free(&options);
  AVStream* stream = avformat_new_stream(output, nullptr);
  avcodec_parameters_from_context(stream->codecpar, encoder.get());
  stream->time_base = how.time_base;
  stream->sample_aspect_ratio = how.sample_aspect;
  if (!how.rotation.empty()) {
    uint8_t* side = av_stream_new_side_data(stream, AV_PKT_DATA_DISPLAYMATRIX, 9 * sizeof(int32_t));
    std::memcpy(side, how.rotation.data(), 9 * sizeof(int32_t));
  }
  EXPECT_GE(avio_open(&output->pb, path.c_str(), AVIO_FLAG_WRITE), 0);
  EXPECT_GE(avformat_write_header(output, nullptr), 0);
  AvFrame frame(av_frame_alloc());
  frame->width = width;
  frame->height = height;
  frame->format = how.format;
  av_frame_get_buffer(frame.get(), 0);
  AvPacket packet(av_packet_alloc());
  for (size_t t = 0; t <= stamps.size(); ++t) {
    if (t < stamps.size()) {
      av_frame_make_writable(frame.get());
      paint(static_cast<int>(t), *frame);
      frame->pts = stamps[t];
    }
    avcodec_send_frame(encoder.get(), t < stamps.size() ? frame.get() : nullptr);
    while (avcodec_receive_packet(encoder.get(), packet.get()) == 0) {
      // MP4's edit list would cut a last frame that lasts no time.
      packet->duration = stamps.size() > 1 ? stamps[1] - stamps[0] : 1;
      av_packet_rescale_ts(packet.get(), encoder->time_base, stream->time_base);
      EXPECT_GE(av_interleaved_write_frame(output, packet.get()), 0);
    }
  }
  av_write_trailer(output);
  avio_closep(&output->pb);
  avformat_free_context(output);
  Bytes bytes = bytes_of(path);
  std::filesystem::remove(path);
  return bytes;
}

// Red is 5 x, green 5 y, blue 10 t: a pixel that says where it comes from (x, y <= 50, t <= 25).
// BGR0 alone.
inline void paint_place(int t, AVFrame& frame) {
  for (int y = 0; y < frame.height; ++y) {
    uint8_t* p = frame.data[0] + y * frame.linesize[0];
    for (int x = 0; x < frame.width; ++x, p += 4) {
      p[0] = static_cast<uint8_t>(10 * t);
      p[1] = static_cast<uint8_t>(5 * y);
      p[2] = static_cast<uint8_t>(5 * x);
    }
  }
}

inline std::vector<int64_t> stamps(int count, int64_t step) {
  std::vector<int64_t> out(count);
  for (int i = 0; i < count; ++i) out[i] = i * step;
  return out;
}

inline Frames read(const Bytes& bytes, const ClipRequest& request) {
  auto result = read_clip(bytes, request);
  if (auto* failure = std::get_if<ReadFailure>(&result)) {
    ADD_FAILURE() << failure->reason;
    return {request.frames, request.height, request.width};
  }
  return std::get<Frames>(std::move(result));
}

inline MediaInfo probe(const Bytes& bytes) {
  const auto result = probe_media(bytes);
  if (auto* failure = std::get_if<ReadFailure>(&result)) {
    ADD_FAILURE() << failure->reason;
    return {};
  }
  return std::get<MediaInfo>(result);
}

// The frame numbers that a read gave, from the blue channel.
inline std::vector<int> numbers(const Frames& frames) {
  std::vector<int> out;
  for (int t = 0; t < frames.count; ++t) out.push_back((frames.pixel(t, 0, 0)[2] + 5) / 10);
  return out;
}

inline std::vector<int> run_of(int first, int count, int step = 1) {
  std::vector<int> out;
  for (int i = 0; i < count; ++i) out.push_back(first + i * step);
  return out;
}

// One colour all over, for formats of three planes with halved chroma.
inline void paint_yuv(AVFrame& frame, int y, int u, int v) {
  const int values[] = {y, u, v};
  for (int plane = 0; plane < 3; ++plane) {
    const int height = plane == 0 ? frame.height : (frame.height + 1) / 2;
    std::memset(frame.data[plane], values[plane], size_t(frame.linesize[plane]) * height);
  }
}

}  // namespace pendulum

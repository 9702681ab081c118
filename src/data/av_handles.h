// Owners of libav objects, and libav's error codes as words.
#pragma once
extern "C" {
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/frame.h>
#include <libavutil/log.h>
#include <libavutil/mem.h>
#include <libswscale/swscale.h>
}

#include <memory>
#include <mutex>
#include <string>

#include "core/error.h"

namespace pendulum {

struct AvFree {
  void operator()(AVFrame* p) const { av_frame_free(&p); }
  void operator()(AVPacket* p) const { av_packet_free(&p); }
  void operator()(AVCodecContext* p) const { avcodec_free_context(&p); }
  void operator()(AVCodecParameters* p) const { avcodec_parameters_free(&p); }
  void operator()(SwsContext* p) const { sws_freeContext(p); }
};
using AvFrame = std::unique_ptr<AVFrame, AvFree>;
using AvPacket = std::unique_ptr<AVPacket, AvFree>;
using AvCodec = std::unique_ptr<AVCodecContext, AvFree>;
using AvParameters = std::unique_ptr<AVCodecParameters, AvFree>;
using AvScaler = std::unique_ptr<SwsContext, AvFree>;

inline std::string av_words(int code) {
  char words[AV_ERROR_MAX_STRING_SIZE] = {};
  av_strerror(code, words, sizeof words);
  return words;
}

// libav's two process-wide settings: it prints nothing (reasons are returned), and no header of a
// hostile file makes it allocate more than 1 GiB at a time, which a picture of 2^27 pixels needs.
inline void prepare_libav() {
  static std::once_flag once;
  std::call_once(once, [] {
    av_log_set_level(AV_LOG_QUIET);
    av_max_alloc(size_t{1} << 30);
  });
}

// A frame with room for its pixels; null where there is no memory for them.
inline AvFrame make_frame(int width, int height, AVPixelFormat format) {
  AvFrame frame(av_frame_alloc());
  check(frame != nullptr, "memory for a frame");
  frame->width = width;
  frame->height = height;
  frame->format = format;
  if (av_frame_get_buffer(frame.get(), 0) < 0) frame.reset();
  return frame;
}

}  // namespace pendulum

// Encoding through libx264, libav's PNG and its JPEG.
#include "data/media_writer.h"

extern "C" {
#include <libavutil/opt.h>
}

#include <filesystem>

#include "core/error.h"
#include "core/publish.h"
#include "data/av_handles.h"

namespace pendulum {
namespace {

// The output's format context: closes its file and frees itself.
struct OutputFree {
  void operator()(AVFormatContext* p) const {
    avio_closep(&p->pb);
    avformat_free_context(p);
  }
};
using Output = std::unique_ptr<AVFormatContext, OutputFree>;

// What stands in front of each message: the path, or the kind of picture.
void require_written(int code, const std::string& where, const std::string& what) {
  if (code < 0) throw Error(text(where, ": ", what, ": ", av_words(code)));
}

AvFrame needed_frame(int width, int height, AVPixelFormat format) {
  AvFrame frame = make_frame(width, height, format);
  check(frame != nullptr, "memory for a frame of ", width, "x", height);
  return frame;
}

// Converts RGB frames to an encoder's pixel format.
class Converter {
 public:
  Converter(int width, int height, AVPixelFormat format, int space, bool full_range)
      : scaler_(sws_getContext(width, height, AV_PIX_FMT_RGB24, width, height, format,
                               SWS_BICUBIC | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INP | SWS_BITEXACT,
                               nullptr, nullptr, nullptr)) {
    check(scaler_ != nullptr, "a conversion from RGB at ", width, "x", height);
    sws_setColorspaceDetails(scaler_.get(), sws_getCoefficients(space), 1,
                             sws_getCoefficients(space), full_range, 0, 1 << 16, 1 << 16);
  }
  void convert(const Frames& frames, int t, AVFrame& out) {
    const uint8_t* rows[4] = {frames.frame(t).data()};
    const int strides[4] = {3 * frames.width};
    check(av_frame_make_writable(&out) == 0, "memory for a frame");
    sws_scale(scaler_.get(), rows, strides, 0, frames.height, out.data, out.linesize);
  }

 private:
  AvScaler scaler_;
};

AvCodec open_h264(const Frames& frames, AVRational rate, const VideoQuality& quality,
                  bool global_header, const std::string& path) {
  const AVCodec* codec = avcodec_find_encoder_by_name("libx264");
  if (codec == nullptr) throw Error(text(path, ": this libavcodec was built without x264"));
  AvCodec encoder(avcodec_alloc_context3(codec));
  check(encoder != nullptr, "memory for an encoder");
  encoder->width = frames.width;
  encoder->height = frames.height;
  encoder->pix_fmt = AV_PIX_FMT_YUV420P;
  encoder->time_base = av_inv_q(rate);
  encoder->framerate = rate;
  encoder->sample_aspect_ratio = {1, 1};
  encoder->color_range = AVCOL_RANGE_MPEG;
  encoder->colorspace = AVCOL_SPC_BT709;
  encoder->color_primaries = AVCOL_PRI_BT709;
  encoder->color_trc = AVCOL_TRC_BT709;
  encoder->thread_count = 1;  // the same bytes on every machine
  if (global_header) encoder->flags |= AV_CODEC_FLAG_GLOBAL_HEADER;
  av_opt_set(encoder->priv_data, "preset", quality.preset, 0);
  av_opt_set_double(encoder->priv_data, "crf", quality.crf, 0);
  require_written(avcodec_open2(encoder.get(), codec, nullptr), path,
                  text("x264 does not take ", frames.width, "x", frames.height, " at crf ",
                       quality.crf, ", preset '", quality.preset, "'"));
  return encoder;
}

// Moves every finished packet from the encoder to the file. frame == nullptr ends the stream.
void encode(AVCodecContext* encoder, const AVFrame* frame, AVFormatContext* output,
            AVPacket* packet, const std::string& path) {
  require_written(avcodec_send_frame(encoder, frame), path, "x264 refuses a frame");
  while (true) {
    const int code = avcodec_receive_packet(encoder, packet);
    if (code == AVERROR(EAGAIN) || code == AVERROR_EOF) return;
    require_written(code, path, "x264 failed");
    packet->duration = 1;  // of the time base: otherwise the last frame would have none
    packet->stream_index = 0;
    av_packet_rescale_ts(packet, encoder->time_base, output->streams[0]->time_base);
    require_written(av_interleaved_write_frame(output, packet), path, "cannot be written");
  }
}

void check_frames(const Frames& frames, const std::string& where) {
  check(frames.count > 0 && frames.height > 0 && frames.width > 0, "frames to write to ", where);
  check(frames.rgb.size() == frames.count * frames.frame_bytes(), "pixels for each frame of ",
        where);
}

std::vector<uint8_t> encode_picture(const Frames& frame, AVCodecID id, AVPixelFormat format,
                                    const std::string& where) {
  prepare_libav();
  check_frames(frame, where);
  check(frame.count == 1, "one frame for a picture, found ", frame.count);
  const AVCodec* codec = avcodec_find_encoder(id);
  if (codec == nullptr) throw Error(text(where, ": this libavcodec cannot write such pictures"));
  AvCodec encoder(avcodec_alloc_context3(codec));
  check(encoder != nullptr, "memory for an encoder");
  encoder->width = frame.width;
  encoder->height = frame.height;
  encoder->pix_fmt = format;
  encoder->time_base = {1, 25};  // pictures have no time, the encoder wants one
  encoder->thread_count = 1;
  encoder->flags |= AV_CODEC_FLAG_BITEXACT | AV_CODEC_FLAG_QSCALE;
  encoder->global_quality = 2 * FF_QP2LAMBDA;  // JPEG: the finest quantiser but one
  if (format == AV_PIX_FMT_YUVJ444P) encoder->color_range = AVCOL_RANGE_JPEG;
  require_written(avcodec_open2(encoder.get(), codec, nullptr), where,
                  text("the encoder does not take ", frame.width, "x", frame.height));
  const AvFrame picture = needed_frame(frame.width, frame.height, format);
  Converter(frame.width, frame.height, format, SWS_CS_ITU601, true).convert(frame, 0, *picture);
  picture->pts = 0;
  picture->quality = encoder->global_quality;
  const AvPacket packet(av_packet_alloc());
  check(packet != nullptr, "memory for a packet");
  require_written(avcodec_send_frame(encoder.get(), picture.get()), where,
                  "the encoder refuses the picture");
  require_written(avcodec_send_frame(encoder.get(), nullptr), where, "the encoder does not end");
  require_written(avcodec_receive_packet(encoder.get(), packet.get()), where, "the encoder failed");
  return {packet->data, packet->data + packet->size};
}

}  // namespace

void write_video(const std::string& path, const Frames& frames, double fps,
                 const VideoQuality& quality) {
  prepare_libav();
  check_frames(frames, path);
  if (frames.width % 2 != 0 || frames.height % 2 != 0) {
    throw Error(text(path, ": H.264 with 4:2:0 colours needs even sizes, the frames are ",
                     frames.width, "x", frames.height, ": crop or pad them first"));
  }
  check(fps > 0 && fps <= 1000, "a frame rate above 0 and at most 1000: ", fps);

  AVFormatContext* allocated = nullptr;
  require_written(avformat_alloc_output_context2(&allocated, nullptr, "mp4", path.c_str()), path,
                  "this libavformat cannot write MP4");
  const Output output(allocated);
  output->flags |= AVFMT_FLAG_BITEXACT;  // no library versions in the file
  const AVRational rate = av_d2q(fps, 1001000);
  const AvCodec encoder =
      open_h264(frames, rate, quality, (output->oformat->flags & AVFMT_GLOBALHEADER) != 0, path);
  AVStream* stream = avformat_new_stream(output.get(), nullptr);
  check(stream != nullptr, "memory for a stream");
  stream->time_base = encoder->time_base;
  stream->avg_frame_rate = rate;
  stream->sample_aspect_ratio = {1, 1};
  check(avcodec_parameters_from_context(stream->codecpar, encoder.get()) >= 0, "codec parameters");
  require_written(avio_open(&output->pb, path.c_str(), AVIO_FLAG_WRITE), path, "cannot be created");
  av_opt_set(output->priv_data, "movflags", "+faststart", 0);
  require_written(avformat_write_header(output.get(), nullptr), path, "cannot be written");

  Converter converter(frames.width, frames.height, AV_PIX_FMT_YUV420P, SWS_CS_ITU709, false);
  const AvFrame picture = needed_frame(frames.width, frames.height, AV_PIX_FMT_YUV420P);
  const AvPacket packet(av_packet_alloc());
  check(packet != nullptr, "memory for a packet");
  for (int t = 0; t < frames.count; ++t) {
    converter.convert(frames, t, *picture);
    picture->pts = t;
    encode(encoder.get(), picture.get(), output.get(), packet.get(), path);
  }
  encode(encoder.get(), nullptr, output.get(), packet.get(), path);
  require_written(av_write_trailer(output.get()), path, "cannot be finished");
  require_written(avio_closep(&output->pb), path, "cannot be closed (is the disk full?)");
}

std::vector<uint8_t> encode_png(const Frames& frame) {
  return encode_picture(frame, AV_CODEC_ID_PNG, AV_PIX_FMT_RGB24, "PNG");
}

// 4:4:4: halved colour resolution would smear the edges of small coloured things.
std::vector<uint8_t> encode_jpeg(const Frames& frame) {
  return encode_picture(frame, AV_CODEC_ID_MJPEG, AV_PIX_FMT_YUVJ444P, "JPEG");
}

void write_image(const std::string& path, const Frames& frame) {
  const std::string extension = std::filesystem::path(path).extension();
  const bool is_jpeg = extension == ".jpg" || extension == ".jpeg";
  if (!is_jpeg && extension != ".png") {
    throw Error(text(path, ": pictures are written as .png, .jpg or .jpeg"));
  }
  const std::vector<uint8_t> bytes = is_jpeg ? encode_jpeg(frame) : encode_png(frame);
  OutputFile file(path);
  file.write(bytes.data(), bytes.size());
  file.close();
}

}  // namespace pendulum

// Crop, colour conversion and resizing through libswscale.
#include "data/frame_scaler.h"

extern "C" {
#include <libavutil/opt.h>
#include <libavutil/pixdesc.h>
}

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "core/error.h"

namespace pendulum {
namespace {

// Coefficients by the stream's tag. Without one: BT.709 from 720 lines on, BT.601 below, as players
// do.
int colour_space(const AVFrame& frame) {
  switch (frame.colorspace) {
    case AVCOL_SPC_BT709:
      return SWS_CS_ITU709;
    case AVCOL_SPC_FCC:
      return SWS_CS_FCC;
    case AVCOL_SPC_SMPTE240M:
      return SWS_CS_SMPTE240M;
    case AVCOL_SPC_BT2020_NCL:
    case AVCOL_SPC_BT2020_CL:
      return SWS_CS_BT2020;
    case AVCOL_SPC_UNSPECIFIED:
      return frame.height >= 720 ? SWS_CS_ITU709 : SWS_CS_ITU601;
    default:
      return SWS_CS_ITU601;
  }
}

// 1 for full range. Untagged gray pictures (PNG, TIFF) are full, untagged YUV is limited.
int is_full_range(const AVFrame& frame, const AVPixFmtDescriptor& format) {
  if (frame.color_range != AVCOL_RANGE_UNSPECIFIED) return frame.color_range == AVCOL_RANGE_JPEG;
  switch (frame.format) {
    case AV_PIX_FMT_YUVJ420P:
    case AV_PIX_FMT_YUVJ411P:
    case AV_PIX_FMT_YUVJ422P:
    case AV_PIX_FMT_YUVJ440P:
    case AV_PIX_FMT_YUVJ444P:
      return 1;
    default:
      return format.nb_components <= 2 || (format.flags & AV_PIX_FMT_FLAG_RGB);
  }
}

// Formats whose planes cannot be cropped by moving pointers, or that have something to lay over
// white.
bool needs_unpacking(const AVPixFmtDescriptor& format) {
  return format.flags & (AV_PIX_FMT_FLAG_ALPHA | AV_PIX_FMT_FLAG_PAL | AV_PIX_FMT_FLAG_BITSTREAM |
                         AV_PIX_FMT_FLAG_BAYER);
}

// RGB with the transparency laid over white, in the first three bytes of each four.
void lay_over_white(AVFrame& rgba) {
  for (int y = 0; y < rgba.height; ++y) {
    uint8_t* p = rgba.data[0] + int64_t{y} * rgba.linesize[0];
    for (int x = 0; x < rgba.width; ++x, p += 4) {
      const int alpha = p[3];
      if (alpha == 255) continue;
      for (int c = 0; c < 3; ++c)
        p[c] = static_cast<uint8_t>((p[c] * alpha + 255 * (255 - alpha) + 127) / 255);
      p[3] = 255;
    }
  }
}

// The largest centred part of the frame that, displayed, has the aspect width : height. Its corner
// lies on the grid of the colour samples.
void crop_to_aspect(AVFrame& frame, double aspect, int width, int height,
                    const AVPixFmtDescriptor& format) {
  const double shown = frame.width * aspect / frame.height;
  const double wanted = static_cast<double>(width) / height;
  int crop_width = frame.width, crop_height = frame.height;
  if (shown > wanted) {
    crop_width = static_cast<int>(std::lround(frame.height * wanted / aspect));
  } else {
    crop_height = static_cast<int>(std::lround(frame.width * aspect / wanted));
  }
  crop_width = std::clamp(crop_width, 1, frame.width);
  crop_height = std::clamp(crop_height, 1, frame.height);
  const int left = (frame.width - crop_width) / 2 & -(1 << format.log2_chroma_w);
  const int top = (frame.height - crop_height) / 2 & -(1 << format.log2_chroma_h);
  frame.crop_left = left;
  frame.crop_top = top;
  frame.crop_right = frame.width - crop_width - left;
  frame.crop_bottom = frame.height - crop_height - top;
}

}  // namespace

Orientation Orientation::of(const std::optional<std::array<int32_t, 9>>& matrix) {
  Orientation out;
  if (!matrix) return out;
  // Shown at (a x + c y, b x + d y). Angles between the quarter turns go to the nearest.
  const int64_t a = (*matrix)[0], b = (*matrix)[1], c = (*matrix)[3], d = (*matrix)[4];
  out.transpose = std::abs(b) + std::abs(c) > std::abs(a) + std::abs(d);
  out.mirror_x = out.transpose ? c < 0 : a < 0;
  out.mirror_y = out.transpose ? b < 0 : d < 0;
  return out;
}

Orientation orientation_of(const AVFrame& frame,
                           const std::optional<std::array<int32_t, 9>>& container) {
  const AVFrameSideData* side = av_frame_get_side_data(&frame, AV_FRAME_DATA_DISPLAYMATRIX);
  if (side == nullptr || static_cast<size_t>(side->size) < 9 * sizeof(int32_t)) {
    return Orientation::of(container);
  }
  std::array<int32_t, 9> matrix;
  std::memcpy(matrix.data(), side->data, sizeof matrix);
  return Orientation::of(matrix);
}

double pixel_aspect(const AVFrame& frame, AVRational container) {
  for (const AVRational ratio : {container, frame.sample_aspect_ratio}) {
    if (ratio.num > 0 && ratio.den > 0) return std::clamp(av_q2d(ratio), 1.0 / 16, 16.0);
  }
  return 1.0;
}

FrameScaler::FrameScaler(int height, int width) : height_(height), width_(width) {
  check(height > 0 && width > 0, "a positive target size: ", width, "x", height);
}

std::optional<ReadFailure> FrameScaler::scale(const AVFrame& source, AVFrame& target) {
  const AVPixFmtDescriptor& format =
      *av_pix_fmt_desc_get(static_cast<AVPixelFormat>(source.format));
  const Key key{source.width,
                source.height,
                source.format,
                colour_space(source),
                is_full_range(source, format),
                source.chroma_location,
                target.width,
                target.height};
  if (!scaler_ || !(key == key_)) {
    const bool shrinks = target.width < source.width || target.height < source.height;
    scaler_.reset(sws_alloc_context());
    check(scaler_ != nullptr, "memory for a scaler");
    SwsContext* s = scaler_.get();
    av_opt_set_int(s, "srcw", source.width, 0);
    av_opt_set_int(s, "srch", source.height, 0);
    av_opt_set_int(s, "src_format", source.format, 0);
    av_opt_set_int(s, "dstw", target.width, 0);
    av_opt_set_int(s, "dsth", target.height, 0);
    av_opt_set_int(s, "dst_format", target.format, 0);
    // Bit-exact: latents are cached by content and must not depend on the processor that made them.
    av_opt_set_int(s, "sws_flags",
                   (shrinks ? SWS_AREA : SWS_BICUBIC) | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INT |
                       SWS_FULL_CHR_H_INP | SWS_BITEXACT,
                   0);
    if (format.log2_chroma_w == 1 && source.chroma_location == AVCHROMA_LOC_CENTER) {
      av_opt_set_int(s, "src_h_chr_pos", 128, 0);
    }
    sws_setColorspaceDetails(s, sws_getCoefficients(key.space), key.range,
                             sws_getCoefficients(SWS_CS_DEFAULT), 1, 0, 1 << 16, 1 << 16);
    if (sws_init_context(s, nullptr, nullptr) < 0) {
      scaler_.reset();
      return ReadFailure{text("pixels of format ", format.name, ", ", source.width, "x",
                              source.height, ", cannot be converted")};
    }
    key_ = key;
  }
  if (sws_scale(scaler_.get(), source.data, source.linesize, 0, source.height, target.data,
                target.linesize) != target.height) {
    return ReadFailure{"its pixels cannot be converted"};
  }
  return std::nullopt;
}

std::optional<ReadFailure> FrameScaler::draw(const AVFrame& frame, double aspect,
                                             const Orientation& orientation,
                                             std::span<uint8_t> out) {
  const AVPixFmtDescriptor* format = av_pix_fmt_desc_get(static_cast<AVPixelFormat>(frame.format));
  if (format == nullptr) return ReadFailure{"its pixel format is unknown"};
  AvFrame source(av_frame_clone(&frame));
  check(source != nullptr, "memory for a frame");
  if (needs_unpacking(*format)) {
    AvFrame whole = make_frame(frame.width, frame.height, AV_PIX_FMT_RGBA);
    if (!whole) return ReadFailure{"needs more memory than is allowed"};
    if (auto failure = scale(frame, *whole)) return failure;
    lay_over_white(*whole);
    whole->format = AV_PIX_FMT_RGB0;
    source = std::move(whole);
    format = av_pix_fmt_desc_get(AV_PIX_FMT_RGB0);
  }

  const int width = orientation.transpose ? height_ : width_;
  const int height = orientation.transpose ? width_ : height_;
  crop_to_aspect(*source, aspect, width, height, *format);
  if (av_frame_apply_cropping(source.get(), AV_FRAME_CROP_UNALIGNED) < 0) {
    return ReadFailure{"cannot be cropped"};
  }
  if (!scaled_ || scaled_->width != width || scaled_->height != height) {
    scaled_ = make_frame(width, height, AV_PIX_FMT_RGB24);
    if (!scaled_) return ReadFailure{"needs more memory than is allowed"};
  }
  if (auto failure = scale(*source, *scaled_)) return failure;

  check(out.size() == size_t{3} * height_ * width_, "room for one frame: ", out.size());
  const uint8_t* pixels = scaled_->data[0];
  const int64_t row = scaled_->linesize[0];
  for (int y = 0; y < height_; ++y) {
    const int from_y = orientation.mirror_y ? height_ - 1 - y : y;
    uint8_t* line = out.data() + size_t{3} * y * width_;
    if (!orientation.transpose && !orientation.mirror_x) {
      std::memcpy(line, pixels + from_y * row, size_t{3} * width_);
      continue;
    }
    for (int x = 0; x < width_; ++x) {
      const int from_x = orientation.mirror_x ? width_ - 1 - x : x;
      const uint8_t* p = orientation.transpose ? pixels + from_x * row + 3 * from_y
                                               : pixels + from_y * row + 3 * from_x;
      std::copy_n(p, 3, line + 3 * x);
    }
  }
  return std::nullopt;
}

}  // namespace pendulum

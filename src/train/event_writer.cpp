// TensorBoard event files: the protocol buffer wire format for the few messages needed, in TFRecord
// frames.
#include "train/event_writer.h"

#include <unistd.h>

#include <array>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>

#include <fmt/format.h>

#include "core/error.h"

namespace pendulum {
namespace {

static_assert(std::endian::native == std::endian::little, "frames and messages are little-endian");

// Field numbers of tensorflow/core/util/event.proto and tensorflow/core/framework/summary.proto.
namespace event {
constexpr int kWallTime = 1, kStep = 2, kFileVersion = 3, kSummary = 5, kSessionLog = 7;
}
namespace session_log {
constexpr int kStatus = 1, kStatusStart = 1;
}
namespace summary {
constexpr int kValue = 1;
}
namespace summary_value {
constexpr int kTag = 1, kSimpleValue = 2, kImage = 4;
}
namespace summary_image {
constexpr int kHeight = 1, kWidth = 2, kColorspace = 3, kEncoded = 4;
constexpr int kRgb = 3;
}  // namespace summary_image

// Wire types of protocol buffers.
enum Wire : uint64_t { varint_wire = 0, fixed64_wire = 1, bytes_wire = 2, fixed32_wire = 5 };

template <class Number>
void put_raw(std::string& out, Number number) {
  const auto bytes = std::bit_cast<std::array<char, sizeof(Number)>>(number);
  out.append(bytes.data(), bytes.size());
}

void put_varint(std::string& out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) out.push_back(static_cast<char>(value | 0x80));
  out.push_back(static_cast<char>(value));
}

void put_key(std::string& out, int field, Wire wire) {
  put_varint(out, (static_cast<uint64_t>(field) << 3) | wire);
}

void put_integer(std::string& out, int field, int64_t value) {
  put_key(out, field, varint_wire);
  put_varint(out, static_cast<uint64_t>(value));
}

void put_bytes(std::string& out, int field, std::string_view bytes) {
  put_key(out, field, bytes_wire);
  put_varint(out, bytes.size());
  out.append(bytes);
}

constexpr std::array<uint32_t, 256> kCrcTable = [] {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) ? 0x82F63B78u : 0u);
    table[i] = crc;
  }
  return table;
}();

double seconds_since_epoch() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// TensorBoard reads the files of a folder in the order of their names, so the name starts with the
// time, to the microsecond: a run may be stopped and resumed within a second.
std::string event_file_name() {
  char host[256] = {};
  if (gethostname(host, sizeof(host) - 1) != 0) std::strcpy(host, "localhost");
  return fmt::format("events.out.tfevents.{:017.6f}.{}.{}", seconds_since_epoch(), host, getpid());
}

}  // namespace

uint32_t crc32c(std::string_view bytes) {
  uint32_t crc = 0xFFFFFFFF;
  for (const char c : bytes) crc = (crc >> 8) ^ kCrcTable[(crc ^ static_cast<uint8_t>(c)) & 0xFF];
  return ~crc;
}

uint32_t masked_crc32c(std::string_view bytes) {
  return std::rotr(crc32c(bytes), 15) + 0xA282EAD8u;
}

EventWriter::EventWriter(const std::string& folder, int64_t resumed_step)
    : file_(nullptr, std::fclose) {
  std::error_code failure;
  std::filesystem::create_directories(folder, failure);
  if (failure) throw Error(text("cannot make the folder '", folder, "': ", failure.message()));
  path_ = folder + "/" + event_file_name();
  file_.reset(std::fopen(path_.c_str(), "wbx"));
  if (!file_) throw Error(text("cannot create '", path_, "': ", std::strerror(errno)));
  record(0, event::kFileVersion, "brain.Event:2");
  if (resumed_step > 0) {
    std::string start;
    put_integer(start, session_log::kStatus, session_log::kStatusStart);
    // TensorBoard hides the step named here as well, and that one was completed before the run was
    // stopped.
    record(resumed_step + 1, event::kSessionLog, start);
  }
}

void EventWriter::scalars(int64_t step, const std::vector<std::pair<std::string, double>>& values) {
  std::string message;
  for (const auto& [tag, number] : values) {
    std::string value;
    put_bytes(value, summary_value::kTag, tag);
    put_key(value, summary_value::kSimpleValue, fixed32_wire);
    put_raw(value, static_cast<float>(number));
    put_bytes(message, summary::kValue, value);
  }
  record(step, event::kSummary, message);
}

void EventWriter::image(int64_t step, const std::string& tag, std::span<const uint8_t> png,
                        int height, int width) {
  std::string picture;
  put_integer(picture, summary_image::kHeight, height);
  put_integer(picture, summary_image::kWidth, width);
  put_integer(picture, summary_image::kColorspace, summary_image::kRgb);
  put_bytes(picture, summary_image::kEncoded,
            {reinterpret_cast<const char*>(png.data()), png.size()});
  std::string value, message;
  put_bytes(value, summary_value::kTag, tag);
  put_bytes(value, summary_value::kImage, picture);
  put_bytes(message, summary::kValue, value);
  record(step, event::kSummary, message);
}

// One Event {wall_time, step, field: payload} in its frame: length, CRC of the length, message, CRC
// of the message.
void EventWriter::record(int64_t step, int field, const std::string& payload) {
  std::string message;
  put_key(message, event::kWallTime, fixed64_wire);
  put_raw(message, seconds_since_epoch());
  put_integer(message, event::kStep, step);
  put_bytes(message, field, payload);

  std::string frame;
  put_raw(frame, static_cast<uint64_t>(message.size()));
  put_raw(frame, masked_crc32c(frame));
  frame += message;
  put_raw(frame, masked_crc32c(message));
  if (std::fwrite(frame.data(), 1, frame.size(), file_.get()) != frame.size() ||
      std::fflush(file_.get()) != 0) {
    throw Error(text("cannot write to '", path_, "': ", std::strerror(errno)));
  }
}

}  // namespace pendulum

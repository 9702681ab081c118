// TensorBoard event files, written by hand: scalars and images of a run that `tensorboard --logdir`
// shows.
#pragma once
#include <cstdint>
#include <cstdio>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pendulum {

// Appends to one event file of its own in `folder`. Formats: TFRecord framing and the Event message
// of TensorFlow (tensorflow/core/util/event.proto, summary.proto); every call is one record,
// complete on disk when it returns, so that a killed run loses at most the record being written.
// Every function throws Error naming the file when a write fails.
class EventWriter {
 public:
  // Makes the folder if it is missing. A run that is resumed passes the step it goes on from:
  // TensorBoard then hides what an earlier file of the folder says about later steps.
  explicit EventWriter(const std::string& folder, int64_t resumed_step = 0);

  // Points (step, value) of several curves; "loss/clips" is shown in the group "loss".
  void scalars(int64_t step, const std::vector<std::pair<std::string, double>>& values);

  // A picture as the bytes of a PNG file, with its size in pixels.
  void image(int64_t step, const std::string& tag, std::span<const uint8_t> png, int height,
             int width);

  const std::string& path() const { return path_; }

 private:
  void record(int64_t step, int field, const std::string& payload);

  std::string path_;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file_;
};

// CRC-32C (Castagnoli, reflected 0x82F63B78) of bytes; "123456789" gives 0xE3069283.
uint32_t crc32c(std::string_view bytes);

// CRC-32C as TFRecord stores it: rotated right by 15 and offset, because a CRC over data that holds
// its own CRC proves nothing.
uint32_t masked_crc32c(std::string_view bytes);

}  // namespace pendulum

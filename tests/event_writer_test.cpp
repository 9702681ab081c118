// Event files are read back record by record, and their checksums agree with published values.
#include "train/event_writer.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>

#include "core/error.h"
#include "file_contents.h"

namespace pendulum {
namespace {

std::string fresh_folder(const std::string& name) {
  const std::string folder = testing::TempDir() + "event_writer_" + name + std::to_string(getpid());
  std::filesystem::remove_all(folder);
  return folder;
}

template <class Number>
Number number_at(std::string_view bytes, size_t offset) {
  Number value{};
  EXPECT_LE(offset + sizeof(Number), bytes.size());
  if (offset + sizeof(Number) <= bytes.size()) {
    std::memcpy(&value, bytes.data() + offset, sizeof(Number));
  }
  return value;
}

// The messages of a TFRecord file, with both checksums of every frame verified.
std::vector<std::string> records_of(const std::string& path) {
  const std::string file = file_contents(path);
  std::vector<std::string> records;
  size_t at = 0;
  while (at < file.size()) {
    const auto length = number_at<uint64_t>(file, at);
    EXPECT_EQ(number_at<uint32_t>(file, at + 8),
              masked_crc32c(std::string_view(file).substr(at, 8)));
    if (at + 16 + length > file.size()) {
      ADD_FAILURE() << "a frame is longer than the file";
      break;
    }
    records.push_back(file.substr(at + 12, length));
    EXPECT_EQ(number_at<uint32_t>(file, at + 12 + length), masked_crc32c(records.back()));
    at += 16 + length;
  }
  return records;
}

// The fields of a message by number: integers as they stand, everything else as bytes.
struct Fields {
  std::map<int, uint64_t> integers;
  std::map<int, std::vector<std::string>> bytes;
};

uint64_t take_varint(std::string_view message, size_t& at) {
  uint64_t value = 0;
  for (int shift = 0; at < message.size() && shift < 64; shift += 7) {
    const auto byte = static_cast<uint8_t>(message[at++]);
    value |= static_cast<uint64_t>(byte & 0x7F) << shift;
    if (!(byte & 0x80)) return value;
  }
  ADD_FAILURE() << "a varint does not end";
  return value;
}

Fields parse(std::string_view message) {
  Fields fields;
  size_t at = 0;
  while (at < message.size()) {
    const uint64_t key = take_varint(message, at);
    const int field = static_cast<int>(key >> 3);
    if ((key & 7) == 0) {
      fields.integers[field] = take_varint(message, at);
      continue;
    }
    const size_t length = (key & 7) == 1 ? 8 : (key & 7) == 5 ? 4 : take_varint(message, at);
    EXPECT_LE(at + length, message.size());
    fields.bytes[field].emplace_back(message.substr(at, length));
    at += length;
  }
  return fields;
}

TEST(Crc32c, PublishedValues) {
  EXPECT_EQ(crc32c("123456789"), 0xE3069283u);
  EXPECT_EQ(crc32c(""), 0u);
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8A9136AAu);    // RFC 3720, B.4
  EXPECT_EQ(crc32c(std::string(32, '\xFF')), 0x62A8AB43u);  // RFC 3720, B.4
}

TEST(EventWriter, FirstRecordNamesTheVersion) {
  const EventWriter writer(fresh_folder("version"));
  const auto records = records_of(writer.path());
  ASSERT_EQ(records.size(), 1u);
  EXPECT_EQ(parse(records[0]).bytes[3].at(0), "brain.Event:2");
}

TEST(EventWriter, ScalarsReadBack) {
  EventWriter writer(fresh_folder("scalars"));
  const int64_t step = int64_t{1} << 40;  // a varint of six bytes
  writer.scalars(
      step,
      {{"loss/all", 0.25}, {"lr", 1e-3}, {"broken", std::numeric_limits<double>::quiet_NaN()}});
  const auto records = records_of(writer.path());
  ASSERT_EQ(records.size(), 2u);
  Fields event = parse(records[1]);
  EXPECT_EQ(event.integers[2], static_cast<uint64_t>(step));
  // The time of day lies between 2020 and 2100.
  EXPECT_GT(number_at<double>(event.bytes[1].at(0), 0), 1.5e9);
  EXPECT_LT(number_at<double>(event.bytes[1].at(0), 0), 4.2e9);
  const auto values = parse(event.bytes[5].at(0)).bytes[1];
  ASSERT_EQ(values.size(), 3u);
  EXPECT_EQ(parse(values[0]).bytes[1].at(0), "loss/all");
  EXPECT_EQ(number_at<float>(parse(values[0]).bytes[2].at(0), 0), 0.25f);
  EXPECT_EQ(number_at<float>(parse(values[1]).bytes[2].at(0), 0), 1e-3f);
  EXPECT_TRUE(std::isnan(number_at<float>(parse(values[2]).bytes[2].at(0), 0)));
}

TEST(EventWriter, ImageKeepsItsBytes) {
  EventWriter writer(fresh_folder("image"));
  std::vector<uint8_t> png(300);  // longer than a one-byte length
  for (size_t i = 0; i < png.size(); ++i) png[i] = static_cast<uint8_t>(i);
  writer.image(7, "samples", png, 64, 129);
  Fields value = parse(parse(parse(records_of(writer.path()).at(1)).bytes[5].at(0)).bytes[1].at(0));
  EXPECT_EQ(value.bytes[1].at(0), "samples");
  Fields image = parse(value.bytes[4].at(0));
  EXPECT_EQ(image.integers[1], 64u);
  EXPECT_EQ(image.integers[2], 129u);
  EXPECT_EQ(image.bytes[4].at(0), std::string(png.begin(), png.end()));
}

TEST(EventWriter, EmptyCallsAreStillRecords) {
  EventWriter writer(fresh_folder("empty"));
  writer.scalars(0, {});
  writer.image(0, "", {}, 0, 0);
  EXPECT_EQ(records_of(writer.path()).size(), 3u);
}

TEST(EventWriter, ResumedRunHidesWhatCameLater) {
  const std::string folder = fresh_folder("resumed");
  const EventWriter first(folder);
  const EventWriter second(folder, 40);
  EXPECT_LT(first.path(), second.path());  // TensorBoard reads in the order of names
  const auto records = records_of(second.path());
  ASSERT_EQ(records.size(), 2u);
  Fields event = parse(records[1]);
  EXPECT_EQ(event.integers[2], 41u);
  EXPECT_EQ(parse(event.bytes[7].at(0)).integers[1], 1u);  // SessionLog.START
}

TEST(EventWriter, FolderThatCannotBeMadeIsNamed) {
  const std::string folder = fresh_folder("blocked");
  std::ofstream(folder) << "a file where a folder should be";
  try {
    const EventWriter writer(folder);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find(folder), std::string::npos);
  }
}

TEST(EventWriter, FailedWriteNamesTheFile) {
  EventWriter writer(fresh_folder("full"));
  // A limit on the size of files stands in for a full disk; without the handler the limit would end
  // the process.
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  auto* const handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit limited{.rlim_cur = 60, .rlim_max = before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limited), 0);
  std::string message;
  try {
    writer.scalars(1, {{"a curve with a name longer than what fits", 1.0}});
  } catch (const Error& error) {
    message = error.what();
  }
  setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_NE(message.find(writer.path()), std::string::npos) << message;
}

// A stopped and resumed run, for tests/oracle/tensorboard_oracle.py; the numbers stand there too.
TEST(EventWriter, WritesARunForTensorboard) {
  const std::string folder = testing::TempDir() + "event_writer_oracle";
  std::filesystem::remove_all(folder);
  EventWriter first(folder);
  for (int64_t step = 1; step <= 5; ++step)
    first.scalars(step, {{"loss", 1.0 / static_cast<double>(step)}});
  // Event files do not look into a picture's bytes.
  const std::string png = "\x89PNG\r\n\x1a\n rest";
  first.image(3, "samples", {reinterpret_cast<const uint8_t*>(png.data()), png.size()}, 48, 96);
  EventWriter second(folder, 3);
  for (int64_t step = 4; step <= 6; ++step)
    second.scalars(step, {{"loss", 10.0 * static_cast<double>(step)}, {"lr", 0.5}});
}

}  // namespace
}  // namespace pendulum

// Names and writes the files of drawn clips.
#include "generate/clip_files.h"

#include <algorithm>
#include <cctype>
#include <filesystem>

#include "core/error.h"
#include "data/contact_sheet.h"
#include "data/media_writer.h"

namespace pendulum {
namespace {

constexpr size_t kMaxNameLetters = 60;
constexpr int kSheetColumns = 5;  // frames of a clip on the sheet

// A caption as part of a file name: letters and digits, all else a dash.
std::string file_words(const std::string& caption) {
  std::string words;
  for (const unsigned char c : caption) {
    if (words.size() == kMaxNameLetters) break;
    if (std::isalnum(c)) {
      words += static_cast<char>(std::tolower(c));
    } else if (!words.empty() && words.back() != '-') {
      words += '-';
    }
  }
  while (!words.empty() && words.back() == '-') words.pop_back();
  return words.empty() ? "clip" : words;
}

std::string extension(const std::string& path) {
  std::string ending = std::filesystem::path(path).extension().string();
  std::transform(ending.begin(), ending.end(), ending.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  return ending;
}

bool is_picture(const std::string& ending) {
  return ending == ".png" || ending == ".jpg" || ending == ".jpeg";
}

}  // namespace

bool is_clip_path(const std::string& path) {
  return extension(path) == ".mp4" || is_picture(extension(path));
}

void write_clip(const std::string& path, const Frames& clip, double fps) {
  const std::string ending = extension(path);
  if (clip.count == 1) {
    if (!is_picture(ending))
      throw ConfigError(text(path, ": a single frame is written as .png or .jpg"));
    return write_image(path, clip);
  }
  if (ending != ".mp4")
    throw ConfigError(text(path, ": a clip of ", clip.count, " frames is written as .mp4"));
  write_video(path, clip, fps);
}

ClipFiles write_clips(const std::string& folder, const std::vector<Prompt>& prompts,
                      const std::vector<Frames>& clips, double fps) {
  check(prompts.size() == clips.size() && !clips.empty(), "a clip for every prompt", prompts.size(),
        ", ", clips.size());
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) throw Error(text(folder, ": the folder cannot be made: ", error.message()));
  const std::filesystem::path base(folder);
  ClipFiles files;
  for (size_t i = 0; i < clips.size(); ++i) {
    const std::string name = fmt::format("{:03}-{}-{}{}", i, file_words(prompts[i].text),
                                         prompts[i].seed, clips[i].count == 1 ? ".png" : ".mp4");
    files.clips.push_back((base / name).string());
    write_clip(files.clips.back(), clips[i], fps);
  }
  files.contact_sheet = (base / "contact_sheet.png").string();
  write_image(files.contact_sheet,
              contact_sheet(clips, std::min(clips.front().count, kSheetColumns)));
  return files;
}

}  // namespace pendulum

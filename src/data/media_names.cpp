// The endings that data sets in folders and in tar shards go by.
#include "data/media_names.h"

#include <cctype>
#include <set>

namespace pendulum {

std::string lower_case(std::string word) {
  for (char& c : word) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return word;
}

bool is_media_extension(const std::string& extension) {
  static const std::set<std::string> kEndings = {
      "mp4",  "m4v",  "mov",  "mkv",  "webm", "avi", "mpg",  "mpeg", "ts",
      "mts",  "m2ts", "wmv",  "flv",  "ogv",  "3gp", "mxf",  "gif",  "png",
      "apng", "jpg",  "jpeg", "webp", "bmp",  "tif", "tiff", "avif"};
  return kEndings.contains(extension);
}

}  // namespace pendulum

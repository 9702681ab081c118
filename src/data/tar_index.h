// What lies where in a tar file, and the samples of WebDataset shards: files of one name are one
// sample.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "data/manifest.h"

namespace pendulum {

struct TarMember {
  std::string name;
  int64_t offset = 0, bytes = 0;  // of the content, in the tar file
};

// The regular files of a tar (POSIX ustar and pax, GNU long names), from its heads alone. DataError
// names the byte at which it is none or broken off.
std::vector<TarMember> read_tar_index(const std::string& path);

// Samples of the tar files of a folder, or of one tar file. A sample's key, which is its id, is its
// members' name up to the first dot behind the last slash. Its medium is the picture or video among
// them; the caption is the text of .txt, or `caption` or `captions` of .json, which may also hold
// `licence` (or `license`), `holder`, `basis`, `split`, `start` and `end`; other keys are somebody
// else's. DataError for broken JSON, a wrong type, a key that comes twice (in one tar or in two),
// and a sample with two media. A key without a medium is counted in `without_media`.
std::vector<ManifestEntry> read_webdataset(const std::string& path, int64_t* without_media);

// Whether the path is a .tar file, or a folder that holds some.
bool is_webdataset(const std::string& path);

}  // namespace pendulum

// A data set before it is packed: a JSONL manifest, or a folder of media with captions beside them.
#pragma once
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "data/frames.h"
#include "rights/record.h"

namespace pendulum {

// One medium as its owner describes it. What the owner left out is empty: packing refuses such
// entries one by one.
struct ManifestEntry {
  std::string id;                     // unique in its data set
  std::string media;                  // path of the file, for opening
  std::vector<std::string> captions;  // UTF-8
  std::string licence, holder, basis;
  RightsTerms terms;               // what else its owner says
  std::string split;               // "train", "validation", or empty where nothing is said
  Excerpt excerpt{};               // of the medium; all of it where nothing is said
  int64_t offset = 0, bytes = -1;  // of the medium in the file; -1: it is the file
};

// "start" and "end" of a JSON object. DataError where they are no seconds, or the end is not behind
// the start.
Excerpt excerpt_in(const nlohmann::json& object, const std::string& where);

// One JSON object a line: {"id", "media", "caption" or "captions", "licence", "holder", "basis",
// "split", "start", "end"} and the terms of rights/record.h. Strict: DataError "file:line" for
// broken JSON, an unknown key (with the nearest known one), a wrong type, an end that is not behind
// the start, a missing or repeated id, a missing media path, and media outside the manifest's
// folder (absolute, "..", or through symbolic links). Empty lines are skipped.
std::vector<ManifestEntry> read_manifest(const std::string& path);

// Every picture and video under the folder, by its file name's ending, sorted by path, which is the
// id. The caption is the text of the file of the same name with .txt, white space joined. Hidden
// files are left out, linked folders are not entered. DataError for symbolic links in a loop.
std::vector<ManifestEntry> read_media_folder(const std::string& folder);

}  // namespace pendulum

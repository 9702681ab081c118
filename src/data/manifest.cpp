// Reads manifests line by line and folders file by file.
#include "data/manifest.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <system_error>

#include "config/nearest.h"
#include "core/error.h"
#include "data/media_names.h"

namespace pendulum {
namespace {

namespace fs = std::filesystem;

const std::vector<std::string>& known_keys() {
  static const std::vector<std::string> all = [] {
    std::vector<std::string> keys = {"id",     "media", "caption", "captions", "licence",
                                     "holder", "basis", "split",   "start",    "end"};
    keys.insert(keys.end(), term_keys().begin(), term_keys().end());
    return keys;
  }();
  return all;
}

std::string string_at(const nlohmann::json& line, const std::string& key,
                      const std::string& where) {
  const auto it = line.find(key);
  if (it == line.end()) return "";
  if (!it->is_string())
    throw DataError(text(where, ": \"", key, "\" must be text, found ", it->dump()));
  return it->get<std::string>();
}

// Seconds, from 0 on.
double time_at(const nlohmann::json& line, const std::string& key, double otherwise,
               const std::string& where) {
  const auto it = line.find(key);
  if (it == line.end()) return otherwise;
  if (!it->is_number() || !(it->get<double>() >= 0 && it->get<double>() < 1e9)) {
    throw DataError(text(where, ": \"", key, "\" must be seconds from 0 on, found ", it->dump()));
  }
  return it->get<double>();
}

std::vector<std::string> captions_at(const nlohmann::json& line, const std::string& where) {
  if (line.contains("caption") && line.contains("captions")) {
    throw DataError(text(where, ": give \"caption\" or \"captions\", not both"));
  }
  std::vector<std::string> out;
  if (line.contains("captions")) {
    const nlohmann::json& list = line["captions"];
    const bool is_texts =
        list.is_array() &&
        std::all_of(list.begin(), list.end(), [](const auto& c) { return c.is_string(); });
    if (!is_texts)
      throw DataError(text(where, ": \"captions\" must be a list of texts, found ", list.dump()));
    out = list.get<std::vector<std::string>>();
  } else {
    out = {string_at(line, "caption", where)};
  }
  std::erase_if(out, [](const std::string& caption) {
    return std::all_of(caption.begin(), caption.end(),
                       [](unsigned char c) { return std::isspace(c); });
  });
  return out;
}

// Throws for a path that leaves the folder, in its letters or through links. A missing file is not
// this function's business.
std::string path_inside(const fs::path& folder, const std::string& media,
                        const std::string& where) {
  const fs::path relative(media);
  const fs::path plain = relative.lexically_normal();
  if (relative.is_absolute() || plain.empty() || *plain.begin() == "..") {
    throw DataError(text(where, ": media \"", media,
                         "\" lies outside the manifest's folder; move it in, or the manifest up"));
  }
  std::error_code problem;
  const fs::path root = fs::canonical(folder, problem);
  const fs::path real = problem ? fs::path() : fs::weakly_canonical(folder / plain, problem);
  if (problem) throw DataError(text(where, ": media \"", media, "\": ", problem.message()));
  const auto [end, unused] = std::mismatch(root.begin(), root.end(), real.begin(), real.end());
  if (end != root.end()) {
    throw DataError(text(where, ": media \"", media, "\" leads through a symbolic link to ",
                         real.string(), ", outside the manifest's folder"));
  }
  return (folder / plain).string();
}

ManifestEntry parse_line(const std::string& words, const fs::path& folder,
                         const std::string& where) {
  nlohmann::json line;
  try {
    line = nlohmann::json::parse(words);
  } catch (const nlohmann::json::parse_error& e) {
    throw DataError(text(where, ": broken JSON near byte ", e.byte, " of the line"));
  }
  if (!line.is_object()) throw DataError(text(where, ": a line must be a JSON object in braces"));
  for (const auto& [key, value] : line.items()) {
    const auto& known = known_keys();
    if (std::find(known.begin(), known.end(), key) == known.end()) {
      throw DataError(text(where, ": unknown key \"", key, "\"", did_you_mean(key, known),
                           "; known are ", listed(known)));
    }
  }
  ManifestEntry entry;
  entry.id = string_at(line, "id", where);
  if (entry.id.empty()) throw DataError(text(where, ": the key \"id\" is missing"));
  const std::string media = string_at(line, "media", where);
  if (media.empty()) throw DataError(text(where, ": the key \"media\" is missing"));
  entry.media = path_inside(folder, media, where);
  entry.captions = captions_at(line, where);
  entry.licence = string_at(line, "licence", where);
  entry.holder = string_at(line, "holder", where);
  entry.basis = string_at(line, "basis", where);
  entry.terms = terms_from_json(line, where);
  entry.excerpt = excerpt_in(line, where);
  entry.split = string_at(line, "split", where);
  if (!entry.split.empty() && entry.split != "train" && entry.split != "validation") {
    throw DataError(text(where, ": \"split\" is \"", entry.split,
                         "\", it must be \"train\" or \"validation\""));
  }
  return entry;
}

bool is_media_name(const fs::path& path) {
  const std::string extension = lower_case(path.extension().string());
  return !extension.empty() && is_media_extension(extension.substr(1));
}

std::string caption_beside(const fs::path& media) {
  fs::path beside = media;
  beside.replace_extension(".txt");
  std::ifstream file(beside);
  std::string caption, word;
  while (file >> word) caption += (caption.empty() ? "" : " ") + word;
  return caption;
}

}  // namespace

Excerpt excerpt_in(const nlohmann::json& line, const std::string& where) {
  const Excerpt whole;
  const Excerpt out{time_at(line, "start", whole.start, where),
                    time_at(line, "end", whole.end, where)};
  if (!(out.end > out.start)) {
    throw DataError(text(where, ": the clip ends at ", out.end, " s, not behind its start at ",
                         out.start, " s"));
  }
  return out;
}

std::vector<ManifestEntry> read_manifest(const std::string& path) {
  std::ifstream file(path);
  if (!file || fs::is_directory(path))
    throw DataError(text(path, ": the manifest cannot be opened"));
  const fs::path folder =
      fs::path(path).has_parent_path() ? fs::path(path).parent_path() : fs::path(".");
  std::vector<ManifestEntry> entries;
  std::map<std::string, int> seen;  // id -> line
  std::string words;
  for (int number = 1; std::getline(file, words); ++number) {
    if (words.find_first_not_of(" \t\r") == words.npos) continue;
    const std::string where = text(path, ":", number);
    entries.push_back(parse_line(words, folder, where));
    const auto [first, is_new] = seen.emplace(entries.back().id, number);
    if (!is_new)
      throw DataError(text(where, ": the id \"", entries.back().id, "\" stands in line ",
                           first->second, " already"));
  }
  if (file.bad()) throw DataError(text(path, ": reading failed before its end"));
  if (entries.empty()) throw DataError(text(path, ": the manifest has no lines"));
  return entries;
}

std::vector<ManifestEntry> read_media_folder(const std::string& folder) {
  std::vector<ManifestEntry> entries;
  try {
    for (auto it = fs::recursive_directory_iterator(folder);
         it != fs::recursive_directory_iterator(); ++it) {
      const fs::path& path = it->path();
      if (path.filename().string().starts_with(".")) {
        it.disable_recursion_pending();
        continue;
      }
      std::error_code problem;
      const fs::file_status status = it->status(problem);
      if (problem == std::errc::too_many_symbolic_link_levels) {
        throw DataError(text(path.string(), ": symbolic links form a loop"));
      }
      if (fs::is_directory(status) || !is_media_name(path)) continue;
      ManifestEntry entry;
      entry.id = path.lexically_relative(folder).generic_string();
      entry.media = path.string();
      if (std::string caption = caption_beside(path); !caption.empty())
        entry.captions = {std::move(caption)};
      entries.push_back(std::move(entry));
    }
  } catch (const fs::filesystem_error& e) {
    throw DataError(text(folder, ": the folder cannot be read: ", e.code().message()));
  }
  std::sort(entries.begin(), entries.end(),
            [](const auto& a, const auto& b) { return a.id < b.id; });
  if (entries.empty()) throw DataError(text(folder, ": holds no pictures and no videos"));
  return entries;
}

}  // namespace pendulum

// Packing: entries are inspected by several threads, then written in their order.
#include "data/pack.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <optional>
#include <span>
#include <unordered_map>
#include <variant>

#include "core/error.h"
#include "core/hash.h"
#include "core/log.h"
#include "core/publish.h"
#include "data/hdf5_file.h"
#include "data/manifest.h"
#include "data/media_reader.h"
#include "data/pack_format.h"
#include "data/packed_data.h"
#include "data/parallel.h"
#include "data/perceptual_hash.h"
#include "data/tar_index.h"
#include "rights/deny_list.h"

namespace pendulum {
namespace {

namespace fs = std::filesystem;

// The medium that an entry names, whole.
std::variant<std::vector<uint8_t>, ReadFailure> read_medium(const ManifestEntry& entry,
                                                            int64_t most) {
  std::error_code problem;
  const bool is_part = entry.bytes >= 0;
  const uintmax_t size =
      is_part ? static_cast<uintmax_t>(entry.bytes) : fs::file_size(entry.media, problem);
  if (problem) return ReadFailure{problem.message()};
  if (size > static_cast<uintmax_t>(most)) {
    return ReadFailure{text("has ", size >> 20, " MiB, ", most >> 20,
                            " MiB are the most that a shard holds or a reader takes: cut it into "
                            "clips, or leave it in place")};
  }
  std::vector<uint8_t> bytes(size);
  std::ifstream file(entry.media, std::ios::binary);
  file.seekg(entry.offset);
  if (!file.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(size))) {
    return ReadFailure{"cannot be read"};
  }
  return bytes;
}

bool is_utf8(const std::string& words) {
  try {
    (void)nlohmann::json(words).dump();
    return true;
  } catch (const nlohmann::json::exception&) {
    return false;
  }
}

// What the entry itself lacks, in the order in which its owner would mend it.
std::optional<ReadFailure> lack_of(const ManifestEntry& entry) {
  if (!is_utf8(entry.id)) return ReadFailure{"its name is not UTF-8"};
  if (entry.licence.empty()) return ReadFailure{"names no licence"};
  if (entry.holder.empty()) return ReadFailure{"names no holder"};
  if (entry.basis.empty()) return ReadFailure{"names no basis: why it may be used"};
  if (entry.captions.empty()) return ReadFailure{"has no caption"};
  for (const std::string& caption : entry.captions) {
    if (!is_utf8(caption)) return ReadFailure{"its caption is not UTF-8"};
  }
  return std::nullopt;
}

struct Inspected {
  std::vector<uint8_t> bytes;
  Sample sample;
};

std::variant<Inspected, ReadFailure> inspect(const ManifestEntry& entry, int64_t most) {
  if (auto lack = lack_of(entry)) return *lack;
  auto read = read_medium(entry, most);
  if (auto* failure = std::get_if<ReadFailure>(&read)) return *failure;
  Inspected out{std::get<std::vector<uint8_t>>(std::move(read)), {}};
  const auto probed = probe_media(out.bytes, entry.excerpt);
  if (auto* failure = std::get_if<ReadFailure>(&probed)) return *failure;
  const auto decoded = decode_every_frame(out.bytes, entry.excerpt);
  if (auto* failure = std::get_if<ReadFailure>(&decoded)) return *failure;
  const MediaInfo& info = std::get<MediaInfo>(probed);
  auto hashes = perceptual_hashes(out.bytes, info);
  if (auto* failure = std::get_if<ReadFailure>(&hashes)) return *failure;
  out.sample = {.id = entry.id,
                .captions = entry.captions,
                .licence = entry.licence,
                .holder = entry.holder,
                .basis = entry.basis,
                .terms = entry.terms,
                .split = entry.split,
                .sha256 = sha256(out.bytes),
                .kind = info.kind,
                .width = info.width,
                .height = info.height,
                .seconds = info.seconds,
                .fps = info.fps,
                .frames = info.frames,
                .excerpt = entry.excerpt,
                .phashes = std::get<std::vector<uint64_t>>(std::move(hashes))};
  return out;
}

// Gathers media until a shard is full, then writes it under the publish protocol and reads it back.
class ShardWriter {
 public:
  explicit ShardWriter(fs::path folder) : folder_(std::move(folder)) {}

  Place add(std::span<const uint8_t> bytes) {
    const auto count = static_cast<int64_t>(bytes.size());
    if (static_cast<int64_t>(pending_.size()) + count > kMaxMediaBytes) flush();
    const Place place{static_cast<int>(shards_.size()), static_cast<int64_t>(pending_.size()),
                      count};
    pending_.insert(pending_.end(), bytes.begin(), bytes.end());
    return place;
  }

  void flush() {
    if (pending_.empty()) return;
    const std::string name = shard_name(static_cast<int>(shards_.size()));
    const std::string path = (folder_ / name).string();
    publish_file(path, [&](const std::string& temporary) {
      Hdf5File file = Hdf5File::create(temporary);
      file.write_attribute("format", kPackFormat);
      file.write(kShardBytes, pending_);
      file.close();
      if (Hdf5File::open(temporary).read_bytes(kShardBytes) != pending_) {
        throw DataError(
            text(temporary, ": reads back other bytes than were written: is the disk sound?"));
      }
    });
    shards_.push_back({name, static_cast<int64_t>(fs::file_size(path)), sha256_of_file(path)});
    pending_.clear();
  }

  const std::vector<ShardRecord>& shards() const { return shards_; }

 private:
  fs::path folder_;
  std::vector<uint8_t> pending_;
  std::vector<ShardRecord> shards_;
};

std::vector<ManifestEntry> entries_of(const PackOptions& options) {
  if (!fs::exists(options.input))
    throw ConfigError(text("data pack: ", options.input, " does not exist"));
  const bool is_folder = fs::is_directory(options.input);
  if (is_folder && !is_webdataset(options.input) &&
      (options.licence.empty() || options.holder.empty())) {
    throw ConfigError(
        "data pack: say once for the whole folder under which licence you hold it and who holds "
        "it: "
        "--licence LicenseRef-own --holder NAME");
  }
  const bool is_tar = is_webdataset(options.input);
  int64_t without_media = 0;
  auto entries = is_tar      ? read_webdataset(options.input, &without_media)
                 : is_folder ? read_media_folder(options.input)
                             : read_manifest(options.input);
  if (without_media > 0)
    warn("{}: {} samples have no picture and no video and are left out", options.input,
         without_media);
  for (ManifestEntry& entry : entries) {
    if (entry.licence.empty()) entry.licence = options.licence;
    if (entry.holder.empty()) entry.holder = options.holder;
    // The basis of an attestation holds only where one was given.
    if (entry.basis.empty() && !options.licence.empty() && !options.holder.empty())
      entry.basis = options.basis;
    if (entry.split.empty() && !is_folder && !is_tar) entry.split = "train";
    if (!entry.split.empty() && entry.split != "train" && entry.split != "validation")
      throw DataError(text(options.input, ": ", entry.id, ": \"split\" is \"", entry.split,
                           "\", it must be \"train\" or \"validation\""));
  }
  return entries;
}

// Held out by content: the same medium falls on the same side under any name.
std::string split_by_content(const std::string& digest, double share) {
  const double place =
      static_cast<double>(std::stoull(digest.substr(0, 12), nullptr, 16)) * 0x1p-48;
  return place < share ? "validation" : "train";
}

// Folders "<out>.tmp.<process>" that killed runs left behind.
void remove_leftovers(const fs::path& out) {
  const fs::path parent = out.has_parent_path() ? out.parent_path() : fs::path(".");
  const std::string prefix = out.filename().string() + ".tmp.";
  for (const auto& entry : fs::directory_iterator(parent)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(prefix) ||
        name.find_first_not_of("0123456789", prefix.size()) != name.npos)
      continue;
    const bool is_alive = fs::exists("/proc/" + name.substr(prefix.size()));
    if (!is_alive) fs::remove_all(entry.path());
  }
}

void prepare_output(const PackOptions& options) {
  if (options.out.empty()) throw ConfigError("data pack: name the folder to make with --out");
  if (!(options.validation >= 0 && options.validation < 1)) {
    throw ConfigError(
        text("data pack: --validation is ", options.validation, ", it must be from 0 to below 1"));
  }
  const fs::path out = options.out;
  if (fs::exists(out))
    throw ConfigError(
        text("data pack: ", options.out, " exists already; remove it or choose another --out"));
  if (out.has_parent_path()) fs::create_directories(out.parent_path());
  remove_leftovers(out);
}

// What places of media in place are relative to.
fs::path root_of(const std::string& input) {
  const fs::path path = fs::absolute(input).lexically_normal();
  return fs::is_directory(path) ? path : path.parent_path();
}

// The state of a packing run between inspection and the last file.
struct Packing {
  Packing(const fs::path& folder, const PackOptions& options, DenyList denied_)
      : shards(folder),
        denied(std::move(denied_)),
        in_place(options.in_place),
        root(root_of(options.input)) {}
  ShardWriter shards;
  DenyList denied;
  bool in_place;
  fs::path root;  // of media in place
  std::vector<IndexLine> lines;
  std::unordered_map<std::string, std::string> ids;  // identity -> id
  std::unordered_map<std::string, Place> places;     // sha256 -> where: clips of one file share it
  PackReport report;

  void take(const ManifestEntry& entry, std::variant<Inspected, ReadFailure> found,
            double validation) {
    if (auto* failure = std::get_if<ReadFailure>(&found)) {
      report.refused.push_back({entry.id, failure->reason});
      return;
    }
    Inspected& inspected = std::get<Inspected>(found);
    Sample& sample = inspected.sample;
    const auto [first, is_new] = ids.emplace(identity(sample), sample.id);
    if (!is_new) {
      report.refused.push_back({sample.id, text("has the same bytes as ", first->second)});
      return;
    }
    if (const auto reason = denied.reason(sample.id, sample.sha256, sample.phashes)) {
      report.refused.push_back({sample.id, "denied: " + *reason});
      return;
    }
    if (sample.split.empty()) sample.split = split_by_content(sample.sha256, validation);
    ++report.packed;
    ++(sample.kind == MediaKind::still ? report.stills : report.clips);
    report.validation += sample.split == "validation";
    auto place = places.find(sample.sha256);
    if (place == places.end()) {
      report.bytes += static_cast<int64_t>(inspected.bytes.size());
      const Place new_place =
          in_place ? place_of(entry, inspected.bytes.size()) : shards.add(inspected.bytes);
      place = places.emplace(sample.sha256, new_place).first;
    }
    lines.push_back({std::move(sample), place->second});
  }

  Place place_of(const ManifestEntry& entry, size_t bytes) const {
    const fs::path file = fs::absolute(entry.media).lexically_normal().lexically_relative(root);
    return {0, entry.offset, static_cast<int64_t>(bytes), file.generic_string()};
  }
};

// Inspects entries in parallel, a batch at a time so that memory stays bounded, and takes them in
// order.
void pack_entries(const std::vector<ManifestEntry>& entries, const PackOptions& options,
                  Packing& packing) {
  constexpr uintmax_t kBatchBytes = 64 << 20;
  const int64_t most = options.in_place ? kMostReadBytes : kMaxMediaBytes;
  for (size_t begin = 0; begin < entries.size();) {
    size_t end = begin;
    for (uintmax_t bytes = 0; end < entries.size() && bytes < kBatchBytes && end - begin < 1024;
         ++end) {
      std::error_code problem;
      const uintmax_t size = entries[end].bytes >= 0 ? static_cast<uintmax_t>(entries[end].bytes)
                                                     : fs::file_size(entries[end].media, problem);
      if (!problem) bytes += size;
    }
    std::vector<std::variant<Inspected, ReadFailure>> found(end - begin, ReadFailure{});
    parallel_for(static_cast<int64_t>(found.size()), options.threads,
                 [&](int64_t i) { found[i] = inspect(entries[begin + i], most); });
    for (size_t i = begin; i < end; ++i)
      packing.take(entries[i], std::move(found[i - begin]), options.validation);
    begin = end;
  }
  packing.shards.flush();
}

void write_lists(const fs::path& folder, Packing& packing) {
  std::string index, refused;
  for (const IndexLine& line : packing.lines) index += to_line(line);
  for (const Refusal& r : packing.report.refused) {
    refused += nlohmann::json{{"id", r.id}, {"reason", r.reason}}.dump(
                   -1, ' ', false, nlohmann::json::error_handler_t::replace) +
               "\n";
  }
  publish_text((folder / kIndexFile).string(), index);
  publish_text((folder / kRefusedFile).string(), refused);
  nlohmann::ordered_json head = {{"format", kPackFormat},
                                 {"version", kPackVersion},
                                 {"digest", pack_digest(packing.lines)},
                                 {"samples", packing.report.packed},
                                 {"refused", packing.report.refused.size()},
                                 {"media_bytes", packing.report.bytes},
                                 {"index_sha256", sha256(index)},
                                 {"shards", nlohmann::ordered_json::array()}};
  if (packing.in_place) head["root"] = packing.root.string();
  for (const ShardRecord& shard : packing.shards.shards()) {
    head["shards"].push_back(
        {{"file", shard.file}, {"bytes", shard.bytes}, {"sha256", shard.sha256}});
  }
  packing.report.digest = head["digest"];
  packing.report.shards = static_cast<int>(packing.shards.shards().size());
  publish_text((folder / kPackFile).string(), head.dump(2) + "\n");
}

}  // namespace

PackReport pack(const PackOptions& options) {
  prepare_output(options);
  DenyList denied = DenyList::read(options.deny);
  const std::vector<ManifestEntry> entries = entries_of(options);
  const fs::path temporary =
      text(fs::path(options.out).lexically_normal().string(), ".tmp.", ::getpid());
  fs::create_directories(temporary);
  try {
    Packing packing(temporary, options, std::move(denied));
    packing.report.out = options.out;
    pack_entries(entries, options, packing);
    if (packing.lines.empty()) {
      const Refusal& first = packing.report.refused.front();
      throw DataError(text(options.input, ": none of its ", entries.size(),
                           " entries can be packed; the first, ", first.id, ", ", first.reason));
    }
    write_lists(temporary, packing);
    publish_folder(temporary.string(), options.out);
    PackedData::open(options.out);  // which makes its columns
    return std::move(packing.report);
  } catch (...) {
    std::error_code ignored;
    fs::remove_all(temporary, ignored);
    throw;
  }
}

std::string describe(const PackReport& report) {
  std::string out = fmt::format(
      "{}: {} samples ({} stills, {} clips; {} for validation), {:.1f} MB in {} shard{}\n",
      report.out, report.packed, report.stills, report.clips, report.validation,
      static_cast<double>(report.bytes) / 1e6, report.shards, report.shards == 1 ? "" : "s");
  if (report.refused.empty()) return out;
  constexpr size_t kShown = 10;
  out +=
      fmt::format("refused: {} (all in {}/{})\n", report.refused.size(), report.out, kRefusedFile);
  for (size_t i = 0; i < std::min(kShown, report.refused.size()); ++i) {
    out += fmt::format("  {}: {}\n", report.refused[i].id, report.refused[i].reason);
  }
  return out;
}

}  // namespace pendulum

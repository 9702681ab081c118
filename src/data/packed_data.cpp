// Random access to the media of a pack.
#include "data/packed_data.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <optional>
#include <utility>

#include "core/error.h"
#include "core/hash.h"
#include "data/catalogue.h"
#include "data/hdf5_file.h"
#include "data/pack_format.h"

namespace pendulum {
namespace {

// Shards kept open: far below the common limit of 1024 files of a process.
constexpr size_t kOpenShards = 64;

}  // namespace

namespace {

// One folder.
struct Pack {
  std::string folder;
  PackHead head;
  Catalogue catalogue;
  int64_t first = 0;                          // number of its first sample
  int first_class = 0;                        // and of its first class
  std::vector<std::optional<Hdf5File>> open;  // by shard; guarded by hdf5_mutex()
};

// Bytes of a file that lies where its owner keeps it.
std::vector<uint8_t> read_part(const std::string& root, const Place& place) {
  const std::filesystem::path relative(place.file);
  const std::filesystem::path plain = relative.lexically_normal();
  if (relative.is_absolute() || plain.empty() || *plain.begin() == "..")
    throw DataError(text(place.file, ": lies outside of ", root));
  const std::string path = (std::filesystem::path(root) / plain).string();
  std::ifstream file(path, std::ios::binary);
  std::error_code problem;
  const uintmax_t size = std::filesystem::file_size(path, problem);
  if (problem || !file)
    throw DataError(text(path, ": ", problem ? problem.message() : "cannot be opened"));
  if (static_cast<uintmax_t>(place.offset) + static_cast<uintmax_t>(place.bytes) > size)
    throw DataError(text(path, ": is shorter than it was"));
  std::vector<uint8_t> bytes(place.bytes);
  file.seekg(place.offset);
  if (!file.read(reinterpret_cast<char*>(bytes.data()), place.bytes))
    throw DataError(text(path, ": cannot be read"));
  return bytes;
}

}  // namespace

struct PackedData::State {
  std::vector<Pack> packs;
  std::string digest;
  int64_t size = 0;
  int num_classes = 0;
  size_t open_count = 0;

  Pack& pack_of(int64_t index) {
    check(index >= 0 && index < size, "a sample of the pack: ", index, " of ", size);
    const auto behind =
        std::upper_bound(packs.begin(), packs.end(), index,
                         [](int64_t number, const Pack& pack) { return number < pack.first; });
    return *(behind - 1);
  }
  IndexLine line(int64_t index) {
    const Pack& pack = pack_of(index);
    return index_line(pack.catalogue.line(index - pack.first),
                      pack.catalogue.where(index - pack.first));
  }

  const Hdf5File& shard(Pack& pack, int number) {
    std::optional<Hdf5File>& file = pack.open[number];
    if (!file) {
      if (open_count == kOpenShards) {
        for (Pack& other : packs) {
          for (auto& shard : other.open) shard.reset();
        }
        open_count = 0;
      }
      file = Hdf5File::open(
          (std::filesystem::path(pack.folder) / pack.head.shards[number].file).string());
      ++open_count;
    }
    return *file;
  }
};

PackedData::PackedData(std::unique_ptr<State> state) : state_(std::move(state)) {}
PackedData::PackedData(PackedData&&) noexcept = default;
PackedData& PackedData::operator=(PackedData&&) noexcept = default;
PackedData::~PackedData() = default;

PackedData PackedData::open(const std::string& folder) { return open(std::vector{folder}); }

PackedData PackedData::open(const std::vector<std::string>& folders) {
  check(!folders.empty(), "a folder of packed data");
  auto state = std::make_unique<State>();
  std::string digests;
  for (const std::string& folder : folders) {
    PackHead head = read_pack_head(folder);
    Catalogue catalogue = Catalogue::open(folder, head.claim);
    digests += head.claim.digest + "\n";
    Pack& pack = state->packs.emplace_back(
        Pack{folder, std::move(head), std::move(catalogue), state->size, state->num_classes, {}});
    pack.open.resize(pack.head.shards.size());
    state->size += pack.catalogue.size();
    state->num_classes += pack.catalogue.num_classes();
  }
  state->digest = folders.size() == 1 ? state->packs.front().head.claim.digest : sha256(digests);
  PackedData data(std::move(state));
  data.check_ids();
  return data;
}

// Equal hashes are rare enough to be looked at one by one.
void PackedData::check_ids() const {
  for (size_t b = 1; b < state_->packs.size(); ++b) {
    for (size_t a = 0; a < b; ++a) {
      const Catalogue &first = state_->packs[a].catalogue, &second = state_->packs[b].catalogue;
      for (int64_t i = 0, k = 0; i < first.size() && k < second.size();) {
        if (first.hash(i) != second.hash(k)) {
          ++(first.hash(i) < second.hash(k) ? i : k);
          continue;
        }
        const Sample sample = this->sample(state_->packs[b].first + second.by_hash(k));
        if (first.find(sample.id)) {
          throw DataError(text(state_->packs[b].folder, ": the sample ", sample.id, " is in ",
                               state_->packs[a].folder,
                               " already; ids are unique within a source"));
        }
        ++k;
      }
    }
  }
}

int64_t PackedData::size() const { return state_->size; }

Sample PackedData::sample(int64_t index) const { return state_->line(index).sample; }

int64_t PackedData::bytes(int64_t index) const { return state_->line(index).place.bytes; }

SampleFacts PackedData::facts(int64_t index) const {
  const Pack& pack = state_->pack_of(index);
  return pack.catalogue.facts(index - pack.first);
}

int PackedData::num_classes() const { return state_->num_classes; }

int PackedData::class_of(int64_t index) const {
  const Pack& pack = state_->pack_of(index);
  return pack.first_class + pack.catalogue.class_of(index - pack.first);
}

Sample PackedData::representative(int sample_class) const {
  for (const Pack& pack : state_->packs) {
    const int own = sample_class - pack.first_class;
    if (own < pack.catalogue.num_classes())
      return sample(pack.first + pack.catalogue.representative(own));
  }
  throw Error(text("internal error: class ", sample_class, " of ", state_->num_classes));
}

std::optional<int64_t> PackedData::find(const std::string& id) const {
  for (const Pack& pack : state_->packs) {
    if (const auto found = pack.catalogue.find(id)) return pack.first + *found;
  }
  return std::nullopt;
}

std::vector<int64_t> PackedData::smallest_hashes(int64_t count,
                                                 const std::function<bool(int64_t)>& accept) const {
  std::vector<std::pair<uint64_t, int64_t>> found;
  for (const Pack& pack : state_->packs) {
    int64_t taken = 0;
    for (int64_t k = 0; k < pack.catalogue.size() && taken < count; ++k) {
      const int64_t index = pack.first + pack.catalogue.by_hash(k);
      if (!accept(index)) continue;
      found.emplace_back(pack.catalogue.hash(k), index);
      ++taken;
    }
  }
  std::sort(found.begin(), found.end());
  found.resize(std::min<size_t>(found.size(), count));
  std::vector<int64_t> out;
  for (const auto& [hash, index] : found) out.push_back(index);
  return out;
}

std::variant<std::vector<uint8_t>, ReadFailure> PackedData::media(int64_t index) const {
  IndexLine line;
  Pack& pack = state_->pack_of(index);
  std::vector<uint8_t> bytes;
  try {
    line = state_->line(index);
    if (!line.place.file.empty()) {
      bytes = read_part(pack.head.root, line.place);
    } else {
      const std::lock_guard lock(hdf5_mutex());
      bytes = state_->shard(pack, line.place.shard)
                  .read_unverified_bytes(kShardBytes, line.place.offset, line.place.bytes);
    }
  } catch (const DataError& e) {
    return ReadFailure{e.what()};
  }
  if (sha256(bytes) != line.sample.sha256) {
    return ReadFailure{
        text("sample ", line.sample.id, " in ",
             line.place.file.empty() ? pack.head.shards[line.place.shard].file : line.place.file,
             ": its bytes are not those that were packed")};
  }
  return bytes;
}

const std::string& PackedData::digest() const { return state_->digest; }

std::vector<std::string> PackedData::parts() const {
  std::vector<std::string> out;
  for (const Pack& pack : state_->packs) out.push_back(pack.head.claim.digest);
  return out;
}

}  // namespace pendulum

// Random access to the media of a pack.
#include "data/packed_data.h"

#include <filesystem>
#include <optional>
#include <utility>

#include "core/error.h"
#include "core/hash.h"
#include "data/hdf5_file.h"
#include "data/pack_format.h"

namespace pendulum {
namespace {

// Shards kept open: far below the common limit of 1024 files of a process.
constexpr size_t kOpenShards = 64;

}  // namespace

struct PackedData::State {
  std::string folder;
  PackIndex index;
  std::vector<std::optional<Hdf5File>> open;  // by shard; guarded by hdf5_mutex()
  size_t open_count = 0;

  const Hdf5File& shard(int number) {
    std::optional<Hdf5File>& file = open[number];
    if (!file) {
      if (open_count == kOpenShards) {
        for (auto& other : open) other.reset();
        open_count = 0;
      }
      file = Hdf5File::open((std::filesystem::path(folder) / index.shards[number].file).string());
      ++open_count;
    }
    return *file;
  }
};

PackedData::PackedData(std::unique_ptr<State> state) : state_(std::move(state)) {}
PackedData::PackedData(PackedData&&) noexcept = default;
PackedData& PackedData::operator=(PackedData&&) noexcept = default;
PackedData::~PackedData() = default;

PackedData PackedData::open(const std::string& folder) {
  auto state = std::make_unique<State>();
  state->folder = folder;
  state->index = read_pack_index(folder);
  state->open.resize(state->index.shards.size());
  return PackedData(std::move(state));
}

int64_t PackedData::size() const { return static_cast<int64_t>(state_->index.lines.size()); }

const Sample& PackedData::sample(int64_t index) const {
  check(index >= 0 && index < size(), "a sample of the pack: ", index, " of ", size());
  return state_->index.lines[index].sample;
}

std::variant<std::vector<uint8_t>, ReadFailure> PackedData::media(int64_t index) const {
  check(index >= 0 && index < size(), "a sample of the pack: ", index, " of ", size());
  const IndexLine& line = state_->index.lines[index];
  std::vector<uint8_t> bytes;
  try {
    const std::lock_guard lock(hdf5_mutex());
    bytes = state_->shard(line.place.shard)
                .read_unverified_bytes(kShardBytes, line.place.offset, line.place.bytes);
  } catch (const DataError& e) {
    return ReadFailure{e.what()};
  }
  if (sha256(bytes) != line.sample.sha256) {
    return ReadFailure{text("sample ", line.sample.id, " in ",
                            state_->index.shards[line.place.shard].file,
                            ": its bytes are not those that were packed")};
  }
  return bytes;
}

const std::string& PackedData::folder() const { return state_->folder; }
const std::string& PackedData::digest() const { return state_->index.digest; }

}  // namespace pendulum

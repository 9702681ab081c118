// The walker goes along the log and both must agree.
#include "provenance/replay.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <unordered_set>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/json_file.h"
#include "pendulum/walker.h"
#include "provenance/history.h"

namespace pendulum {
namespace {

using nlohmann::json;

bool is_item(const Sample& sample, const std::string& item) {
  return item.starts_with(kHashPrefix) ? kHashPrefix + sample.sha256 == item : sample.id == item;
}

// Where plan.json is not `made`, in words; empty where it is, or goes on from it at a later change.
std::string changed_in(const json& kept, const json& made, int64_t finished_steps) {
  for (const json& change : kept.at("changes")) {
    const int64_t next = change.at("finished_steps");
    if (next > finished_steps) return breaks(made, kept, next);
  }
  return differs(made, kept);
}

class Replay {
 public:
  // kept: what plan.json holds.
  Replay(const std::string& item, const PlanAgain& plan_again, const json& kept)
      : item_(item), plan_again_(plan_again), kept_(kept) {}

  void take(const json& line) {
    ++report_.lines;
    const std::string event = line.value("event", "");
    if (event == "start" || event == "resume") return begin(line);
    if (event == "deny") return deny(line);
    if (line.contains("step")) return step(line);
    require(event.empty() && report_.lines == 1, text("its event '", event, "' is not known"));
  }

  ReplayReport finish() && {
    require(part_ != nullptr, "no start is logged, so there is no plan to hold it against");
    const std::string difference = differs(part_->plan.manifest(), kept_);
    require(difference.empty(), std::string(kNotGiven) + difference);
    report_.is_refused = report_.is_in_data && !is_usable_;
    for (const auto& [step, count] : uses_) report_.consumed += count;
    return report_;
  }

 private:
  static constexpr const char* kNotGiven =
      "plan.json is not the plan that configuration and packs give: ";

  // A line that the plan does not explain; the caller adds path and number.
  static void require(bool holds, const std::string& reason) {
    if (!holds) throw DataError(reason);
  }
  template <class T>
  static void require_equal(const char* what, const T& found, const T& expected) {
    require(found == expected, text("its ", what, " is ", json(found).dump(), ", the plan says ",
                                    json(expected).dump()));
  }

  // Looks for the item in the data as this part of the run had it.
  void look_for_item() {
    items_.clear();
    for (const OpenSource& source : part_->sources->open) {
      auto& wanted = items_[source.name];
      for (int64_t i = 0; i < source.data.size(); ++i) {
        if (is_item(source.data.sample(i), item_)) wanted.insert(i);
      }
      report_.is_in_data |= !wanted.empty();
      const auto holds = [&](const std::vector<int64_t>& list) {
        return std::any_of(list.begin(), list.end(), [&](int64_t i) { return wanted.contains(i); });
      };
      const bool is_held_out = holds(source.validation);
      report_.is_held_out |= is_held_out;
      is_usable_ |= is_held_out || holds(source.training);
    }
  }

  // A run that goes on with the plan of its checkpoint needs no other one.
  std::shared_ptr<const RunPart> part_at(const json& line, int64_t finished) {
    const std::shared_ptr<const RunPart>& before = parts_[finished];
    const auto hash = line.at("plan_hash").get<std::string>();
    if (before && before->plan.hash() == hash) return before;
    auto part =
        std::make_shared<RunPart>(plan_again_(line, finished > 0 ? &before->plan : nullptr));
    ++report_.plans;
    if (part->plan.hash() == hash) return part;
    std::string why = text("its plan_hash is ", hash, ", that of the plan made again from ",
                           "configuration and packs is ", part->plan.hash());
    if (!line.contains("config"))
      why += "; with which configuration the run was planned here the log does not say";
    const std::string difference = changed_in(kept_, part->plan.manifest(), finished);
    if (!difference.empty()) why += text("; ", kNotGiven, difference);
    throw DataError(why);
  }

  void begin(const json& line) {
    const int64_t finished = line.at("finished_steps");
    require(finished >= 0 && finished < static_cast<int64_t>(digests_.size()),
            text("it goes on from step ", finished, ", the log has ", digests_.size() - 1));
    const std::shared_ptr<const RunPart> last = std::exchange(part_, part_at(line, finished));
    if (!last || last->sources != part_->sources) look_for_item();
    json changes = json::array();
    for (const PlanChange& change : part_->plan.changes)
      if (change.finished_steps == finished) changes = change.what;
    require_equal("list of changes", line.value("changes", json::array()), changes);
    digests_.resize(finished + 1);
    parts_.resize(finished + 1);
    if (finished == 0) parts_[0] = part_;
    walker_.emplace(part_->plan);
    walker_->seek(position_after(part_->plan, finished), digests_.back());
    withdrawn_.clear();
    for (auto use = uses_.upper_bound(finished); use != uses_.end(); use = uses_.erase(use))
      report_.rolled_back += use->second;
  }

  void deny(const json& line) {
    require_equal("finished_steps", line.at("finished_steps").get<int64_t>(),
                  static_cast<int64_t>(digests_.size()) - 1);
    withdrawn_.clear();
    for (const auto& [source, ids] : line.at("withdrawn").items())
      for (const json& id : ids) withdrawn_[source].insert(id.get<std::string>());
  }

  void step(const json& line) {
    const int64_t number = static_cast<int64_t>(digests_.size());
    require_equal("step", line.at("step").get<int64_t>(), number);
    require(walker_.has_value(), "it comes before any start");
    require(!walker_->done(), "the plan has no such step");
    const StepPlan planned = walker_->next();
    require_equal("segment", line.at("segment").get<int>(), planned.segment);
    require_equal("t", line.at("t").get<int64_t>(), planned.first_t);
    require_equal("digest", line.at("digest").get<std::string>(),
                  fmt::format("{:016x}", planned.digest));
    require_equal("number of draws", line.at("draws").size(), planned.draws.size());
    for (size_t i = 0; i < planned.draws.size(); ++i)
      draw(line["draws"][i], planned.draws[i],
           part_->plan.segments[planned.segment].buckets[planned.draws[i].bucket], number);
    digests_.push_back(planned.digest);
    parts_.push_back(part_);
    ++report_.steps;
  }

  void draw(const json& found, const Draw& planned, const BucketPlan& bucket, int64_t step) {
    require_equal("slot", found.at("slot").get<int>(), planned.slot);
    require_equal("bucket", found.at("bucket").get<std::string>(), bucket.name);
    require_equal("first ordinal", found.at("first").get<int64_t>(),
                  planned.samples.front().ordinal);
    require_equal("number of ids", found.at("ids").size(), planned.samples.size());
    std::map<int64_t, int64_t> attempts;
    for (const json& pair : found.value("replaced", json::array()))
      attempts[pair.at(0).get<int64_t>()] = pair.at(1).get<int64_t>();
    const OpenSource& source = (*part_->sources)[bucket.source];
    for (size_t i = 0; i < planned.samples.size(); ++i) {
      const auto k = attempts.find(static_cast<int64_t>(i));
      sample(found["ids"][i].get<std::string>(), planned.samples[i],
             k == attempts.end() ? 0 : k->second, bucket, source, step);
    }
  }

  void sample(const std::string& id, const PlannedSample& planned, int64_t attempts,
              const BucketPlan& bucket, const OpenSource& source, int64_t step) {
    const auto tried = [&](int64_t k) {
      return bucket.entries[attempted_entry(part_->plan, bucket, planned, k)];
    };
    const auto& wanted = items_.at(source.name);
    const auto& withdrawn = withdrawn_[source.name];
    for (int64_t k = 0; k < attempts; ++k) {
      const bool is_withdrawn =
          bucket.is_withdrawn(attempted_entry(part_->plan, bucket, planned, k)) ||
          withdrawn.contains(source.data.sample(tried(k)).id);
      ++(is_withdrawn ? report_.withdrawn : report_.unreadable);
    }
    const int64_t used = tried(attempts);
    require_equal("sample", id, source.data.sample(used).id);
    require(!withdrawn.contains(id), text("it used ", id, ", which was withdrawn before"));
    if (attempts > 0 && wanted.contains(tried(0))) ++report_.planned;
    ++report_.samples;
    if (!wanted.contains(used)) return;
    ++uses_[step];
    if (report_.first_step == 0) report_.first_step = step;
    report_.first_step = std::min(report_.first_step, step);
    report_.last_step = std::max(report_.last_step, step);
  }

  const std::string& item_;
  const PlanAgain& plan_again_;
  const json& kept_;
  std::shared_ptr<const RunPart> part_;  // at this line; null: before the first start
  std::optional<PlanWalker> walker_;     // of its plan
  std::map<std::string, std::unordered_set<int64_t>> items_;  // by source
  std::map<std::string, std::set<std::string>> withdrawn_;    // ids by source, at this line
  std::vector<uint64_t> digests_{0};                          // running, after so many steps
  std::vector<std::shared_ptr<const RunPart>> parts_{
      nullptr};                      // that made the last of so many steps
  bool is_usable_ = false;           // the item, in some part
  std::map<int64_t, int64_t> uses_;  // by step; rolled-back ones leave
  ReplayReport report_;
};

}  // namespace

json read_plan(const std::string& run) {
  const std::string path = run + "/" + kPlanFile;
  json manifest = read_json(path);
  try {
    plan_from_manifest(manifest);
  } catch (const DataError& error) {
    throw DataError(text(path, ": ", error.what()));
  }
  return manifest;
}

ReplayReport replay(const std::string& run, const std::string& item, const PlanAgain& plan_again) {
  const std::string log = run + "/" + kConsumptionFile;
  const json kept = read_plan(run);
  Replay replay(item, plan_again, kept);
  int64_t number = 0;
  std::string fault;
  const auto take = [&](const json& line) {
    if (!fault.empty()) return;
    ++number;
    try {
      replay.take(line);
    } catch (const DataError& error) {
      fault = error.what();
    } catch (const json::exception& error) {
      fault = text("it is not of the documented form: ", error.what());
    }
  };
  const ChainReport chain = verify_chain(log, "", take);
  if (!fault.empty()) throw DataError(text(log, ", line ", number, ": ", fault));
  if (chain.bad_line > 0) throw DataError(text(log, ", line ", chain.bad_line, ": ", chain.reason));
  try {
    return std::move(replay).finish();
  } catch (const DataError& error) {
    throw DataError(text(run, ": ", error.what()));
  }
}

std::string describe(const ReplayReport& report, const std::string& item) {
  std::string out = fmt::format(
      "replayed {} lines, {} steps, {} samples: each is the plan's, {} replaced for being "
      "withdrawn and {} for being unreadable; {} plan{} made again from configuration and packs\n",
      report.lines, report.steps, report.samples, report.withdrawn, report.unreadable, report.plans,
      report.plans == 1 ? "" : "s");
  if (!report.is_in_data) out += fmt::format("{} is in none of the run's data sets\n", item);
  if (report.is_refused) out += fmt::format("{} was refused at the start: in no plan\n", item);
  if (report.is_held_out)
    out += fmt::format("{} was held out: measured for validation, never trained on\n", item);
  if (report.planned > 0)
    out += fmt::format("{} was planned {} times and replaced each of these times\n", item,
                       report.planned);
  if (report.is_absent()) return out + fmt::format("{} was not consumed\n", item);
  return out +
         fmt::format("{} was consumed {} times, steps {} to {}; {} of them were rolled back\n",
                     item, report.consumed + report.rolled_back, report.first_step,
                     report.last_step, report.rolled_back);
}

}  // namespace pendulum

// The walker goes along the log and both must agree.
#include "provenance/replay.h"

#include <fmt/format.h>

#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <unordered_set>
#include <vector>

#include "core/error.h"
#include "pendulum/walker.h"
#include "provenance/history.h"

namespace pendulum {
namespace {

using nlohmann::json;

constexpr const char* kHashPrefix = "sha256:";

bool is_item(const Sample& sample, const std::string& item) {
  return item.starts_with(kHashPrefix) ? kHashPrefix + sample.sha256 == item : sample.id == item;
}

class Replay {
 public:
  Replay(const Plan& plan, const Sources& sources, const std::string& item)
      : plan_(plan), sources_(sources), walker_(plan) {
    for (const OpenSource& source : sources.open) {
      for (int64_t i = 0; i < source.data.size(); ++i) {
        if (is_item(source.data.sample(i), item)) items_[source.name].insert(i);
      }
      for (const int64_t i : source.validation)
        report_.is_held_out |= items_[source.name].contains(i);
      report_.is_in_data |= !items_[source.name].empty();
    }
    report_.is_refused = report_.is_in_data && !is_usable();
  }

  void take(const json& line) {
    ++report_.lines;
    const std::string event = line.value("event", "");
    if (event == "start" || event == "resume") return begin(line);
    if (event == "deny") return deny(line);
    if (line.contains("step")) return step(line);
    require(event.empty() && report_.lines == 1, text("its event '", event, "' is not known"));
  }

  ReplayReport finish() && {
    for (const auto& [step, count] : uses_) report_.consumed += count;
    return report_;
  }

 private:
  // A line that the plan does not explain; the caller adds path and number.
  static void require(bool holds, const std::string& reason) {
    if (!holds) throw DataError(reason);
  }
  template <class T>
  static void require_equal(const char* what, const T& found, const T& expected) {
    require(found == expected, text("its ", what, " is ", json(found).dump(), ", the plan says ",
                                    json(expected).dump()));
  }

  bool is_usable() const {
    for (const OpenSource& source : sources_.open) {
      const auto& wanted = items_.at(source.name);
      for (const auto* list : {&source.training, &source.validation})
        for (const int64_t i : *list)
          if (wanted.contains(i)) return true;
    }
    return false;
  }

  void begin(const json& line) {
    const int64_t finished = line.at("finished_steps");
    // A run that was changed on its way began with another manifest.
    if (plan_.changes.empty())
      require_equal("plan_hash", line.at("plan_hash").get<std::string>(), plan_.hash());
    require(finished <= static_cast<int64_t>(digests_.size()) - 1,
            text("it goes on from step ", finished, ", the log has ", digests_.size() - 1));
    digests_.resize(finished + 1);
    walker_.seek(position_after(plan_, finished), digests_.back());
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
    require(!walker_.done(), "the plan has no such step");
    const StepPlan planned = walker_.next();
    require_equal("segment", line.at("segment").get<int>(), planned.segment);
    require_equal("t", line.at("t").get<int64_t>(), planned.first_t);
    require_equal("digest", line.at("digest").get<std::string>(),
                  fmt::format("{:016x}", planned.digest));
    require_equal("number of draws", line.at("draws").size(), planned.draws.size());
    for (size_t i = 0; i < planned.draws.size(); ++i)
      draw(line["draws"][i], planned.draws[i],
           plan_.segments[planned.segment].buckets[planned.draws[i].bucket], number);
    digests_.push_back(planned.digest);
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
    const OpenSource& source = sources_[bucket.source];
    for (size_t i = 0; i < planned.samples.size(); ++i) {
      const auto k = attempts.find(static_cast<int64_t>(i));
      sample(found["ids"][i].get<std::string>(), planned.samples[i],
             k == attempts.end() ? 0 : k->second, bucket, source, step);
    }
  }

  void sample(const std::string& id, const PlannedSample& planned, int64_t attempts,
              const BucketPlan& bucket, const OpenSource& source, int64_t step) {
    const auto tried = [&](int64_t k) {
      return bucket.entries[attempted_entry(plan_, bucket, planned, k)];
    };
    const auto& wanted = items_.at(source.name);
    const auto& withdrawn = withdrawn_[source.name];
    for (int64_t k = 0; k < attempts; ++k) {
      const bool is_withdrawn = bucket.is_withdrawn(attempted_entry(plan_, bucket, planned, k)) ||
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

  const Plan& plan_;
  const Sources& sources_;
  PlanWalker walker_;
  std::map<std::string, std::unordered_set<int64_t>> items_;  // by source
  std::map<std::string, std::set<std::string>> withdrawn_;    // ids by source, at this line
  std::vector<uint64_t> digests_{0};                          // running, after so many steps
  std::map<int64_t, int64_t> uses_;                           // by step; rolled-back ones leave
  ReplayReport report_;
};

}  // namespace

ReplayReport replay(const Plan& plan, const Sources& sources, const std::string& log,
                    const std::string& item) {
  Replay replay(plan, sources, item);
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
  return std::move(replay).finish();
}

std::string describe(const ReplayReport& report, const std::string& item) {
  std::string out = fmt::format(
      "replayed {} lines, {} steps, {} samples: each is the plan's, {} replaced for being "
      "withdrawn and {} for being unreadable\n",
      report.lines, report.steps, report.samples, report.withdrawn, report.unreadable);
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

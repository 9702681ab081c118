// One table, read both ways.
#include "model/first_frame_name.h"

#include "core/error.h"

namespace pendulum {
namespace {

struct Named {
  FirstFrame kind;
  const char* name;
};
constexpr Named kNames[] = {{FirstFrame::none, "none"},
                            {FirstFrame::channels, "channels"},
                            {FirstFrame::latent, "first-latent"}};

}  // namespace

std::string first_frame_name(FirstFrame kind) {
  for (const Named& each : kNames) {
    if (each.kind == kind) return each.name;
  }
  check(false, "a way of giving first frames, found ", static_cast<int>(kind));
  return "";
}

std::optional<FirstFrame> first_frame_named(const std::string& name) {
  for (const Named& each : kNames) {
    if (name == each.name) return each.kind;
  }
  return std::nullopt;
}

}  // namespace pendulum

// Names calls for messages and compares them between ranks.
#include "comm/call.h"

#include <ATen/ATen.h>

#include <array>

#include "core/error.h"
#include "core/random.h"

namespace pendulum {
namespace {

constexpr std::array kKindNames{"all_reduce", "all_gather", "reduce_scatter", "all_to_all",
                                "send_recv",  "broadcast",  "barrier",        "split"};
constexpr std::array kReduceNames{"sum", "max", "min"};

bool reduces(CallKind kind) {
  return kind == CallKind::all_reduce || kind == CallKind::reduce_scatter;
}

}  // namespace

std::string Call::name() const {
  return text(kKindNames.at(static_cast<size_t>(kind)), " #", sequence);
}

std::string Call::description() const {
  std::string words = name();
  if (send.defined()) words += text(" of ", send.numel(), " x ", c10::toString(send.scalar_type()));
  if (reduces(kind)) words += text(" (", kReduceNames.at(static_cast<size_t>(reduce)), ")");
  if (kind == CallKind::broadcast) words += text(" from rank ", from);
  return words;
}

uint64_t Call::signature() const {
  const bool equal = send.defined() && kind != CallKind::send_recv;
  return draw(kind, sequence, equal ? static_cast<int64_t>(send.scalar_type()) : -1,
              equal ? send.numel() : -1, reduces(kind) ? static_cast<int>(reduce) : -1,
              kind == CallKind::broadcast ? from : -1);
}

at::Tensor part_of(const at::Tensor& whole, int index, int parts) {
  const at::Tensor flat = whole.view({-1});
  const int64_t count = flat.numel() / parts;
  return flat.narrow(0, index * count, count);
}

std::string call_failure(int rank, int size, const std::string& group, const Call& call,
                         const std::string& what) {
  return text("rank ", rank, " of ", size, " in ", group, ", ", call.description(), ": ", what);
}

}  // namespace pendulum

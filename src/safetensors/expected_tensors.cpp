// Compares names, shapes and types; reads no tensor.
#include "safetensors/expected_tensors.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <set>

#include "core/error.h"

namespace pendulum {
namespace {

// As PyTorch's Python calls them, "float32, bfloat16 or float16".
std::string type_names(at::ArrayRef<at::ScalarType> types) {
  std::string names;
  for (size_t i = 0; i < types.size(); ++i) {
    names += i == 0 ? "" : i + 1 == types.size() ? " or " : ", ";
    names += c10::getDtypeNames(types[i]).first;
  }
  return names.empty() ? "floats" : names;
}

}  // namespace

void require_tensors(const ShardedSafetensors& tensors, const std::vector<ExpectedTensor>& expected,
                     at::ArrayRef<at::ScalarType> types, const std::string& model,
                     const std::vector<std::string>& also) {
  const std::vector<std::string> names = tensors.names();
  std::set<std::string> surplus(names.begin(), names.end());
  for (const auto& [name, shape] : expected) {
    if (surplus.erase(name) == 0)
      throw DataError(text(tensors.path(), ": the tensor ", name, " is missing"));
    const TensorInfo& found = tensors.info(name);
    if (found.shape != shape) {
      throw DataError(text(tensors.path(), ": ", name, " has the shape ",
                           at::IntArrayRef(found.shape), ", expected ", at::IntArrayRef(shape)));
    }
    const bool is_read = types.empty()
                             ? at::isFloatingType(found.dtype)
                             : std::find(types.begin(), types.end(), found.dtype) != types.end();
    if (!is_read) {
      throw DataError(text(tensors.path(), ": ", name, " holds numbers of type ",
                           at::toString(found.dtype), ", expected ", type_names(types)));
    }
  }
  for (const std::string& name : also) surplus.erase(name);
  if (!surplus.empty()) {
    throw DataError(
        text(tensors.path(), ": the tensor ", *surplus.begin(), " has no place in ", model));
  }
}

}  // namespace pendulum

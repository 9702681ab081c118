// The names under which a Wan transformer's parameters are published.
#pragma once
#include <optional>
#include <string>
#include <vector>

namespace pendulum {

// diffusers: WanTransformer3DModel.state_dict(), and ours. original: Wan-AI's repositories and
// ComfyUI's single files, which may put a prefix before every name.
enum class WeightLayout { diffusers, original };

struct NamedLayout {
  WeightLayout layout = WeightLayout::diffusers;
  std::string prefix;  // "model.diffusion_model.", or empty
};

// The layout that these names are in; none where they are no Wan transformer's.
std::optional<NamedLayout> recognise_layout(const std::vector<std::string>& names);

// What diffusers calls `name` in a layout.
std::string name_in(const NamedLayout& layout, const std::string& diffusers_name);

}  // namespace pendulum

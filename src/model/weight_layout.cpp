// One table for the original layout: what stands in diffusers' name, and what in the other.
#include "model/weight_layout.h"

#include <algorithm>
#include <array>
#include <utility>

namespace pendulum {
namespace {

// Of Wan2.1's and 2.2's model.py beside diffusers' transformer_wan.py. Only one of a block's three
// norms has parameters: diffusers' second, the original's third. Longer before what they contain.
constexpr std::array<std::pair<const char*, const char*>, 25> kOriginal{{
    {"condition_embedder.time_embedder.linear_1", "time_embedding.0"},
    {"condition_embedder.time_embedder.linear_2", "time_embedding.2"},
    {"condition_embedder.text_embedder.linear_1", "text_embedding.0"},
    {"condition_embedder.text_embedder.linear_2", "text_embedding.2"},
    {"condition_embedder.time_proj", "time_projection.1"},
    {"condition_embedder.image_embedder.pos_embed", "img_emb.emb_pos"},
    {"condition_embedder.image_embedder.norm1", "img_emb.proj.0"},
    {"condition_embedder.image_embedder.ff.net.0.proj", "img_emb.proj.1"},
    {"condition_embedder.image_embedder.ff.net.2", "img_emb.proj.3"},
    {"condition_embedder.image_embedder.norm2", "img_emb.proj.4"},
    {".attn2.add_k_proj.", ".cross_attn.k_img."},
    {".attn2.add_v_proj.", ".cross_attn.v_img."},
    {".attn2.norm_added_k.", ".cross_attn.norm_k_img."},
    {".attn1.to_q.", ".self_attn.q."},
    {".attn1.to_k.", ".self_attn.k."},
    {".attn1.to_v.", ".self_attn.v."},
    {".attn1.", ".self_attn."},
    {".attn2.to_q.", ".cross_attn.q."},
    {".attn2.to_k.", ".cross_attn.k."},
    {".attn2.to_v.", ".cross_attn.v."},
    {".attn2.", ".cross_attn."},
    {".to_out.0.", ".o."},
    {".ffn.net.0.proj.", ".ffn.0."},
    {".ffn.net.2.", ".ffn.2."},
    {".norm2.", ".norm3."},
}};

std::string original_name(std::string name) {
  if (name == "scale_shift_table") return "head.modulation";
  if (name.starts_with("proj_out.")) return "head.head." + name.substr(9);
  for (const auto& [diffusers, original] : kOriginal) {
    const size_t at = name.find(diffusers);
    if (at != std::string::npos) name.replace(at, std::string(diffusers).size(), original);
  }
  const std::string table = ".scale_shift_table";
  if (name.ends_with(table)) name.replace(name.size() - table.size(), table.size(), ".modulation");
  return name;
}

}  // namespace

std::optional<NamedLayout> recognise_layout(const std::vector<std::string>& names) {
  for (const char* prefix : {"", "model.diffusion_model."}) {
    for (const WeightLayout layout : {WeightLayout::diffusers, WeightLayout::original}) {
      const NamedLayout candidate{layout, prefix};
      // Names that one layout alone has.
      const auto has = [&](const char* name) {
        return std::find(names.begin(), names.end(), name_in(candidate, name)) != names.end();
      };
      if (has("scale_shift_table") && has("blocks.0.attn1.to_q.weight")) return candidate;
    }
  }
  return std::nullopt;
}

std::string name_in(const NamedLayout& layout, const std::string& diffusers_name) {
  return layout.prefix + (layout.layout == WeightLayout::diffusers ? diffusers_name
                                                                   : original_name(diffusers_name));
}

}  // namespace pendulum

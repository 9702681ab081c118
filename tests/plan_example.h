// A small run that plan and walker tests share: two stages, clips of mixed length and stills, cost
// small enough for paper.
#pragma once
#include <string>
#include <vector>

#include "pendulum/plan.h"

namespace pendulum {

inline Geometry small_geometry() {
  Geometry g;
  g.layers = 1;
  g.width = 2;
  g.ffn_dim = 4;
  g.freq_dim = 2;
  g.text_length = 1;
  g.text_dim = 2;
  g.spatial = 4;
  g.temporal = 4;
  g.channels = 3;
  return g;
}

inline StageConfig small_stage(const std::string& name, int frames,
                               std::map<std::string, double> sources) {
  StageConfig stage;
  stage.name = name;
  stage.shape = {frames, 16, 16};
  stage.sources = std::move(sources);
  stage.objective.predict = "x";
  return stage;
}

inline Config small_config() {
  Config config;
  config.run.name = "small";
  config.run.seed = 7;
  config.mesh.slot = 2;
  config.mesh.slots = 4;
  config.mesh.accumulate = 3;
  config.mesh.dwell = 2;
  config.mesh.beat.flops = 6240;
  config.total_flops = 1e7;
  config.sources["clips"] = {};
  config.sources["stills"] = {};
  config.stages.push_back(small_stage("image", 1, {{"stills", 1}}));
  config.stages.back().steps = 20;
  config.stages.push_back(small_stage("low", 5, {{"clips", .75}, {"stills", .25}}));
  config.stages.back().compute = 0.5;
  return config;
}

// Three clips that fill 5 frames, one that fills 1; two stills.
inline std::vector<SourceCatalogue> small_catalogues() {
  return {{"clips", "digest-of-clips", {0, 1, 3, 6}, {{}, {5, 5, 1, 5}}},
          {"stills", "digest-of-stills", {4, 5}, {{1, 1}, {1, 1}}}};
}

inline Plan small_plan() { return make_plan(small_config(), small_catalogues(), small_geometry()); }

}  // namespace pendulum

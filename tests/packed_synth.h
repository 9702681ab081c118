// Stills and clips of synthetic data, packed, as sources of the tests' runs.
#pragma once
#include <string>

#include "data/pack.h"
#include "data/synth.h"

namespace pendulum {

// `count` of each, in `folder`/stills.pack and `folder`/clips.pack.
inline void pack_stills_and_clips(const std::string& folder, int64_t count) {
  SynthOptions synth;
  synth.stills = count;
  synth.clips = count;
  synth.out = folder;
  synthesize(synth);
  for (const char* name : {"stills", "clips"}) {
    PackOptions options;
    options.input = folder + "/" + name + ".jsonl";
    options.out = folder + "/" + name + ".pack";
    pack(options);
  }
}

}  // namespace pendulum

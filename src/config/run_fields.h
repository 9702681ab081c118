// Keys of the sections that say how a run goes: run, mesh, rights, sources, embed, generate. See
// fields.h.
#pragma once
#include "config/config.h"
#include "config/spec.h"

namespace pendulum {

template <class V>
void fields(V& v, RunConfig& c) {
  v(c.name, {.key = "name",
             .pattern = kFileName,
             .pattern_words = kFileNameWords,
             .help = "Name of the run and of its folder."});
  v(c.dir, {.key = "dir",
            .pattern = kSomething,
            .pattern_words = kSomethingWords,
            .may_change = true,
            .help = "Folder that holds the run's folder."});
  v(c.seed, {.key = "seed", .help = "Every random number of the run is a function of it."});
  v(c.validate, {.key = "validate",
                 .may_change = true,
                 .help = "When the held-out samples' loss is measured."});
  v(c.sample, {.key = "sample",
               .may_change = true,
               .help = "When videos are generated for `generate.prompts`."});
  v(c.evaluate,
    {.key = "evaluate",
     .may_change = true,
     .help = "Colour, shape and direction on the fixed held-out captions of the synthetic data."});
  v(c.save, {.key = "save", .may_change = true, .help = "When a checkpoint is saved."});
  v(c.keep, {.key = "keep",
             .range = at_least(1),
             .may_change = true,
             .help = "Checkpoints kept; older ones are deleted after a newer one is complete."});
  v(c.inject,
    {.key = "inject",
     .may_change = true,
     .quiet = true,
     .help = "A fault to inject, for tests (`kill@120`, `drift@5`); empty in real runs."});
}

template <class V>
void fields(V& v, MeshConfig& c) {
  v(c.slot, {.key = "slot",
             .range = at_least(1),
             .unit = "processes",
             .help = "Processes (GPUs) that draw one bucket together."});
  v(c.slots,
    {.key = "slots",
     .range = at_least(1),
     .help =
         "Logical slots: buckets drawn in one micro-step. Part of the run, not of the machine."});
  v(c.accumulate, {.key = "accumulate",
                   .range = at_least(1),
                   .unit = "micro-steps",
                   .help = "Micro-steps in one optimiser step."});
  v(c.dwell,
    {.key = "dwell",
     .range = at_least(1),
     .unit = "micro-steps",
     .help = "Micro-steps for which a slot keeps its place before the places are dealt anew."});
  v(c.beat, {.key = "beat",
             .help = "Target cost of one micro-step of one slot; batch and width of each bucket "
                     "follow from it. "
                     "`none`: every stage gives its `batch`."});
  v(c.threads,
    {.key = "threads",
     .range = at_least(0),
     .may_change = true,
     .help =
         "Threads of a process; 0: its share of the machine's cores. Bit-for-bit resume needs the "
         "same number."});
  v(c.device, {.key = "device",
               .choices = {"auto", "cpu", "cuda"},
               .may_change = true,
               .help = "Where the model trains; `auto`: a GPU where there is one."});
  Flops device_flops{c.device_flops};
  v(device_flops, {.key = "device_flops",
                   .range = above(0),
                   .unit = "FLOP, ... TFLOP in a second",
                   .quiet = true,
                   .help = "What one device does at best; needed for a `beat` in seconds, and what "
                           "MFU is a share of. Not given: the data "
                           "sheet's for known GPUs, for MFU alone."});
  v(c.zero, {.key = "zero",
             .range = between(0, 1),
             .may_change = true,
             .help = "ZeRO level. 0: every process updates all weights. 1: each is updated by one "
                     "process, which alone keeps "
                     "its moments and average."});
  v(c.zero_within,
    {.key = "zero_within",
     .choices = {"world", "slot"},
     .may_change = true,
     .quiet = true,
     .help =
         "Over whom `zero` deals: all processes, or those of each slot, which hold more each but "
         "exchange inside a node."});
  v(c.timeout, {.key = "timeout",
                .range = above(0),
                .unit = "seconds",
                .may_change = true,
                .help = "A collective that takes longer ends the process with a report."});
}

template <class V>
void fields(V& v, RightsConfig& c) {
  v(c.allow, {.key = "allow",
              .pattern = kSomething,
              .pattern_words = kSomethingWords,
              .filled = true,
              .required = true,
              .help = "Licences that may be trained on, as SPDX identifiers or LicenseRef-...; all "
                      "else is refused."});
  v(c.max_unreadable,
    {.key = "max_unreadable",
     .range = between(0, 1),
     .unit = "share",
     .may_change = true,
     .help = "The run stops when more of a source's draws than this cannot be read."});
}

template <class V>
void fields(V& v, SourceConfig& c) {
  v(c.data, {.key = "data",
             .pattern = kSomething,
             .pattern_words = kSomethingWords,
             .required = true,
             .help = "Folder of packed data, from the current directory."});
  v(c.max_epochs, {.key = "max_epochs",
                   .range = at_least(0),
                   .unit = "epochs",
                   .help = "The run stops before a sample repeats more often; 0: no limit."});
  v(c.validation, {.key = "validation",
                   .range = at_least(0),
                   .unit = "samples",
                   .help = "Held out for validation where the data names no split."});
}

template <class V>
void fields(V& v, EmbedConfig& c) {
  v(c.workers, {.key = "workers",
                .range = at_least(1),
                .unit = "threads",
                .help = "Threads of a process that decode and embed ahead of the trainer."});
  v(c.prefetch, {.key = "prefetch",
                 .range = at_least(1),
                 .unit = "passes",
                 .help = "Passes decoded and embedded ahead of the trainer."});
  v(c.cache,
    {.key = "cache",
     .pattern = kSomething,
     .pattern_words = kSomethingWords,
     .help = "Folder of embeddings to use again; `auto`: cache/ in `run.dir`; `off`: none."});
  v(c.cache_limit_gb, {.key = "cache_limit_gb",
                       .range = above(0),
                       .unit = "GB",
                       .help = "The cache's size on disk, at most."});
}

template <class V>
void fields(V& v, GenerateConfig& c) {
  v(c.solver,
    {.key = "solver",
     .choices = {"euler", "ab2"},
     .help =
         "`euler`: first order; `ab2`: two-step Adams-Bashforth, second order, at the same cost."});
  v(c.steps, {.key = "steps", .range = at_least(1), .help = "Steps of the solver."});
  v(c.guidance, {.key = "guidance",
                 .range = at_least(0),
                 .help = "Classifier-free guidance scale (arXiv 2207.12598); 1: none."});
  v(c.shift,
    {.key = "shift",
     .range = above(0),
     .unset = "auto",
     .help = "Shift of the solver's times (arXiv 2403.03206, 5.3.2); `auto`: by resolution."});
  v(c.fps, {.key = "fps",
            .range = between(1, 240),
            .unit = "frames per second",
            .help = "Of written videos."});
  v(c.prompts, {.key = "prompts", .help = "Captions of the videos that `run.sample` makes."});
}

}  // namespace pendulum

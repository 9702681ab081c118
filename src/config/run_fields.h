// Keys of the sections that say how a run goes: run, mesh, rights, sources, embed, generate. See
// fields.h.
#pragma once
#include "config/config.h"
#include "config/spec.h"

namespace pendulum {

// A folder, or a list of them.
struct Folders {
  std::vector<std::string>& paths;
};

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
  v(c.sample_losses,
    {.key = "sample_losses",
     .may_change = true,
     .quiet = true,
     .help = "Whether metrics.jsonl lists the loss of every sample, in the order in which the "
             "consumption log names them."});
  v(c.inject, {.key = "inject",
               .may_change = true,
               .quiet = true,
               .help = "A fault to inject, for tests (`kill@120`, `stop@7`, `stall@9`, `drift@5`); "
                       "empty in real runs."});
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
  v(c.efficiency, {.key = "efficiency",
                   .range = {.low = 0, .high = 1, .open_low = true},
                   .unit = "share of device_flops",
                   .quiet = true,
                   .help = "What a step reaches of it: a `beat` in seconds, and the plan's times "
                           "and costs, go by that."});
  v(c.device_memory_gb, {.key = "device_memory_gb",
                         .range = at_least(0),
                         .unit = "GB",
                         .quiet = true,
                         .help = "Memory of a device for training, which bounds widths and "
                                 "batches; 0: no bound."});
  v(c.slot_gb_per_second,
    {.key = "slot_gb_per_second",
     .range = at_least(0),
     .unit = "GB/s",
     .quiet = true,
     .help = "What a process sends to the others of its slot (NVLink), which attention's exchange "
             "costs; 0: it costs nothing."});
  v(c.network_gb_per_second, {.key = "network_gb_per_second",
                              .range = at_least(0),
                              .unit = "GB/s",
                              .quiet = true,
                              .help = "What a process sends to other slots, which the sum of the "
                                      "gradients costs; 0: it costs nothing."});
  v(c.calibration, {.key = "calibration",
                    .quiet = true,
                    .help = "File of measured costs that `pendulum plan --calibrate` wrote; they "
                            "take the place of `device_flops`, `efficiency` and "
                            "`slot_gb_per_second`. Frozen in the run's plan."});
  v(c.zero, {.key = "zero",
             .range = between(0, 3),
             .may_change = true,
             .help = "ZeRO level. 0: every process updates all weights. 1: each is updated by one "
                     "process, which alone keeps its moments and average. 2: and, between passes, "
                     "its gradient. 3: and the weight itself, which the others get for the time of "
                     "its use."});
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
void fields(V& v, OriginConfig& c) {
  v(c.licence, {.key = "licence",
                .pattern = kSomething,
                .pattern_words = kSomethingWords,
                .required = true,
                .help = "SPDX identifier or LicenseRef-... under which the weights are used."});
  v(c.holder, {.key = "holder",
               .pattern = kSomething,
               .pattern_words = kSomethingWords,
               .required = true,
               .help = "Who holds the rights in them."});
  v(c.basis, {.key = "basis",
              .pattern = kSomething,
              .pattern_words = kSomethingWords,
              .required = true,
              .help = "Why they may be used: where they were published, a contract."});
  v(c.expiry, {.key = "expiry",
               .pattern = "|never|[0-9]{4}-[0-9]{2}-[0-9]{2}",
               .pattern_words = "a day such as 2027-03-31, or never",
               .quiet = true,
               .help = "The last day on which they may be used, or `never`."});
}

template <class V>
void fields(V& v, RightsConfig& c) {
  v(c.allow, {.key = "allow",
              .pattern = kSomething,
              .pattern_words = kSomethingWords,
              .filled = true,
              .required = true,
              .may_change = true,
              .help = "Licences that may be trained on, as SPDX identifiers or LicenseRef-...; all "
                      "else is refused."});
  v(c.policy, {.key = "policy",
               .quiet = true,
               .help = "What else a record must say, as an expression: `not editorial_only and "
                       "expiry > as_of + 365d`. docs/rights.md has the language; empty: nothing."});
  v(c.as_of, {.key = "as_of",
              .pattern = "start|[0-9]{4}-[0-9]{2}-[0-9]{2}",
              .pattern_words = "a day such as 2027-03-31, or start",
              .help = "The day against which expiries are held; `start`: the UTC day on which the "
                      "run began, which a resumed run keeps."});
  v(c.deny, {.key = "deny",
             .pattern = kSomething,
             .pattern_words = kSomethingWords,
             .may_change = true,
             .quiet = true,
             .help = "Files of `id:`, `sha256:` and `phash:` lines that are never trained on, "
                     "whatever their record says."});
  v(c.recheck, {.key = "recheck",
                .may_change = true,
                .help = "When the files of `deny` are read again: a withdrawal takes effect within "
                        "so many steps."});
  v(c.key, {.key = "key",
            .may_change = true,
            .quiet = true,
            .help = "PEM file with the Ed25519 key that signs the consumption log's head in "
                    "checkpoints; empty: not signed."});
  v(c.licensed_only, {.key = "licensed_only",
                      .help = "Refuse imported weights, codecs and text encoders without a "
                              "declared origin, or with one that the policy denies."});
  v(c.origin_policy, {.key = "origin_policy",
                      .quiet = true,
                      .help = "As `policy`, for origins; empty: `allow` and `policy` hold for "
                              "them too."});
  v(c.origins, {.key = "origins",
                .pattern = "model|codec|text|image",
                .pattern_words = "model, codec, text or image",
                .quiet = true,
                .help = "Where weights come from that are not of this run's making: those of "
                        "`model.import`, the codec, the text and the image encoder."});
  v(c.max_unreadable,
    {.key = "max_unreadable",
     .range = between(0, 1),
     .unit = "share",
     .may_change = true,
     .help = "The run stops when more of a source's draws than this cannot be read."});
}

template <class V>
void fields(V& v, SourceConfig& c) {
  Folders data{c.data};
  v(data, {.key = "data",
           .pattern = kSomething,
           .pattern_words = kSomethingWords,
           .required = true,
           .help = "Folder of packed data, from the current directory; or a list of them, of which "
                   "a later one may be added during a run."});
  v(c.max_epochs, {.key = "max_epochs",
                   .range = at_least(0),
                   .unit = "epochs",
                   .help = "The run stops before a sample repeats more often; 0: no limit."});
  v(c.validation, {.key = "validation",
                   .range = at_least(0),
                   .unit = "samples",
                   .help = "Held out for validation where the data names no split."});
  v(c.assume_samples,
    {.key = "assume_samples",
     .range = between(0, 100'000'000),
     .unit = "samples",
     .may_change = true,
     .quiet = true,
     .help = "What `pendulum plan` takes the source to hold, each of its stage's shape, where "
             "`data` is not there. Training never does."});
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
  v(c.images, {.key = "images",
               .quiet = true,
               .help = "Image-to-video models: files of these videos' first frames, one for each "
                       "prompt; empty: none is given."});
}

}  // namespace pendulum

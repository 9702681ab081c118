// The keys of every section, once: parsing, printing, the reference page and the comparison on
// resume walk these lists.
//
// A visitor has v(member, spec) for values and sections, and v.list(members, prototype, spec) for
// lists of sections.
#pragma once
#include "config/config.h"
#include "config/model_fields.h"
#include "config/run_fields.h"
#include "config/spec.h"

namespace pendulum {

// Values of two members, or with a form of their own.
struct Size {  // "32x48"
  int& height;
  int& width;
};
struct FrameCounts {  // 17, or [17, 9]
  int& longest;
  std::vector<int>& lengths;
};
struct Aspects {  // [16:9, 1:1], or auto
  std::vector<Aspect>& listed;
  bool& is_auto;
};
// The map `shape:` of a stage.
struct StageShape {
  Shape& shape;
  double& fps;
  BucketConfig& buckets;
};

template <class V>
void fields(V& v, StageShape& c) {
  FrameCounts frames{c.shape.frames, c.buckets.lengths};
  v(frames,
    {.key = "frames",
     .range = at_least(1),
     .unit = "frames",
     .help = "At most, 4k+1: 1, 5, 9, ...; shorter clips form buckets of their own. A list: "
             "only these lengths. Stills stay one frame."});
  Size size{c.shape.height, c.shape.width};
  v(size, {.key = "size",
           .range = between(1, 16384),
           .unit = "pixels",
           .required = true,
           .help = "Height x width; a multiple of `codec.spatial` times the patch."});
  v(c.fps, {.key = "fps",
            .range = above(0),
            .unit = "frames per second",
            .help = "Rate at which clips are watched; frames are chosen by time stamp."});
  Aspects aspects{c.buckets.aspects, c.buckets.auto_aspects};
  v(aspects,
    {.key = "aspects",
     .quiet = true,
     .help = "Width:height of the buckets' sizes, each at most as large in area as `size`; "
             "a sample goes where least is cropped. `auto`: `size` and the usual ones from "
             "16:9 to 9:16. Not given: `size` alone."});
  v(c.buckets.min_frames, {.key = "min_frames",
                           .range = at_least(1),
                           .unit = "frames",
                           .quiet = true,
                           .help = "Clips that fill fewer are refused, and counted."});
  v(c.buckets.min_scale,
    {.key = "min_scale",
     .range = between(0, 1),
     .quiet = true,
     .help = "Samples whose crop is smaller than this share of the bucket's height and width are "
             "refused, and counted; 1: nothing is enlarged."});
}

template <class V>
void fields(V& v, StageConfig& c) {
  v(c.name, {.key = "name",
             .pattern = kName,
             .pattern_words = kNameWords,
             .required = true,
             .help = "Unlike the other stages' names."});
  v(c.compute, {.key = "compute",
                .range = {.low = 0, .high = 1, .open_low = true},
                .unit = "share",
                .may_change = true,
                .quiet = true,
                .help = "Share of `total_flops`. Each stage has either `compute` or `steps`."});
  v(c.steps, {.key = "steps",
              .range = at_least(1),
              .unit = "optimiser steps",
              .may_change = true,
              .quiet = true,
              .help = "The stage's length, instead of `compute`."});
  v(c.sources,
    {.key = "sources",
     .range = at_least(0),
     .filled = true,
     .required = true,
     .may_change = true,
     .help = "Weight of each source; they need not sum to 1. `weights` says what they count."});
  StageShape shape{c.shape, c.fps, c.buckets};
  v(shape, {.key = "shape",
            .required = true,
            .help = "The largest shape: short clips train with fewer frames."});
  v(c.shapes, {.key = "shapes",
               .unit = "frames x pixels x pixels",
               .quiet = true,
               .help = "Shape by source where it is not the stage's, such as `{stills: "
                       "1x256x256}`."});
  v(c.batch, {.key = "batch",
              .range = at_least(1),
              .unit = "samples",
              .may_change = true,
              .quiet = true,
              .help = "Samples of a group in one micro-step, by source; else from `mesh.beat`."});
  v(c.width, {.key = "width",
              .range = at_least(1),
              .unit = "processes",
              .may_change = true,
              .quiet = true,
              .help = "Processes that share one sample, by source; divides `mesh.slot`; else from "
                      "`mesh.beat`."});
  v(c.optim, {.key = "optim", .quiet = true, .help = "Keys of `optim` that differ in this stage."});
  v(c.objective,
    {.key = "objective", .quiet = true, .help = "Keys of `objective` that differ in this stage."});
}

template <class V>
void fields(V& v, Config& c) {
  v(c.version, {.key = "version",
                .range = between(1, 1),
                .required = true,
                .help = "Version of this file's form: 1."});
  Flops total{c.total_flops};
  v(total, {.key = "total_flops",
            .range = above(0),
            .unit = "FLOP, ... TFLOP, PFLOP, EFLOP",
            .may_change = true,
            .quiet = true,
            .help = "Training work of the whole run; needed where stages have `compute`."});
  v(c.weights, {.key = "weights",
                .choices = {"samples", "tokens", "draws"},
                .help = "What the sources' weights count."});
  v(c.run, {.key = "run", .help = "Name, place and rhythm of the run."});
  v(c.mesh, {.key = "mesh", .help = "How work is dealt to processes."});
  v(c.model, {.key = "model", .help = "The video transformer."});
  v(c.lora, {.key = "lora", .help = "Low-rank adapters in place of training all weights."});
  v(c.codec, {.key = "codec", .help = "From frames to latents and back."});
  v(c.text, {.key = "text", .help = "From captions to text states."});
  v(c.image, {.key = "image", .help = "From a first frame to image states."});
  v(c.rights, {.key = "rights", .required = true, .help = "What may be trained on."});
  v(c.embed,
    {.key = "embed", .may_change = true, .help = "Decoding and embedding ahead of the trainer."});
  v(c.generate,
    {.key = "generate", .may_change = true, .help = "How videos are generated during the run."});
  v(c.objective,
    {.key = "objective", .help = "Flow matching; a stage may lay its own keys over these."});
  v(c.optim, {.key = "optim", .help = "Optimiser; a stage may lay its own keys over these."});
  v(c.sources, {.key = "sources",
                .pattern = kName,
                .pattern_words = kNameWords,
                .filled = true,
                .required = true,
                .may_change = true,
                .help = "Sets of samples, each under a name of its own."});
  const StageConfig prototype{.optim = c.optim, .objective = c.objective};
  v.list(c.stages, prototype,
         {.key = "stages",
          .filled = true,
          .required = true,
          .help = "Trained one after the other; the program hands everything over."});
}

// A struct with keys of its own.
struct AnyVisitor {
  template <class T>
  void operator()(T& member, const Spec& spec);
};
template <class T>
concept Section = requires(AnyVisitor& v, T& t) {
  fields(v, t);
};

}  // namespace pendulum

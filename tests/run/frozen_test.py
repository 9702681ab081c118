"""Whole runs beside frozen weights in few bytes and beside blocks that wait in host memory: resume, processes, export."""
import signal
import sys
import unittest

import numpy
from program import Program
from safetensors.numpy import load_file, save_file

BINARY = sys.argv.pop(1)
LORA = ["--set", "model.import=published", "--set", "lora.rank=4", "--set", "lora.alpha=8", "--set", "optim.lr=1e-2",
        "--stage", "low-res"]
INT8 = [*LORA, "--set", "model.frozen_precision=int8"]


class FrozenWeights(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.program = Program(BINARY)
        cls.program.make_data()
        cls.program.train("--stage", "image", name="base")
        cls.program.run("export", "runs/base", "published")
        cls.program.train(*LORA, name="full")
        cls.whole = cls.program.train(*INT8, name="whole")

    @classmethod
    def tearDownClass(cls):
        cls.program.temporary.cleanup()

    def weights(self, folder):
        [file] = (self.program.dir / folder).glob("*.safetensors")
        return load_file(file)

    def losses(self, name):
        metrics = self.program.metrics(name)
        return [metrics[step]["loss"] for step in sorted(metrics)]

    def same(self, name, bits=True):
        want, found = self.program.metrics("whole"), self.program.metrics(name)
        self.assertEqual(sorted(found), sorted(want))
        for step in want:
            self.assertEqual(found[step]["digest"], want[step]["digest"])
            self.assertAlmostEqual(found[step]["loss"], want[step]["loss"], delta=0 if bits else 1e-4 * want[step]["loss"])

    def test_the_start_says_what_is_stored_how(self):
        tensors = self.weights("published/transformer")
        matrices = sum(t.size for name, t in tensors.items() if name.startswith("blocks.") and t.ndim == 2)
        everything = sum(t.size for t in tensors.values())
        self.assertIn(f"{everything} numbers are frozen: {everything - matrices} as fp32, ", self.whole.stdout)
        self.assertIn(f"and {matrices} in matrices of blocks as int8 with a scale for every 64, ", self.whole.stdout)

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
        self.program.run("export", "runs/whole", "merged", "--raw")
        self.program.run("export", "runs/whole", "adapter", "--adapter", "--raw")
        base, merged, adapter = self.weights("published/transformer"), self.weights("merged/transformer"), self.weights("adapter")
        layers = {name[:-len(".lora_A.weight")] for name in adapter if name.endswith(".lora_A.weight")}
        self.assertTrue(layers)
        for name in base:
            difference = merged[name] - base[name]
            layer = "transformer." + name.removesuffix(".weight")
            want = numpy.zeros_like(difference)
            if layer in layers:
                want = 2 * adapter[layer + ".lora_B.weight"] @ adapter[layer + ".lora_A.weight"]  # alpha 8 / rank 4
                self.assertGreater(abs(want).max(), 0, name)
            self.assertLessEqual(abs(difference - want).max(), 1e-6, name)
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
        [file] = (self.program.dir / "published/transformer").glob("*.safetensors")
        kept = file.read_bytes()
        tensors = load_file(file)
        tensors["blocks.1.ffn.net.2.weight"][3, 4] = numpy.nan
        save_file(tensors, file, {"format": "pt"})
        try:
            done = self.program.train(*INT8, name="nan", expect=1)
            self.assertIn("blocks.1.ffn.net.2.weight holds values that are not finite", done.stderr)
        finally:
            file.write_bytes(kept)


if __name__ == "__main__":
    unittest.main(verbosity=2)

"""Whole runs with moments in 8 bits and averages in host memory: to the bit, dealt or not, and what is refused."""
import sys
import unittest

from program import Program
from safetensors.numpy import load_file

BINARY = sys.argv.pop(1)
BYTES = ["--set", "optim.kind=adamw8bit", "--set", "model.ffn_dim=256"]  # blocks have matrices of 8192 numbers
HOST = ["--set", "optim.ema_memory=host"]


class Moments(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.program = Program(BINARY)
        cls.program.make_data()
        cls.program.train(*BYTES, name="whole")

    @classmethod
    def tearDownClass(cls):
        cls.program.temporary.cleanup()

    def saved(self, name, what):
        newest = max((self.program.dir / "runs" / name / "checkpoints").glob("step-*"))
        return load_file(newest / f"{what}.safetensors")

    def measured(self, name):
        return [{k: r.get(k) for k in ("step", "digest", "loss", "gradient_norm", "validation_loss")}
                for r in self.program.records(name)]

    def same(self, name, as_in):
        self.assertEqual(self.measured(name), self.measured(as_in))
        for what in ("model", "ema", "optimizer"):
            want, found = self.saved(as_in, what), self.saved(name, what)
            self.assertEqual(sorted(found), sorted(want))
            for tensor, values in want.items():
                self.assertEqual(found[tensor].dtype, values.dtype, tensor)
                self.assertEqual(found[tensor].tobytes(), values.tobytes(), tensor)

    def test_a_checkpoint_holds_bytes_and_scales(self):
        state = self.saved("whole", "optimizer")
        matrix = "blocks.0.ffn.net.0.proj.weight"
        self.assertEqual([str(state[f"{moment}.{matrix}"].dtype) for moment in "mv"], ["uint8", "uint8"])
        self.assertEqual([state[f"{moment}_scale.{matrix}"].shape for moment in "mv"], [(32,), (32,)])
        self.assertGreater(state[f"v_scale.{matrix}"].min(), 0)
        self.assertEqual(str(state["m.blocks.0.ffn.net.0.proj.bias"].dtype), "float32")

    def test_a_run_goes_on_to_the_bit_and_its_average_moves(self):
        self.program.train(*BYTES, *HOST, "--stage", "image", name="moved")
        self.program.train(*BYTES, "--stage", "low-res", name="moved")
        self.program.train(*BYTES, *HOST, name="moved")
        self.same("moved", "whole")

    def test_dealt_updates_train_the_same(self):
        self.program.train(*BYTES, name="plain", processes=2)
        self.program.train(*BYTES, *HOST, "--set", "mesh.zero=1", name="dealt", processes=2)
        self.same("dealt", "plain")

    def test_a_run_keeps_its_kind(self):
        self.program.train(*BYTES, "--stage", "image", name="kept")
        done = self.program.train(*BYTES, "--set", "optim.kind=adamw", name="kept", expect=2)
        self.assertIn("optim.kind", done.stdout + done.stderr)


if __name__ == "__main__":
    unittest.main()

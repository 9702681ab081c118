"""Whole runs that train adapters beside a model that was exported before: resume, processes, what is saved and handed over."""
import signal
import sys
import unittest

from program import Program
from safetensors.numpy import load_file, save_file

BINARY = sys.argv.pop(1)
LORA = ["--set", "model.import=published", "--set", "lora.rank=4", "--set", "lora.alpha=8", "--set", "optim.lr=1e-2",
        "--stage", "low-res"]


class Adapters(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.program = Program(BINARY)
        cls.program.make_data()
        cls.program.train("--stage", "image", name="base")
        cls.program.run("export", "runs/base", "published")
        cls.program.train(*LORA, name="whole")

    @classmethod
    def tearDownClass(cls):
        cls.program.temporary.cleanup()

    def weights(self, folder, name="*.safetensors"):
        [file] = (self.program.dir / folder).glob(name)
        return load_file(file)

    def same(self, name, bits):
        want, found = self.program.metrics("whole"), self.program.metrics(name)
        self.assertEqual(sorted(found), sorted(want))
        for step in want:
            self.assertEqual(found[step]["digest"], want[step]["digest"])
            self.assertAlmostEqual(found[step]["loss"], want[step]["loss"], delta=0 if bits else 1e-4 * want[step]["loss"])

    def test_a_killed_run_goes_on_to_the_bit(self):
        self.program.train(*LORA, "--set", "run.inject=kill@5", name="killed", expect=-signal.SIGKILL)
        self.program.train(*LORA, name="killed")
        self.same("killed", bits=True)

    def test_processes_train_the_same_and_dealt_updates_too(self):
        self.program.train(*LORA, name="two", processes=2)
        self.same("two", bits=False)
        self.program.train(*LORA, "--set", "mesh.zero=1", "--set", "model.activation_checkpointing=full", name="dealt",
                           processes=2)
        want, found = self.program.metrics("two"), self.program.metrics("dealt")
        losses = lambda metrics: [metrics[s]["loss"] for s in sorted(metrics)]
        self.assertEqual(losses(found), losses(want))
        # The frozen weights are dealt as well at level 3; levels 2 and 3 add in the same order.
        for level in (2, 3):
            self.program.train(*LORA, "--set", f"mesh.zero={level}", name=f"level{level}", processes=2)
            self.same(f"level{level}", bits=False)
        self.assertEqual(losses(self.program.metrics("level3")), losses(self.program.metrics("level2")))

    def test_checkpoints_hold_the_adapters_alone(self):
        [checkpoint, *_] = sorted((self.program.dir / "runs/whole/checkpoints").glob("step-*"))
        names = {name for file in checkpoint.glob("*.safetensors") for name in load_file(file)}
        self.assertTrue(any(".lora_A.weight" in name for name in names), names)
        self.assertFalse(any(".lora_" not in name and ".weight" in name for name in names), names)

    def test_other_weights_under_the_same_name_are_refused(self):
        self.program.train(*LORA[:-1], "image", name="moved")
        [file] = (self.program.dir / "published/transformer").glob("*.safetensors")
        kept = file.read_bytes()
        tensors = load_file(file)
        tensors["proj_out.bias"] += 1
        save_file(tensors, file, {"format": "pt"})
        try:
            done = self.program.train(*LORA, name="moved", expect=2)
            self.assertIn("are not those beside which this run's adapters were trained", done.stderr)
            done = self.program.run("sample", "runs/moved", "--out", "drawn", expect=1)
            self.assertIn("beside which its adapters were trained", done.stderr)
        finally:
            file.write_bytes(kept)

    def test_export_merges_or_writes_the_adapters(self):
        self.program.run("export", "runs/whole", "merged", "--raw")
        self.program.run("export", "runs/whole", "adapter", "--adapter", "--raw")
        self.program.run("export", "runs/whole", "comfy", "--adapter", "--format", "comfyui")
        base, merged = self.weights("published/transformer"), self.weights("merged/transformer")
        adapter = self.weights("adapter")
        self.assertEqual(base.keys(), merged.keys())
        layers = {name[:-len(".lora_A.weight")] for name in adapter if name.endswith(".lora_A.weight")}
        for name in base:
            difference = merged[name] - base[name]
            layer = "transformer." + name.removesuffix(".weight")
            if layer not in layers:
                self.assertEqual(abs(difference).max(), 0, name)
                continue
            want = 2 * adapter[layer + ".lora_B.weight"] @ adapter[layer + ".lora_A.weight"]  # alpha 8 / rank 4
            self.assertGreater(abs(want).max(), 0, name)
            self.assertLessEqual(abs(difference - want).max(), 1e-6, name)
        comfy = self.weights("comfy")
        self.assertEqual(comfy["diffusion_model.blocks.0.self_attn.q.alpha"], 8)
        self.program.run("sample", "merged", "--out", "clip", "--steps", "1")
        done = self.program.run("export", "runs/base", "none", "--adapter", expect=2)
        self.assertIn("trained all weights, not adapters", done.stderr)

    def test_adapters_want_weights_to_stand_beside(self):
        done = self.program.train("--set", "lora.rank=4", name="alone", expect=2)
        self.assertIn("name them in model.import", done.stderr)
        done = self.program.train(*LORA, "--set", "lora.targets=[to_w]", name="alone", expect=2)
        self.assertIn('lora.targets: "to_w" is no linear layer', done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)

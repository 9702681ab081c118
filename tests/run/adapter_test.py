"""Whole runs that train adapters beside a model that was exported before: resume, processes, what is saved and handed over."""
import signal
import sys
import unittest

from published import LORA, PublishedRuns
from safetensors.numpy import load_file

BINARY = sys.argv.pop(1)


class Adapters(PublishedRuns):
    binary = BINARY

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.program.train(*LORA, name="whole")

    def test_a_killed_run_goes_on_to_the_bit(self):
        self.program.train(*LORA, "--set", "run.inject=kill@5", name="killed", expect=-signal.SIGKILL)
        self.program.train(*LORA, name="killed")
        self.same("killed")

    def test_processes_train_the_same_and_dealt_updates_too(self):
        self.program.train(*LORA, name="two", processes=2)
        self.same("two", bits=False)
        self.program.train(*LORA, "--set", "mesh.zero=1", "--set", "model.activation_checkpointing=full", name="dealt",
                           processes=2)
        self.assertEqual(self.losses("dealt"), self.losses("two"))
        # The frozen weights are dealt as well at level 3; levels 2 and 3 add in the same order.
        for level in (2, 3):
            self.program.train(*LORA, "--set", f"mesh.zero={level}", name=f"level{level}", processes=2)
            self.same(f"level{level}", bits=False)
        self.assertEqual(self.losses("level3"), self.losses("level2"))

    def test_checkpoints_hold_the_adapters_alone(self):
        [checkpoint, *_] = sorted((self.program.dir / "runs/whole/checkpoints").glob("step-*"))
        names = {name for file in checkpoint.glob("*.safetensors") for name in load_file(file)}
        self.assertTrue(any(".lora_A.weight" in name for name in names), names)
        self.assertFalse(any(".lora_" not in name and ".weight" in name for name in names), names)

    def test_other_weights_under_the_same_name_are_refused(self):
        self.program.train(*LORA[:-1], "image", name="moved")
        def move(tensors):
            tensors["proj_out.bias"] += 1

        with self.changed_weights("published/transformer", move):
            done = self.program.train(*LORA, name="moved", expect=2)
            self.assertIn("are not those beside which this run's adapters were trained", done.stderr)
            done = self.program.run("sample", "runs/moved", "--out", "drawn", expect=1)
            self.assertIn("beside which its adapters were trained", done.stderr)

    def test_export_merges_or_writes_the_adapters(self):
        self.merged_into_published("whole")
        self.program.run("export", "runs/whole", "comfy", "--adapter", "--format", "comfyui")
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

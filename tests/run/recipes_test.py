"""Every file of configs/ plans without data and weights, fits its device, and has the published models' sizes."""
import json
import pathlib
import re
import shutil
import sys
import unittest

from program import Program

BINARY = sys.argv.pop(1)
CONFIGS = sorted((pathlib.Path(__file__).parents[2] / "configs").glob("*.yaml"))

# Numbers of diffusers' WanTransformer3DModel with the published config.json files.
PUBLISHED = {"lora-1.3b-24gb": 1_418_996_800, "full-1.3b-24gb": 1_418_996_800,
             "lora-5b-24gb": 4_999_787_712,
             "lora-14b-24gb": 14_288_491_584, "full-14b-8gpu": 14_288_491_584, "i2v-14b-lora": 16_394_878_784}


class Recipes(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.program = Program(BINARY)
        shutil.copytree(CONFIGS[0].parent, cls.program.dir / "configs")
        cls.plans = {}

    @classmethod
    def tearDownClass(cls):
        cls.program.temporary.cleanup()

    def plan(self, name):
        """The plan in a folder where nothing else is, as text and warnings, and as figures."""
        if name not in self.plans:
            path = f"configs/{name}.yaml"
            done = self.program.run("plan", path, "--json", "plan.json", "--micro-steps", 50, *self.assumed(path))
            self.plans[name] = done, json.loads((self.program.dir / "plan.json").read_text())
        return self.plans[name]

    def assumed(self, path):
        """Those whose data a script makes do not say how much of it there is."""
        resolved = self.program.run("config", path).stdout
        if "assume_samples" in (self.program.dir / path).read_text():
            return []
        names = re.findall(r"^  (\w+):", resolved.split("\nsources:\n")[1].split("\nstages:")[0], re.M)
        self.assertTrue(names, resolved)
        return [word for name in names for word in ("--set", f"sources.{name}.assume_samples=1000")]

    def test_all_plan_and_fit(self):
        self.assertGreaterEqual(len(CONFIGS), 10)
        for path in CONFIGS:
            with self.subTest(path.stem):
                _, plan = self.plan(path.stem)
                limit = plan["device_memory_bytes"]
                for stage in plan["stages"]:
                    memory = stage["memory"]
                    parts = sum(memory[p] for p in ("weights", "gradients", "moments", "average", "activations"))
                    self.assertAlmostEqual(parts, memory["total"], delta=1)
                if limit > 0:
                    most = max(stage["memory"]["total"] for stage in plan["stages"])
                    self.assertLessEqual(most, limit)
                    self.assertGreater(most, 0.7 * limit, "a smaller card would do")

    def test_published_sizes(self):
        for name, number in PUBLISHED.items():
            with self.subTest(name):
                done, plan = self.plan(name)
                self.assertEqual(plan["parameters"], number)
                self.assertIn(f"model: {number:,} parameters", done.stdout)
                self.assertIn("planned with the sizes of model.preset", done.stderr)
                if name.startswith("full"):
                    self.assertEqual(plan["parameters_trained"], number)
                    self.assertIn(f"{number:,} of {number:,} parameters train", done.stdout)
                else:
                    self.assertEqual(plan["parameters_trained"], plan["parameters_of_adapters"])
                    self.assertIn(f"{plan['parameters_trained']:,} of ", done.stdout)

    def test_training_refuses_what_a_plan_takes_from_the_preset(self):
        self.program.make_data(stills=40, clips=40)
        missing = ["--set", "model.import=nowhere"]
        planned = self.program.run("plan", self.program.config, *missing)
        self.assertIn("not there: model.import nowhere", planned.stderr)
        self.assertIn("model.preset wan-tiny", planned.stderr)
        refused = self.program.run("train", self.program.config, *missing, expect=2)
        self.assertIn("model.import: nowhere: there is no such file or folder", refused.stderr)


if __name__ == "__main__":
    unittest.main()

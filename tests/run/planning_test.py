"""What a run would be like: figures as JSON, a page with plots, costs measured and used, plans without data."""
import json
import re
import sys
import unittest
import xml.etree.ElementTree

from program import Program

BINARY = sys.argv.pop(1)
TWO_STAGES = ["--set", "stages.mid-res.shape.size=32x32", "--set", "stages.high-res.shape.size=32x32",
              "--set", "stages.high-res.shape.frames=9"]


class Plans(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.program = Program(BINARY)
        cls.program.make_data(stills=40, clips=40)

    @classmethod
    def tearDownClass(cls):
        cls.program.temporary.cleanup()

    def figures(self, *words):
        self.program.run("plan", self.program.config, "--json", "plan.json", *words)
        return json.loads((self.program.dir / "plan.json").read_text())

    def test_figures_as_json(self):
        plan = self.figures("--set", "mesh.device_flops=50 GFLOP", "--price", "2.5")
        self.assertEqual([s["name"] for s in plan["stages"]], ["image", "low-res", "mid-res", "high-res"])
        self.assertAlmostEqual(sum(s["flops"] for s in plan["stages"]), plan["flops"], delta=1e-9 * plan["flops"])
        self.assertAlmostEqual(sum(s["share_of_flops"] for s in plan["stages"]), 1)
        self.assertAlmostEqual(plan["dollars"], plan["seconds"] / 3600 * plan["processes"] * 2.5)
        self.assertEqual(plan["parameters_trained"], plan["parameters"])
        for stage in plan["stages"]:
            memory = stage["memory"]
            self.assertAlmostEqual(memory["weights"] + memory["gradients"] + memory["moments"] + memory["average"],
                                   plan["state_bytes"])
            self.assertAlmostEqual(memory["total"], max(b["memory_bytes"] for b in stage["buckets"]))
            self.assertAlmostEqual(sum(b["share_of_flops"] for b in stage["buckets"]), 1)
            self.assertAlmostEqual(sum(b["share_of_samples_simulated"] for b in stage["buckets"]), 1)
            layouts = stage["simulation"]["layouts"]
            self.assertEqual(layouts[0]["name"], "pendulum")
            self.assertEqual(len(layouts), 7)  # slots of one have no widths to choose from
            self.assertTrue(all(0 < l["balance"] <= 1 + 1e-9 for l in layouts))

    def test_page_is_well_formed_and_alone(self):
        self.program.run("plan", self.program.config, "--html", "plan.html", "--price", "2")
        page = (self.program.dir / "plan.html").read_text()
        self.assertNotRegex(page, r"(?i)<script|https?://|@import|url\(")
        drawings = re.findall(r"<svg.*?</svg>", page, re.S)
        self.assertEqual(len(drawings), 1 + 4 * 8)
        for drawing in drawings:
            xml.etree.ElementTree.fromstring(drawing)
            self.assertNotIn("nan", drawing)
            self.assertNotIn("inf", drawing)

    def test_measured_costs_decide_batches_and_stay_with_the_run(self):
        costs = self.program.dir / "costs.json"
        measured = ["--set", f"mesh.calibration={costs}"]
        done = self.program.run("plan", self.program.config, "--calibrate", *measured, *TWO_STAGES, processes=2,
                                timeout=120)
        self.assertRegex(done.stdout, r"error of the fit: median +[0-9.]+ %, worst +[0-9.]+ %")
        saved = json.loads(costs.read_text())
        self.assertEqual(saved["format"], 1)
        self.assertEqual({p["width"] for p in saved["passes"]}, {1})  # mesh.slot is 1
        self.assertGreater(saved["cost"]["flops_per_second"], 0)
        plan = self.figures(*measured, *TWO_STAGES)
        self.assertIn(saved["date"], plan["cost_model"]["measured"])
        self.assertEqual(plan["cost_model"]["flops_per_second"], saved["cost"]["flops_per_second"])
        # A run goes on with the costs that it began with, whatever became of the file.
        self.program.train(*measured, *TWO_STAGES, "--stage", "image", name="measured")
        costs.unlink()
        before = (self.program.dir / "runs/measured/plan.json").read_text()
        self.program.train(*measured, *TWO_STAGES, "--stage", "low-res", name="measured")
        self.assertEqual((self.program.dir / "runs/measured/plan.json").read_text(), before)

    def test_captions_that_diffusers_would_not_take_are_told_before_the_run(self):
        text = self.program.config.read_text()
        for line, other in (("codec: {kind: haar, spatial: 4, temporal: 4, drop: 1}", "codec: {kind: wan, weights: nowhere}"),
                            ("text: {kind: minilm, length: 16}", "text: {kind: umt5, weights: nowhere}\nimage: {kind: clip, weights: nowhere}"),
                            ("model: {", "model: {image_to_video: channels, ")):
            self.assertIn(line, text)
            text = text.replace(line, other)
        path = self.program.dir / "states.yaml"
        path.write_text(text)
        warning = "warning: diffusers will not be able to draw with the exported model: it attends to image states"
        for words, times in ((["--set", "text.length=256"], 1), (["--set", "text.length=512"], 0)):
            done = self.program.run("plan", path, *words)
            self.assertEqual(done.stderr.count(warning), times, done.stderr)
            # Training has no such encoders here, and says the same before it finds out.
            done = self.program.run("train", path, *words, processes=2, expect=2)
            self.assertEqual(done.stderr.count(warning), times, done.stderr)
        done = self.program.run("plan", self.program.config, "--set", "text.length=256")
        self.assertNotIn("diffusers", done.stderr)

    def test_without_data(self):
        text = self.program.config.read_text().replace("data/clips.pack,", "data/nowhere.pack, assume_samples: 500,")
        path = self.program.dir / "assumed.yaml"
        path.write_text(text)
        done = self.program.run("plan", path)
        self.assertIn("source clips is taken to hold 500 samples", done.stderr)
        self.assertIn("clips/17x64x64", done.stdout)
        self.assertIn("nowhere.pack", self.program.run("train", path, expect=1).stderr)


if __name__ == "__main__":
    unittest.main()

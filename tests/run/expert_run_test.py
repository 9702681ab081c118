"""Whole runs of one expert of a pair that shares the noise, as Wan 2.2's A14B: its times, its partner, export and drawing with both."""
import json
import shutil
import sys
import unittest

from published import PublishedRuns
from safetensors.numpy import load_file, save_file

BINARY = sys.argv.pop(1)
BOUNDARY = 0.8


class Experts(PublishedRuns):
    binary = BINARY
    published = "pair"
    export_words = ("--raw",)

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        folder = cls.program.dir / cls.published
        shutil.copytree(folder / "transformer", folder / "transformer_2")
        file = cls.file_in("pair/transformer_2")
        tensors = load_file(file)
        tensors["proj_out.bias"] = tensors["proj_out.bias"] + 1  # another model
        save_file(tensors, file, {"format": "pt"})
        (folder / "model_index.json").write_text(json.dumps({"boundary_ratio": BOUNDARY}))
        for expert in ("high", "low"):
            cls.program.train(*cls.words(expert), name=expert)

    @staticmethod
    def words(expert):
        return ["--set", "model.import=pair", "--set", f"model.expert={expert}", "--set", "run.sample=never", "--stage", "image"]

    def test_an_expert_is_trained_and_validated_at_its_times_alone(self):
        for expert, times in (("high", {"0.9"}), ("low", {"0.1", "0.3", "0.5", "0.7"})):
            found = [r["validation"] for r in self.program.records(expert) if "validation" in r]
            self.assertTrue(found)
            for validation in found:
                self.assertEqual(set(validation["stills"]), times)

    def test_an_export_holds_the_trained_one_and_its_partner(self):
        for expert, own, other in (("high", "transformer", "transformer_2"), ("low", "transformer_2", "transformer")):
            self.program.run("export", f"runs/{expert}", f"{expert}-export", "--raw")
            want, found = self.weights(f"pair/{other}"), self.weights(f"{expert}-export/{other}")
            self.assertEqual(want.keys(), found.keys())
            self.assertTrue(all((want[name] == found[name]).all() for name in want))
            before, after = self.weights(f"pair/{own}"), self.weights(f"{expert}-export/{own}")
            self.assertTrue(any((before[name] != after[name]).any() for name in before))
            record = json.loads((self.program.dir / f"{expert}-export/pendulum.json").read_text())
            self.assertEqual(record["experts"], {"trained": expert, "boundary": BOUNDARY})
            # And it is a pair to go on from.
            self.program.train("--set", f"model.import={expert}-export", "--set", "model.expert=low", "--set", "run.sample=never",
                               "--stage", "image", name=f"{expert}-again")

    def test_clips_are_drawn_with_both(self):
        draw = ["--prompt", "a red circle", "--frames", "1", "--steps", "8"]
        self.program.run("sample", "runs/high", "--out", "run.png", *draw, "--raw")
        self.program.run("export", "runs/high", "drawn-export", "--raw")
        self.program.run("sample", "drawn-export", "--out", "export.png", *draw)
        image = lambda name: (self.program.dir / name).read_bytes()

        def move(tensors):
            tensors["proj_out.bias"] -= 3

        self.assertEqual(image("run.png"), image("export.png"))
        for part in ("transformer", "transformer_2"):
            with self.changed_weights(f"drawn-export/{part}", move):
                self.program.run("sample", "drawn-export", "--out", f"{part}.png", *draw)
            self.assertNotEqual(image(f"{part}.png"), image("export.png"), part)

    def test_what_cannot_be_is_refused(self):
        base = ["--stage", "image", "--set", "run.sample=never"]
        for words, message in (
            (["--set", "model.import=pair"], "holds a pair that shares the noise between it: name the one"),
            (["--set", "model.expert=high"], "name the pair in model.import"),
            (["--set", "model.import=pair", "--set", "model.expert=high", "--set", "run.sample=every stage"],
             "one expert of a pair cannot draw alone"),
        ):
            done = self.program.train(*base, *words, name="refused", expect=2)
            self.assertIn(message, done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)

"""Whole runs of image-to-video models: both ways of giving a first frame, resume, processes, drawing from images, export."""
import signal
import sys
import unittest

from program import Program

BINARY = sys.argv.pop(1)
KINDS = {
    "channels": ["--set", "model.image_to_video=channels"],
    "first-latent": ["--set", "model.image_to_video=first-latent", "--set", "model.per_token_time=true"],
}


class FirstFrames(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.program = Program(BINARY)
        cls.program.make_data()
        stills = sorted((cls.program.dir / "data").rglob("*.png"))
        cls.still = next(iter(stills), None)
        for kind, words in KINDS.items():
            cls.program.train(*words, "--set", f"generate.images=[{cls.still}]", "--stage", "low-res", name=kind)

    @classmethod
    def tearDownClass(cls):
        cls.program.temporary.cleanup()

    def same(self, name, other, share=0.0):
        found, want = self.program.metrics(name), self.program.metrics(other)
        self.assertEqual(found.keys(), want.keys())
        for step in want:
            self.program.same_losses(self, found[step], want[step], share)

    def test_a_killed_run_goes_on_to_the_bit(self):
        for kind, words in KINDS.items():
            common = [*words, "--set", f"generate.images=[{self.still}]", "--stage", "low-res"]
            self.program.train(*common, "--set", "run.inject=kill@7", name=f"{kind}-killed", expect=-signal.SIGKILL)
            self.program.train(*common, name=f"{kind}-killed")
            self.same(f"{kind}-killed", kind)

    def test_processes_train_the_same(self):
        for kind, words in KINDS.items():
            self.program.train(*words, "--stage", "low-res", "--set", "mesh.slot=2", "--set", "mesh.slots=2",
                               "--set", "stages.low-res.width={clips: 2}", name=f"{kind}-one")
            self.program.train(*words, "--stage", "low-res", "--set", "mesh.slot=2", "--set", "mesh.slots=2",
                               "--set", "stages.low-res.width={clips: 2}", name=f"{kind}-two", processes=2)
            self.same(f"{kind}-two", f"{kind}-one", share=1e-4)

    def test_clips_are_drawn_from_images(self):
        for kind in KINDS:
            self.program.run("sample", f"runs/{kind}", "--out", f"{kind}.mp4", "--prompt", "a red circle", "--image", self.still)
            self.program.run("export", f"runs/{kind}", f"{kind}-export")
            self.program.run("sample", f"{kind}-export", "--out", f"{kind}-again.mp4", "--prompt", "a red circle",
                             "--image", self.still)
            self.assertEqual((self.program.dir / f"{kind}.mp4").read_bytes(),
                             (self.program.dir / f"{kind}-again.mp4").read_bytes())
            done = self.program.run("sample", f"runs/{kind}", "--out", "none.mp4", "--prompt", "a", "--image", "nowhere.png", expect=2)
            self.assertIn("nowhere.png: cannot be opened for reading", done.stderr)
        done = self.program.run("sample", "runs/channels", "--out", "drawn", "--prompt", "a", "--prompt", "b", "--image",
                                self.still, expect=2)
        self.assertIn("1 first frames for 2 captions", done.stderr)

    def test_settings_that_do_not_fit_are_refused(self):
        for words, message in (
            (["--set", "model.image_to_video=first-latent"], "first-latent needs model.per_token_time: true"),
            (["--set", "generate.images=[a.png,b.png]"], "expected one for each of generate.prompts, 1, found 2"),
            (["--set", "model.image_to_video=none", "--set", "image.kind=clip", "--set", "image.weights=x"],
             "model.image_to_video is none"),
            (["--set", "objective.time_range=[0.5,0.2]"], "expected the smaller end first"),
        ):
            done = self.program.train(*words, name="refused", expect=2)
            self.assertIn(message, done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)

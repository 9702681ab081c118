"""A person's mistakes: exit code 2 and one paragraph that names file, line, key and what would be right."""
import shutil
import sys
import unittest

from program import Program

BINARY = sys.argv.pop(1)


class BadInput(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.program = Program(BINARY)
        cls.program.make_data(stills=20, clips=20)

    @classmethod
    def tearDownClass(cls):
        cls.program.temporary.cleanup()

    def refused(self, *words, says, expect=2):
        done = self.program.run(*words, expect=expect)
        for part in says:
            self.assertIn(part, done.stderr)
        self.assertNotIn("#0", done.stderr)  # no stack of C++ frames
        return done.stderr

    def changed(self, old, new):
        text = self.program.config.read_text()
        self.assertIn(old, text)
        path = self.program.dir / "changed.yaml"
        path.write_text(text.replace(old, new, 1))
        return path

    def test_unknown_key(self):
        self.refused("train", self.changed("warmup: 2 steps", "warmpu: 2 steps"),
                     says=["changed.yaml:14", "warmpu", '"warmup"'])

    def test_wrong_type(self):
        self.refused("plan", self.changed("steps: 4, sources: {stills: 1}", "steps: many, sources: {stills: 1}"),
                     says=["changed.yaml:16", "steps", "many"])

    def test_out_of_range(self):
        self.refused("plan", self.changed("predict: x", "predict: x, caption_dropout: 1.5"), says=["caption_dropout", "1.5"])

    def test_missing_file(self):
        self.refused("train", "nowhere.yaml", says=["nowhere.yaml"])

    def test_override(self):
        self.refused("train", self.program.config, "--set", "optim.lrr=1", says=["optim.lrr", "lr"])

    def test_missing_data(self):
        self.refused("plan", self.changed("data/stills.pack,", "data/stils.pack,"), says=["data/stils"], expect=1)

    def test_unknown_source_in_a_stage(self):
        self.refused("plan", self.changed("sources: {stills: 1}", "sources: {still: 1}"), says=["still", "stills"])

    def test_weights_that_cannot_be(self):
        low = "sources: {clips: .7, stills: .3}"
        self.refused("plan", self.changed(low, "sources: {clips: -.7, stills: .3}"),
                     says=["changed.yaml:17", "stages.low-res.sources.clips", "at least 0", "-.7"])
        self.refused("plan", self.changed(low, "sources: {clips: 0, stills: 0}"),
                     says=["changed.yaml:17", "stages.low-res.sources", "every weight is 0"])
        self.refused("plan", self.changed(low, "sources: {clip: .7, stills: .3}"),
                     says=["changed.yaml:17", "stages.low-res.sources.clip", "no such source", '"clips"'])

    def test_widths_and_shapes_that_cannot_be(self):
        batch = "batch: {clips: 2, stills: 4}"
        self.refused("plan", self.changed(batch, batch + ", width: {clips: 3}"),
                     says=["changed.yaml:17", "stages.low-res.width.clips", "divisor of mesh.slot", "3"])
        self.refused("plan", self.changed(batch, batch + ", shapes: {stills: 1x33x32}"),
                     says=["changed.yaml:17", "stages.low-res.shapes.stills", "33x32"])
        self.refused("plan", self.changed(batch, batch + ", shapes: {stills: 32x32}"),
                     says=["changed.yaml:17", "stages.low-res.shapes.stills", "33x256x256"])
        self.refused("plan", self.changed(batch, batch + ", shapes: {still: 1x32x32}"),
                     says=["changed.yaml:17", "not a source of this stage", '"stills"'])

    def test_a_sample_that_no_device_holds(self):
        self.refused("plan", self.changed("mesh: {slots: 4", "mesh: {device_memory_gb: 0.0001, slots: 4"),
                     says=["changed.yaml:16", "stages.image.sources.stills", "does not fit", "mesh.device_memory_gb"])

    def test_a_world_that_cannot_hold_the_widest_bucket(self):
        path = self.changed("mesh: {slots: 4", "mesh: {slot: 2, device_memory_gb: 0.0001, slots: 4")
        widths = ["--set", "stages.image.width={stills: 2}"]
        for stage in ("low-res", "mid-res", "high-res"):
            widths += ["--set", f"stages.{stage}.width={{clips: 2, stills: 2}}"]
        self.refused("train", path, "--set", "run.name=narrow", *widths,
                     says=["changed.yaml:4", "mesh.slot", "1 process,", "bucket stills/1x32x32", "multiple of 2"])
        done = self.program.run("train", path, "--set", "run.name=wide", *widths, processes=5, expect=2)
        self.assertIn("changed.yaml:4", done.stderr)
        self.assertIn("5 processes do not fit", done.stderr)

    def test_calibrations_that_do_not_belong(self):
        plan = lambda: self.changed("mesh: {slots: 4", f"mesh: {{calibration: {self.program.dir}/costs.json, slots: 4")
        self.refused("plan", plan(), says=["changed.yaml:4", "mesh.calibration", "cannot be read", "--calibrate"])
        (self.program.dir / "costs.json").write_text('{"format": 1, "model": {"width": 4096}}')
        self.refused("plan", plan(), says=["changed.yaml:4", "costs.json is not a calibration"])

    def test_licence_that_is_not_allowed(self):
        self.refused("train", self.changed("[CC0-1.0]", "[CC-BY-4.0]"), says=["sources.", "CC0-1.0"])

    def test_shape_that_does_not_divide(self):
        self.refused("plan", self.changed("size: 32x32", "size: 30x32"), says=["30"])

    def test_no_such_subcommand(self):
        self.refused("trian", says=["trian"])

    def test_world_size_that_does_not_fit(self):
        done = self.program.train(name="many", processes=5, expect=2)
        self.assertIn("4", done.stderr)

    def test_resume_without_a_run(self):
        self.refused("train", self.program.config, "--set", "run.name=nothing", "--resume", says=["nothing"])

    def test_broken_media_are_named_counted_and_replaced(self):
        program = self.program
        for name in ("stills", "clips"):
            shutil.copytree(program.dir / "data" / f"{name}.pack", program.dir / "broken" / name)
        shard = next((program.dir / "broken/stills").glob("*.h5"))
        content = bytearray(shard.read_bytes())
        middle = len(content) // 2
        content[middle:middle + 200] = bytes(b ^ 0xFF for b in content[middle:middle + 200])
        shard.write_bytes(content)
        program.run("data", "check", "broken/stills", expect=1)
        done = program.train("--stage", "image", "--set", f"sources.stills.data={program.dir}/broken/stills", "--set",
                             "rights.max_unreadable=1", "--set", "embed.cache=off", name="broken")
        self.assertIn("replaced", done.stderr)
        self.assertGreater(sum(r["replaced"] for r in program.metrics("broken").values()), 0)
        program.train("--stage", "image", "--set", f"sources.stills.data={program.dir}/broken/stills", "--set",
                      "rights.max_unreadable=0.0001", "--set", "stages.image.steps=40", "--set", "embed.cache=off",
                      name="refused", expect=1)


if __name__ == "__main__":
    unittest.main(verbosity=2)

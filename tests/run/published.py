"""Runs that start from a model which was trained and exported before: what their tests share."""
import contextlib
import unittest

from program import Program
from safetensors.numpy import load_file, save_file

# Adapters beside it.
LORA = ["--set", "model.import=published", "--set", "lora.rank=4", "--set", "lora.alpha=8", "--set", "optim.lr=1e-2",
        "--stage", "low-res"]


class PublishedRuns(unittest.TestCase):
    """Data, a run `base` of the stills, and its export; those who inherit say which program, and where it lies."""
    binary = None
    published = "published"
    export_words = ()

    @classmethod
    def setUpClass(cls):
        cls.program = Program(cls.binary)
        cls.program.make_data()
        cls.program.train("--stage", "image", name="base")
        cls.program.run("export", "runs/base", cls.published, *cls.export_words)

    @classmethod
    def tearDownClass(cls):
        cls.program.temporary.cleanup()

    @classmethod
    def file_in(cls, folder):
        """The only file of weights there."""
        [file] = (cls.program.dir / folder).glob("*.safetensors")
        return file

    @classmethod
    def weights(cls, folder):
        return load_file(cls.file_in(folder))

    @classmethod
    @contextlib.contextmanager
    def changed_weights(cls, folder, change):
        """Within, they are as `change` leaves the tensors that it is given."""
        file = cls.file_in(folder)
        kept = file.read_bytes()
        tensors = load_file(file)
        change(tensors)
        save_file(tensors, file, {"format": "pt"})
        try:
            yield
        finally:
            file.write_bytes(kept)

    def losses(self, name):
        metrics = self.program.metrics(name)
        return [metrics[step]["loss"] for step in sorted(metrics)]

    def same(self, name, bits=True, as_in="whole"):
        """The same samples in every step, and the same losses, to the bit or nearly."""
        want, found = self.program.metrics(as_in), self.program.metrics(name)
        self.assertEqual(sorted(found), sorted(want))
        for step in want:
            self.assertEqual(found[step]["digest"], want[step]["digest"])
            self.assertAlmostEqual(found[step]["loss"], want[step]["loss"], delta=0 if bits else 1e-4 * want[step]["loss"])

    def merged_into_published(self, run):
        """Exports a run of LORA merged and as adapters: the one is what the other adds, and nothing else has changed."""
        self.program.run("export", f"runs/{run}", "merged", "--raw")
        self.program.run("export", f"runs/{run}", "adapter", "--adapter", "--raw")
        base, merged = self.weights("published/transformer"), self.weights("merged/transformer")
        adapter = self.weights("adapter")
        self.assertEqual(base.keys(), merged.keys())
        layers = {name[:-len(".lora_A.weight")] for name in adapter if name.endswith(".lora_A.weight")}
        self.assertTrue(layers)
        for name in base:
            difference = merged[name] - base[name]
            layer = "transformer." + name.removesuffix(".weight")
            if layer not in layers:
                self.assertEqual(abs(difference).max(), 0, name)
                continue
            want = 2 * adapter[layer + ".lora_B.weight"] @ adapter[layer + ".lora_A.weight"]  # alpha 8 / rank 4
            self.assertGreater(abs(want).max(), 0, name)
            self.assertLessEqual(abs(difference - want).max(), 1e-6, name)

"""Invariant 8 in real processes: a heavy, rare bucket weighs what its weight says, on any number of processes."""
import json
import sys
import unittest

from program import Program

BINARY = sys.argv.pop(1)

# A clip of 17 frames costs 20 stills and more; one slot in a few draws one, the others take 8 stills.
HEAVY = ["--set", "stages.image.sources={stills: .95, clips: .05}", "--set", "stages.image.shape.frames=17",
         "--set", "stages.image.batch={stills: 8, clips: 1}", "--set", "run.validate=never", "--set", "run.sample=never",
         "--stage", "image"]
STILL = ["--set", "optim.lr=1e-12", "--set", "optim.ema=0"]  # the network stays what it is


class Mixture(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.program = Program(BINARY)
        cls.program.make_data()

    @classmethod
    def tearDownClass(cls):
        cls.program.temporary.cleanup()

    def segment(self, name):
        return json.loads((self.program.dir / "runs" / name / "plan.json").read_text())["segments"][0]

    def samples(self, name):
        """Samples by source of every step, from the log."""
        out = {}
        for line in self.program.consumption(name):
            counts = out.setdefault(line["step"], {}) if "draws" in line else {}
            for draw in line.get("draws", []):
                source = draw["bucket"].split("/")[0]
                counts[source] = counts.get(source, 0) + len(draw["ids"])
        return out

    def test_the_mean_over_steps_is_the_mixtures(self):
        self.program.train(*HEAVY, *STILL, "--set", "stages.image.steps=60", name="mean")
        metrics, counts = self.program.metrics("mean"), self.samples("mean")
        denominator = self.segment("mean")["loss_denominator"]
        sums, drawn, losses, by_count = {}, {}, 0, 0
        for step, record in metrics.items():
            total = 0
            for source, mean in record["loss_by_source"].items():
                sums[source] = sums.get(source, 0) + mean * counts[step][source]
                drawn[source] = drawn.get(source, 0) + counts[step][source]
                total += mean * counts[step][source]
            # The step's loss: the sum of its samples' over the plan's constant, whatever the step holds.
            self.assertAlmostEqual(record["loss"], total / denominator, delta=1e-5 * total / denominator)
            losses += record["loss"] / len(metrics)
            by_count += total / sum(counts[step].values()) / len(metrics)
        self.assertGreater(len({sum(c.values()) for c in counts.values()}), 1, "steps that hold other numbers of samples")
        mean = {source: sums[source] / drawn[source] for source in sums}
        truth = .95 * mean["stills"] + .05 * mean["clips"]
        # Draws drift by at most 5 of each bucket over the run: 5 x samples of a draw x loss over all that is expected.
        bound = 5 * (8 * mean["stills"] + mean["clips"]) / (60 * denominator)
        self.assertLessEqual(abs(losses - truth), bound)
        self.assertLess(bound, 0.2 * truth)

    def test_gradients_are_the_same_on_one_two_and_four_processes(self):
        for processes in (1, 2, 4):
            self.program.train(*HEAVY, *STILL, "--set", "stages.image.steps=10", name=f"g{processes}", processes=processes)
        want = self.program.metrics("g1")
        self.assertTrue(any(set(r["loss_by_source"]) == {"stills", "clips"} for r in want.values()))
        for processes in (2, 4):
            self.assertEqual(self.samples(f"g{processes}"), self.samples("g1"))
            for step, found in self.program.metrics(f"g{processes}").items():
                self.assertEqual(found["digest"], want[step]["digest"])
                # fp32 sums of some thousand terms in another order: 1e-5 and less. A mean of the processes' means would be
                # off by the share of samples that a process holds, tenths.
                for key in ("loss", "gradient_norm"):
                    self.assertLessEqual(abs(found[key] - want[step][key]), 1e-4 * abs(want[step][key]), f"{key}, step {step}")
                for source, loss in want[step]["loss_by_source"].items():
                    self.assertLessEqual(abs(found["loss_by_source"][source] - loss), 1e-4 * abs(loss), f"step {step}")


if __name__ == "__main__":
    unittest.main(verbosity=2)

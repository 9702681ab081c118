"""What may change during a run, and what it must not change: new weights, a new source, samples added or withdrawn."""
import hashlib
import json
import shutil
import sys
import unittest

from program import Program

BINARY = sys.argv.pop(1)
STOPPED = 75  # exit code


class Change(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        program = cls.program = Program(BINARY)
        program.make_data()
        for name, seed in (("more", 91), ("other", 92)):
            program.run("data", "synth", "--out", name, "--stills", 8, "--clips", 20, "--seed", seed)
            lines = (program.dir / name / "clips.jsonl").read_text().splitlines()
            renamed = [{**json.loads(line), "id": f"{name}-{i}"} for i, line in enumerate(lines)]
            (program.dir / name / "clips.jsonl").write_text("".join(json.dumps(line) + "\n" for line in renamed))
            program.run("data", "pack", f"{name}/clips.jsonl")
        program.train("--stage", "low-res", name="whole")
        cls.whole = program.metrics("whole")

    @classmethod
    def tearDownClass(cls):
        cls.program.temporary.cleanup()

    def draws(self, name):
        return {l["step"]: l["draws"] for l in self.program.consumption(name) if "draws" in l}

    def ids(self, name, first_step):
        return {i for step, draws in self.draws(name).items() if step >= first_step for d in draws for i in d["ids"]}

    def plan(self, name):
        return json.loads((self.program.dir / "runs" / name / "plan.json").read_text())

    def halved(self, name, *change, stage="low-res", **options):
        """Stopped with step 6, inside low-res, then resumed with the change."""
        self.program.train("--set", "run.inject=stop@5", name=name, expect=STOPPED)
        return self.program.train(*change, "--stage", stage, name=name, **options)

    def test_new_weights_begin_a_segment_on_any_number_of_processes(self):
        weights = ["--set", "stages.low-res.sources.clips=.2", "--set", "stages.low-res.sources.stills=.8"]
        done = self.halved("w1", *weights)
        self.assertIn("a new segment begins", done.stdout + done.stderr)
        self.assertIn("weight was 0.7 of all, is now 0.2", done.stdout + done.stderr)
        plan = self.plan("w1")
        self.assertEqual([(s["stage"], s["steps"]) for s in plan["segments"]][:3],
                         [("image", 4), ("low-res", 2), ("low-res", 2)])
        [event] = [l for l in self.program.consumption("w1") if l.get("changes")]
        self.assertEqual(event["finished_steps"], 6)
        found = self.program.metrics("w1")
        for step in range(1, 7):
            self.assertEqual(found[step]["digest"], self.whole[step]["digest"])
        self.assertNotEqual(found[7]["digest"], self.whole[7]["digest"])
        self.assertEqual(found[7]["stage_step"], 3)
        for processes in (2, 4):
            name = f"w{processes}"
            self.halved(name, *weights, processes=processes)
            other = self.program.metrics(name)
            self.assertEqual(self.draws(name), self.draws("w1"))
            for step, want in found.items():
                self.assertEqual(other[step]["digest"], want["digest"])
                self.program.same_losses(self, other[step], want, 1e-4)
        self.assertIn("8 steps logged", self.program.run("plan", "--replay", "runs/w4").stdout)
        self.program.train("--stage", "mid-res", *weights, name="w1")
        self.assertIn("10 steps logged", self.program.run("plan", "--replay", "runs/w1").stdout)

    def prove(self, name, expect=0, item="no such id"):
        done = self.program.run("data", "prove", "--absent", item, f"runs/{name}", expect=expect)
        return done.stdout + done.stderr

    def rewrite_log(self, name, change):
        """The log with another content and a good chain, by someone who takes the trouble."""
        lines, prev = self.program.consumption(name), "0" * 64
        for line in lines:
            change(line)
        with open(self.program.dir / "runs" / name / "consumption.jsonl", "w") as log:
            for line in lines:
                line.pop("hash")
                line["prev"] = prev
                whole = json.dumps(line, separators=(",", ":"), ensure_ascii=False)
                prev = hashlib.sha256(whole.encode()).hexdigest()
                log.write(f'{whole[:-1]},"hash":"{prev}"}}\n')

    def test_every_plan_of_a_changed_run_is_proven(self):
        weights = ["--set", "stages.low-res.sources.clips=.2", "--set", "stages.low-res.sources.stills=.8"]
        self.halved("proven", *weights)
        self.assertIn("2 plans made again from configuration and packs", self.prove("proven"))
        victim = min(self.ids("proven", 7))
        self.assertRegex(self.prove("proven", expect=3, item=victim), f"{victim} was consumed")
        runs = self.program.dir / "runs"
        shutil.copytree(runs / "proven", runs / "rewritten")
        shutil.rmtree(runs / "rewritten/checkpoints")  # they would know that the log is another
        plan = self.plan("rewritten")
        [clips] = [b for b in plan["segments"][2]["buckets"] if b["source"] == "clips"]
        clips["weight"] = .75
        (runs / "rewritten/plan.json").write_text(json.dumps(plan))
        named = rf"segment 3 \(low-res\), bucket {clips['name']}: weight was 0.2, is now 0.75"
        self.assertRegex(self.prove("rewritten", expect=1), named)
        done = self.program.run("plan", "--replay", "runs/rewritten", expect=1)
        self.assertIn("is not the plan that the log's last start names", done.stderr)
        self.rewrite_log("rewritten", lambda line: line.update(plan_hash="ab" * 32) if "changes" in line else None)
        self.assertRegex(self.prove("rewritten", expect=1), rf"line \d+: its plan_hash is (ab)+, .*{named}")

    def test_added_samples_join_at_the_next_epoch(self):
        shutil.copytree(self.program.dir / "more", self.program.dir / "extra")
        both = f"[{self.program.dir}/data/clips.pack, {self.program.dir}/extra/clips.pack]"
        done = self.halved("added", "--set", f"sources.clips.data={both}", "--set", "stages.low-res.steps=60")
        self.assertIn("samples added", done.stdout + done.stderr)
        self.assertTrue(any(i.startswith("more-") for i in self.ids("added", 7)))
        self.assertIn("every draw and digest", self.program.run("plan", "--replay", "runs/added").stdout)
        self.assertIn("2 plans made again", self.prove("added"))
        swapped = f"[{self.program.dir}/extra/clips.pack, {self.program.dir}/data/clips.pack]"
        done = self.program.train("--set", f"sources.clips.data={swapped}", name="added", expect=2)
        self.assertIn("add new packed folders behind it", done.stderr)
        # Packs that lie elsewhere now are found where config.yaml is made to say.
        (self.program.dir / "extra").rename(self.program.dir / "moved")
        self.assertIn("extra/clips.pack", self.prove("added", expect=1))
        config = self.program.dir / "runs/added/config.yaml"
        config.write_text(config.read_text().replace("/extra/", "/moved/"))
        self.assertIn("2 plans made again", self.prove("added"))

    def test_a_new_source_joins(self):
        self.halved("source", "--set", f"sources.other.data={self.program.dir}/other/clips.pack", "--set",
                    "stages.low-res.sources.other=1", "--set", "stages.low-res.batch.other=2")
        self.assertTrue(any(i.startswith("other-") for i in self.ids("source", 7)))
        self.assertFalse(any(i.startswith("other-") for i in self.ids("source", 1) - self.ids("source", 7)))
        self.assertIn("2 plans made again", self.prove("source"))

    def test_withdrawn_samples_are_never_drawn_again_and_nothing_else_moves(self):
        program = self.program
        lines = [json.loads(l) for l in (program.dir / "data/clips.jsonl").read_text().splitlines()]
        for i, line in enumerate(lines):
            line["licence"] = "LicenseRef-lent" if i % 3 == 0 else line["licence"]
        lent = {line["id"] for line in lines if line["licence"] == "LicenseRef-lent"}
        (program.dir / "data/lent.jsonl").write_text("".join(json.dumps(l) + "\n" for l in lines))
        program.run("data", "pack", "data/lent.jsonl")
        data = ["--set", f"sources.clips.data={program.dir}/data/lent.pack"]
        allowed = [*data, "--set", "rights.allow=[CC0-1.0, LicenseRef-lent]"]
        program.train(*allowed, "--stage", "low-res", name="lent")
        self.assertTrue(self.ids("lent", 1) & lent)
        for processes in (1, 2):
            name = f"withdrawn{processes}"
            program.train(*allowed, "--set", "run.inject=stop@5", name=name, expect=STOPPED)
            done = program.train(*data, "--stage", "mid-res", name=name, processes=processes)
            self.assertIn("samples withdrawn", done.stdout + done.stderr)
            self.assertFalse(self.ids(name, 7) & lent)
            self.assertEqual({s: d for s, d in self.draws(name).items() if s <= 6},
                             {s: d for s, d in self.draws("lent").items() if s <= 6})
            self.assertEqual(sum(r["replaced"] for r in program.metrics(name).values()), 0)
        self.assertEqual(self.draws("withdrawn1"), self.draws("withdrawn2"))
        self.assertIn("2 plans made again", self.prove("withdrawn2"))
        # Every draw of an entry that is still there takes what it always would have taken.
        self.assertIn("every draw and digest", program.run("plan", "--replay", "runs/withdrawn2").stdout)

    def test_a_sample_turned_unreadable_moves_nothing_else(self):
        program = self.program
        shutil.copytree(program.dir / "data/clips.pack", program.dir / "spoilt/clips.pack")
        shard = next((program.dir / "spoilt/clips.pack").glob("*.h5"))
        content = bytearray(shard.read_bytes())
        middle = len(content) // 2
        content[middle:middle + 20000] = bytes(b ^ 0xFF for b in content[middle:middle + 20000])
        options = ["--set", "embed.cache=off", "--set", "rights.max_unreadable=1", "--set", "stages.low-res.steps=12",
                   "--stage", "low-res"]
        data = ["--set", f"sources.clips.data={program.dir}/spoilt/clips.pack"]
        program.train(*options, name="sound")
        program.train(*options, *data, "--set", "run.inject=stop@5", name="spoilt1", expect=STOPPED)
        shard.write_bytes(content)  # between the steps of one run
        program.train(*options, *data, name="spoilt1")
        program.train(*options, *data, name="spoilt4", processes=4)
        sound, spoilt = self.draws("sound"), self.draws("spoilt1")
        replaced = 0
        for step in sound:
            for want, found in zip(sound[step], spoilt[step]):
                self.assertEqual({**want, "ids": 0, "replaced": 0}, {**found, "ids": 0, "replaced": 0})
                replaced += sum(a != b for a, b in zip(want["ids"], found["ids"]))
        self.assertEqual(replaced, sum(r["replaced"] for r in program.metrics("spoilt1").values()))
        self.assertGreater(replaced, 0)
        for step in range(7, 17):
            self.assertEqual(self.draws("spoilt4")[step], spoilt[step])
        digests = lambda name: {s: r["digest"] for s, r in program.metrics(name).items()}
        self.assertEqual(digests("spoilt1"), digests("sound"))
        self.assertEqual(digests("spoilt4"), digests("sound"))


if __name__ == "__main__":
    unittest.main(verbosity=2)

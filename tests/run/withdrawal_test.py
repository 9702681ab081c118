"""Whole runs under rights: withdrawals while a run goes on, signatures, tracing, proofs of absence, bills of materials."""
import json
import os
import shutil
import signal
import sys
import time
import unittest

import spdx_python_model
from program import Program

BINARY = sys.argv.pop(1)


class Rights(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.program = Program(BINARY)
        cls.program.make_data()
        cls.program.run("data", "keygen", "key.pem")
        cls.program.train("--set", "rights.key=key.pem", name="whole")
        cls.lines = cls.program.consumption("whole")

    @classmethod
    def tearDownClass(cls):
        cls.program.temporary.cleanup()

    def path(self, name):
        return self.program.dir / name

    def deny(self, name, ids):
        """A deny file that appears whole, as its page asks for."""
        beside = self.path(name + ".new")
        beside.write_text("".join(f"id:{i}\n" for i in ids))
        os.replace(beside, self.path(name))

    @staticmethod
    def uses(lines, wanted=None):
        """Lines of steps and the ids that they consumed, or the numbers of those that consumed one id."""
        by_step = [(l["step"], [i for d in l["draws"] for i in d["ids"]]) for l in lines if "draws" in l]
        return by_step if wanted is None else [step for step, ids in by_step if wanted in ids]

    def often(self, name, source):
        """The ids of a source that a run consumed, most often first."""
        count = {}
        for line in self.program.consumption(name):
            for draw in line.get("draws", []):
                for i in draw["ids"] if draw["bucket"].startswith(source) else []:
                    count[i] = count.get(i, 0) + 1
        return sorted(count, key=lambda i: (-count[i], i))

    def test_a_withdrawal_takes_effect_within_the_stated_steps(self):
        # Few samples, so that every prefetched step holds the withdrawn ones, which lie in the cache besides.
        for processes in (1, 2):
            name, every = f"live{processes}", 20
            deny = f"deny-{name}.txt"
            self.deny(deny, [])
            running = self.program.start(
                "train", self.program.config, "--set", f"run.name={name}", "--set", "stages.image.steps=100000",
                "--set", "run.save=never", "--set", f"rights.deny=[{deny}]", "--set", "embed.prefetch=64",
                "--set", "run.validate=never", "--set", f"rights.recheck=every {every} steps", processes=processes)

            def finished(at_least):
                deadline = time.time() + 120
                while time.time() < deadline:
                    self.assertIsNone(running.poll(), "ended too early")
                    try:
                        step = max(self.program.metrics(name), default=0)
                    except (FileNotFoundError, json.JSONDecodeError):  # not there, or in the middle of a line
                        step = 0
                    if step >= at_least:
                        return step
                    time.sleep(0.05)
                self.fail("the run does not get on")

            finished(30)
            victims = self.often(name, "stills")[:5]
            self.deny(deny, victims)
            noticed_by = finished(0) + every  # the bound that docs/rights.md states
            finished(noticed_by + 40)
            running.send_signal(signal.SIGTERM)
            output, _ = running.communicate(timeout=120)
            if processes == 1:  # mpirun has codes of its own
                self.assertEqual(running.returncode, 75, output)
            lines = self.program.consumption(name)
            [event] = [l for l in lines if l.get("event") == "deny"]
            self.assertEqual(event["withdrawn"], {"stills": sorted(victims)})
            self.assertLessEqual(event["finished_steps"], noticed_by)
            after = 0
            for step, ids in self.uses(lines):
                if step > event["finished_steps"]:
                    self.assertFalse(set(victims) & set(ids), f"step {step}")
                    after += 1
            self.assertGreater(after, 20)
            for victim in victims:
                self.assertTrue(any(s <= event["finished_steps"] for s in self.uses(lines, victim)))
            withdrawn = [r["withdrawn"] for r in self.program.metrics(name).values()]
            self.assertGreater(sum(withdrawn), 0)
            self.assertEqual(sum(r["replaced"] for r in self.program.metrics(name).values()), 0)
            # The plan explains every line, and that nothing withdrawn was used after the event.
            done = self.program.run("data", "prove", "--absent", victims[0], f"runs/{name}", expect=3)
            self.assertRegex(done.stdout, r"replaced for being withdrawn and 0 for being unreadable")

    def test_what_takes_a_withdrawn_samples_place_is_the_same_on_any_processes_and_prefetch(self):
        for name, processes, prefetch in (("one", 1, 1), ("two", 2, 8), ("four", 4, 3)):
            self.deny("deny-same.txt", [])
            settings = ["--set", "rights.deny=[deny-same.txt]", "--set", f"embed.prefetch={prefetch}"]
            self.program.train(*settings, "--stage", "image", name=name, processes=processes)
            self.deny("deny-same.txt", self.often("whole", "stills")[:4] + self.often("whole", "clips")[:4])
            self.program.train(*settings, name=name, processes=processes)
        draws = lambda name: [l["draws"] for l in self.program.consumption(name) if "draws" in l]
        self.assertEqual(draws("two"), draws("one"))
        self.assertEqual(draws("four"), draws("one"))
        self.assertTrue(any("replaced" in d for step in draws("one") for d in step))
        digests = lambda name: [r["digest"] for r in self.program.metrics(name).values()]
        self.assertEqual(digests("one"), digests("whole"))  # the plan is as it was
        victim = self.often("whole", "clips")[0]
        done = self.program.run("data", "prove", "--absent", victim, "runs/two")
        self.assertIn(f"{victim} was not consumed", done.stdout)

    def test_a_bucket_that_is_withdrawn_as_a_whole_ends_the_run(self):
        pack = [json.loads(l) for l in self.path("data/clips.pack/index.jsonl").read_text().splitlines()]
        self.deny("deny-all.txt", [l["id"] for l in pack])
        settings = ["--set", "rights.deny=[deny-late.txt]"]
        self.deny("deny-late.txt", [])
        self.program.train(*settings, "--stage", "image", name="emptied")
        shutil.copy(self.path("deny-all.txt"), self.path("deny-late.txt"))
        done = self.program.train(*settings, name="emptied", expect=1)
        self.assertIn("are withdrawn by rights.deny", done.stderr)

    def test_a_deny_file_that_cannot_be_read_ends_the_run(self):
        done = self.program.train("--set", "rights.deny=[nowhere.txt]", name="nowhere", expect=2)
        self.assertIn("rights.deny: nowhere.txt cannot be read", done.stderr)
        self.path("broken.txt").write_text("id:fine\nstills/00001\n")
        done = self.program.train("--set", "rights.deny=[broken.txt]", name="broken", expect=2)
        self.assertIn("broken.txt:2: expected id:, sha256: or phash:", done.stderr)

    def test_the_policy_is_told_by_rule(self):
        lines = [json.loads(l) for l in self.path("data/stills.jsonl").read_text().splitlines()]
        for number, line in enumerate(lines):
            if number % 3 == 0:
                line["expiry"] = "2027-01-31"
            if number % 3 == 1:
                line["expiry"] = "never"
        self.path("data/terms.jsonl").write_text("".join(json.dumps(l) + "\n" for l in lines))
        self.program.run("data", "pack", "data/terms.jsonl")
        config = self.path("terms.yaml")
        config.write_text(self.program.config.read_text().replace("stills.pack", "terms.pack").replace(
            "rights: {allow: [CC0-1.0]}",
            "rights: {allow: [CC0-1.0], as_of: 2026-11-24, policy: 'expiry > as_of + 365d or not licence == CC0-1.0'}"))
        done = self.program.run("train", config, "--set", "run.name=terms", "--stage", "image", expect=2)
        self.assertIn("sources.clips: none of the 60 samples", done.stderr)  # they say nothing of it
        stats = self.program.run("data", "stats", "data/terms.pack", "--rights", config).stdout
        self.assertIn("40 of 60 samples denied", stats)
        self.assertIn("40 denied by expiry > as_of + 365d or not licence == CC0-1.0", stats)
        broken = self.program.run("plan", self.program.config, "--set", "rights.policy=licens == MIT", expect=2)
        self.assertIn('rights.policy, column 1: expected a field, found "licens"; did you mean "licence"?', broken.stderr)

    def test_weights_of_others_need_an_origin_under_licensed_only(self):
        only = ["--set", "rights.licensed_only=true", "--stage", "image"]
        done = self.program.train(*only, name="licensed", expect=2)
        self.assertIn("licence 'Apache-2.0' is not in rights.allow", done.stderr)
        only += ["--set", "rights.origin_policy=licence in [Apache-2.0, CC0-1.0]"]
        self.program.train(*only, name="licensed")
        self.program.run("export", "runs/whole", "base")
        imported = ["--set", "model.import=base"]
        done = self.program.train(*only, *imported, name="tuned", expect=2)
        self.assertIn("write rights.origins.model", done.stderr)
        origin = "rights.origins={model: {licence: CC0-1.0, holder: us, basis: own run}}"
        self.program.train(*only, *imported, "--set", origin, "--set", "rights.key=key.pem", name="tuned")
        self.program.run("export", "runs/tuned", "tuned-export")
        card = self.path("tuned-export/README.md").read_text()
        self.assertIn("model (weights from base): CC0-1.0, held by us, own run", card)
        lora = ["--set", "lora.rank=4", "--set", "lora.alpha=8", "--stage", "image"]
        self.program.train(*imported, *lora, name="adapted")
        self.program.run("export", "runs/adapted", "adapters", "--adapter", "--raw")
        # What the base had consumed is found behind the run that began from it.
        victim = self.often("whole", "clips")[0]
        self.assertNotIn(victim, [i for _, ids in self.uses(self.program.consumption("tuned")) for i in ids])
        traced = self.program.run("data", "trace", victim).stdout
        self.assertIn("run runs/tuned: began from weights of run whole, which had consumed it", traced)
        self.assertRegex(traced, r"export tuned-export \(step 4\): through its base weights")
        self.assertRegex(traced, r"export adapters \(step 4\): through its base weights")
        self.assertRegex(traced, r"export base \(step 12\): \d+ draws")

    def test_signatures_of_checkpoints_and_exports(self):
        done = self.program.run("data", "verify", "runs/whole", "--public-key", "key.pem.pub")
        self.assertIn("verified", done.stdout)
        self.assertIn("signed by", done.stdout)
        self.program.run("export", "runs/whole", "signed")
        self.program.run("data", "verify", "signed", "--public-key", "key.pem.pub")
        self.program.run("data", "keygen", "other.pem")
        for target in ("runs/whole", "signed"):
            done = self.program.run("data", "verify", target, "--public-key", "other.pem.pub", expect=1)
            self.assertIn("NOT verified", done.stdout)
        record = json.loads(self.path("signed/pendulum.json").read_text())
        record["training"]["consumption_log_signature"] = "0" * 128
        self.path("signed/pendulum.json").write_text(json.dumps(record))
        self.program.run("data", "verify", "signed", "--public-key", "key.pem.pub", expect=1)
        # A run goes on with its own key alone.
        self.program.train("--set", "rights.key=key.pem", "--stage", "image", name="keyed")
        done = self.program.train("--set", "rights.key=other.pem", name="keyed", expect=1)
        self.assertIn("was begun with public key", done.stderr)
        os.chmod(self.path("other.pem"), 0o644)
        done = self.program.train("--set", "rights.key=other.pem", name="open", expect=2)
        self.assertIn("may be read by others", done.stderr)

    def test_a_changed_dropped_or_reordered_line_is_found(self):
        good = self.path("runs/whole/consumption.jsonl").read_text().splitlines(keepends=True)
        shutil.copytree(self.path("runs/whole"), self.path("runs/forged"))
        log = self.path("runs/forged/consumption.jsonl")
        changed, dropped, swapped, cut = list(good), list(good), list(good), good[:-3]
        changed[5] = changed[5].replace('"t":', '"t":1', 1)
        del dropped[5]
        swapped[5], swapped[6] = swapped[6], swapped[5]
        for lines, words in ((changed, "line 6: its content does not match its hash"), (dropped, "line 6: its sequence"),
                             (swapped, "line 6: its sequence"), (cut, "is missing")):
            log.write_text("".join(lines))
            for command in (["verify", "runs/forged"], ["prove", "--absent", "x", "runs/forged"]):
                done = self.program.run("data", *command, expect=1)
                self.assertIn(words, done.stdout + done.stderr)
        shutil.rmtree(self.path("runs/forged"))

    def test_prove_and_trace_agree_with_the_log(self):
        victim = self.often("whole", "clips")[0]
        steps = self.uses(self.lines, victim)
        done = self.program.run("data", "prove", "--absent", victim, "runs/whole", expect=3)
        self.assertIn(f"{victim} was consumed {len(steps)} times, steps {steps[0]} to {steps[-1]}", done.stdout)
        traced = self.program.run("data", "trace", victim).stdout
        self.assertIn(f"run runs/whole: consumed {len(steps)} times, steps {steps[0]} to {steps[-1]}", traced)
        index = {json.loads(l)["id"]: json.loads(l) for l in self.path("data/clips.pack/index.jsonl").read_text().splitlines()}
        by_hash = self.program.run("data", "trace", "sha256:" + index[victim]["sha256"]).stdout
        self.assertIn("run runs/whole: consumed", by_hash)
        [held_out] = [i for i, l in index.items() if l["split"] == "validation"][:1]
        done = self.program.run("data", "prove", "--absent", held_out, "runs/whole")
        self.assertIn("was held out: measured for validation, never trained on", done.stdout)
        done = self.program.run("data", "prove", "--absent", "no such id", "runs/whole")
        self.assertIn("is in none of the run's data sets", done.stdout)

    def test_checkpoints_know_what_was_rolled_back(self):
        # Killed at step 5 with the last checkpoint at 3: steps 4 and 5 are done again, without the withdrawn sample.
        settings = ["--set", "rights.deny=[deny-back.txt]"]
        self.deny("deny-back.txt", [])
        self.program.train(*settings, "--set", "run.inject=kill@5", name="back", expect=-signal.SIGKILL)
        lines = self.program.consumption("back")
        early = {i for step, ids in self.uses(lines) if step <= 3 for i in ids}
        victim = next(i for step, ids in self.uses(lines) if step > 3 for i in ids if i not in early)
        self.deny("deny-back.txt", [victim])
        self.program.train(*settings, name="back")
        done = self.program.run("data", "prove", "--absent", victim, "runs/back", expect=3)
        self.assertRegex(done.stdout, r"was consumed (\d+) times, steps \d to \d; \1 of them were rolled back")
        traced = self.program.run("data", "trace", victim).stdout.split("run runs/back", 1)[1].split("run ")[0]
        self.assertIn("rolled back", traced)
        self.assertNotIn("checkpoint", traced)

    def test_the_bill_of_materials_is_spdx_and_counts_what_the_log_has(self):
        self.program.run("export", "runs/whole", "billed")
        texts = [self.program.run("data", "bom", target).stdout for target in ("runs/whole", "runs/whole", "billed")]
        self.assertEqual(texts[0], texts[1])
        graph = json.loads(texts[0])["@graph"]
        # The model's classes, generated from SPDX's own SHACL shapes, refuse what is not of them.
        binding = spdx_python_model.v3_0_1
        objects = binding.SHACLObjectSet()
        binding.JSONLDDeserializer().deserialize_data(json.loads(texts[0]), objects)
        [document] = objects.foreach_type(binding.SpdxDocument)
        [root] = document.rootElement
        self.assertIsInstance(root, binding.ai_AIPackage)
        self.assertEqual(objects.missing_ids, set())
        required = {  # of the profiles AI and Dataset, beyond what every element needs
            "ai_AIPackage": ["name", "suppliedBy", "releaseTime", "software_packageVersion", "software_downloadLocation",
                             "software_primaryPurpose"],
            "dataset_DatasetPackage": ["name", "originatedBy", "builtTime", "releaseTime", "software_primaryPurpose",
                                       "dataset_datasetType"]}
        ids = {e["spdxId"] for e in graph if "spdxId" in e}
        for element in graph:
            for key in required.get(element["type"], []):
                self.assertIn(key, element, element)
            if element["type"] == "Relationship":
                self.assertTrue({element["from"], *element["to"]} <= ids)
        consumed = {}
        for line in self.lines:
            for draw in line.get("draws", []):
                consumed.setdefault(draw["bucket"].split("/")[0], []).extend(draw["ids"])
        packages = {e["spdxId"]: e for e in graph if e["type"] == "dataset_DatasetPackage"}
        [trained] = [e["to"] for e in graph if e.get("relationshipType") == "trainedOn"]
        self.assertEqual(len(trained), 2)
        for spdx_id in trained:
            package = packages[spdx_id]
            source = package["name"].removeprefix("trained on, ").split(" of ")[0]
            self.assertEqual(package["dataset_datasetSize"], len(set(consumed[source])))
            self.assertIn(f"drawn {len(consumed[source])} times", package["comment"])
        self.assertEqual(len([e for e in graph if e.get("relationshipType") == "testedOn"]), 1)
        names = {e["spdxId"]: e.get("name") for e in graph if "spdxId" in e}
        [needs] = [e["to"] for e in graph if e.get("relationshipType") == "dependsOn"]
        self.assertEqual([names[i] for i in needs], ["text: minilm"])
        # An earlier checkpoint has consumed less.
        oldest = sorted(self.path("runs/whole/checkpoints").glob("step-*"))[0]
        self.program.run("data", "bom", oldest, "--out", "earlier.json")
        sizes = lambda graph: sum(e["dataset_datasetSize"] for e in graph if e["type"] == "dataset_DatasetPackage")
        self.assertLessEqual(sizes(json.loads(self.path("earlier.json").read_text())["@graph"]), sizes(graph))


if __name__ == "__main__":
    unittest.main(verbosity=2)

"""Runs the program under test in a temporary folder: what the tests of whole runs share."""
import json
import os
import pathlib
import subprocess
import tempfile

HERE = pathlib.Path(__file__).parent


class Program:
    def __init__(self, binary):
        self.binary = binary
        self.temporary = tempfile.TemporaryDirectory(prefix="pendulum-run-")
        self.dir = pathlib.Path(self.temporary.name)
        self.config = self.dir / "tiny.yaml"
        self.config.write_text((HERE / "tiny.yaml").read_text().replace("DIR", str(self.dir)))

    def command(self, *words, processes=1):
        launcher = ["mpirun", "-n", str(processes), "--bind-to", "none"] if processes > 1 else []
        return [*launcher, self.binary, *map(str, words)]

    def environment(self):
        # Tests run as root and on machines with fewer cores than processes.
        return {**os.environ, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
                "OMPI_MCA_rmaps_base_oversubscribe": "1", "OMPI_MCA_mpi_yield_when_idle": "1"}

    def run(self, *words, expect=0, processes=1, timeout=240):
        done = subprocess.run(self.command(*words, processes=processes), cwd=self.dir, env=self.environment(),
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout)
        assert done.returncode == expect, (
            f"{words}: exit code {done.returncode}, expected {expect}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
        return done

    def start(self, *words, processes=1):
        return subprocess.Popen(self.command(*words, processes=processes), cwd=self.dir, env=self.environment(),
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def make_data(self, stills=60, clips=60):
        self.run("data", "synth", "--out", "data", "--stills", stills, "--clips", clips)
        self.run("data", "pack", "data/stills.jsonl")
        self.run("data", "pack", "data/clips.jsonl")

    def train(self, *words, name=None, **options):
        named = ["--set", f"run.name={name}"] if name else []
        return self.run("train", self.config, *named, *words, **options)

    def records(self, name):
        lines = (self.dir / "runs" / name / "metrics.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def metrics(self, name):
        """Records of optimiser steps, by step."""
        return {r["step"]: r for r in self.records(name) if "digest" in r}

    @staticmethod
    def same_losses(test, found, want, share=0.0):
        """Every sample's loss of two step records, to the bit or within a share of it."""
        test.assertEqual(len(found["loss_by_sample"]), len(want["loss_by_sample"]))
        test.assertEqual(len(want["loss_by_sample"]), want["samples"])
        for ours, theirs in zip([found["loss"], *found["loss_by_sample"]], [want["loss"], *want["loss_by_sample"]]):
            test.assertLessEqual(abs(ours - theirs), share * abs(theirs), f"step {want['step']}")

    def consumption(self, name):
        lines = (self.dir / "runs" / name / "consumption.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

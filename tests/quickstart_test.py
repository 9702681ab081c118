"""scripts/quickstart skips what is done, goes on after a stop and never loses a run; the program is played by a stub."""

import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent

# Stands in for build/pendulum: writes down its command line and makes the outputs that quickstart looks at.
STUB = r"""#!/usr/bin/env bash
# Plays build/pendulum.
echo "$*" >>calls
case "$1" in
  config) cat "$2" ;;
  data) mkdir -p data/quickstart ;;
  train)
    [ -e stop ] && { rm stop; exit 75; }
    [ -e break ] && exit 1
    mkdir -p runs/tiny
    for step in 1 2 3; do
      echo '{"step": '$step', "stage": "image", "loss": 0.5, "sample_loss": 0.25, "samples": 30, "seconds": 2.0, "wait_seconds": 0.01}'
    done >runs/tiny/metrics.jsonl
    echo '{"step": 3, "stage": "image", "accuracy": {"clips": 4, "colour": {"accuracy": 0.96, "error": 0.1}}}' >>runs/tiny/metrics.jsonl
    ;;
  export) mkdir -p "$3" ;;
  sample) mkdir -p runs/tiny/videos; touch runs/tiny/videos/000.mp4 ;;
  eval) echo "colour 0.960 +- 0.014" ;;
esac
"""


class Quickstart(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        (self.root / "scripts").mkdir()
        for name in ("quickstart", "machine.sh", "run-summary"):
            shutil.copy(PROJECT / "scripts" / name, self.root / "scripts")
        for name in ("setup", "build"):
            self.program(f"scripts/{name}", "#!/bin/sh\n# Does nothing.\n")
        self.program("build/pendulum", STUB)
        self.write("configs/tiny.yaml", "steps: 3\n")

    def write(self, path, content):
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(content, encoding="utf-8")

    def program(self, path, content):
        self.write(path, content)
        (self.root / path).chmod(0o755)

    def quickstart(self, status=0):
        """Runs it; returns what it printed and the subcommands that it called."""
        (self.root / "calls").unlink(missing_ok=True)
        result = subprocess.run(
            ["scripts/quickstart", "configs/tiny.yaml"], cwd=self.root, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, check=False, env={**os.environ, "CI": "true"},
        )
        self.assertEqual(result.returncode, status, result.stdout + result.stderr)
        calls = (self.root / "calls").read_text().splitlines()
        return result.stdout, [call.split()[0] for call in calls if not call.startswith("config")]

    def test_first_run_does_all_and_the_second_nothing(self):
        said, called = self.quickstart()
        self.assertEqual(called, ["data", "data", "data", "train", "export", "sample", "eval"])
        for words in ("runs/tiny/videos/000.mp4", "contact_sheet.png", "runs/tiny/export", "colour 0.960 +- 0.014"):
            self.assertIn(words, said)
        # 3 steps, 6 s, 90 samples.
        self.assertRegex(said, r"image +3 +0\.1 +15 +0\.5 % +- +0\.2500 +0\.96 +- +-")
        said_again, called = self.quickstart()
        self.assertEqual(called, [])
        self.assertIn("colour 0.960 +- 0.014", said_again)

    def test_a_changed_configuration_trains_again_and_keeps_the_earlier_run(self):
        self.quickstart()
        self.write("configs/tiny.yaml", "steps: 4\n")
        _, called = self.quickstart()
        self.assertEqual(called, ["train", "export", "sample", "eval"])
        self.assertEqual(len(list((self.root / "runs").glob("tiny.before-*"))), 1)

    def test_a_stopped_training_goes_on(self):
        self.write("stop", "")
        said, called = self.quickstart(status=75)
        self.assertEqual(called[-1], "train")
        self.assertIn("run scripts/quickstart again", said)
        _, called = self.quickstart()
        self.assertEqual(called, ["train", "export", "sample", "eval"])
        self.assertEqual(list((self.root / "runs").glob("tiny.before-*")), [])

    def test_a_failed_step_fails_the_whole_and_is_done_again(self):
        self.write("break", "")
        self.quickstart(status=1)
        (self.root / "break").unlink()
        _, called = self.quickstart()
        self.assertEqual(called, ["train", "export", "sample", "eval"])

    def test_a_lost_output_is_made_again(self):
        self.quickstart()
        shutil.rmtree(self.root / "runs")
        _, called = self.quickstart()
        self.assertEqual(called, ["train", "export", "sample", "eval"])

    def test_a_missing_configuration_is_named(self):
        (self.root / "configs/tiny.yaml").unlink()
        result = subprocess.run(["scripts/quickstart", "configs/tiny.yaml"], cwd=self.root, capture_output=True, text=True,
                                check=False)
        self.assertEqual(result.returncode, 1)
        self.assertIn("no file 'configs/tiny.yaml'", result.stderr)


if __name__ == "__main__":
    unittest.main()

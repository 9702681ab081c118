"""scripts/check-layers finds every violation in a small tree, at its line, and nothing else."""

import subprocess
import sys
import tempfile
import unittest
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "check-layers"
START = "// Says what this file is for.\n"
HEADER = START + "#pragma once\n"
UNFINISHED = "TO" + "DO"

# A file, and the violations expected in it: (line, words of the message).
CASES = {
    "src/core/good.h": (HEADER + '#include <string>\n\n#include "core/error.h"\n', []),
    "src/model/good.h": (HEADER + '#include <ATen/core/Tensor.h>\n#include <c10/core/ScalarType.h>\n', []),
    "src/model/good.cpp": (START + '#include <ATen/ops/matmul.h>\n#include "ops/attention.h"\n#include "batch/batch.h"\n', []),
    "src/ops/good.cpp": (START + '#include "kernels/norm.h"\n', []),
    "src/apps/good.cpp": (START + 'const char* value = getenv("HOME");\n', []),
    "kernels/good.cu": (START + '#include "kernels/norm.h"\n#include "norm.h"\n#include <cuda_runtime.h>\n', []),
    "tests/good_test.cpp": (START + '#include <torch/torch.h>\n#include "train/trainer.h"\n', []),
    "tests/good_test.py": ('#!/usr/bin/env python3\n"""Says what this file is for."""\n', []),
    "scripts/good": ("#!/usr/bin/env bash\n# Says what this file is for.\n", []),
    "src/core/CMakeLists.txt": ("pendulum_library(core)\n", []),
    "src/core/sixhundred.cpp": (START + "\n" * 599, []),
    "src/core/upward.cpp": (START + '#include "core/error.h"\n#include "model/model.h"\n', [(3, "comes before model/")]),
    "src/embed/upward.cpp": (START + '  #  include "model/model.h"\n', [(2, "comes before model/")]),
    "src/data/torch.cpp": (START + "#include <ATen/ATen.h>\n", [(2, "torch-free")]),
    "src/rights/torch.cpp": (START + "#include <c10/util/Exception.h>\n", [(2, "torch-free")]),
    "kernels/torch.cu": (START + "#include <torch/extension.h>\n", [(2, "torch-free")]),
    "kernels/source.cpp": (START + '#include "core/error.h"\n', [(2, "nothing from src/")]),
    "src/model/kernels.cpp": (START + '#include "kernels/norm.h"\n', [(2, "only ops/")]),
    "src/train/wide.cpp": (START + "#include <torch/torch.h>\n", [(2, "narrow header")]),
    "src/train/wide.h": (HEADER + "#include <ATen/ATen.h>\n", [(3, "at most ATen/core/Tensor.h")]),
    "src/train/wide_autograd.h": (HEADER + "#include <torch/csrc/autograd/autograd.h>\n", [(3, "at most ATen/core/Tensor.h")]),
    "src/train/bare.cpp": (START + '#include "trainer.h"\n', [(2, "folder/file")]),
    "src/train/unknown.cpp": (START + '#include "helpers/strings.h"\n', [(2, "folder/file")]),
    "src/helpers/strings.cpp": (START, [(1, "no place in the order")]),
    "src/lonely.cpp": (START, [(1, "no place in the order")]),
    "src/core/environment.cpp": (START + 'const char* value = std::getenv("HOME");\n', [(2, "apps/ alone")]),
    "src/core/unfinished.cpp": (START + f"// {UNFINISHED}: later\n", [(2, "unfinished")]),
    "src/core/silent.cpp": ('#include "core/error.h"\n', [(1, "does not start")]),
    "src/core/empty.cpp": ("", [(1, "does not start")]),
    "src/core/terse.cpp": ("// Code.\n", [(1, "not a sentence")]),
    "src/core/twice.h": (START + "int x();\n", [(1, "#pragma once")]),
    "src/core/long.cpp": (START + "\n" * 600, [(600, "601 lines")]),
    "tests/silent.py": ("import sys\n", [(1, "does not start")]),
    "scripts/silent": ("#!/usr/bin/env bash\necho hello\n", [(2, "does not start")]),
}


def load():
    loader = SourceFileLoader("check_layers", str(SCRIPT))
    module = module_from_spec(spec_from_loader("check_layers", loader))
    sys.dont_write_bytecode = True
    loader.exec_module(module)
    return module


class CheckLayers(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.root = Path(self.folder.name)
        self.addCleanup(self.folder.cleanup)

    def write(self, path, content):
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(content, encoding="utf-8")

    def test_each_violation_is_found_and_nothing_else(self):
        for path, (content, _) in CASES.items():
            self.write(path, content)
        found = {}
        for path, line, text in load().violations(self.root):
            found.setdefault(str(path), []).append((line, text))
        for path, (_, expected) in CASES.items():
            with self.subTest(path):
                got = found.pop(path, [])
                self.assertEqual([line for line, _ in got], [line for line, _ in expected], got)
                for (_, text), (_, words) in zip(got, expected):
                    self.assertIn(words, text)
        self.assertEqual(found, {})

    def test_the_program_prints_places_and_fails(self):
        self.write("src/core/upward.cpp", CASES["src/core/upward.cpp"][0])
        result = subprocess.run([sys.executable, SCRIPT, self.root], capture_output=True, text=True, check=False)
        self.assertEqual(result.returncode, 1)
        self.assertIn("src/core/upward.cpp:3: core/ comes before model/", result.stdout)

    def test_the_program_accepts_a_clean_tree(self):
        self.write("src/core/good.h", CASES["src/core/good.h"][0])
        result = subprocess.run([sys.executable, SCRIPT, self.root], capture_output=True, text=True, check=False)
        self.assertEqual(result.returncode, 0, result.stdout)
        self.assertIn("1 files keep the rules", result.stdout)

    def test_the_order_matches_cmake(self):
        """Every folder that CMake builds has its place."""
        text = (SCRIPT.parent.parent / "CMakeLists.txt").read_text(encoding="utf-8")
        folders = text.split("foreach(folder")[1].split(")")[0].split()
        self.assertEqual(set(folders) - set(load().ORDER), set())


if __name__ == "__main__":
    unittest.main()

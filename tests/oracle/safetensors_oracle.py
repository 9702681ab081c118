"""Judges src/safetensors by the reference implementation: safetensors_oracle.py PATH/TO/safetensors_test."""

import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16,
    torch.int8, torch.uint8, torch.bool, torch.float8_e4m3fn, torch.float8_e5m2,
]
SHAPES = [(), (1,), (0,), (7,), (3, 0, 5), (2, 3, 5), (1, 1, 17)]


def tensors(names):
    return {
        f"{name}.{dtype}.{i}".replace("torch.", ""): torch.arange(torch.Size(shape).numel()).reshape(shape).to(dtype)
        for name in names for dtype in DTYPES for i, shape in enumerate(SHAPES)
    }


def compare(program, folder, content, metadata):
    theirs, ours = folder / "theirs.safetensors", folder / "ours.safetensors"
    save_file(content, theirs, metadata)
    subprocess.run([program, theirs, ours], check=True)
    assert theirs.read_bytes() == ours.read_bytes(), "the same content must give the same bytes"
    loaded = load_file(ours)
    assert loaded.keys() == content.keys()
    for name, tensor in content.items():
        got = loaded[name]
        assert got.dtype == tensor.dtype and got.shape == tensor.shape, name
        assert torch.equal(got.contiguous().flatten().view(torch.uint8), tensor.contiguous().flatten().view(torch.uint8)), name
    with safe_open(ours, "pt") as file:
        assert (file.metadata() or {}) == (metadata or {})


def main():
    program = sys.argv[1]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        compare(program, folder, tensors(["b", "a", "blocks.10.attn1.to_q.weight", "ünï \"quoted\" \\ \n"]), {"format": "pt"})
        compare(program, folder, {"x": torch.ones(2)}, None)
        compare(program, folder, {}, None)
    print("safetensors: equal to the reference implementation, byte for byte")


if __name__ == "__main__":
    main()

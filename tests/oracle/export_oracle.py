"""Judges the export by diffusers, which must load it and compute the same: export_oracle.py EXPORT_PROBE."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from diffusers import WanPipeline, WanTransformer3DModel
from safetensors.torch import load_file


def forward(folder, given, dtype, adapter=lambda model: None):
    model, info = WanTransformer3DModel.from_pretrained(folder / "transformer", output_loading_info=True)
    assert not any(info.values()), f"tensors missing, left over or of another shape: {info}"
    adapter(model)
    model = model.to(dtype).eval()
    model.rope.freqs_cos, model.rope.freqs_sin = (t.to(dtype) for t in (model.rope.freqs_cos, model.rope.freqs_sin))
    with torch.no_grad():
        return model(given["x"].to(dtype), given["time"].to(dtype), given["text"].to(dtype)).sample


def compare(name, ours, folder, given, adapter=lambda model: None):
    theirs = forward(folder, given, torch.float32, adapter)
    exact = forward(folder, given, torch.float64, adapter)
    # Both compute in fp32, and so does `exact` in the few places where diffusers insists. Theirs is wrong by `error`; ours may be wrong by as much, in another direction, and each by a
    # few roundings of the largest number.
    error = (theirs - exact).abs().max().item()
    bound = 2 * error + 4 * torch.finfo(torch.float32).eps * exact.abs().max().item()
    difference = (ours - exact).abs().max().item()
    print(f"{name}: difference {difference:.2e}, bound {bound:.2e}, largest output {exact.abs().max().item():.2f}")
    assert difference <= bound
    assert exact.std().item() > 0.1, "the comparison is empty where the output is nearly constant"


def compare_adapters(root, given):
    ours = load_file(root / "adapted.safetensors")["output"]

    def as_diffusers(model):
        state, metadata = WanPipeline.lora_state_dict(root / "lora", return_lora_metadata=True)
        assert len(state) == 2 * 2 * 10, "two matrices for each of ten layers in two blocks"
        model.load_lora_adapter(state, prefix="transformer", metadata=metadata)

    def as_comfyui(model):
        state = WanPipeline.lora_state_dict(root / "lora_original", weight_name="tiny.safetensors")
        assert len(state) == 2 * 2 * 10, sorted(state)
        model.load_lora_adapter(state, prefix="transformer")

    compare("adapters, diffusers' layout", ours, root / "base", given, as_diffusers)
    compare("adapters, original layout", ours, root / "base", given, as_comfyui)
    compare("adapters, merged", ours, root / "merged", given)
    plain = forward(root / "base", given, torch.float32)
    assert (plain - ours).norm() > 0.05 * ours.norm(), "the comparison is empty where the adapters do nothing"


def main(program):
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        subprocess.run([program, root], check=True)
        given = load_file(root / "forward.safetensors")
        compare("fp32", given["output"], root / "fp32", given)
        compare("bf16", given["output_bf16"], root / "bf16", given)
        compare_adapters(root, given)
        assert {t.dtype for t in load_file(root / "bf16/transformer/diffusion_pytorch_model.safetensors").values()} == {
            torch.bfloat16
        }
        # What diffusers would save itself says the same of the architecture.
        ours = json.loads((root / "fp32/transformer/config.json").read_text())
        WanTransformer3DModel.from_pretrained(root / "fp32/transformer").save_pretrained(root / "again")
        theirs = json.loads((root / "again/config.json").read_text())
        for key in theirs.keys() - {"_diffusers_version", "_name_or_path"}:
            assert ours[key] == theirs[key], f"{key}: {ours[key]} and {theirs[key]}"


if __name__ == "__main__":
    main(sys.argv[1])

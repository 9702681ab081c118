"""Judges the video transformer by diffusers' WanTransformer3DModel: outputs and the gradient of every parameter and input.

    wan_oracle.py WAN_PROBE

Bounds: in fp64 both compute the same formulas in another order, a few hundred roundings deep: 1e-10 of the tensor's norm leaves four
digits to spare. In fp32, judged by diffusers in fp64, an error may be twice diffusers' own fp32 error plus 1e-6 of the tensor's norm.
"""

import contextlib
import copy
import json
import pathlib
import re
import subprocess
import sys
import tempfile

import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import load_file, save_file

SMALL = dict(layers=2, heads=3, head_dim=16, ffn_dim=56, freq_dim=32, in_channels=5, out_channels=4, text_dim=24,
             patch=[1, 2, 2], cross_attn_norm=True, eps=1e-6)

# name, changes to SMALL, latent (batch, frames, height, width), text tokens, times per token
CASES = [
    ("clip", {}, (2, 3, 4, 6), 7, False),
    ("time_per_token", {}, (2, 3, 4, 6), 7, True),
    ("odd_tokens", {}, (3, 1, 6, 10), 16, False),
    ("one_token", {}, (1, 1, 2, 2), 1, False),
    ("no_cross_norm", dict(cross_attn_norm=False, eps=1e-5), (2, 2, 6, 2), 3, False),
    ("patch_in_time", dict(patch=[2, 1, 2], head_dim=22), (2, 4, 3, 4), 5, True),
    ("padded_caption", {}, (2, 3, 4, 6), 512, False),
    # Beside image states diffusers takes the last 512 for the text's.
    ("image", dict(image_dim=20, in_channels=13), (2, 3, 4, 6), 512, False),
    ("first_and_last_image", dict(image_dim=12, image_positions=6), (1, 2, 4, 6), 512, False),
    ("wide_head", dict(heads=2, head_dim=40, layers=1), (1, 5, 10, 14), 32, False),
]


def model_of(config):
    torch.manual_seed(1)
    model = WanTransformer3DModel(
        patch_size=tuple(config["patch"]), num_attention_heads=config["heads"], attention_head_dim=config["head_dim"],
        in_channels=config["in_channels"], out_channels=config["out_channels"], text_dim=config["text_dim"],
        freq_dim=config["freq_dim"], ffn_dim=config["ffn_dim"], num_layers=config["layers"],
        cross_attn_norm=config["cross_attn_norm"], eps=config["eps"], image_dim=config.get("image_dim"),
        added_kv_proj_dim=config["heads"] * config["head_dim"] if "image_dim" in config else None,
        pos_embed_seq_len=config.get("image_positions"))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:  # ones and zeros would hide a weight that is not applied
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model


@contextlib.contextmanager
def float_keeps_double():
    """diffusers calls .float() to keep norms and modulation wide in half precision; in fp64 that would make them narrow."""
    narrow = torch.Tensor.float
    torch.Tensor.float = lambda x, *args, **kwargs: x if x.dtype == torch.float64 else narrow(x, *args, **kwargs)
    try:
        yield
    finally:
        torch.Tensor.float = narrow


def reference(model, config, inputs, dtype):
    """Output and gradients of diffusers' model in `dtype`, as the probe names them."""
    model = copy.deepcopy(model).to(dtype)
    latents = inputs["in.latents"].clone().to(dtype).requires_grad_()
    text = inputs["in.text"].clone().to(dtype).requires_grad_()
    image = inputs["in.image"].clone().to(dtype).requires_grad_() if "in.image" in inputs else None
    with float_keeps_double():
        # With positions diffusers wants first and last image one after the other in the batch.
        halves = image.unflatten(1, (2, -1)).flatten(0, 1) if "image_positions" in config else image
        output = model(latents, inputs["in.time"], text, halves, return_dict=False)[0]
        (output * inputs["in.weight"].to(dtype)).sum().backward()
    result = {"output": output.detach(), "grad.in.latents": latents.grad, "grad.in.text": text.grad}
    if image is not None:
        result["grad.in.image"] = image.grad
    for name, parameter in model.named_parameters():
        result["grad.model." + name] = parameter.grad.clone()
    return result


def probe(program, folder, model, inputs, config, dtype):
    tensors = {"model." + name: value.contiguous() for name, value in model.state_dict().items()}
    case, result = folder / "case.safetensors", folder / "result.safetensors"
    save_file({**tensors, **inputs}, case,
              metadata={"config": json.dumps(config), "compute": str(dtype).removeprefix("torch.")})
    subprocess.run([program, case, result], check=True)
    return load_file(result)


def distance(actual, expected):
    if actual.shape != expected.shape:
        return float("inf")
    return (actual.double() - expected.double()).norm().item()


SCORES = re.compile(r"(grad\.model\.blocks\.\d+)\.(?:(attn\d)\.(?:to_q|to_k|norm_q|norm_k|add_k_proj|norm_added_k)|(norm2))\.")


def scale_of(name, exact):
    """The norm that an error is measured by: the tensor's own, or where that vanishes by algebra, the value's gradient's.

    What acts through attention scores alone has the gradient zero where scores do not matter: a key's bias shifts all scores of a
    query alike, and a single key has probability 1. What is left is the rounding of differences of terms of the value's size.
    """
    own = exact[name].norm().item()
    match = SCORES.match(name)
    if match is None:
        return own
    value = exact[f"{match[1]}.{match[2] or 'attn2'}.to_v.bias"].norm().item()
    return own if own > 1e-9 * value else value


def judge(program, name, config, latent, text_tokens, per_token):
    torch.manual_seed(2)
    batch, frames, height, width = latent
    patch = config["patch"]
    tokens = (frames // patch[0]) * (height // patch[1]) * (width // patch[2])
    text = torch.randn(batch, text_tokens, config["text_dim"])
    text[:, text_tokens - text_tokens // 3:] = 0
    inputs = {
        "in.latents": torch.randn(batch, config["in_channels"], *latent[1:]),
        "in.time": 1000 * (torch.rand(batch, tokens) if per_token else torch.rand(batch)),
        "in.text": text,
        "in.weight": torch.randn(batch, config["out_channels"], *latent[1:]),
    }
    if "image_dim" in config:
        inputs["in.image"] = torch.randn(batch, config.get("image_positions", 5), config["image_dim"])
    model = model_of(config)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        ours32 = probe(program, folder, model, inputs, config, torch.float32)
        theirs32 = reference(model, config, inputs, torch.float32)
        exact = reference(model, config, inputs, torch.float64)
        ours64 = probe(program, folder, model, inputs, config, torch.float64)

    failures, worst64, worst32 = [], 0.0, 0.0
    assert set(ours64) == set(ours32) == set(exact), set(exact) ^ set(ours64)
    for tensor in sorted(exact):
        scale = scale_of(tensor, exact)
        error64 = distance(ours64[tensor], exact[tensor])
        error32 = distance(ours32[tensor], exact[tensor])
        bound32 = 2 * distance(theirs32[tensor], exact[tensor]) + 1e-6 * scale
        worst64, worst32 = max(worst64, error64 / scale), max(worst32, error32 / scale)
        if not error64 <= 1e-10 * scale:
            failures.append(f"{tensor}: fp64 error {error64 / scale:.2e} of the norm, bound 1e-10")
        if not error32 <= bound32:
            failures.append(f"{tensor}: fp32 error {error32:.2e}, bound {bound32:.2e}")
    print(f"{name}: {len(exact)} tensors, worst relative error fp64 {worst64:.1e}, fp32 {worst32:.1e}")
    for failure in failures:
        print("  FAILED " + failure)
    return not failures


def main():
    program = sys.argv[1]
    results = [judge(program, name, {**SMALL, **changes}, *rest) for name, changes, *rest in CASES]
    print(f"{sum(results)} of {len(results)} cases agree with diffusers")
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()

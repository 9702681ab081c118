"""Judges the codec wan by diffusers' AutoencoderKLWan: wan_codec_oracle.py WAN_CODEC_PROBE

Posterior and decoded frames of small random configurations of both variants, whole, piece by piece and in tiles (diffusers always
computes the whole, in its groups of 4 frames): in fp32 within 1e-5 of the tensor's norm. Names of the original layout by diffusers'
own converter, where it has one; a written folder must load with nothing missing or left over and hold the same numbers.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan
from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers
from safetensors.torch import load_file, save_file

BOUND = 1e-5
WAN21 = dict(base_dim=8, z_dim=16, dim_mult=[1, 2, 4, 4], num_res_blocks=2, temperal_downsample=[False, True, True])
WAN22 = dict(base_dim=8, decoder_base_dim=12, z_dim=48, dim_mult=[1, 2, 4, 4], num_res_blocks=2,
             temperal_downsample=[False, True, True], is_residual=True, in_channels=12, out_channels=12, patch_size=2,
             scale_factor_spatial=16, latents_mean=[0.01 * i for i in range(48)], latents_std=[0.5 + 0.02 * i for i in range(48)])
ODD21 = dict(base_dim=6, z_dim=3, dim_mult=[1, 3, 2], num_res_blocks=1, temperal_downsample=[True, True],
             latents_mean=[0.1, -0.2, 0.3], latents_std=[1.5, 0.5, 2.0], scale_factor_spatial=4)

# name, configuration, frames, latent height and width, tile in pixels, pixels at a time
CASES = [
    ("2.1 one frame", WAN21, 1, 3, 5, 0, 1 << 15),
    ("2.1 5 frames, one at a time", WAN21, 5, 2, 3, 0, 1),
    ("2.1 9 frames", WAN21, 9, 5, 4, 0, 1 << 15),
    ("2.1 17 frames at once", WAN21, 17, 3, 3, 0, 1 << 40),
    ("2.1 in tiles", WAN21, 9, 7, 25, 32, 1 << 12),
    ("2.2 one frame", WAN22, 1, 3, 2, 0, 1 << 15),
    ("2.2 5 frames", WAN22, 5, 1, 3, 0, 1 << 10),
    ("2.2 9 frames, one at a time", WAN22, 9, 3, 2, 0, 1),
    ("2.2 17 frames at once", WAN22, 17, 2, 1, 0, 1 << 40),
    ("2.2 in tiles", WAN22, 5, 3, 21, 64, 1 << 12),
    ("three levels", ODD21, 9, 5, 7, 0, 500),
]


def model_of(config):
    torch.manual_seed(1)
    model = AutoencoderKLWan(**config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("gamma"):  # ones would hide a weight that is not applied
                parameter.add_(0.3 * torch.randn_like(parameter))
            elif name.endswith("weight"):  # numbers keep their size from layer to layer
                parameter.copy_(torch.randn_like(parameter) / parameter[0].numel() ** 0.5)
    return model


def reference(model, frames, z):
    pixels = (frames.float() / 255 * 2 - 1).permute(3, 0, 1, 2)[None]
    with torch.no_grad():
        posterior = model.encode(pixels).latent_dist
        decoded = model.decode(z[None]).sample[0]
        mean = torch.tensor(model.config.latents_mean).view(-1, 1, 1, 1)
        std = torch.tensor(model.config.latents_std).view(-1, 1, 1, 1)
        return {"posterior": torch.cat([posterior.mean, posterior.logvar], 1)[0], "decoded": decoded,
                "latent": (posterior.mode()[0] - mean) / std}


def difference(found, expected):
    if found.shape != expected.shape:
        return float("inf")
    return ((found.double() - expected.double()).norm() / expected.double().norm()).item()


def judge(program, root, name, config, frames, height, width, tile, at_once):
    model = model_of(config)
    folder = root / "vae"
    model.save_pretrained(folder)
    edge = config.get("scale_factor_spatial", 8)
    torch.manual_seed(2)
    given = {"frames": torch.randint(0, 256, (frames, height * edge, width * edge, 3), dtype=torch.uint8),
             "z": torch.randn(config["z_dim"], (frames - 1) // 4 + 1, height, width)}
    save_file(given, root / "case.safetensors")
    subprocess.run([program, "run", folder, str(tile), str(at_once), root / "case.safetensors", root / "result.safetensors"],
                   check=True)
    ours, theirs = load_file(root / "result.safetensors"), reference(model, **given)
    # diffusers clamps what it decodes, and bounds the log-variance; a codec may leave that to its caller.
    ours["decoded"] = ours["decoded"].clamp(-1, 1)
    ours["posterior"][config["z_dim"]:] = ours["posterior"][config["z_dim"]:].clamp(-30, 20)
    assert theirs["decoded"].abs().lt(1).float().mean() > 0.2, "the comparison is empty where all is clamped"
    off = {key: difference(ours[key], theirs[key]) for key in theirs}
    good = all(value <= BOUND for value in off.values())
    print(f"{name}: " + ", ".join(f"{key} {value:.1e}" for key, value in off.items()) + ("" if good else "  FAILED"))
    return good


def convert_22(tensors):
    """Wan 2.2's names, of which the installed diffusers has no converter: those of its conversion script, as rules."""
    blocks = [(r"\.residual\.0\.", ".norm1."), (r"\.residual\.2\.", ".conv1."), (r"\.residual\.3\.", ".norm2."),
              (r"\.residual\.6\.", ".conv2."), (r"\.shortcut\.", ".conv_shortcut.")]
    rules = [(r"^conv1\.", "quant_conv."), (r"^conv2\.", "post_quant_conv."), (r"\.head\.0\.", ".norm_out."),
             (r"\.head\.2\.", ".conv_out."), (r"^(en|de)coder\.conv1\.", r"\1coder.conv_in."),
             (r"\.middle\.0\.", ".mid_block.resnets.0."), (r"\.middle\.1\.", ".mid_block.attentions.0."),
             (r"\.middle\.2\.", ".mid_block.resnets.1."),
             (r"\.(down|up)samples\.(\d+)\.(?:down|up)samples\.\d+\.(resample|time_conv)", r".\1_blocks.\2.\1sampler.\3"),
             (r"\.(down|up)samples\.(\d+)\.(?:down|up)samples\.(\d+)\.", r".\1_blocks.\2.resnets.\3."), *blocks]
    found = {}
    for name, tensor in tensors.items():
        for pattern, ours in rules:
            name = re.sub(pattern, ours, name)
        found[name] = tensor
    return found


def judge_names(program, root, config, convert):
    model = model_of(config)
    folder, file, again = root / "named", root / "original.safetensors", root / "again"
    model.save_pretrained(folder)
    subprocess.run([program, "rename", folder, file], check=True)
    found, want = convert(load_file(file)), model.state_dict()
    assert found.keys() == want.keys(), found.keys() ^ want.keys()
    for name, tensor in want.items():
        assert torch.equal(found[name], tensor), name
    # A file in the original names becomes a folder that diffusers loads, with what its save_pretrained would say.
    subprocess.run([program, "write", file, again, "stored"], check=True)
    loaded, info = AutoencoderKLWan.from_pretrained(again, output_loading_info=True)
    assert not any(info.values()), f"tensors missing, left over or of another shape: {info}"
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(want[name], tensor), name
    loaded.save_pretrained(root / "saved")
    ours, theirs = (json.loads((place / "config.json").read_text()) for place in (again, root / "saved"))
    for key in theirs.keys() - {"_diffusers_version", "_name_or_path"}:
        assert ours[key] == theirs[key], f"{key}: {ours[key]} and {theirs[key]}"
    subprocess.run([program, "write", folder, root / "narrow", "bf16"], check=True)
    narrow = load_file(root / "narrow/diffusion_pytorch_model.safetensors")
    assert all(torch.equal(narrow[name], tensor.bfloat16()) for name, tensor in want.items())
    print(f"{len(want)} tensors named and written as diffusers does")


def main(program):
    results = []
    for case in CASES:
        with tempfile.TemporaryDirectory() as root:
            results.append(judge(program, Path(root), *case))
    published = AutoencoderKLWan().config
    for config, convert in ((WAN21, convert_wan_vae_to_diffusers), (WAN22, convert_22)):
        with tempfile.TemporaryDirectory() as root:
            # What a file alone does not say is taken from the published variant.
            if config is WAN21:
                config = {**config, "latents_mean": published.latents_mean, "latents_std": published.latents_std}
            else:
                config = {**config, **PUBLISHED_22}
            judge_names(program, Path(root), config, convert)
    print(f"{sum(results)} of {len(results)} cases agree with diffusers")
    sys.exit(0 if all(results) else 1)


PUBLISHED_22 = dict(
    latents_mean=[-0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174, 0.1838, 0.1557, -0.1382, 0.0542, 0.2813, 0.0891, 0.1570,
                  -0.0098, 0.0375, -0.1825, -0.2246, -0.1207, -0.0698, 0.5109, 0.2665, -0.2108, -0.2158, 0.2502, -0.2055, -0.0322,
                  0.1109, 0.1567, -0.0729, 0.0899, -0.2799, -0.1230, -0.0313, -0.1649, 0.0117, 0.0723, -0.2839, -0.2083, -0.0520,
                  0.3748, 0.0152, 0.1957, 0.1433, -0.2944, 0.3573, -0.0548, -0.1681, -0.0667],
    latents_std=[0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.4990, 0.4818, 0.5013, 0.8158, 1.0344, 0.5894, 1.0901, 0.6885, 0.6165,
                 0.8454, 0.4978, 0.5759, 0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659, 0.7069, 0.5338, 0.4889, 0.4917,
                 0.4069, 0.4999, 0.6866, 0.4093, 0.5709, 0.6065, 0.6415, 0.4944, 0.5726, 1.2042, 0.5458, 1.6887, 0.3971, 1.0600,
                 0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744])

if __name__ == "__main__":
    main(sys.argv[1])

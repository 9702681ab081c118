"""Judges what image-to-video models are given by diffusers' WanImageToVideoPipeline: first_frame_oracle.py WAN_CODEC_PROBE

Mask and latent of a clip that is grey behind its first frame (Wan 2.1, 2.2 A14B), and the first latent frame (2.2 5B), of a small
random AutoencoderKLWan: within 1e-5 of the tensor's norm.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, WanImageToVideoPipeline
from safetensors.torch import load_file, save_file
from wan_codec_oracle import BOUND, ODD21, WAN21, difference, model_of


def reference(vae, image, frames, is_latent):
    pipe = WanImageToVideoPipeline(tokenizer=None, text_encoder=None, vae=vae, scheduler=FlowMatchEulerDiscreteScheduler(),
                                   expand_timesteps=is_latent)
    pixels = (image.float() / 255 * 2 - 1).permute(0, 3, 1, 2)
    with torch.no_grad():
        return pipe.prepare_latents(pixels, 1, num_channels_latents=vae.config.z_dim, height=image.shape[1], width=image.shape[2],
                                    num_frames=frames, dtype=torch.float32, device="cpu")[1][0]


def judge(program, root, config, frames, kind):
    vae = model_of(config)
    vae.save_pretrained(root / "vae")
    edge = vae.config.scale_factor_spatial
    torch.manual_seed(3)
    image = torch.randint(0, 256, (1, 3 * edge, 5 * edge, 3), dtype=torch.uint8)
    save_file({"frames": image}, root / "case.safetensors")
    subprocess.run([program, "first", root / "vae", kind, str(frames), root / "case.safetensors", root / "result.safetensors"],
                   check=True)
    ours, theirs = load_file(root / "result.safetensors")["start"], reference(vae, image, frames, kind == "latent")
    off = difference(ours, theirs)
    print(f"{kind}, {frames} frames, {tuple(theirs.shape)}: {off:.1e}" + ("" if off <= BOUND else "  FAILED"))
    return off <= BOUND


def main(program):
    results = []
    for config, frames, kind in ((WAN21, 9, "channels"), (ODD21, 5, "channels"), (ODD21, 17, "channels"), (WAN21, 9, "latent")):
        with tempfile.TemporaryDirectory() as root:
            results.append(judge(program, Path(root), config, frames, kind))
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main(sys.argv[1])

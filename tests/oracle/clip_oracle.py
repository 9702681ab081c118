"""Judges pixels and image states by Pillow and transformers: clip_oracle.py CLIP_PROBE.

Bounds: resized bytes are Pillow's; normalised pixels are those of CLIPImageProcessor, bit for bit. States lie within 1e-5 of their norm
from transformers' in fp64 (some tens of roundings of 6e-8 on the way).
"""

import pathlib
import subprocess
import sys
import tempfile

import numpy
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModel

SIZES = [(1, 1), (7, 5), (16, 16), (31, 64), (57, 57), (64, 33), (224, 224), (225, 223), (480, 854), (1280, 720)]
SMALL = dict(hidden_size=64, intermediate_size=96, num_hidden_layers=4, num_attention_heads=16, image_size=56, patch_size=14,
             hidden_act="gelu", layer_norm_eps=1e-5)


def picture(height, width, seed):
    """Noise, edges and slopes: what a kernel overshoots at, and what it must not change."""
    draw = numpy.random.default_rng(seed)
    image = draw.integers(0, 256, (height, width, 3), dtype=numpy.uint8)
    image[height // 3:, width // 2:] = 255 * (draw.integers(0, 2, 3).astype(numpy.uint8))
    slope = numpy.linspace(0, 255, width).astype(numpy.uint8)
    image[: height // 4] = slope[None, :, None]
    return torch.from_numpy(image)


def probe(program, *arguments, inputs):
    with tempfile.TemporaryDirectory() as folder:
        source, result = pathlib.Path(folder) / "in.safetensors", pathlib.Path(folder) / "out.safetensors"
        save_file(inputs, source)
        subprocess.run([program, *map(str, arguments), source, result], check=True)
        return load_file(result)


def check_resize(program):
    # As CLIPImageProcessor asks for it: the shorter side to a length, the other in proportion, for the aspects of videos. A strip of
    # 1080x37, or sides scaled by different factors, differ in some bytes: Pillow seems to take the columns first there.
    inputs = {}
    for h, w in SIZES:
        for shorter in (16, 56, 224, 300):
            th, tw = (shorter, int(shorter * w / h)) if h <= w else (int(shorter * h / w), shorter)
            inputs[f"{h}_{w}.{th}x{tw}"] = picture(h, w, h + w)
    ours = probe(program, "resize", inputs=inputs)
    for name, image in inputs.items():
        height, width = map(int, name.split(".")[1].split("x"))
        expected = numpy.array(Image.fromarray(image.numpy()).resize((width, height), Image.Resampling.BICUBIC))
        assert numpy.array_equal(ours[name].numpy(), expected), f"{name}: other bytes than Pillow's"
    print(f"resized: {len(inputs)} images equal Pillow's, byte for byte")


def random_model(seed, **changes):
    torch.manual_seed(seed)
    model = CLIPVisionModel(CLIPVisionConfig(**{**SMALL, **changes}), ).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn_like(parameter)
            if "norm" in name or "layrnorm" in name:
                parameter.copy_((1 if name.endswith("weight") else 0) + 0.3 * noise)
            elif parameter.dim() >= 2 and "position" not in name:
                parameter.copy_(noise * 1.2 / parameter[0].numel() ** 0.5)
            else:
                parameter.copy_(0.5 * noise)
    return model


def check_states(program, name, model, stored, single):
    """single: the sizes are such that a file without config.json says them all."""
    model = model.to(stored)
    size = model.config.image_size
    processor = CLIPImageProcessorPil(size={"shortest_edge": size}, crop_size={"height": size, "width": size})
    images = {f"{h}_{w}": picture(h, w, h * w) for h, w in SIZES}
    pixels = {key: processor(images=Image.fromarray(image.numpy()), return_tensors="pt")["pixel_values"] for key, image in images.items()}
    exact_model = CLIPVisionModel(model.config).double().eval()
    exact_model.load_state_dict({key: value.double() for key, value in model.state_dict().items()})
    with torch.no_grad():
        exact = {key: exact_model(value.double(), output_hidden_states=True).hidden_states[-2][0] for key, value in pixels.items()}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        model.save_pretrained(folder / "image_encoder")
        state = load_file(folder / "image_encoder/model.safetensors")
        bare = {key.removeprefix("vision_model."): value for key, value in state.items()}
        prefixed = {"vision_model." + key: value for key, value in bare.items()}
        save_file({**prefixed, "visual_projection.weight": torch.zeros(8, model.config.hidden_size, dtype=stored),
                   "vision_model.embeddings.position_ids": torch.arange(5)[None]}, folder / "clip_vision_h.safetensors")
        save_file(bare, folder / "bare.safetensors")
        layouts = ["image_encoder"] + (["clip_vision_h.safetensors", "bare.safetensors"] if single else [])
        for layout in layouts:
            ours = probe(program, "states", folder / layout, inputs=images)
            worst = 0.0
            for key, reference in exact.items():
                assert torch.equal(ours[f"pixels.{key}"], pixels[key][0]), f"{key}: other pixels than CLIPImageProcessor's"
                found = ours[f"states.{key}"].double()
                assert found.shape == reference.shape, (found.shape, reference.shape)
                error = ((found - reference).norm() / reference.norm()).item()
                assert error <= 1e-5, f"{name}, {layout}, {key}: error {error:.2e} of the norm"
                worst = max(worst, error)
            print(f"states, {name}, {layout}: {len(exact)} images, pixels equal, worst error {worst:.1e} of the norm")


def main():
    program = sys.argv[1]
    check_resize(program)
    check_states(program, "fp32", random_model(1), torch.float32, single=True)
    check_states(program, "bf16", random_model(2), torch.bfloat16, single=True)
    check_states(program, "quick_gelu", random_model(3, hidden_act="quick_gelu", num_attention_heads=4, layer_norm_eps=1e-3,
                                                     image_size=224, patch_size=32), torch.float32, single=False)


if __name__ == "__main__":
    main()

"""Judges whole exported pipelines by diffusers, which loads each folder and draws: pipeline_oracle.py PIPELINE_PROBE.

Parts are random and come in every layout in which they are published. diffusers gets our noise, the prompt and nothing else that
the export does not say by itself: times, steps of the solver, text and image states, what stands for no caption, and the decoder are
its own. Latents in fp32 agree within 1e-4 of their range; frames within half a level of 255, to which ours are rounded, and 1e-4.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # the models are so small that threads would only wait for each other

import diffusers
import numpy
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPVisionModel, UMT5EncoderModel

import clip_oracle
import umt5_oracle
import wan_codec_oracle

PROMPT = "a red circle moves to the left on a blue background"
FRAMES, HEIGHT, WIDTH = 9, 32, 48
STEPS, LENGTH, LENGTH_BESIDE_IMAGES = 4, 24, 512  # transformer_wan.py knows no other beside image states
BOUND = 1e-4

# kind, type, text weights, image weights, first frame, shift, classes of diffusers that draw with it
CASES = [
    ("none", "fp32", "folder", None, False, "auto", ["WanPipeline"]),
    ("none", "bf16", "original.safetensors", None, False, "3", ["WanPipeline"]),
    ("none", "fp32", "comfyui/model.safetensors", None, False, "0.7", ["WanPipeline"]),
    ("channels", "fp32", "folder", "image_encoder", True, "5", ["WanImageToVideoPipeline"]),
    ("channels", "fp32", "folder", "clip_vision_h.safetensors", True, "auto", ["WanImageToVideoPipeline"]),
    ("channels", "fp32", "folder", None, True, "auto", ["WanImageToVideoPipeline"]),
    ("first-latent", "fp32", "folder", None, False, "auto", ["WanPipeline"]),
    ("first-latent", "fp32", "folder", None, True, "5", ["WanImageToVideoPipeline"]),
    ("none+pair", "fp32", "folder", None, False, "auto", ["WanPipeline"]),
    ("channels+pair", "fp32", "folder", None, True, "3", ["WanImageToVideoPipeline"]),
]


def write_parts(root):
    """Text and image encoders as folders and as single files, the codec, and a picture."""
    tokenizer = umt5_oracle.train_vocabulary(make(root / "tokenizer"), byte_fallback=False)
    text = umt5_oracle.random_model(5)
    text.save_pretrained(root / "folder/text_encoder")
    shutil.copytree(root / "tokenizer", root / "folder/tokenizer")
    state = {key: value.contiguous() for key, value in text.state_dict().items() if key != "encoder.embed_tokens.weight"}
    save_file(umt5_oracle.original_names(state), root / "original.safetensors")
    vocabulary = numpy.frombuffer((root / "tokenizer/spiece.model").read_bytes(), dtype=numpy.uint8).copy()
    save_file({**state, "spiece_model": torch.from_numpy(vocabulary)}, make(root / "comfyui") / "model.safetensors")
    image = clip_oracle.random_model(1)
    image.save_pretrained(root / "image_encoder")
    bare = {key.removeprefix("vision_model."): value for key, value in image.state_dict().items()}
    save_file({"vision_model." + key: value for key, value in bare.items()}, root / "clip_vision_h.safetensors")
    wan_codec_oracle.model_of(wan_codec_oracle.WAN21).save_pretrained(root / "vae")
    Image.fromarray(clip_oracle.picture(HEIGHT, WIDTH, 3).numpy()).save(root / "first.png")
    return tokenizer


def make(folder):
    folder.mkdir(parents=True)
    return folder


def check_components(folder, pipeline, tokenizer):
    """Every part is of the class that the index names, its weights are all there, and its tokens are the source's."""
    index = json.loads((folder / "model_index.json").read_text())
    for name, (_, kind) in ((n, c) for n, c in index.items() if isinstance(c, list)):
        part = pipeline.components[name]
        found = None if part is None else type(part).__name__.removesuffix("Pil")
        assert found == (kind and kind.removesuffix("Fast")), f"{name}: {found}, expected {kind}"
    transformer = diffusers.WanTransformer3DModel
    classes = {"transformer": transformer, "transformer_2": transformer, "vae": diffusers.AutoencoderKLWan,
               "text_encoder": UMT5EncoderModel, "image_encoder": CLIPVisionModel}
    for name, kind in classes.items():
        if pipeline.components.get(name) is None:
            continue
        _, info = kind.from_pretrained(folder / name, output_loading_info=True)
        # ComfyUI's files hold the tokenizer too.
        assert set(info["unexpected_keys"]) <= {"spiece_model"}, (name, info)
        assert not (info["missing_keys"] or info["mismatched_keys"] or info["error_msgs"]), (name, info)
    for prompt in umt5_oracle.PROMPTS:
        assert pipeline.tokenizer(prompt).input_ids == tokenizer(prompt).input_ids, prompt


def draw(pipeline, noise, guidance, image, output):
    given = {"image": image} if image else {}
    length = LENGTH_BESIDE_IMAGES if pipeline.components.get("image_encoder") else LENGTH
    return pipeline(prompt=PROMPT, height=HEIGHT, width=WIDTH, num_frames=FRAMES, num_inference_steps=STEPS, guidance_scale=guidance,
                    latents=noise, max_sequence_length=length, output_type=output, **given).frames


def run_card(folder, image):
    """The lines of Python in the model card."""
    lines = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
    with contextlib.chdir(folder.parent):
        names = {"image": image}
        exec(lines, names)
    assert names["video"].shape == (FRAMES, HEIGHT, WIDTH, 3), names["video"].shape


def judge(program, root, tokenizer, case):
    kind, dtype, text, image, is_given, shift, classes = case
    with tempfile.TemporaryDirectory() as out:
        out = Path(out)
        first = root / "first.png" if is_given else "-"
        subprocess.run([program, kind, dtype, root / text, root / "vae", root / image if image else "-", first, shift, out], check=True)
        ours = load_file(out / "drawn.safetensors")
        picture = Image.open(first).convert("RGB") if is_given else None
        if kind != "first-latent" and shift == "auto":
            run_card(out / "model", picture)
        for name in classes:
            pipeline = getattr(diffusers, name).from_pretrained(out / "model", dtype=torch.float32)
            pipeline.set_progress_bar_config(disable=True)
            check_components(out / "model", pipeline, tokenizer)
            drawn = {}
            for guidance in (1, 3):
                drawn[guidance] = latent = draw(pipeline, ours["noise"], guidance, picture, "latent")
                size = (latent.max() - latent.min()).item()
                off = (ours[f"latent.{guidance}"] - latent).abs().max().item() / size
                frames = torch.from_numpy(draw(pipeline, ours["noise"], guidance, picture, "np")[0])
                levels = (ours[f"frames.{guidance}"].float() / 255 - frames).abs().max().item() - 0.5 / 255
                print(f"{kind}, {dtype}, {text}, {image}, shift {shift}, {name}, guidance {guidance}: latent {off:.1e}, "
                      f"frames {levels:+.1e} beyond rounding")
                assert off <= BOUND and levels <= BOUND
                assert ((frames > 0) & (frames < 1)).float().mean() > 0.2, "the comparison is empty where all is clamped"
            # Beside 512 tokens, most of them padding, the few of the prompt weigh little.
            guided = (drawn[3] - drawn[1]).abs().max().item() / size
            assert guided > 10 * BOUND, f"guidance does nothing that these bounds could see: {guided:.1e}"
            assert (drawn[1] - ours["noise"]).abs().max() > 0.1 * size, "the model does nothing"


def main(program):
    with tempfile.TemporaryDirectory() as root:
        root = Path(root)
        tokenizer = write_parts(root)
        for case in CASES:
            judge(program, root, tokenizer, case)


if __name__ == "__main__":
    main(sys.argv[1])

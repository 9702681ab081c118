"""Judges the original layout's names by diffusers' converter: pretrained_oracle.py PATH/TO/pretrained_test."""

import subprocess
import sys
import tempfile

import torch
from diffusers import WanTransformer3DModel
from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers
from safetensors.torch import load_file

COMMON = dict(patch_size=(1, 2, 2), num_attention_heads=1, attention_head_dim=128, out_channels=3, text_dim=10, freq_dim=16,
              ffn_dim=48, num_layers=2)
MODELS = {"text": dict(in_channels=3),
          "image": dict(in_channels=10, image_dim=6, added_kv_proj_dim=128)}

with tempfile.TemporaryDirectory() as folder:
    subprocess.run([sys.argv[1], "--write", folder], check=True)
    for kind, sizes in MODELS.items():
        want = load_file(f"{folder}/{kind}.diffusers.safetensors")
        found = convert_wan_transformer_to_diffusers(load_file(f"{folder}/{kind}.original.safetensors"))
        assert found.keys() == want.keys(), found.keys() ^ want.keys()
        for name, tensor in want.items():
            assert torch.equal(found[name], tensor), name
        model = WanTransformer3DModel(**COMMON, **sizes)
        model.load_state_dict(found)  # strict
        print(f"{kind} to video: {len(want)} tensors named as diffusers' converter names them")

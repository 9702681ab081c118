"""Judges the original layout's names by diffusers' converter: pretrained_oracle.py PATH/TO/pretrained_test."""

import subprocess
import sys
import tempfile

import torch
from diffusers import WanTransformer3DModel
from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers
from safetensors.torch import load_file

with tempfile.TemporaryDirectory() as folder:
    subprocess.run([sys.argv[1], "--write", folder], check=True)
    want = load_file(f"{folder}/diffusers.safetensors")
    found = convert_wan_transformer_to_diffusers(load_file(f"{folder}/original.safetensors"))
    assert found.keys() == want.keys(), found.keys() ^ want.keys()
    for name, tensor in want.items():
        assert torch.equal(found[name], tensor), name
    model = WanTransformer3DModel(patch_size=(1, 2, 2), num_attention_heads=1, attention_head_dim=128, in_channels=3,
                                  out_channels=3, text_dim=10, freq_dim=16, ffn_dim=48, num_layers=2)
    model.load_state_dict(found)  # strict
print(f"{len(want)} tensors named as diffusers' converter names them")

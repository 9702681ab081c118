"""The comparison behind scripts/bench-pytorch: `pendulum bench step` and a PyTorch loop, in turns, medians and their ratio.

A PyTorch step is what a plain training script does: forward of diffusers' WanTransformer3DModel, mean squared error against
a target, backward, gradient clipping, AdamW (fused). Both sides work on fixed random tensors: nothing is decoded or encoded.
Where Pendulum measures a GPU, PyTorch runs there too: bf16 by autocast, attention by cuDNN or else flash attention, and its
own checkpointing of whole blocks where Pendulum's configuration asks for checkpointing of any kind.
"""

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import time

import torch
import yaml
from diffusers import WanTransformer3DModel

PROGRAM = "build/pendulum"
WARM_UP_STEPS = 2


def measure_pendulum(config, overrides, stage, steps):
    """What `pendulum bench step` prints for a stage: the speed, and the sizes that PyTorch gets."""
    # Both sides update by AdamW, whatever the configuration trains with.
    command = [PROGRAM, "bench", "step", config, "--stage", stage, "--steps", str(steps), "--json", *set_words(overrides),
               "--set", "optim.kind=adamw"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        sys.exit(f"bench-pytorch: '{' '.join(command)}' failed:\n{result.stderr.strip()}")
    return json.loads(result.stdout.strip().splitlines()[-1])


def set_words(overrides):
    return [word for override in overrides for word in ("--set", override)]


def transformer(sizes):
    return WanTransformer3DModel(
        patch_size=tuple(sizes["patch"]),
        num_attention_heads=sizes["heads"],
        attention_head_dim=sizes["head_dim"],
        in_channels=sizes["in_channels"],
        out_channels=sizes["out_channels"],
        text_dim=sizes["text_dim"],
        freq_dim=sizes["freq_dim"],
        ffn_dim=sizes["ffn_dim"],
        num_layers=sizes["layers"],
        cross_attn_norm=sizes.get("cross_attn_norm", True),
    )


class PytorchLoop:
    """Training steps on fixed random data."""

    def __init__(self, measured):
        batch = measured["batch"]
        torch.set_num_threads(measured["threads"])
        self.device = torch.device(measured["device"].split(":")[0])
        self.model = transformer(measured["model"]).train().to(self.device)
        if measured["checkpointing"] != "none":
            self.model.enable_gradient_checkpointing()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, fused=True)
        self.noisy = torch.randn(batch, *measured["latent"], device=self.device)
        self.target = torch.randn(batch, *measured["latent"], device=self.device)
        self.time = torch.linspace(1, 999, batch, device=self.device)
        self.text = torch.randn(batch, *measured["text"], device=self.device)

    def precision(self):
        """bf16 and the fastest attention that there is, on a GPU."""
        scope = contextlib.ExitStack()
        if self.device.type == "cuda":
            backends = [torch.nn.attention.SDPBackend.CUDNN_ATTENTION, torch.nn.attention.SDPBackend.FLASH_ATTENTION]
            scope.enter_context(torch.autocast("cuda", torch.bfloat16))
            scope.enter_context(torch.nn.attention.sdpa_kernel(backends, set_priority=True))
        return scope

    def step(self):
        with self.precision():
            velocity = self.model(self.noisy, self.time, self.text, return_dict=False)[0]
            loss = torch.nn.functional.mse_loss(velocity.float(), self.target)
            # Inside: checkpointed blocks are computed once more, and by the same kernels.
            loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def steps_per_second(self, steps):
        for _ in range(WARM_UP_STEPS):
            self.step()
        seconds = []
        for _ in range(steps):
            start = time.perf_counter()
            self.step()
            if self.device.type == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
        return 1 / statistics.median(seconds)


def compare(config, overrides, stage, rounds, steps):
    ours, theirs, loop = [], [], None
    for _ in range(rounds):
        measured = measure_pendulum(config, overrides, stage, steps)
        ours.append(measured["steps_per_second"])
        loop = loop or PytorchLoop(measured)
        theirs.append(loop.steps_per_second(steps))
    parameters = sum(tensor.numel() for tensor in loop.model.parameters())
    return measured, parameters, statistics.median(ours), statistics.median(theirs)


def stage_names(config, overrides):
    resolved = subprocess.run([PROGRAM, "config", config, *set_words(overrides)], capture_output=True, text=True, check=False)
    if resolved.returncode != 0:
        sys.exit(resolved.stderr.strip())
    return [stage["name"] for stage in yaml.safe_load(resolved.stdout)["stages"]]


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench-pytorch", description=__doc__.splitlines()[0])
    parser.add_argument("config", nargs="?", default="configs/quickstart.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE",
                        help="as pendulum takes it; may be given several times")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each side; the median counts (default 3)")
    parser.add_argument("--steps", type=int, default=10, help="measured steps of a turn, after two that are not (default 10)")
    parser.add_argument("--stages", help="names, with commas between; all by default")
    options = parser.parse_args()
    stages = options.stages.split(",") if options.stages else stage_names(options.config, options.set)

    print(f"torch {torch.__version__}; steps per second, median of {options.rounds} turns of {options.steps} steps each")
    print(f"{'stage':12} {'latent':>16} {'batch':>6} {'threads':>8} {'pendulum':>9} {'pytorch':>9} {'ratio':>6}")
    for stage in stages:
        measured, parameters, ours, theirs = compare(options.config, options.set, stage, options.rounds, options.steps)
        latent = "x".join(map(str, measured["latent"]))
        print(f"{stage:12} {latent:>16} {measured['batch']:6} {measured['threads']:8} {ours:9.2f} {theirs:9.2f} {ours / theirs:6.2f}",
              flush=True)
    print(f"The model has {parameters / 1e6:.2f} million parameters.")


if __name__ == "__main__":
    main()

"""The comparison behind scripts/bench-pytorch codec: `pendulum bench codec` and diffusers' AutoencoderKLWan, in turns.

Both encode and decode a clip of noise with the same random weights of a published variant's dimensions, each measurement in a process
of its own, whose peak memory counts too. Of diffusers' peak, what importing it costs is printed beside it.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROGRAM = "build/pendulum"
VARIANTS = {
    "2.1": {},
    "2.2": dict(base_dim=160, decoder_base_dim=256, z_dim=48, is_residual=True, in_channels=12, out_channels=12, patch_size=2,
                scale_factor_spatial=16, latents_mean=[0.0] * 48, latents_std=[1.0] * 48),
}


def peak_bytes():
    """Of this process alone: getrusage tells its parent's, where that was more."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s*(\d+) kB", status).group(1)) * 1024


def write_weights(folder, variant):
    import torch
    from diffusers import AutoencoderKLWan

    torch.manual_seed(1)
    AutoencoderKLWan(**VARIANTS[variant]).save_pretrained(folder)


def measure_diffusers(options):
    """What a script would do: load, encode or decode once."""
    import torch
    from diffusers import AutoencoderKLWan

    imported = peak_bytes()
    torch.set_num_threads(options.threads)
    model = AutoencoderKLWan.from_pretrained(options.weights).eval()
    height, width = map(int, options.size.split("x"))
    factor = model.config.scale_factor_spatial
    with torch.no_grad():
        if options.side == "encode":
            given = torch.rand(1, 3, options.frames, height, width) * 2 - 1
            start = time.perf_counter()
            model.encode(given)
        else:
            given = torch.randn(1, model.config.z_dim, (options.frames - 1) // 4 + 1, height // factor, width // factor)
            start = time.perf_counter()
            model.decode(given)
        seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "peak_bytes": peak_bytes(), "imported_bytes": imported}))


def run(command):
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if result.returncode != 0:
        sys.exit(f"bench-pytorch: '{' '.join(map(str, command))}' failed:\n{result.stderr.strip()}")
    return json.loads(result.stdout.strip().splitlines()[-1])


def compare(options, folder, side):
    common = ["--weights", folder, "--frames", options.frames, "--size", options.size, "--side", side, "--threads", options.threads]
    ours, theirs = [], []
    for _ in range(options.rounds):
        ours.append(run([PROGRAM, "bench", "codec", "--kind", "wan", "--device", "cpu", "--json", *common]))
        theirs.append(run([sys.executable, __file__, "--diffusers", *common]))
    median = lambda measured, key: statistics.median(m[key] for m in measured)
    return [median(m, key) for key in ("seconds", "peak_bytes") for m in (ours, theirs)] + [median(theirs, "imported_bytes")]


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench-pytorch codec", description=__doc__.splitlines()[0])
    parser.add_argument("--variant", choices=VARIANTS, default="2.1")
    parser.add_argument("--frames", type=int, default=81)
    parser.add_argument("--size", default="256x256", help="HEIGHTxWIDTH in pixels")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1, help="turns of each side; the median counts")
    parser.add_argument("--side", choices=("encode", "decode"), help="both by default")
    parser.add_argument("--weights", help=argparse.SUPPRESS)
    parser.add_argument("--diffusers", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.diffusers:
        return measure_diffusers(options)
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "vae"
        write_weights(folder, options.variant)
        print(f"Wan {options.variant}'s VAE, {options.frames} frames of {options.size}, {options.threads} threads, fp32, "
              f"medians of {options.rounds} turns")
        print(f"{'side':8} {'pendulum, s':>12} {'diffusers, s':>13} {'ratio':>6} {'pendulum, GB':>13} {'diffusers, GB':>14} {'ratio':>6}")
        for side in [options.side] if options.side else ["encode", "decode"]:
            ours, theirs, our_peak, their_peak, imported = compare(options, folder, side)
            print(f"{side:8} {ours:12.2f} {theirs:13.2f} {ours / theirs:6.2f} {our_peak / 1e9:13.2f} {their_peak / 1e9:14.2f} "
                  f"{our_peak / their_peak:6.2f}", flush=True)
        print(f"Of diffusers' memory, {imported / 1e9:.2f} GB are in use once it is imported.")


if __name__ == "__main__":
    main()

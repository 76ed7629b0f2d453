"""The network alone, ours and the peers', interleaved in one run: images a second.

    python tests/bench/forward.py [--rounds 7] [--batch 32] [--all] [--device cpu]

Medians of the rounds, a table, then one line of JSON. `--all` adds the peers that need minutes to build.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from peers import CORES, NETWORKS
from torch import nn

from inception_cli.network.model import InceptionV3
from inception_cli.network.onednn import keep_memory
from inception_cli.network.optimize import Plan, optimize
from inception_cli.settings import fastest_precision

HALF = (0.5,) * 3
QUICK = ("torchvision eager fp32", "ONNX Runtime fp32", "OpenVINO fp32", "OpenVINO bf16")
#: The bars: ours, a peer, how many times as fast.
BARS = [
    ("ours auto", "torchvision eager fp32", 3.5),
    ("ours fp32", "ONNX Runtime fp32", 0.9),
    ("ours fp32", "OpenVINO fp32", 0.9),
    ("ours auto", "OpenVINO bf16", 1.0),
    ("ours compiled", "OpenVINO bf16", 1.0),
]


def networks(batch: int, everything: bool) -> dict[str, Callable[[], object]]:
    """What is timed, by name; each call is a batch."""
    pixels = torch.randint(0, 256, (batch, 299, 299, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    scaled = (pixels / 127.5 - 1).contiguous()
    made: dict[str, Callable[[], object]] = {}
    for name, make in NETWORKS.items():
        if everything or name in QUICK:
            made[name] = partial(make(batch), scaled)
    fastest = fastest_precision("cpu")
    plans = {"ours fp32": Plan(), "ours auto": Plan(precision=fastest)}
    if everything:
        plans["ours compiled"] = Plan(precision=fastest, compile=True)
    ours: InceptionV3 = InceptionV3().initialise(0)
    for name, plan in plans.items():
        network: nn.Module = optimize(ours, HALF, HALF, plan)
        made[name] = partial(network, pixels)
    return made


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--all", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(CORES)
    keep_memory()  # of which torch's other networks here profit as well
    timed = networks(asked.batch, asked.all)
    for infer in timed.values():
        infer()
    rates: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(asked.rounds):
        for name, infer in timed.items():
            began = time.perf_counter()
            infer()
            rates[name].append(asked.batch / (time.perf_counter() - began))
    medians = {name: statistics.median(each) for name, each in rates.items()}
    print(f"{CORES} cores, batches of {asked.batch}, {asked.rounds} rounds, auto is {fastest_precision('cpu')}")
    for name, rate in medians.items():
        print(f"{name:<24} {rate:7.1f} images/s")
    bars = [(f"{ours} / {peer}", medians[ours] / medians[peer], bar) for ours, peer, bar in BARS if ours in medians]
    for what, ratio, bar in bars:
        print(f"{what:<44} {ratio:5.2f}  (bar {bar})")
    print(json.dumps({"bench": "forward", "images_per_s": medians, "ratios": {what: ratio for what, ratio, _ in bars}}))


if __name__ == "__main__":
    main()

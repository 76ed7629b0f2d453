"""Throughput of the network alone, ours and that of other libraries, measured in turn in one process.

    python tests/bench/forward.py [--rounds 7] [--batch 32] [--all]

Prints the median of the rounds as a table, then one line of JSON. `--all` adds networks that take minutes to compile.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from peers import CORES, NETWORKS

from inception_cli.config import Plan
from inception_cli.machine import fastest_precision
from inception_cli.network import int8
from inception_cli.network.fusion import fold_all, optimize
from inception_cli.network.model import InceptionV3
from inception_cli.network.onednn import keep_memory

HALF = (0.5,) * 3
QUICK = ("torchvision eager fp32", "ONNX Runtime fp32", "OpenVINO fp32", "OpenVINO bf16", "OpenVINO int8")
#: Our network, another one, and how many times as fast ours must be.
BARS = [
    ("ours auto", "torchvision eager fp32", 3.5),
    ("ours fp32", "ONNX Runtime fp32", 0.9),
    ("ours fp32", "OpenVINO fp32", 0.95),
    ("ours auto", "OpenVINO bf16", 1.0),
    ("ours compiled", "OpenVINO bf16", 1.0),
    ("ours int8", "ours fp32", 3.5),
    ("ours int8", "OpenVINO int8", 1.0),
]


def build_networks(batch_size: int, slow: bool) -> dict[str, Callable[[], object]]:
    """Return functions that run one batch each, by name; `slow` includes networks that take minutes to compile."""
    pixels = torch.randint(0, 256, (batch_size, 299, 299, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    scaled = (pixels / 127.5 - 1).contiguous()
    networks: dict[str, Callable[[], object]] = {}
    for name, build in NETWORKS.items():
        if slow or name in QUICK:
            networks[name] = partial(build(batch_size), scaled)
    fastest = fastest_precision("cpu")
    plans = {"ours fp32": Plan(), "ours auto": Plan(precision=fastest)}
    if slow:
        plans["ours compiled"] = Plan(precision=fastest, compile=True)
    network = InceptionV3().initialise(0)
    for name, plan in plans.items():
        networks[name] = partial(optimize(network, HALF, HALF, plan), pixels)
    if int8.available():
        ranges = int8.find_ranges(fold_all(network, HALF, HALF), [pixels])
        networks["ours int8"] = partial(optimize(network, HALF, HALF, Plan(precision="int8"), ranges), pixels)
    return networks


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--all", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(CORES)
    keep_memory()  # speeds up the other networks on torch as well
    networks = build_networks(args.batch, args.all)
    for run_batch in networks.values():
        run_batch()
    rates: dict[str, list[float]] = {name: [] for name in networks}
    for _ in range(args.rounds):
        for name, run_batch in networks.items():
            start = time.perf_counter()
            run_batch()
            rates[name].append(args.batch / (time.perf_counter() - start))
    medians = {name: statistics.median(each) for name, each in rates.items()}
    print(f"{CORES} cores, batches of {args.batch}, {args.rounds} rounds, auto is {fastest_precision('cpu')}")
    for name, rate in medians.items():
        print(f"{name:<24} {rate:7.1f} images/s")
    bars = [(f"{ours} / {other}", medians[ours] / medians[other], bar) for ours, other, bar in BARS if ours in medians]
    for ratio_name, ratio, bar in bars:
        print(f"{ratio_name:<44} {ratio:5.2f}  (bar {bar})")
    ratios = {ratio_name: ratio for ratio_name, ratio, _ in bars}
    print(json.dumps({"bench": "forward", "images_per_s": medians, "ratios": ratios}))


if __name__ == "__main__":
    main()

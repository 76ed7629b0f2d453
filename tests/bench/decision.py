"""Measure what a decision costs: sums up ImageNet's tree, the path of each photo, and its label.

python tests/bench/decision.py [--batch 32] [--rounds 200]
"""

import argparse
import statistics
from time import process_time

import numpy as np

from inception_cli.config import Thresholds
from inception_cli.predictions.decision import decide
from inception_cli.predictions.tree import imagenet_tree


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=200)
    arguments = parser.parse_args()
    tree, thresholds = imagenet_tree(), Thresholds(min_score=0.6, rollup=0.8)
    logits = 4 * np.random.default_rng(0).normal(size=(arguments.batch, 1000))
    scores = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True)).astype(np.float32)
    times = []
    for _ in range(arguments.rounds):
        start = process_time()
        for path in tree.paths(scores):
            decide("class", 0.4, path, thresholds, tree)
        times.append(1000 * (process_time() - start) / arguments.batch)
    print(f"{statistics.median(times):.4f} ms of one core for a photo, batches of {arguments.batch}, 1,000 classes")


if __name__ == "__main__":
    main()

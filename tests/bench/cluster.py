"""Measure the cost of Ray: a plain run, and the same run on a cluster of this machine with one and two actors.

    python tests/bench/cluster.py PHOTOS [--images 2000] [--short 200] [--weights demo] [--rounds 3]

Whole commands, interleaved. The time to start (of the cluster and its processes, or of the plain run) is left out: each
way classifies `short` photos and `short + images` photos, and the difference of the two times is that of `images`.
Medians of the rounds. Target: with one actor 0.8 of the plain run's images/s. Prints a table, then one line of JSON.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WAYS = {
    "plain": ("--out", "plain.csv"),
    "one actor": ("--engine", "ray", "--actors", "1", "--out", "one"),
    "two actors": ("--engine", "ray", "--actors", "2", "--out", "two"),
}


def seconds(way: str, paths: list[str], weights: str) -> float:
    """Return how long a run of some photos takes; its output is deleted."""
    words = ("classify", "-", "-w", weights, "-q", "--allow-failures", *WAYS[way][:-1])
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "inception_cli", *words, str(Path(folder, WAYS[way][-1]))]
        start = time.perf_counter()
        subprocess.run(command, input="\n".join(paths).encode(), check=True)
        return time.perf_counter() - start


def measure(way: str, paths: list[str], short: int, weights: str) -> tuple[float, float]:
    """Return the images per second after the start, and the seconds of the start."""
    short_run, whole_run = seconds(way, paths[:short], weights), seconds(way, paths, weights)
    rate = (len(paths) - short) / (whole_run - short_run)
    return rate, short_run - short / rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--short", type=int, default=200)
    parser.add_argument("--weights", default="demo")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    files = sorted(map(str, arguments.photos.absolute().rglob("*.jpg")))
    number = arguments.short + arguments.images
    paths = (files * (1 + number // max(1, len(files))))[:number]
    rounds = [
        {way: measure(way, paths, arguments.short, arguments.weights) for way in WAYS} for _ in range(arguments.rounds)
    ]
    rates = {way: statistics.median(each[way][0] for each in rounds) for way in WAYS}
    starts = {way: statistics.median(each[way][1] for each in rounds) for way in WAYS}
    ratio = statistics.median(each["one actor"][0] / each["plain"][0] for each in rounds)
    for way, rate in rates.items():
        print(f"{way:<12} {rate:8.1f} images/s, start {starts[way]:5.1f} s")
    print(f"one actor: {ratio:.2f} of the plain run (target 0.8)")
    result = {
        "images": arguments.images,
        "weights": arguments.weights,
        "images_per_s": rates,
        "start_s": starts,
        "ratio": ratio,
    }
    print(json.dumps({"bench": "cluster", **result}))


if __name__ == "__main__":
    main()

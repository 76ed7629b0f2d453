"""What Ray costs: the plain run beside the same on a cluster of this machine, with one actor and with two.

    python tests/bench/cluster.py PHOTOS [--images 2000] [--short 200] [--weights demo] [--rounds 3]

Whole commands, interleaved. The start of the cluster with its processes is not counted, nor that of the plain run: each
way classifies `short` photos and `short + images`, and the second takes longer by what `images` cost; the rest of the
first is the start. Medians of the rounds. Bar: 0.8 of the plain run's images/s, with one actor. Prints a table, then
one line of JSON.
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
    """One run of some photos, into a folder that is thrown away."""
    words = ("classify", "-", "-w", weights, "-q", "--allow-failures", *WAYS[way][:-1])
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "inception_cli", *words, str(Path(folder, WAYS[way][-1]))]
        began = time.perf_counter()
        subprocess.run(command, input="\n".join(paths).encode(), check=True)
        return time.perf_counter() - began


def measured(way: str, paths: list[str], short: int, weights: str) -> tuple[float, float]:
    """Images a second after the start; seconds of the start."""
    little, all_of_them = seconds(way, paths[:short], weights), seconds(way, paths, weights)
    rate = (len(paths) - short) / (all_of_them - little)
    return rate, little - short / rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--short", type=int, default=200)
    parser.add_argument("--weights", default="demo")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    files = sorted(map(str, asked.photos.absolute().rglob("*.jpg")))
    number = asked.short + asked.images
    paths = (files * (1 + number // max(1, len(files))))[:number]
    rounds = [{way: measured(way, paths, asked.short, asked.weights) for way in WAYS} for _ in range(asked.rounds)]
    rates = {way: statistics.median(each[way][0] for each in rounds) for way in WAYS}
    starts = {way: statistics.median(each[way][1] for each in rounds) for way in WAYS}
    ratio = statistics.median(each["one actor"][0] / each["plain"][0] for each in rounds)
    for way, rate in rates.items():
        print(f"{way:<12} {rate:8.1f} images/s, start {starts[way]:5.1f} s")
    print(f"one actor: {ratio:.2f} of the plain run (bar 0.8)")
    found = {"images": asked.images, "weights": asked.weights, "images_per_s": rates, "start_s": starts, "ratio": ratio}
    print(json.dumps({"bench": "cluster", **found}))


if __name__ == "__main__":
    main()

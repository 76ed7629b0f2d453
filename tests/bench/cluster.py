"""What Ray costs: the plain run beside the same on a cluster of this machine, with one actor and with two.

    python tests/bench/cluster.py PHOTOS [--images 2000] [--weights demo] [--rounds 3]

Whole commands, interleaved, medians of the images/s in their manifests: a run's clock starts when its cluster stands,
and counts the start of workers and networks. Bar: 0.8 of the plain run's, with one actor. Prints a table, then one line
of JSON.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

WAYS = {
    "plain": ("--out", "plain.csv"),
    "one actor": ("--engine", "ray", "--actors", "1", "--out", "one"),
    "two actors": ("--engine", "ray", "--actors", "2", "--out", "two"),
}


def images_per_s(way: str, paths: bytes, weights: str) -> float:
    """One run of the photos listed in `paths`, into a folder that is thrown away."""
    words = ("classify", "-", "-w", weights, "--json", "-q", "--allow-failures", *WAYS[way][:-1])
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder, WAYS[way][-1]))
        ended = subprocess.run(
            [sys.executable, "-m", "inception_cli", *words, out], input=paths, stdout=subprocess.PIPE, check=True
        )
    return float(json.loads(ended.stdout)["images_per_s"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--weights", default="demo")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    files = sorted(map(str, asked.photos.absolute().rglob("*.jpg")))
    paths = "\n".join((files * (1 + asked.images // max(1, len(files))))[: asked.images]).encode()
    rounds = [{way: images_per_s(way, paths, asked.weights) for way in WAYS} for _ in range(asked.rounds)]
    rates = {way: statistics.median(each[way] for each in rounds) for way in WAYS}
    ratio = statistics.median(each["one actor"] / each["plain"] for each in rounds)
    for way, rate in rates.items():
        print(f"{way:<12} {rate:8.1f} images/s")
    print(f"one actor: {ratio:.2f} of the plain run (bar 0.8)")
    print(json.dumps({"bench": "cluster", "images": asked.images, "weights": asked.weights, **rates, "ratio": ratio}))


if __name__ == "__main__":
    main()

"""Measure images per second from files to CSV, for this program and others, each as a whole process, interleaved.

    python tests/bench/end_to_end.py FOLDER [--megapixels 12] [--short 64] [--long 576] [--rounds 3] [--all | --int8]

The photos in FOLDER are repeated to the number of files, and with --megapixels ten of them are enlarged first. The
time to start is left out: only the difference of a long and a short run counts. Prints a table of medians, then one
line of JSON. `--int8` compares both in int8, with --short 1280 --long 2560: calibration and check, which are as long in
both runs, are left out then.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

from peers import CORES, PROGRAMS
from PIL import Image

from inception_cli.config import PRESETS
from inception_cli.machine import fastest_precision
from inception_cli.network.model import InceptionV3
from inception_cli.predictions.classes import imagenet
from inception_cli.weights.load import save_weights

PEERS = Path(__file__).with_name("peers.py")
QUICK = ("torchvision", "openvino-bf16")
#: Targets: ours, another program, and how many times as fast, for photos as they are and for 12 megapixels.
TARGETS = [
    ("ours", "torchvision", 3.3, 3.7),
    ("ours", "openvino-bf16", 1.0, 1.0),
    ("ours-int8", "openvino-int8", 1.1, 1.1),
]


def photos(folder: Path, into: Path, number: int, megapixels: float) -> Path:
    """Return a folder of `number` files: the photos, repeated."""
    into.mkdir()
    sources = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    if megapixels:
        large = into.with_name("large")
        if not large.exists():
            large.mkdir()
            for path in sources[:10]:
                with Image.open(path) as image:
                    factor = (megapixels * 1e6 / (image.width * image.height)) ** 0.5
                    size = round(image.width * factor), round(image.height * factor)
                    image.convert("RGB").resize(size).save(large / path.name, quality=90)
        sources = sorted(large.iterdir())
    for position, path in enumerate(islice(cycle(sources), number)):
        (into / f"{position:06}.jpg").hardlink_to(path) if megapixels else (into / f"{position:06}.jpg").symlink_to(
            path.resolve()
        )
    return into


def seconds(name: str, folder: Path, out: Path, file: Path) -> float:
    """Return how long a program takes for a folder."""
    words = [sys.executable, str(PEERS), name, str(folder), str(out)]
    if name.startswith("ours"):
        options = ["--compile", "on"] if name.endswith("compiled") else []
        options += ["--precision", name[-4:]] if name.endswith(("fp32", "int8")) else []
        words = [sys.executable, "-m", "inception_cli", "classify", str(folder), "-w", str(file), *options]
        words += ["-o", str(out), "-f", "-q"]
    start = time.perf_counter()
    subprocess.run(words, check=True, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--megapixels", type=float, default=0)
    parser.add_argument("--short", type=int, default=64)
    parser.add_argument("--long", type=int, default=576)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--int8", action="store_true")
    arguments = parser.parse_args()
    names = [*PROGRAMS, "ours", "ours-fp32", "ours-compiled"] if arguments.all else [*QUICK, "ours"]
    if arguments.int8:
        names, arguments.short, arguments.long = ["openvino-int8", "ours-int8"], 1280, 2560
    rates: dict[str, list[float]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as place:
        room = Path(place)
        file = room / "random.safetensors"
        save_weights(file, InceptionV3().initialise(0), imagenet().names, PRESETS["torchvision"], {})
        folders = [
            photos(arguments.folder, room / str(number), number, arguments.megapixels)
            for number in (arguments.short, arguments.long)
        ]
        for _ in range(arguments.rounds):
            for name in names:
                short, long = (seconds(name, folder, room / "out.csv", file) for folder in folders)
                rates[name].append((arguments.long - arguments.short) / (long - short))
    medians = {name: statistics.median(each) for name, each in rates.items()}
    print(
        f"{CORES} cores, {arguments.long} minus {arguments.short} photos"
        f"{f' of {arguments.megapixels:g} megapixels' if arguments.megapixels else ''}, {arguments.rounds} rounds, "
        f"ours is {fastest_precision('cpu')}"
    )
    for name, rate in medians.items():
        print(f"{name:<16} {rate:7.1f} images/s")
    ratios = {}
    for ours, peer, small, large in TARGETS:
        if ours not in medians or peer not in medians:
            continue
        ratios[f"{ours} / {peer}"] = ratio = medians[ours] / medians[peer]
        print(f"{ours} / {peer:<24} {ratio:5.2f}  (target {large if arguments.megapixels else small})")
    print(json.dumps({"bench": "end_to_end", "images_per_s": medians, "ratios": ratios}))


if __name__ == "__main__":
    main()

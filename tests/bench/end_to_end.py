"""Files to CSV, each as a whole process, ours and the peers', interleaved: images a second.

    python tests/bench/end_to_end.py FOLDER [--megapixels 12] [--short 64] [--long 576] [--rounds 3] [--all]

FOLDER has photos; they are repeated to the numbers asked for, and with --megapixels enlarged first (ten of them).
Start-up is taken out by the difference of a long and a short run. Medians, a table, then one line of JSON.
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

from inception_cli import weights
from inception_cli.images.preprocess import PRESETS
from inception_cli.network.model import InceptionV3
from inception_cli.results.classes import imagenet
from inception_cli.settings import fastest_precision

PEERS = Path(__file__).with_name("peers.py")
QUICK = ("torchvision", "openvino-bf16")
#: The bars: ours, a peer, how many times as fast, for photos as they are and for those of 12 megapixels.
BARS = [("ours", "torchvision", 3.3, 3.7), ("ours", "openvino-bf16", 1.0, 1.0)]


def photos(folder: Path, into: Path, number: int, megapixels: float) -> Path:
    """A folder of `number` files: the photos, again and again."""
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
    """How long a program takes for a folder, from its start to its end."""
    words = [sys.executable, str(PEERS), name, str(folder), str(out)]
    if name.startswith("ours"):
        options = ["--compile", "on"] if name.endswith("compiled") else []
        options += ["--precision", "fp32"] if name.endswith("fp32") else []
        words = [sys.executable, "-m", "inception_cli", "classify", str(folder), "-w", str(file), *options]
        words += ["-o", str(out), "-f", "-q"]
    began = time.perf_counter()
    subprocess.run(words, check=True, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--megapixels", type=float, default=0)
    parser.add_argument("--short", type=int, default=64)
    parser.add_argument("--long", type=int, default=576)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--all", action="store_true")
    asked = parser.parse_args()
    names = [*PROGRAMS, "ours", "ours-fp32", "ours-compiled"] if asked.all else [*QUICK, "ours"]
    rates: dict[str, list[float]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as place:
        room = Path(place)
        file = room / "random.safetensors"
        weights.save(file, InceptionV3().initialise(0), imagenet().names, PRESETS["torchvision"], {})
        folders = [
            photos(asked.folder, room / str(number), number, asked.megapixels) for number in (asked.short, asked.long)
        ]
        for _ in range(asked.rounds):
            for name in names:
                short, long = (seconds(name, folder, room / "out.csv", file) for folder in folders)
                rates[name].append((asked.long - asked.short) / (long - short))
    medians = {name: statistics.median(each) for name, each in rates.items()}
    print(
        f"{CORES} cores, {asked.long} less {asked.short} photos"
        f"{f' of {asked.megapixels:g} megapixels' if asked.megapixels else ''}, {asked.rounds} rounds, "
        f"ours is {fastest_precision('cpu')}"
    )
    for name, rate in medians.items():
        print(f"{name:<16} {rate:7.1f} images/s")
    ratios = {}
    for ours, peer, small, large in BARS:
        ratios[f"{ours} / {peer}"] = ratio = medians[ours] / medians[peer]
        print(f"{ours} / {peer:<24} {ratio:5.2f}  (bar {large if asked.megapixels else small})")
    print(json.dumps({"bench": "end_to_end", "images_per_s": medians, "ratios": ratios}))


if __name__ == "__main__":
    main()

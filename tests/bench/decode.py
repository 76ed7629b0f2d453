"""`--decode fast` beside `exact`: how fast, and whether the answers are the same, on a folder of real photos.

    python tests/bench/decode.py PHOTOS [--limit 500] [--precision fp32] [--rounds 5]

Rates are from file to crop, torchvision's preset, on one thread: photos by a second of the processor, as they are and
enlarged to 12 megapixels; exact, fast and a plain torchvision transform on Pillow take turns, medians of the rounds.
Agreement is that of the bundled weights, fast with exact, on the photos as they are and enlarged to a short side of
3,000, where the DCT scale must have been used. Bars: 99.5 % of top-1, a mean difference of a pixel of 1 of 255.
Prints a table each, then one line of JSON.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from numpy.typing import NDArray
from PIL import Image

from inception_cli.images.decode import Failure, read
from inception_cli.images.inputs import Inputs
from inception_cli.images.preprocess import PRESETS, Pixels, views
from inception_cli.predict import Networks
from inception_cli.settings import Settings, resolve

EXACT = Pixels(PRESETS["torchvision"], decode="exact")
FAST = replace(EXACT, decode="fast")
LARGE = 12_000_000  # pixels
SHORT = 3000  # pixels, of the enlarged photos that are judged
BATCH = 50
BAR_AGREEMENT, BAR_DIFFERENCE = 99.5, 1.0


def decoded(path: str, pixels: Pixels) -> Image.Image:
    """The picture; the folder holds none that cannot be read."""
    image = read(path, pixels)
    if isinstance(image, Failure):
        raise SystemExit(f"{path}: {image.error}")
    return image


def crop(path: str, pixels: Pixels) -> None:
    views(decoded(path, pixels), pixels)


def plain(path: str) -> None:
    """What people write."""
    torchvision.models.Inception_V3_Weights.IMAGENET1K_V1.transforms()(Image.open(path).convert("RGB"))


WAYS: dict[str, Callable[[str], None]] = {
    "exact": lambda path: crop(path, EXACT),
    "fast": lambda path: crop(path, FAST),
    "torchvision": plain,
}


def enlarge(path: str, target: Path, factor: Callable[[int, int], float]) -> str:
    """The photo, `factor(width, height)` times as large, as a JPEG in `target`."""
    photo = decoded(path, EXACT)
    times = factor(*photo.size)
    size = (round(photo.width * times), round(photo.height * times))
    photo.resize(size, Image.Resampling.BICUBIC).save(target, quality=90)
    return str(target)


def rates(paths: list[str], rounds: int) -> dict[str, float]:
    """Photos by a second of one core, for each way."""
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for number in range(rounds + 1):
        for way, work in WAYS.items():
            began = time.process_time()
            for path in paths:
                work(path)
            if number:  # the first warms up
                seconds[way].append(time.process_time() - began)
    return {way: len(paths) / statistics.median(taken) for way, taken in seconds.items()}


def agreement(paths: list[str], classifier: Networks, enlarged: Path | None) -> dict[str, Any]:
    """How far fast's pixels and answers are exact's, on the photos as they are or enlarged into that file."""
    exact, fast = (replace(classifier.run.pixels, decode=decode) for decode in ("exact", "fast"))
    same, scaled, differences = 0, 0, []
    for first in range(0, len(paths), BATCH):
        batch: dict[str, list[NDArray[np.uint8]]] = {"exact": [], "fast": []}
        some = paths[first : first + BATCH]
        for path in some:
            file = enlarge(path, enlarged, lambda *size: SHORT / min(size)) if enlarged else path
            whole, reduced = decoded(file, exact), decoded(file, fast)
            scaled += reduced.size != whole.size
            batch["exact"].append(views(whole, exact))
            batch["fast"].append(views(reduced, fast))
            differences.append(float(abs(batch["exact"][-1].astype(int) - batch["fast"][-1]).mean()))
        ours, theirs = (classifier(torch.from_numpy(np.stack(each)))[0][:, 0] for each in batch.values())
        same += int((ours == theirs).sum())
        for number in (ours != theirs).nonzero():
            print(f"{some[number]}: another class")
    return {
        "photos": len(paths),
        "scaled": scaled,
        "top1_agreement": 100 * same / len(paths),
        "mean_difference": statistics.fmean(differences),
        "largest_mean_difference": max(differences),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos")
    parser.add_argument("--limit", type=int, default=500, help="photos that are judged")
    parser.add_argument("--timed", type=int, default=60, help="photos that are timed, a fifth of them enlarged")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", default="fp32")
    asked = parser.parse_args()
    found = list(Inputs([asked.photos]))
    paths = found[:: max(1, len(found) // asked.limit)][: asked.limit]
    with tempfile.TemporaryDirectory() as folder:
        torch.set_num_threads(1)
        timed = paths[:: max(1, len(paths) // asked.timed)][: asked.timed]
        large = [
            enlarge(path, Path(folder, f"{number}.jpg"), lambda width, height: (LARGE / (width * height)) ** 0.5)
            for number, path in enumerate(timed[::5])
        ]
        speeds = {"as they are": rates(timed, asked.rounds), "12 megapixels": rates(large, asked.rounds)}
        classifier = Networks(resolve(Settings(("demo",), precision=asked.precision, device="cpu")))
        judged = {
            "as they are": agreement(paths, classifier, None),
            "short side 3,000": agreement(paths, classifier, Path(folder, "enlarged.jpg")),
        }
    print(f"{'photos/s a core':<18}" + "".join(f"{way:>14}" for way in WAYS))
    for name, rate in speeds.items():
        print(f"{name:<18}" + "".join(f"{rate[way]:>14.1f}" for way in WAYS))
    print(f"{'fast, exact':<18}{'photos':>14}{'DCT scale':>14}{'same top-1':>14}{'difference':>14}{'largest':>14}")
    for name, each in judged.items():
        figures = f"{each['top1_agreement']:>12.2f} %{each['mean_difference']:>14.3f}"
        print(f"{name:<18}{each['photos']:>14}{each['scaled']:>14}{figures}{each['largest_mean_difference']:>14.3f}")
    bars = {"agreement": BAR_AGREEMENT, "difference": BAR_DIFFERENCE}
    print(
        json.dumps({"bench": "decode", "precision": asked.precision, "rates": speeds, "judged": judged, "bars": bars})
    )
    assert judged["short side 3,000"]["scaled"] == len(paths), "the DCT scale was not used"


if __name__ == "__main__":
    main()

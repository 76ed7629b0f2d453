"""Compare `--decode fast` with `exact` on a folder of photos: speed, pixels and predicted classes.

    python tests/bench/decode.py PHOTOS [--limit 500] [--precision fp32] [--rounds 5]

Speed is measured from file to crop, with torchvision's preset, on one thread: photos per second of processor time, as
they are and enlarged to 12 megapixels. `exact`, `fast`, the same two decoded by Pillow alone, which does not notice
damaged JPEGs, and a plain torchvision transform take turns; medians of the rounds. Required: `exact` and `fast` take at
most 3 % longer than Pillow. Agreement is that of the bundled weights' classes, fast with exact, on the photos as they
are and enlarged to a short side of 3,000, which must be decoded at a reduced scale. Required: 99.5 % of top-1, a mean
difference of 1 of 255.
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
from unittest.mock import patch

import numpy as np
import torch
import torchvision
from numpy.typing import NDArray
from PIL import Image

from inception_cli.config import PRESETS, PixelConfig, Settings
from inception_cli.images import jpeg
from inception_cli.images.decode import Failure, read
from inception_cli.images.discovery import Discovery
from inception_cli.images.preprocess import views
from inception_cli.inference.predictor import DevicePredictor
from inception_cli.inference.resolve import resolve, resolve_plan

EXACT = PixelConfig(PRESETS["torchvision"], decode="exact")
FAST = replace(EXACT, decode="fast")
LARGE = 12_000_000  # pixels
SHORT = 3000  # pixels: short side of the enlarged photos that are compared
BATCH = 50
BAR_AGREEMENT, BAR_DIFFERENCE, BAR_SLOWER = 99.5, 1.0, 1.03


def decoded(path: str, config: PixelConfig) -> Image.Image:
    """Return the image; exit if it cannot be read."""
    image = read(path, config)
    if isinstance(image, Failure):
        raise SystemExit(f"{path}: {image.error}")
    return image


def crop(path: str, config: PixelConfig) -> None:
    views(decoded(path, config), config)


def by_pillow(path: str, config: PixelConfig) -> None:
    """Decode by Pillow alone, which discards libjpeg's warnings."""
    with patch.object(jpeg, "read_bytes", lambda file: None):
        crop(path, config)


def plain(path: str) -> None:
    """Do what most programs do."""
    torchvision.models.Inception_V3_Weights.IMAGENET1K_V1.transforms()(Image.open(path).convert("RGB"))


METHODS: dict[str, Callable[[str], None]] = {
    "exact": lambda path: crop(path, EXACT),
    "fast": lambda path: crop(path, FAST),
    "exact, Pillow": lambda path: by_pillow(path, EXACT),
    "fast, Pillow": lambda path: by_pillow(path, FAST),
    "torchvision": plain,
}


def enlarge(path: str, target: Path, factor: Callable[[int, int], float]) -> str:
    """Save the photo, `factor(width, height)` times as large, as a JPEG in `target`."""
    photo = decoded(path, EXACT)
    times = factor(*photo.size)
    size = (round(photo.width * times), round(photo.height * times))
    photo.resize(size, Image.Resampling.BICUBIC).save(target, quality=90)
    return str(target)


def rates(paths: list[str], rounds: int) -> dict[str, float]:
    """Return photos per second of one core, for each method."""
    seconds: dict[str, list[float]] = {method: [] for method in METHODS}
    for number in range(rounds + 1):
        for method, work in METHODS.items():
            began = time.process_time()
            for path in paths:
                work(path)
            if number:  # the first warms up
                seconds[method].append(time.process_time() - began)
    return {method: len(paths) / statistics.median(taken) for method, taken in seconds.items()}


def agreement(paths: list[str], predictor: DevicePredictor, enlarged: Path | None) -> dict[str, Any]:
    """Compare the pixels and classes of fast with exact, on the photos as they are or enlarged into that file."""
    exact, fast = (replace(predictor.run.pixels, decode=decode) for decode in ("exact", "fast"))
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
        ours, theirs = (predictor(torch.from_numpy(np.stack(each)))[0][:, 0] for each in batch.values())
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
    parser.add_argument("--limit", type=int, default=500, help="photos whose classes are compared")
    parser.add_argument("--timed", type=int, default=60, help="photos that are timed, a fifth of them enlarged")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", default="fp32")
    options = parser.parse_args()
    photos = list(Discovery([options.photos]))
    paths = photos[:: max(1, len(photos) // options.limit)][: options.limit]
    with tempfile.TemporaryDirectory() as folder:
        torch.set_num_threads(1)
        timed = paths[:: max(1, len(paths) // options.timed)][: options.timed]
        large = [
            enlarge(path, Path(folder, f"{number}.jpg"), lambda width, height: (LARGE / (width * height)) ** 0.5)
            for number, path in enumerate(timed[::5])
        ]
        speeds = {"as they are": rates(timed, options.rounds), "12 megapixels": rates(large, options.rounds)}
        settings = Settings(("demo",), precision=options.precision, device="cpu")
        predictor = DevicePredictor(resolve(settings, resolve_plan(settings)))
        agreements = {
            "as they are": agreement(paths, predictor, None),
            "short side 3,000": agreement(paths, predictor, Path(folder, "enlarged.jpg")),
        }
    print(f"{'photos/s per core':<18}" + "".join(f"{method:>14}" for method in METHODS))
    for name, rate in speeds.items():
        print(f"{name:<18}" + "".join(f"{rate[method]:>14.1f}" for method in METHODS))
    for name, rate in speeds.items():
        for decode in ("exact", "fast"):
            print(f"{name}, {decode}: {100 * (rate[f'{decode}, Pillow'] / rate[decode] - 1):+.1f} % of Pillow's time")
    print(f"{'fast, exact':<18}{'photos':>14}{'DCT scale':>14}{'same top-1':>14}{'difference':>14}{'largest':>14}")
    for name, each in agreements.items():
        figures = f"{each['top1_agreement']:>12.2f} %{each['mean_difference']:>14.3f}"
        print(f"{name:<18}{each['photos']:>14}{each['scaled']:>14}{figures}{each['largest_mean_difference']:>14.3f}")
    bars = {"agreement": BAR_AGREEMENT, "difference": BAR_DIFFERENCE, "slower": BAR_SLOWER}
    print(
        json.dumps(
            {"bench": "decode", "precision": options.precision, "rates": speeds, "agreement": agreements, "bars": bars}
        )
    )
    assert agreements["short side 3,000"]["scaled"] == len(paths), "the DCT scale was not used"


if __name__ == "__main__":
    main()

"""Measure what `--familiar` says of photos that were changed: it should look at what is in a photo, not at its file.

    python tests/bench/familiar_changed.py --kept VAL --unknown OTHER [--weights demo] [--familiar 0.95]

VAL has photos of the weights' classes, OTHER photos of something else. Writes changed copies of them to a temporary
folder, and prints the share of each that is unknown: VAL as it is, encoded again, made smaller, blurred, warmer and
darker, and OTHER as it is, and encoded exactly as the first photo of VAL is. The last line is JSON.
"""

import argparse
import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

from bundle import inception
from PIL import Image, ImageEnhance, ImageFilter
from PIL.JpegImagePlugin import JpegImageFile, get_sampling

from inception_cli.images.discovery import Discovery
from inception_cli.predictions.formats import read_predictions

Change = Callable[[Image.Image], Image.Image]


def encoded(image: Image.Image, **options: object) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", **options)
    return Image.open(stream).convert("RGB")


def encoded_like(example: str) -> Change:
    """Return a function that gives an image the short side, the tables and the subsampling of a JPEG file."""
    with Image.open(example) as opened:
        assert isinstance(opened, JpegImageFile)
        side, options = min(opened.size), {"qtables": opened.quantization, "subsampling": get_sampling(opened)}
    return lambda image: encoded(resized(image, side / min(image.size)), **options)


def resized(image: Image.Image, ratio: float) -> Image.Image:
    width, height = (round(each * ratio) for each in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def warmer(image: Image.Image) -> Image.Image:
    red, green, blue = image.split()
    return Image.merge(
        "RGB", (red.point(lambda v: min(255, int(v * 1.12))), green, blue.point(lambda v: int(v * 0.88)))
    )


CHANGES: dict[str, Change] = {
    "JPEG quality 40": lambda image: encoded(image, quality=40),
    "three quarters of the size": lambda image: resized(image, 0.75),
    "blurred by 1 pixel": lambda image: image.filter(ImageFilter.GaussianBlur(1)),
    "warmer by an eighth": warmer,
    "darker by a third": lambda image: ImageEnhance.Brightness(image).enhance(0.65),
}


def unknown(folder: str, change: Change | None, options: list[str]) -> tuple[int, int]:
    """Return how many photos of a folder are unknown after a change, and of how many."""
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary, "rows.csv")
        if change:
            for number, path in enumerate(Discovery([folder])):
                change(Image.open(path).convert("RGB")).save(Path(temporary, f"{number:05}.png"))
        inception("classify", temporary if change else folder, "-q", "-f", "-o", out, *options)
        decisions = [row.decision for row in read_predictions(out)]
    return sum(each is not None and each.reason == "unfamiliar" for each in decisions), len(decisions)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kept", required=True, metavar="VAL")
    parser.add_argument("--unknown", required=True, metavar="OTHER")
    parser.add_argument("--weights", default="demo")
    parser.add_argument("--familiar", default="0.95")
    args = parser.parse_args()
    example = next(iter(Discovery([args.kept])))
    cases: dict[str, tuple[str, Change | None]] = {"kept": (args.kept, None), "unknown": (args.unknown, None)}
    cases |= {f"kept, {name}": (args.kept, change) for name, change in CHANGES.items()}
    cases["unknown, encoded like the kept"] = (args.unknown, encoded_like(example))
    results = {}
    for name, (folder, change) in cases.items():
        n, of = unknown(folder, change, ["-w", args.weights, "--familiar", args.familiar, "--precision", "fp32"])
        results[name] = n / of
        print(f"{name}: {n} of {of} unknown, {100 * n / of:.1f} %", flush=True)
    print(json.dumps({"bench": "familiar_changed", "unknown": results}))


if __name__ == "__main__":
    main()

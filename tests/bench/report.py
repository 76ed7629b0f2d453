"""Measure the report of a million rows: page size, seconds and peak memory, without and with ground truth.

    python tests/bench/report.py PHOTOS [--rows 1000000]

Limits: 20 MB and 60 s. The rows are made up: ImageNet's thousand classes, 77 % correct. Each has a path that leads to
one of PHOTOS, so that every thumbnail of the page is decoded. Prints a table, then one line of JSON.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path

from inception_cli.predictions.classes import Synset, synsets
from inception_cli.predictions.formats import csv_header, to_csv
from inception_cli.predictions.prediction import Prediction

LIMIT_MB, LIMIT_SECONDS = 20, 60
K = 5


def made_up(path: str, label: Synset, rng: random.Random) -> Prediction:
    """Return a row with five distinct classes; one row in a thousand is without a prediction."""
    if rng.random() < 0.001:
        return Prediction(path, "truncated", error="the file ends before the image does")
    top1 = label.index if rng.random() < 0.77 else rng.randrange(1000)
    top = [synsets()[(top1 + 37 * place) % 1000] for place in range(K)]
    score = rng.random() ** 0.4
    scores = [score, *((1 - score) / 2**place for place in range(1, K))]
    scores.sort(reverse=True)
    return Prediction(path, "ok", tuple(each.index for each in top), tuple(each.name for each in top), tuple(scores))


def write_rows(folder: Path, photos: Path, rows: int) -> Path:
    """Make a folder for each class with links to `photos`, and a file of predictions for the photos in them."""
    names = sorted(str(each.relative_to(photos)) for each in photos.rglob("*.jpg"))
    links = -(-rows // (1000 * len(names)))
    rng, file = random.Random(0), folder / "rows.csv"
    with file.open("wb") as out:
        out.write(csv_header(K))
        left = rows
        for synset in synsets():
            (folder / "val" / synset.wnid).mkdir(parents=True)
            for link in range(links):
                place = folder / "val" / synset.wnid / f"{link:04}"
                place.symlink_to(photos.resolve(), target_is_directory=True)
                some = [made_up(f"{place}/{name}", synset, rng) for name in names[: max(0, left)]]
                left -= len(some)
                out.write(to_csv(some, K))
    return file


def measure(rows: Path, *words: str) -> tuple[float, float, float]:
    """Return the size of the page in MB, the seconds and the peak memory in MB of one process."""
    page = rows.with_name("report.html")
    program = "from inception_cli.__main__ import main; main()"
    command = [sys.executable, "-c", program, "report", str(rows), "--out", str(page), *words]
    began = time.perf_counter()
    child = os.posix_spawn(sys.executable, command, os.environ)
    _, status, used = os.wait4(child, 0)
    seconds = time.perf_counter() - began
    if status:
        raise SystemExit(f"inception report exited with {os.waitstatus_to_exitcode(status)}")
    return page.stat().st_size / 1e6, seconds, used.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = write_rows(Path(folder), options.photos, options.rows)
        figures = {"predictions": measure(rows), "with labels": measure(rows, "--val-dir", f"{folder}/val")}
    print(f"{'':<14}{'page, MB':>12}{'seconds':>12}{'peak, MB':>12}   (limits: {LIMIT_MB} MB, {LIMIT_SECONDS} s)")
    for name, (size, seconds, peak) in figures.items():
        print(f"{name:<14}{size:>12.1f}{seconds:>12.1f}{peak:>12.0f}")
    fields = ("page_mb", "seconds", "peak_mb")
    result = {name: dict(zip(fields, each, strict=True)) for name, each in figures.items()}
    met = all(size < LIMIT_MB and seconds < LIMIT_SECONDS for size, seconds, _ in figures.values())
    print(json.dumps({"bench": "report", "rows": options.rows, **result, "met": met}))


if __name__ == "__main__":
    main()

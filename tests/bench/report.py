"""The report of a million rows: its size, the seconds it takes, the memory at its peak; without and with a truth.

    python tests/bench/report.py PHOTOS [--rows 1000000]

Bars: below 20 MB, below 60 s. The rows are made up: ImageNet's thousand classes, 77 % right, a path for each by which
one of PHOTOS is reached, so that every picture of the page is decoded. Prints a table, then one line of JSON.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path

from inception_cli.results.classes import Synset, synsets
from inception_cli.results.rows import Prediction, csv_header, to_csv

BAR_MB, BAR_SECONDS = 20, 60
K = 5


def made_up(path: str, right: Synset, draw: random.Random) -> Prediction:
    """A row with five distinct classes; one in a thousand failed."""
    if draw.random() < 0.001:
        return Prediction(path, "truncated", error="the file ends before the picture does")
    first = right.index if draw.random() < 0.77 else draw.randrange(1000)
    best = [synsets()[(first + 37 * place) % 1000] for place in range(K)]
    score = draw.random() ** 0.4
    scores = [score, *((1 - score) / 2**place for place in range(1, K))]
    scores.sort(reverse=True)
    return Prediction(path, "ok", tuple(each.index for each in best), tuple(each.name for each in best), tuple(scores))


def write_rows(folder: Path, photos: Path, rows: int) -> Path:
    """A folder for each class with links to `photos`, and a file of rows on what is seen there."""
    names = sorted(str(each.relative_to(photos)) for each in photos.rglob("*.jpg"))
    links = -(-rows // (1000 * len(names)))
    draw, file = random.Random(0), folder / "rows.csv"
    with file.open("wb") as out:
        out.write(csv_header(K))
        left = rows
        for synset in synsets():
            (folder / "val" / synset.wnid).mkdir(parents=True)
            for link in range(links):
                place = folder / "val" / synset.wnid / f"{link:04}"
                place.symlink_to(photos.resolve(), target_is_directory=True)
                some = [made_up(f"{place}/{name}", synset, draw) for name in names[: max(0, left)]]
                left -= len(some)
                out.write(to_csv(some, K))
    return file


def measure(rows: Path, *words: str) -> tuple[float, float, float]:
    """MB of the page, seconds, and MB of memory at the peak, of one process."""
    page = rows.with_name("report.html")
    program = "from inception_cli.__main__ import main; main()"
    command = [sys.executable, "-c", program, "report", str(rows), "--out", str(page), *words]
    began = time.perf_counter()
    child = os.posix_spawn(sys.executable, command, os.environ)
    _, status, used = os.wait4(child, 0)
    seconds = time.perf_counter() - began
    if status:
        raise SystemExit(f"inception report ended with {os.waitstatus_to_exitcode(status)}")
    return page.stat().st_size / 1e6, seconds, used.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--rows", type=int, default=1_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = write_rows(Path(folder), options.photos, options.rows)
        found = {"rows alone": measure(rows), "with a truth": measure(rows, "--val-dir", f"{folder}/val")}
    print(f"{'':<14}{'page, MB':>12}{'seconds':>12}{'peak, MB':>12}   (bars: {BAR_MB} MB, {BAR_SECONDS} s)")
    for name, (size, seconds, peak) in found.items():
        print(f"{name:<14}{size:>12.1f}{seconds:>12.1f}{peak:>12.0f}")
    figures = {name: dict(zip(("page_mb", "seconds", "peak_mb"), each, strict=True)) for name, each in found.items()}
    met = all(size < BAR_MB and seconds < BAR_SECONDS for size, seconds, _ in found.values())
    print(json.dumps({"bench": "report", "rows": options.rows, **figures, "met": met}))


if __name__ == "__main__":
    main()

"""Measure `inception sort` beside `cp -rp` followed by `sync`: 10,000 copies of the photos in a folder.

    python tests/bench/sort.py PHOTOS [--files 10000] [--rounds 3] [--place FOLDER]

The rows are made up: 20 classes. Both programs run as whole processes, in turn, into new folders of one disk, and the
disk is synced before each. Nothing is deleted before the end: for some minutes ext4 gives the inodes of deleted files
to no new file, and looks at each of them again for every file that is created, which takes both programs several times
as long. For the same reason wait five minutes after a run, or use a new file system (--place).
Limit: 1.5 times as long as `cp -rp` and `sync`. The start and the plan take about half a second, whatever the size of
the photos, so small ones have the highest ratio. Prints a table of medians, then one line of JSON.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

from inception_cli.predictions.formats import csv_header, to_csv
from inception_cli.predictions.prediction import Prediction

LIMIT, CLASSES = 1.5, 20


def make_photos(folder: Path, photos: Path, files: int) -> Path:
    """Copy the photos to so many files in 100 folders; return a file with a prediction for each."""
    sources = sorted(path for path in photos.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    rows = folder / "rows.csv"
    with rows.open("wb") as out:
        out.write(csv_header(1))
        for number, source in enumerate(islice(cycle(sources), files)):
            copy = folder / "photos" / f"{number % 100:02}" / f"{number:06}.jpg"
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy)
            index = number % CLASSES
            out.write(to_csv([Prediction(str(copy), "ok", (index,), (f"class {index}",), (0.5,))], 1))
    return rows


def seconds(command: str, *names: object) -> float:
    """Return how long a command line takes; the disk is idle when it begins."""
    os.sync()
    began = time.perf_counter()
    subprocess.run(["sh", "-c", command, "sh", *map(str, names)], check=True, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--place", type=Path, help="a folder on the disk to measure")
    options = parser.parse_args()
    times: dict[str, list[float]] = {"cp": [], "sort": []}
    with tempfile.TemporaryDirectory(dir=options.place) as place:
        folder = Path(place)
        rows = make_photos(folder, options.photos, options.files)
        size = sum(file.stat().st_size for file in (folder / "photos").rglob("*.jpg"))
        for number in range(options.rounds):
            times["cp"].append(seconds('cp -rp "$1" "$2" && sync', folder / "photos", folder / f"cp{number}"))
            sort, into = '"$1" -m inception_cli sort "$2" --into "$3"', folder / f"sort{number}"
            times["sort"].append(seconds(sort, sys.executable, rows, into))
            copied = sum(len(names) for _, _, names in os.walk(into)) - 1  # without the plan
            if copied != options.files:
                raise SystemExit(f"{copied:,} files instead of {options.files:,}")
    medians = {name: statistics.median(each) for name, each in times.items()}
    ratio = medians["sort"] / medians["cp"]
    print(f"{options.files:,} photos, {size / 1e6:,.0f} MB, medians of {options.rounds} rounds")
    print(f"cp -rp && sync  {medians['cp']:7.2f} s\ninception sort  {medians['sort']:7.2f} s")
    print(f"ratio           {ratio:7.2f}    (limit {LIMIT})")
    print(
        json.dumps({"bench": "sort", "files": options.files, "seconds": medians, "ratio": ratio, "met": ratio <= LIMIT})
    )


if __name__ == "__main__":
    main()

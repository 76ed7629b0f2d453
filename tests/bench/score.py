"""Score a million predictions: seconds and peak memory of `inception evaluate --predictions`, for each file format.

    python tests/bench/score.py [--rows 1000000]

Bars: 10 s for CSV and Parquet, 30 s for JSONL, 800 MB. The rows are generated: ImageNet's thousand classes, 77 % of
them right, without a manifest, so that the labels of all columns are read too. Each case is a process of its own.
Prints a table, then one JSON line.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from inception_cli.predictions.classes import synsets
from inception_cli.predictions.formats import SUFFIXES, batched, convert, csv_header, parse_csv, to_csv
from inception_cli.predictions.prediction import Prediction

K = 5
BAR_SECONDS = {".csv": 10, ".parquet": 10, ".jsonl": 30}
BAR_MB = 800


def generate(rows: int) -> Iterator[Prediction]:
    """Yield predictions of five distinct classes; one row in a thousand has none."""
    draw, classes = random.Random(0), synsets()
    for number in range(rows):
        label = classes[number * len(classes) // rows]
        path = f"val/{label.wnid}/{number:08}.jpg"
        if draw.random() < 0.001:
            yield Prediction(path, "truncated", error="the file ends early")
            continue
        first = label.index if draw.random() < 0.77 else draw.randrange(1000)
        top = [classes[(first + 37 * place) % 1000] for place in range(K)]
        score = draw.random() ** 0.4
        scores = sorted((score, *((1 - score) / 2**place for place in range(1, K))), reverse=True)
        indices, labels = tuple(each.index for each in top), tuple(each.name for each in top)
        yield Prediction(path, "ok", indices, labels, tuple(scores))


def write_files(folder: Path, rows: int) -> None:
    """Write the predictions in every format, and their labels as a CSV of paths and wnids."""
    source = folder / "rows.csv"
    with source.open("wb") as file, (folder / "labels.csv").open("w") as labels:
        file.write(csv_header(K))
        labels.write("path,wnid\n")
        for batch in batched(generate(rows), 10_000):
            file.write(to_csv(batch, K))
            labels.writelines(f"{each.path},{each.path.split('/')[1]}\n" for each in batch)
    for suffix in SUFFIXES[1:]:
        with source.open("rb") as lines, source.with_suffix(suffix).open("wb") as file:
            convert(parse_csv(lines, source), K, file, suffix)


def measure(folder: Path, *arguments: str) -> dict[str, float]:
    """Return the seconds, the CPU seconds and the peak memory in MB of one `inception evaluate`."""
    program = f"import os; os.chdir({str(folder)!r}); from inception_cli.__main__ import main; main()"
    command = [sys.executable, "-c", program, "evaluate", "--json", "--allow-failures", *arguments]
    silent = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    began = time.perf_counter()
    child = os.posix_spawn(sys.executable, command, os.environ, file_actions=silent)
    _, status, used = os.wait4(child, 0)
    seconds = time.perf_counter() - began
    if status:
        raise SystemExit(f"inception evaluate ended with {os.waitstatus_to_exitcode(status)}")
    peak = used.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
    return {"seconds": seconds, "cpu_seconds": used.ru_utime + used.ru_stime, "peak_mb": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    cases: dict[str, tuple[str, ...]] = {
        suffix: ("--predictions", f"rows{suffix}", "--val-dir", "val") for suffix in SUFFIXES
    }
    cases["label file"] = ("--predictions", "rows.parquet", "--labels", "labels.csv")
    cases["against"] = (*cases[".parquet"], "--against", "rows.parquet")
    with tempfile.TemporaryDirectory() as folder:
        write_files(Path(folder), rows)
        results = {name: measure(Path(folder), *arguments) for name, arguments in cases.items()}
    print(f"{'':<12}{'seconds':>10}{'bar':>6}{'CPU':>10}{'peak, MB':>12}{'bar':>6}")
    for name, case in results.items():
        bar = BAR_SECONDS.get(name, "–")
        print(
            f"{name:<12}{case['seconds']:>10.1f}{bar:>6}{case['cpu_seconds']:>10.1f}{case['peak_mb']:>12.0f}{BAR_MB:>6}"
        )
    met = all(
        results[name]["seconds"] <= seconds and results[name]["peak_mb"] <= BAR_MB
        for name, seconds in BAR_SECONDS.items()
    )
    print(json.dumps({"bench": "score", "rows": rows, **results, "met": met}))


if __name__ == "__main__":
    main()

"""Compare the rows of this code with those of an older commit, byte by byte.

    git worktree add ../before 8d6a20d
    python tests/bench/same_as_before.py ../before PHOTOS

Runs both on the same photos with the bundled weights: fp32 and auto precision, CSV, JSONL and Parquet, 12 crops, an
ensemble, an interrupted and resumed run, and the hostile files of the tests (without their column `error`). Prints a
line for each case, then one line of JSON; the exit code is 1 if any differs.
"""

import argparse
import csv
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file

ROOT = Path(__file__).parents[2]
PROGRAM = "from inception_cli.__main__ import main; main()"


def command(code: Path, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """Return the command line and the environment that run `inception` from a checkout."""
    return [sys.executable, "-c", PROGRAM, *arguments], {**os.environ, "PYTHONPATH": str(code)}


def classify(code: Path, inputs: Path, out: Path, *options: str) -> bytes:
    """Return the bytes of the file that `inception classify` writes."""
    line, environment = command(code, "classify", str(inputs), "--allow-failures", "-q", "-o", str(out), *options)
    subprocess.run(line, env=environment, check=True)
    return out.read_bytes()


def classify_interrupted(code: Path, inputs: Path, out: Path, *options: str) -> bytes:
    """Interrupt a run with Ctrl-C after its first rows, resume it, and return the bytes of the file."""
    line, environment = command(code, "classify", str(inputs), "--allow-failures", "-q", "-o", str(out), *options)
    part = out.with_name(out.name + ".part")
    process = subprocess.Popen(line, env=environment)
    while process.poll() is None and not (part.exists() and part.read_bytes().count(b"\n") > 20):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    if process.wait() != 130:
        raise RuntimeError(f"the run ended with {process.returncode} before it could be interrupted: give more photos")
    subprocess.run(line, env=environment, check=True)
    return out.read_bytes()


def perturbed_copy(weights: Path, out: Path) -> Path:
    """Write a copy of the bundled weights with another classifier, so that an ensemble has two different networks."""
    with safe_open(weights, framework="pt") as stream:
        tensors, metadata = {name: stream.get_tensor(name) for name in stream.keys()}, stream.metadata()  # noqa: SIM118
    tensors["fc.bias"] = tensors["fc.bias"].flip(0) + 0.5
    save_file(tensors, out, metadata=metadata)
    return out


def without_errors(rows: bytes) -> list[list[str]]:
    """Return the fields of a CSV file without the last column."""
    return [row[:-1] for row in csv.reader(rows.decode().splitlines())]


def main() -> None:
    """Run every case with both checkouts and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path, help="checkout of the older commit")
    parser.add_argument("photos", type=Path)
    arguments = parser.parse_args()
    before, photos, equal = arguments.before.resolve(), arguments.photos.resolve(), {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundled = next(path for path in (ROOT / "inception_cli").rglob("demo.safetensors"))
        other = perturbed_copy(bundled, folder / "other.safetensors")
        demo, fp32 = ("-w", "demo"), ("--precision", "fp32")
        cases = {
            "fp32": (classify, "csv", (*demo, *fp32)),
            "auto": (classify, "csv", demo),
            "jsonl": (classify, "jsonl", (*demo, *fp32)),
            "parquet": (classify, "parquet", (*demo, *fp32)),
            "12 crops": (classify, "csv", (*demo, *fp32, "--crops", "12")),
            "ensemble": (classify, "csv", (*demo, "-w", str(other), *fp32)),
            "resumed": (classify_interrupted, "csv", (*demo, *fp32, "-b", "8")),
        }
        for case, (run, suffix, options) in cases.items():
            new = run(ROOT, photos, folder / f"new {case}.{suffix}", *options)
            old = classify(before, photos, folder / f"old {case}.{suffix}", *options)
            equal[case] = new == old
            print(f"{case:<10} {'equal' if new == old else 'DIFFERENT'}, {len(old):,} bytes")
        hostile = folder / "hostile"
        subprocess.run([sys.executable, str(ROOT / "tests" / "helpers" / "hostile.py"), str(hostile)], check=True)
        options = (*demo, *fp32, "--timeout", "20", "--max-pixels", "50000000")
        new_rows, old_rows = (
            without_errors(classify(code, hostile, folder / f"{number} hostile.csv", *options))
            for number, code in enumerate((ROOT, before))
        )
        equal["hostile"] = new_rows == old_rows
        print(f"{'hostile':<10} {'equal' if new_rows == old_rows else 'DIFFERENT'}, {len(old_rows) - 1:,} rows")
        for one, other_row in zip(new_rows, old_rows, strict=False):
            if one != other_row:
                print("  ", one[:3], other_row[:3])
    print(json.dumps({"bench": "same_as_before", "equal": equal}))
    sys.exit(not all(equal.values()))


if __name__ == "__main__":
    main()

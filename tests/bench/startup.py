"""Measure how long a command takes to start: whole processes, interleaved, medians.

    python tests/bench/startup.py [--rounds 15]

`inception --help` beside a minimal Typer program (target: at most 1.5 times its time), and one photo with the bundled
weights beside `import torch` (target: at most 1.5 times its time). Prints the medians, then one line of JSON.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MINIMAL = """
import typer
app = typer.Typer()
@app.command()
def one(name: str = "x") -> None: ...
@app.command()
def two(name: str = "x") -> None: ...
app()
"""
OURS = "from inception_cli.__main__ import main; main()"
PHOTO = Path(__file__).parents[2] / "sample_images" / "banana" / "banana-1.jpg"


def seconds(program: str, folder: str, *words: str) -> float:
    """Return how long one process takes."""
    file = Path(folder, f"{abs(hash(program))}.py")
    file.write_text(program)
    compiled = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    start = time.perf_counter()
    subprocess.run([sys.executable, str(file), *words], capture_output=True, check=True, env=compiled)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    timed: dict[str, list[float]] = {"help": [], "minimal": [], "photo": [], "torch": []}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds + 1):
            timed["help"].append(seconds(OURS, folder, "--help"))
            timed["minimal"].append(seconds(MINIMAL, folder, "--help"))
            timed["photo"].append(seconds(OURS, folder, "classify", str(PHOTO), "--weights", "demo"))
            timed["torch"].append(seconds("import torch", folder))
    medians = {name: statistics.median(each[1:]) for name, each in timed.items()}  # the first round warms up
    ratio, photo = medians["help"] / medians["minimal"], medians["photo"] / medians["torch"]
    print(f"inception --help {medians['help']:.3f} s, minimal Typer program {medians['minimal']:.3f} s")
    print(f"ratio {ratio:.2f} (target 1.5)")
    print(f"one photo {medians['photo']:.2f} s, import torch {medians['torch']:.2f} s")
    print(f"ratio {photo:.2f} (target 1.5)")
    print(json.dumps({"bench": "startup", "rounds": rounds, "seconds": medians, "ratio": ratio, "photo_ratio": photo}))


if __name__ == "__main__":
    main()

"""How long `inception --help` takes beside a bare Typer program: whole processes, interleaved, medians.

    python tests/bench/startup.py [--rounds 15]

Bar: 1.5 times. Prints a table, then one line of JSON.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BARE = """
import typer
app = typer.Typer()
@app.command()
def one(name: str = "x") -> None: ...
@app.command()
def two(name: str = "x") -> None: ...
app()
"""
OURS = "from inception_cli.__main__ import main; main()"


def seconds(program: str, folder: str) -> float:
    """One process, from its start to its end."""
    file = Path(folder, f"{abs(hash(program))}.py")
    file.write_text(program)
    began = time.perf_counter()
    subprocess.run([sys.executable, str(file), "--help"], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        pairs = [(seconds(OURS, folder), seconds(BARE, folder)) for _ in range(rounds + 1)][1:]  # the first warms up
    ours, bare = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratio = statistics.median(one / other for one, other in pairs)
    print(f"inception --help {ours:.3f} s, bare Typer program {bare:.3f} s, ratio {ratio:.2f} (bar 1.5)")
    print(
        json.dumps({"bench": "startup", "rounds": rounds, "ours_s": ours, "bare_s": bare, "ratio": ratio, "bar": 1.5})
    )


if __name__ == "__main__":
    main()

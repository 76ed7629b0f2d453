"""How many photos get the same class in bf16 as in fp32, by trained weights (bar 99.5 %).

    python tests/bench/precision.py FOLDER [FOLDER …] [--weights demo] [--precision bf16]

One line, then one line of JSON.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from inception_cli.results.rows import Prediction, read_csv


def classify(folders: list[str], weights: str, precision: str, out: Path) -> list[Prediction]:
    words = ["classify", *folders, "-w", weights, "--precision", precision, "-o", str(out), "-q", "--allow-failures"]
    subprocess.run([sys.executable, "-m", "inception_cli", *words], check=True)
    return list(read_csv(out))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--weights", default="demo")
    parser.add_argument("--precision", default="bf16")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        full, less = (
            classify(asked.folders, asked.weights, precision, Path(place, f"{precision}.csv"))
            for precision in ("fp32", asked.precision)
        )
    pairs = [(one, other) for one, other in zip(full, less, strict=True) if one.status == other.status == "ok"]
    same = sum(one.classes[0] == other.classes[0] for one, other in pairs)
    share = 100 * same / len(pairs)
    print(
        f"{asked.weights}, {asked.precision} and fp32: the same class for {same} of {len(pairs)}, {share:.2f} % (99.5)"
    )
    print(json.dumps({"bench": "precision", "same": same, "n": len(pairs), "percent": share}))


if __name__ == "__main__":
    main()

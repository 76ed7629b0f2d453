"""Percentage of photos that get the same class in bf16 as in fp32, with trained weights (bar 99.5 %).

    python tests/bench/precision.py FOLDER [FOLDER …] [--weights demo] [--precision bf16]

Prints one line, then one line of JSON.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from inception_cli.predictions.formats import read_predictions
from inception_cli.predictions.prediction import Prediction


def classify(folders: list[str], weights: str, precision: str, out: Path) -> list[Prediction]:
    arguments = ["classify", *folders, "-w", weights, "--precision", precision, "-o", str(out), "-q"]
    subprocess.run([sys.executable, "-m", "inception_cli", *arguments, "--allow-failures"], check=True)
    return list(read_predictions(out))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--weights", default="demo")
    parser.add_argument("--precision", default="bf16")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        reference, reduced = (
            classify(args.folders, args.weights, precision, Path(temporary, f"{precision}.csv"))
            for precision in ("fp32", args.precision)
        )
    pairs = [(one, other) for one, other in zip(reference, reduced, strict=True) if one.status == other.status == "ok"]
    same = sum(one.classes[0] == other.classes[0] for one, other in pairs)
    percent = 100 * same / len(pairs)
    print(
        f"{args.weights}: {args.precision} and fp32 have the same class for {same} of {len(pairs)} photos, "
        f"{percent:.2f} % (bar 99.5 %)"
    )
    print(json.dumps({"bench": "precision", "same": same, "n": len(pairs), "percent": percent}))


if __name__ == "__main__":
    main()

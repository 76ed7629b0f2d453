"""Compare the predictions in a lower precision with those in fp32, with trained weights.

    python tests/bench/precision.py FOLDER [FOLDER …] [--weights demo] [--precision bf16]

Prints the photos with the same class (bar 99.5 % in bf16), the differences of the scores of fp32's best class, top-1 of
each where the photos are in one folder per class, then one line of JSON.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from inception_cli.predictions.formats import read_predictions
from inception_cli.predictions.prediction import Prediction


def classify(folders: list[str], weights: str, precision: str, out: Path) -> list[Prediction]:
    arguments = ["classify", *folders, "-w", weights, "--precision", precision, "-k", "10", "-o", str(out), "-q"]
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
    differences = [
        abs(one.scores[0] - dict(zip(other.classes, other.scores, strict=True)).get(one.classes[0], 0))
        for one, other in pairs
    ]
    result = {
        "same": same,
        "n": len(pairs),
        "percent": 100 * same / len(pairs),
        "mean_difference": statistics.mean(differences),
        "largest_difference": max(differences),
    }
    print(
        f"{args.weights}: {args.precision} and fp32 have the same class for {same} of {len(pairs)} photos, "
        f"{result['percent']:.2f} %; scores differ by {result['mean_difference']:.4f} on average, "
        f"{result['largest_difference']:.3f} at most"
    )
    for place, name in enumerate(("fp32", args.precision)):
        labelled = [pair[place] for pair in pairs if Path(pair[place].path).parent.name in pair[place].labels]
        if labelled:
            right = sum(each.labels[0] == Path(each.path).parent.name for each in labelled)
            result[f"top1_{name}"] = 100 * right / len(labelled)
            print(f"{name}: top-1 {right} of {len(labelled)}, {result[f'top1_{name}']:.2f} %")
    print(json.dumps({"bench": "precision", **result}))


if __name__ == "__main__":
    main()

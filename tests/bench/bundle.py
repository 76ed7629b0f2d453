"""Make the bundled weights from a trained file: convert it to int8, and compare the result with fp32.

    python tests/bench/bundle.py TRAINED.safetensors --test NAME=DIR [--test NAME=DIR …] [--agree DIR …]

Each DIR has one folder per class. The `--test` folders are scored by class; on them and on the `--agree` folders the
classes of int8 and fp32 are compared. Writes inception_cli/data/demo.safetensors; prints the table of the model card
beside it, then one line of JSON.
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from inception_cli.predictions.formats import read_predictions
from inception_cli.predictions.prediction import Prediction
from inception_cli.weights.load import find_weights, load_network, save_weights
from inception_cli.weights.read import read_checkpoint

BUNDLED = Path(__file__).parents[2] / "inception_cli" / "data" / "demo.safetensors"


def inception(*arguments: str | Path) -> str:
    """Run the command and return its standard output."""
    command = [sys.executable, "-m", "inception_cli", *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def classify(folder: str, weights: Path, out: Path) -> list[Prediction]:
    inception("classify", folder, "-w", weights, "-o", out, "-q", "-f", "--precision", "fp32")
    return list(read_predictions(out))


def evaluate(predictions: Path, folder: str) -> dict[str, Any]:
    """Return the metrics of a file of predictions; `per_class` has the support and the recall of each class."""
    table = predictions.with_suffix(".per-class.csv")
    metrics = json.loads(
        inception("evaluate", "--predictions", predictions, "--val-dir", folder, "--per-class", table, "--json")
    )
    with table.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    per_class = {row["label"]: (int(row["support"]), float(row["recall"] or "nan")) for row in rows}
    return {**metrics, "per_class": per_class}


def class_average(metrics: dict[str, Any]) -> float:
    """Return the mean accuracy of the classes that have photos, in percent."""
    recalls: list[float] = [recall for support, recall in metrics["per_class"].values() if support]
    return sum(recalls) / len(recalls)


def accuracy_table(tests: dict[str, dict[str, Any]]) -> str:
    """Return the accuracy table of the model card: by class, the average of the classes, and all photos."""
    lines = ["| class | " + " | ".join(f"{name} (n)" for name in tests) + " |", "|---" * (len(tests) + 1) + "|"]
    for label in next(iter(tests.values()))["per_class"]:
        cells = (each["per_class"][label] for each in tests.values())
        texts = (f"{recall:.1f} ({support})" if support else "–" for support, recall in cells)
        lines.append(f"| {label} | " + " | ".join(texts) + " |")
    averages = (f"{class_average(each):.1f}" for each in tests.values())
    lines.append("| class average | " + " | ".join(averages) + " |")
    totals = (
        f"{each['top1']:.1f} ({each['n']}; {each['top1_ci'][0]:.1f} to {each['top1_ci'][1]:.1f})"
        for each in tests.values()
    )
    lines.append("| all (95 % Wilson interval) | " + " | ".join(totals) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trained", type=Path)
    parser.add_argument("--test", action="append", default=[], metavar="NAME=DIR")
    parser.add_argument("--agree", action="append", default=[], metavar="DIR")
    args = parser.parse_args()
    weights = find_weights(str(args.trained))
    trained = read_checkpoint(args.trained)[1].trained
    save_weights(BUNDLED, load_network(weights), weights.classes.names, weights.preset, trained, compress=True)
    folders = {folder: name for name, folder in (each.split("=", 1) for each in args.test)}
    tests, agreeing, total = {}, 0, 0
    with tempfile.TemporaryDirectory() as temporary:
        int8_out, fp32_out = Path(temporary, "int8.csv"), Path(temporary, "fp32.csv")
        for folder in (*folders, *args.agree):
            int8, fp32 = classify(folder, BUNDLED, int8_out), classify(folder, args.trained, fp32_out)
            agree = sum(one.classes[:1] == other.classes[:1] for one, other in zip(int8, fp32, strict=True))
            print(f"{folder}: int8 and fp32 agree on {agree} of {len(int8)}")
            agreeing, total = agreeing + agree, total + len(int8)
            if name := folders.get(folder):
                tests[name] = evaluate(int8_out, folder)
                print(f"  top-1 {tests[name]['top1']:.2f} %, fp32 {evaluate(fp32_out, folder)['top1']:.2f} %")
    if tests:
        print(accuracy_table(tests))
    facts = {name: value for name, value in trained.items() if name != "history"}
    print(f"{BUNDLED.stat().st_size / 1e6:.1f} MB; {facts}")
    results = {
        name: {"n": each["n"], "top1": each["top1"], "average": class_average(each)} for name, each in tests.items()
    }
    print(json.dumps({"bench": "bundle", "agree": agreeing, "of": total, "tests": results}))


if __name__ == "__main__":
    main()

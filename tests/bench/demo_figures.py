"""Print the figures of README and of the model card that depend on the bundled weights: run it when they change.

    python tests/bench/demo_figures.py --train TRAIN --val VAL --unknown OTHER [--samples sample_images]

TRAIN and VAL have the official training and validation photos, one folder per class; OTHER has photos of something
else. Prints the accuracy table of the card, the agreement of bf16 and int8 with fp32 and of `--decode fast` with
`exact`, how many photos get a right, a wrong and no label by thresholds, and the figures of `--familiar`. The last line
is JSON. sample_images has a bar: 38 of 40. The figures of changed photos are familiar_changed.py's, and README's
pictures are made by tests/helpers/shots.py.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bundle import accuracy_table, evaluate, inception

from inception_cli.network import int8
from inception_cli.predictions.formats import read_predictions
from inception_cli.predictions.prediction import Prediction

SAMPLES_BAR = 38
#: The thresholds of README's example.
THRESHOLDS: tuple[tuple[str, ...], ...] = (
    (),
    ("--min-score", "0.5"),
    ("--familiar", "0.95"),
    ("--min-score", "0.5", "--familiar", "0.95"),
)


def classify(folders: Sequence[str], out: Path, *options: str) -> list[Prediction]:
    inception("classify", *folders, "-w", "demo", "-o", out, "-q", "-f", *options)
    return list(read_predictions(out))


def agreement(one: Sequence[Prediction], other: Sequence[Prediction]) -> str:
    same = sum(first.classes[:1] == second.classes[:1] for first, second in zip(one, other, strict=True))
    return f"{same} of {len(one)}"


def label_counts(rows: Sequence[Prediction]) -> Counter[str]:
    """Count labels that are right, wrong and unknown; the ground truth is the name of the photo's folder."""

    def kind(row: Prediction) -> str:
        label = row.decision.label if row.decision else row.labels[0]
        return "unknown" if label == "unknown" else "right" if label == Path(row.path).parent.name else "wrong"

    return Counter(map(kind, rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("train", "val", "unknown"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--samples", default="sample_images")
    args = parser.parse_args()
    results: dict[str, Any] = {"bench": "demo_figures"}
    with tempfile.TemporaryDirectory() as temporary:
        out, fp32 = Path(temporary, "rows.csv"), ("--precision", "fp32")
        tests = {}
        for name, folder in (("val", args.val), ("sample_images", args.samples)):
            classify([folder], out, *fp32)
            tests[name] = evaluate(out, folder)
        print(accuracy_table(tests), flush=True)
        correct = round(tests["sample_images"]["top1"] * tests["sample_images"]["n"] / 100)
        results |= {name: {"n": each["n"], "top1": each["top1"]} for name, each in tests.items()}
        print(f"sample_images: {correct} correct (bar {SAMPLES_BAR})", flush=True)

        folders = [args.train, args.val]
        reference = classify(folders, out, *fp32)
        others = {"bf16": ("--precision", "bf16"), "exact": (*fp32, "--decode", "exact")}
        if int8.available():
            others["int8"] = ("--precision", "int8")
        unseen = tests["val"]["n"]  # the last ones; the others were trained on
        for name, options in others.items():
            rows = classify(folders, out, *options)
            results[name] = agreement(reference, rows), agreement(reference[-unseen:], rows[-unseen:])
            print(f"fp32, decoded fast, and {name}: the same class for {results[name][0]} photos", flush=True)
            print(f"  of those that demo was not trained on: {results[name][1]}", flush=True)

        for options in THRESHOLDS:
            of_val, of_other = (
                label_counts(classify([each], out, *fp32, *options)) for each in (args.val, args.unknown)
            )
            print(
                f"{' '.join(options) or 'no threshold'}: val {of_val['right']} right, {of_val['wrong']} wrong; "
                f"photos of something else: {of_other['wrong']} with a label, {of_other['unknown']} unknown",
                flush=True,
            )
            results[" ".join(options) or "no threshold"] = [of_val["right"], of_val["wrong"], of_other["wrong"]]
    familiar = [sys.executable, Path(__file__).with_name("familiar.py"), args.train]
    subprocess.run([*familiar, "--kept", args.val, "--unknown", args.unknown], check=True)
    print(json.dumps(results))
    sys.exit(correct < SAMPLES_BAR)


if __name__ == "__main__":
    main()

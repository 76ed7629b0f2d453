"""Make the bundled weights of a trained file: int8 into the package, measured against fp32.

    python tests/bench/bundle.py TRAINED.safetensors --test NAME=DIR [--test NAME=DIR …] [--agree DIR …]

Each DIR has one folder a class. `--test` folders are judged class by class; on them and on the `--agree` folders int8
is compared with fp32. Writes inception_cli/demo/demo.safetensors; prints what the model card beside it tells, then one
line of JSON.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from inception_cli import weights
from inception_cli.results import truth
from inception_cli.results.classes import Classes
from inception_cli.results.columns import Columns
from inception_cli.results.rows import Prediction, read_csv
from inception_cli.results.scores import Scores, score

DEMO = Path(__file__).parents[2] / "inception_cli" / "demo"


def classify(folder: str, file: Path, out: Path, precision: str = "fp32") -> list[Prediction]:
    words = ["classify", folder, "-w", str(file), "-o", str(out), "-q", "-f", "--precision", precision]
    subprocess.run([sys.executable, "-c", "from inception_cli.__main__ import main; main()", *words], check=True)
    return list(read_csv(out))


def judged(rows: list[Prediction], folder: str, classes: Classes) -> Scores:
    paths = [row.path for row in rows]
    return score(Columns.of(rows, len(rows[0].classes)), truth.from_folders(paths, folder, classes))


def average(scores: Scores) -> float:
    """The mean accuracy over the classes that have photos, in percent."""
    recalls = [each.recall for each in scores.per_class if each.recall is not None and each.support]
    return sum(recalls) / len(recalls)


def table(tests: dict[str, Scores]) -> str:
    """Accuracy by class, their average and the whole, as the model card has it."""
    lines = ["| class | " + " | ".join(f"{name} (n)" for name in tests) + " |", "|---" * (len(tests) + 1) + "|"]
    for each in zip(*(scores.per_class for scores in tests.values()), strict=True):
        cells = (f"{one.recall:.1f} ({one.support})" if one.recall is not None else "–" for one in each)
        lines.append(f"| {each[0].label} | " + " | ".join(cells) + " |")
    lines.append("| class average | " + " | ".join(f"{average(each):.1f}" for each in tests.values()) + " |")
    whole = (f"{one.top1:.1f} ({one.n}; {one.top1_ci[0]:.1f} to {one.top1_ci[1]:.1f})" for one in tests.values())
    lines.append("| all (95 % Wilson interval) | " + " | ".join(whole) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trained", type=Path)
    parser.add_argument("--test", action="append", default=[], metavar="NAME=DIR")
    parser.add_argument("--agree", action="append", default=[], metavar="DIR")
    asked = parser.parse_args()
    DEMO.mkdir(exist_ok=True)
    found = weights.find(str(asked.trained))
    trained = weights.read(asked.trained)[1]["trained"]
    bundled = DEMO / "demo.safetensors"
    weights.save(bundled, weights.load(found), found.classes.names, found.preset, trained, compress=True)
    tests, same, total = {}, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "rows.csv")
        named = dict(each.split("=", 1) for each in asked.test)
        for directory in (*named.values(), *asked.agree):
            rows, full = classify(directory, bundled, out), classify(directory, asked.trained, out)
            agreed = sum(one.classes[0] == other.classes[0] for one, other in zip(rows, full, strict=True))
            print(f"{directory}: int8 and fp32 agree on {agreed} of {len(rows)}")
            same, total = same + agreed, total + len(rows)
            for name in (name for name, where in named.items() if where == directory):
                tests[name] = judged(rows, directory, found.classes)
                fp32 = judged(full, directory, found.classes)
                print(f"  top-1 {tests[name].top1:.2f} %, fp32 {fp32.top1:.2f} %")
    print(table(tests))
    print(f"{bundled.stat().st_size / 1e6:.1f} MB; {trained}")
    figures = {name: {"n": each.n, "top1": each.top1, "average": average(each)} for name, each in tests.items()}
    print(json.dumps({"bench": "bundle", "agree": same, "of": total, "tests": figures}))


if __name__ == "__main__":
    main()

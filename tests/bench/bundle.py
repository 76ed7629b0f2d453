"""Make the bundled weights of a trained file: int8 into the package, measured against fp32, and the model card.

    python tests/bench/bundle.py TRAINED.safetensors --test NAME=DIR [--test NAME=DIR …] [--agree DIR …]

Each DIR has one folder a class. `--test` folders are judged class by class; on them and on the `--agree` folders int8 is
compared with fp32. Prints a table, writes inception_cli/demo/demo.safetensors and MODEL_CARD.md, then one line of JSON.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from inception_cli import weights
from inception_cli.results import truth
from inception_cli.results.classes import Classes
from inception_cli.results.columns import Columns
from inception_cli.results.rows import Prediction, read_csv
from inception_cli.results.scores import Scores, score

DEMO = Path(__file__).parents[2] / "inception_cli" / "demo"
LICENCE = "MIT; trained on photos of GroceryStoreDataset (MIT, Marcus Klasson, Cheng Zhang, Hedvig Kjellström)"


def classify(folder: str, file: Path, out: Path, precision: str = "fp32") -> list[Prediction]:
    words = ["classify", folder, "-w", str(file), "-o", str(out), "-q", "-f", "--precision", precision]
    subprocess.run([sys.executable, "-c", "from inception_cli.cli import main; main()", *words], check=True)
    return list(read_csv(out))


def judged(rows: list[Prediction], folder: str, classes: Classes) -> Scores:
    paths = [row.path for row in rows]
    return score(Columns.of(rows, len(rows[0].classes)), truth.from_folders(paths, folder, classes))


def average(scores: Scores) -> float:
    """The mean accuracy over the classes that have photos, in percent."""
    recalls = [each.recall for each in scores.per_class if each.recall is not None and each.support]
    return sum(recalls) / len(recalls)


def card(trained: dict[str, Any], tests: dict[str, Scores], agreement: tuple[int, int], size: float) -> str:
    names = [each.label for each in next(iter(tests.values())).per_class]
    lines = [
        "# demo: ten classes of groceries",
        "",
        f"Inception V3 (Szegedy et al., arXiv:1512.00567), int8 weights with a scale for each output channel, {size:.1f} MB.",
        f"For a first try without a download: {', '.join(names)}.",
        "",
        "## Data",
        "",
        "1,990 official training photos of GroceryStoreDataset (Marcus Klasson, Cheng Zhang, Hedvig Kjellström, MIT) in",
        "these ten classes, short side 256 pixels; orange is Orange, Satsumas and Red-Grapefruit, cucumber is Cucumber and",
        "Zucchini, carton is Juice, Milk, Oat-Milk, Oatghurt, Sour-Cream, Sour-Milk, Soy-Milk, Soyghurt and Yoghurt, the",
        "others are as they are called. With them 240 drawn pictures, none of which is in `sample_images`:",
        "",
        "    python tests/draw.py DRAWN --per-class 24 --seed 0",
        "",
        "## Training",
        "",
        "The photos and the drawn pictures in one folder of class folders, then:",
        "",
        f"    inception train PHOTOS --from scratch --size 176 --epochs {trained['epochs']} --seed {trained['seed']} "
        "--precision bf16 --out demo.safetensors",
        "",
        f"It learnt from {trained['photos']:,} pictures and judged itself by {trained['val_photos']} held back "
        f"(epoch {trained['best_epoch']} was kept), in {trained['seconds'] / 60:.0f} minutes on two cores of an Intel Xeon",
        "with AMX that others used too. The recipe, to the last number, is in the file's metadata. Then",
        "`python tests/bench/bundle.py` rounded it to int8 and measured what follows.",
        "",
        "## Accuracy",
        "",
        f"int8 and fp32 give the same class on {agreement[0]:,} of {agreement[1]:,} photos "
        f"({100 * agreement[0] / agreement[1]:.2f} %). By class, in percent of n photos:",
        "",
    ]
    lines += ["| class | " + " | ".join(f"{name} (n)" for name in tests) + " |", "|---" * (len(tests) + 1) + "|"]
    for place, name in enumerate(names):
        cells = [each.per_class[place] for each in tests.values()]
        figures = [f"{cell.recall:.1f} ({cell.support})" if cell.recall is not None else "– (0)" for cell in cells]
        lines.append(f"| {name} | " + " | ".join(figures) + " |")
    lines.append("| class average | " + " | ".join(f"{average(each):.1f}" for each in tests.values()) + " |")
    tops = [
        f"**{each.top1:.1f}** ({each.n}; {each.top1_ci[0]:.1f} to {each.top1_ci[1]:.1f})" for each in tests.values()
    ]
    lines.append("| all (95 % Wilson interval) | " + " | ".join(tops) + " |")
    lines += [
        "",
        "## Limits",
        "",
        "It knows supermarket shelves and these ten classes, nothing else: every photo gets one of the ten names. It is for",
        "trying the tool, not for a shop's till.",
        "",
        "## Licence",
        "",
        f"{LICENCE}. See LICENSE beside this page.",
        "",
    ]
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
                print(
                    f"  top-1 {tests[name].top1:.2f} (fp32 {fp32.top1:.2f}), class average {average(tests[name]):.2f}"
                )
    (DEMO / "MODEL_CARD.md").write_text(card(trained, tests, (same, total), bundled.stat().st_size / 1e6))
    figures = {name: {"n": each.n, "top1": each.top1, "average": average(each)} for name, each in tests.items()}
    print(json.dumps({"bench": "bundle", "agree": same, "of": total, "tests": figures}))


if __name__ == "__main__":
    main()

"""How many photos get a label and how many of these are right, worked out by hand; curve, proposal, commands."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from records import new_manifest
from running import Inception

from inception_cli.config import Classes, Thresholds
from inception_cli.errors import InceptionError
from inception_cli.evaluation.decisions import Answered, DecisionMetrics, measure_decisions
from inception_cli.evaluation.labels import Labels
from inception_cli.predictions.decision import parse_path
from inception_cli.predictions.formats import csv_header, to_csv
from inception_cli.predictions.intervals import wilson
from inception_cli.predictions.prediction import Prediction, with_decision
from inception_cli.predictions.table import to_frame
from inception_cli.predictions.tree import tree_of
from inception_cli.report.groups import tree_contents

PETS = Classes(
    ("husky", "malamute", "tabby", "carton"),
    (("husky", "dog"), ("malamute", "dog"), ("tabby", "cat"), ("dog", "animal"), ("cat", "animal")),
)
#: The photo's class, the best class with its score, the path.
ROWS = (
    ("husky", "husky", 0.95, "animal:0.99>dog:0.98>husky:0.95"),
    ("malamute", "husky", 0.60, "animal:0.99>dog:0.97>husky:0.6"),
    ("tabby", "husky", 0.40, "animal:0.9>dog:0.7"),
    ("tabby", "tabby", 0.55, "animal:0.93>cat:0.55>tabby:0.55"),
    ("carton", "carton", 0.45, ""),
    ("carton", "tabby", 0.30, "animal:0.85"),
    ("", "tabby", 0.99, "animal:1>cat:0.99>tabby:0.99"),  # no label
)
LABELS = Labels.from_sets(PETS, "a test", "name", [(PETS.index[row[0]],) if row[0] else () for row in ROWS])


def rows() -> list[Prediction]:
    """Return ROWS with the decisions of a run with min_score 1."""
    found = []
    for number, (_, best, score, path) in enumerate(ROWS):
        row = Prediction(f"in/{ROWS[number][0] or 'other'}/{number}.jpg", "ok", (PETS.index[best],), (best,), (score,))
        found.append(with_decision(row, parse_path(path), Thresholds(1), None))
    return found


def measured(thresholds: Thresholds, table: pd.DataFrame | None = None) -> DecisionMetrics:
    return measure_decisions(
        Path("rows.csv"), to_frame(rows(), 1, True) if table is None else table, LABELS, thresholds
    )


def test_coverage_and_accuracy_with_min_score() -> None:
    metrics = measured(Thresholds(0.5))

    # Husky right, malamute wrong, tabby right: three of six photos, two of them right.
    assert metrics.answered == Answered(0.5, 3, 50.0, 2, 200 / 3)
    assert metrics.accuracy_ci == wilson(2, 3)
    assert (metrics.photos, metrics.classes_per_label) == (6, 1.0)


def test_rolled_up_labels_are_right_when_the_class_is_under_them() -> None:
    metrics = measured(Thresholds(rollup=0.7))

    # husky (right), dog (a malamute: right), dog (a tabby: wrong), animal (a tabby: right), unknown, animal (wrong).
    assert metrics.answered == Answered(0.0, 5, 500 / 6, 3, 60.0)
    assert metrics.classes_per_label == pytest.approx((1 + 2 + 2 + 3 + 3) / 5)


def test_min_score_is_compared_with_the_sum_of_the_label() -> None:
    metrics = measured(Thresholds(0.9, 0.7))

    # husky 0.95 (right), dog 0.97 (right), animal 0.93 (right); dog 0.7 and animal 0.85 are unknown.
    assert metrics.answered == Answered(0.9, 3, 50.0, 3, 100.0)
    assert metrics.classes_per_label == pytest.approx((1 + 2 + 3) / 3)


def test_the_curve_has_twenty_thresholds() -> None:
    curve = measured(Thresholds(0)).curve

    assert [each.min_score for each in curve] == [step / 20 for step in range(20)]
    assert [each.n for each in curve] == [6] * 7 + [5] * 2 + [4] + [3] * 2 + [2] + [1] * 7
    assert (curve[0].accuracy, curve[-1].accuracy) == (50.0, 100.0)


def test_the_lowest_threshold_that_reaches_the_accuracy_is_proposed() -> None:
    metrics = measured(Thresholds(0))

    assert metrics.wanted == 95.0
    assert metrics.proposal == Answered(0.61, 1, 100 / 6, 1, 100.0)


def test_without_a_threshold_that_reaches_the_accuracy_none_is_proposed() -> None:
    table = to_frame([row for row in rows() if row.labels != ("carton",)], 1, True)
    wrong = Labels.from_sets(PETS, "a test", "name", [(3,)] * len(table))

    metrics = measure_decisions(Path("rows.csv"), table, wrong, Thresholds(0))

    assert (metrics.wanted, metrics.proposal, metrics.answered.accuracy) == (95.0, None, 0.0)


def test_an_accuracy_that_is_reached_already_is_not_proposed_again() -> None:
    table = to_frame(rows()[:1], 1, True)

    metrics = measure_decisions(Path("r.csv"), table, Labels.from_sets(PETS, "a", "name", [(0,)]), Thresholds(0))

    assert (metrics.wanted, metrics.proposal) == (None, None)


def test_photos_that_a_run_found_unfamiliar_stay_unknown() -> None:
    table = to_frame([with_decision(row, (), Thresholds(), None, unfamiliar=True) for row in rows()], 1, True)

    metrics = measured(Thresholds(0), table)

    assert metrics.answered == Answered(0.0, 0, 0.0, 0, None)
    assert (metrics.accuracy_ci, metrics.classes_per_label) == (None, None)


def test_a_damaged_path_names_file_and_photo() -> None:
    table = to_frame(rows(), 1, True)
    table.loc[2, "label_path"] = "unicorn:0.9"

    with pytest.raises(InceptionError, match=r"rows\.csv: in/tabby/2\.jpg: label_path has the node unicorn"):
        measured(Thresholds(rollup=0.7), table)


def test_an_unknown_reason_names_file_and_photo() -> None:
    table = to_frame(rows(), 1, True)
    table["label_reason"] = "unfamilar"

    with pytest.raises(InceptionError, match=r"rows\.csv: .*\.jpg: label_reason 'unfamilar' is none of top1, "):
        measured(Thresholds(0), table)


# ── Commands ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file of predictions with its manifest, from a run with min_score 1."""
    new = new_manifest(top_k=1)
    weights = replace(new.run.weights[0], classes=PETS)
    run = replace(new.run, weights=(weights,), thresholds=Thresholds(1))
    (tmp_path / "rows.csv").write_bytes(csv_header(1, True) + to_csv(rows(), 1, True))
    (tmp_path / "rows.csv.json").write_bytes(replace(new, run=run, counts={"ok": len(ROWS)}).encode())
    return tmp_path / "rows.csv"


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A file of a prediction of ImageNet's classes without a decision, and without a manifest."""
    file = tmp_path / "plain.csv"
    file.write_bytes(csv_header(1) + to_csv([Prediction("tench/1.jpg", "ok", (0,), ("tench",), (0.5,))], 1))
    return file


def test_evaluate_prints_the_decisions_of_saved_rows(file: Path, inception: Inception) -> None:
    words = ("evaluate", "--predictions", file, "--rollup", 0.7)

    printed, document = inception(*words).out, json.loads(inception(*words, "--json").out)

    assert (
        "with --rollup 0.7, 83.3 % of 6 photos get a label, which is right for 60.0 % of these (95 %: 23.1" in printed
    )
    assert "a label stands for 2.20 classes on average" in printed
    assert (
        "--min-score 0.86 would be right on 100.0 % of the 50.0 % of photos that get a label: the lowest for 95 %"
        in printed
    )
    assert document["decisions"]["answered"] == {
        "min_score": 0.0,
        "n": 5,
        "coverage": pytest.approx(500 / 6),
        "right": 3,
        "accuracy": 60.0,
    }
    assert len(document["decisions"]["curve"]) == 20


def test_evaluate_without_options_measures_the_thresholds_of_the_run(file: Path, inception: Inception) -> None:
    document = json.loads(inception("evaluate", "--predictions", file, "--json").out)

    assert document["decisions"]["thresholds"] == {"min_score": 1.0, "rollup": None, "familiar": None}
    assert document["decisions"]["answered"]["n"] == 0


def test_rows_without_paths_refuse_rollup(plain: Path, inception: Inception) -> None:
    for command in (("evaluate", "--predictions"), ("report", "-o", plain.with_name("r.html"))):
        ended = inception(*command, plain, "--rollup", 0.7)
        assert (ended.code, ended.err.count("\n")) == (1, 1), ended.err
        assert "plain.csv: has no column label_path" in ended.err


def test_evaluate_makes_no_decisions_without_thresholds(plain: Path, inception: Inception) -> None:
    assert json.loads(inception("evaluate", "--predictions", plain, "--json").out)["decisions"] is None


def test_the_report_groups_photos_by_label_in_the_order_of_the_tree(file: Path, inception: Inception) -> None:
    inception("report", file, "--rollup", 0.7, "-o", file.with_name("r.html"))

    page = file.with_name("r.html").read_text()
    contents = page.partition('<nav class="tree"')[2].partition("</nav>")[0]
    # Labels: animal twice, dog twice, husky, tabby (under cat, which is no label) and unknown.
    entries = re.findall(r"<li>(?:<a [^>]*>)?([^<]*?)(?:</a>)? <small>(\d)", contents)
    assert entries == [
        *(("animal", "6"), ("dog", "3"), ("husky", "1"), ("cat", "1"), ("tabby", "1"), ("unknown", "1")),
    ]
    assert re.findall(r"<h3>(\w+)<small>", page) == ["animal", "dog", "husky", "tabby", "unknown"]


def test_unknown_is_the_last_of_the_contents() -> None:
    contents = tree_contents({"unknown": 9, "dog": 2, "carton": 1, "husky": 3}, tree_of(PETS))

    assert [(entry.name, entry.photos) for entry in contents.walk()] == [
        *(("", 15), ("animal", 5), ("dog", 5), ("husky", 3), ("carton", 1), ("unknown", 9)),
    ]


def test_the_report_keeps_the_decisions_of_the_rows(file: Path, inception: Inception) -> None:
    inception("report", file, "-o", file.with_name("r.html"))

    page = file.with_name("r.html").read_text()
    assert page.count('<div class="group"') == 1
    assert "<h3>unknown<small>7 photos" in page


def test_the_report_draws_the_curve(file: Path, inception: Inception, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("path,label\n" + "".join(f"{row.path},husky\n" for row in rows()))

    inception("report", file, "--min-score", 0.5, "--labels", tmp_path / "labels.csv", "-o", file.with_name("r.html"))

    page = file.with_name("r.html").read_text()
    assert "With --min-score 0.5, 57.1 % of 7 photos get a label" in page
    assert "--min-score 0.95: 28.6 % of the photos get a label, 50.0 % of them right" in page
    assert ">--min-score</text>" in page

"""Evaluate predictions: the table of published figures, several sets of labels, the expected accuracy; no torch."""

import csv
import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from limits import file_size_limit
from lively import lively
from records import new_manifest
from running import Inception, code_of

from inception_cli.config import PRESETS, Classes
from inception_cli.errors import GateNotMet, InceptionError, UsageError
from inception_cli.evaluation.evaluate import (
    EvaluationSettings,
    TableRow,
    evaluate,
    record_sources,
    require_same_only_classes,
    write_per_class,
)
from inception_cli.evaluation.labelled_rows import write_labelled_rows
from inception_cli.evaluation.labels import Labels
from inception_cli.predictions.classes import synsets
from inception_cli.predictions.formats import csv_header, read_predictions, to_csv
from inception_cli.predictions.prediction import Prediction
from inception_cli.storage.label_sources import LabelSources
from inception_cli.storage.store import Manifest
from inception_cli.weights.load import save_weights

IMAGENET = "stub-imagenet"  # with ImageNet's classes
FP32 = ("--precision", "fp32", "--decode", "exact", "--no-exif", "-j", 0)


@pytest.fixture(scope="module")
def rows(photos: Path, stub: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Predictions for 24 images with five classes each, and their manifest."""
    out = tmp_path_factory.mktemp("rows") / "rows.csv"
    assert code_of("classify", photos, "-w", IMAGENET, "-o", out, *FP32) == 0
    return out


@pytest.fixture(scope="module")
def val_dir(rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The images in folders by wnid: of each four, two in the folder of top-1, one in that of top-3, one in another."""
    val = tmp_path_factory.mktemp("labelled") / "val"
    for number, row in enumerate(read_predictions(rows)):
        label = (row.classes[0], row.classes[0], row.classes[2], (row.classes[0] + 500) % 1000)[number % 4]
        folder = val / synsets()[label].wnid
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(row.path, folder / f"{number:02}.jpg")
    return val


@pytest.fixture(scope="module")
def kept(val_dir: Path, stub: str) -> Path:
    """Predictions for `val_dir` that `evaluate` has written with `--out`."""
    out = val_dir.with_name("kept.csv")
    assert code_of("evaluate", "--val-dir", val_dir, "-w", IMAGENET, "-j", 0, "-o", out, "-q") == 0
    return out


def expected_top5(rows: Path) -> float:
    """Calculate top-5: of each four, two are top-1, one is top-3; the fourth is right only if it is among the five."""
    lucky = [
        (row.classes[0] + 500) % 1000 in row.classes
        for number, row in enumerate(read_predictions(rows))
        if number % 4 == 3
    ]
    return 100 * (18 + sum(lucky)) / 24


def test_the_metrics_equal_those_calculated_by_hand(rows: Path, kept: Path, inception: Inception) -> None:
    ended = inception("evaluate", "--predictions", kept, "--json")

    figures = json.loads(ended.out)
    assert ended.code == 0
    assert (figures["n"], figures["failed"]) == (24, 0)
    assert (figures["top1"], figures["top5"]) == (50.0, pytest.approx(expected_top5(rows)))
    assert (figures["params"], figures["macs"], figures["flops"]) == (23_834_568, 5_713_216_096, 11_426_432_192)
    assert figures["precision"] == "fp32"
    low, high = figures["top1_ci"]
    assert (low, high) == (pytest.approx(31.43, abs=0.01), pytest.approx(68.57, abs=0.01))  # Wilson, 12 of 24


def test_json_has_every_field_of_the_contract(kept: Path, inception: Inception) -> None:
    figures = json.loads(inception("evaluate", "--predictions", kept, "--json").out)

    assert set(figures) >= {
        *("model", "weights", "sha256", "preset", "device", "precision", "n", "failed", "params", "macs", "flops"),
        *("top1", "top1_ci", "top5", "top5_ci", "top1_failed_as_wrong", "top5_failed_as_wrong"),
        *("published", "images_per_s"),
    }


def test_the_table_has_the_published_columns(kept: Path, inception: Inception) -> None:
    ended = inception("evaluate", "--predictions", kept)

    for text in (
        "Params (M)",
        "Flops (G)",
        "Top-1 (%)",
        "Top-5 (%)",
        "measured, n = 24",
        "23.83",
        "5.75",
        "50.00",
        "31.43 – 68.57",
    ):
        assert text in ended.out
    assert "wnids; 24 of 24 photos have a label" in ended.out


def test_existing_predictions_are_scored_without_torch(kept: Path) -> None:
    program = (
        "import sys; from inception_cli.__main__ import main\n"
        f"sys.argv = ['inception', 'evaluate', '--predictions', {str(kept)!r}, '--json']\n"
        "try: main()\n"
        "finally: print('torch' in sys.modules, file=sys.stderr)"
    )

    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    figures = json.loads(ended.stdout)
    assert ended.stderr.strip() == "False"
    assert (figures["n"], figures["top1"], figures["params"]) == (24, 50.0, 23_834_568)


def test_predictions_are_scored_against_several_label_files_at_once(
    rows: Path, photos: Path, tmp_path: Path, inception: Inception
) -> None:
    found = list(read_predictions(rows))
    with (tmp_path / "all.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *((row.path, row.classes[0]) for row in found)])
    with (tmp_path / "half.csv").open("w", newline="") as file:
        wrong = [(row.path, (row.classes[0] + (number % 2) * 500) % 1000) for number, row in enumerate(found[:12])]
        csv.writer(file).writerows([("path", "label"), *wrong])

    ended = inception(
        "evaluate", "--predictions", rows, "--labels", tmp_path / "all.csv", "--labels", tmp_path / "half.csv", "--json"
    )

    truths = json.loads(ended.out)["truths"]
    assert [(each["n"], each["top1"]) for each in truths] == [(24, 100.0), (12, 50.0)]
    assert "12 of 24 photos have a label" in truths[1]["truth"]


def test_images_without_a_label_and_labels_without_an_image_are_counted_and_named(
    rows: Path, tmp_path: Path, inception: Inception
) -> None:
    first = next(iter(read_predictions(rows)))
    (tmp_path / "one.csv").write_text(f"path,label\n{first.path},{first.classes[0]}\nelsewhere.jpg,3\n")

    ended = inception("evaluate", "--predictions", rows, "--labels", tmp_path / "one.csv")

    assert ended.code == 0
    assert "23 photos have no label" in ended.out
    assert "1 name in the label file matches no photo: elsewhere.jpg" in ended.out


@pytest.mark.parametrize(("expected", "tolerance", "code"), [(50, 0, 0), (50.04, 0.05, 0), (50.1, 0.05, 5)])
def test_an_accuracy_below_the_expected_one_gives_exit_code_5(
    expected: float, tolerance: float, code: int, kept: Path, inception: Inception
) -> None:
    ended = inception("evaluate", "--predictions", kept, "--expect-top1", expected, "--tolerance", tolerance)

    assert ended.code == code
    assert ("expected 50.1 %" in ended.err) == (code == 5)


def test_a_tolerance_without_an_expected_accuracy_is_refused(kept: Path, inception: Inception) -> None:
    ended = inception("evaluate", "--predictions", kept, "--tolerance", 0.5)

    assert (ended.code, "give --expect-top1 as well" in ended.err) == (2, True)


@pytest.mark.parametrize("name", ["classes.html", "s3://bucket/classes.csv"])
def test_metrics_per_class_are_a_csv_file_on_this_machine(name: str, kept: Path, inception: Inception) -> None:
    ended = inception("evaluate", "--predictions", kept, "--per-class", name)

    assert (ended.code, ended.err.startswith(f"error: --per-class {name}: ")) == (2, True)


def test_images_without_a_prediction_are_counted_both_ways(val_dir: Path, inception: Inception, tmp_path: Path) -> None:
    with_failure = Path(shutil.copytree(val_dir, tmp_path / "val"))
    (min(with_failure.iterdir()) / "bad.jpg").write_bytes(b"")

    ended = inception("evaluate", "--val-dir", with_failure, "-w", IMAGENET, "-j", 0, "--json")

    figures = json.loads(ended.out)
    assert ended.code == 3
    assert (figures["n"], figures["failed"], figures["top1"]) == (24, 1, 50.0)
    assert figures["top1_failed_as_wrong"] == pytest.approx(100 * 12 / 25)


def test_only_classes_is_a_setting_of_the_run(rows: Path, val_dir: Path, tmp_path: Path, inception: Inception) -> None:
    out = tmp_path / "only.csv"
    words = ("--val-dir", val_dir, "-w", IMAGENET, "-j", 0, "--only-classes", "r", "-o", out)
    assert inception("evaluate", *words).code == 0
    assert {index for row in read_predictions(out) for index in row.classes} <= {
        each.index for each in synsets() if each.in_r
    }

    again = inception("evaluate", "--predictions", out, "--only-classes", "r", "--json")
    refused = inception("evaluate", "--predictions", rows, "--only-classes", "r")

    assert again.code == 0
    assert refused.code == 2
    assert "setting of the run" in refused.err


def test_two_files_of_predictions_are_compared(kept: Path, val_dir: Path, inception: Inception, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    inception("classify", val_dir, "-w", IMAGENET, "-j", 0, "-o", other, "--preset", "timm-gluon")

    compared = json.loads(inception("evaluate", "--predictions", kept, "--against", other, "--json").out)["against"]

    assert compared["n"] == 24
    assert compared["top1"] == 50.0
    assert 0 < compared["p"] <= 1
    assert compared["gained"] - compared["lost"] == pytest.approx(
        24 * (compared["top1"] - compared["other_top1"]) / 100
    )


def test_per_class_metrics_are_written(kept: Path, tmp_path: Path, inception: Inception) -> None:
    inception("evaluate", "--predictions", kept, "--per-class", tmp_path / "classes.csv")

    table = list(csv.DictReader((tmp_path / "classes.csv").read_text().splitlines()))
    assert sum(int(each["support"]) for each in table) == 24
    assert sum(int(each["right"]) for each in table) == 12


def test_the_confusion_matrix_is_written(kept: Path, tmp_path: Path, inception: Inception) -> None:
    ended = inception("evaluate", "--predictions", kept, "--confusion", tmp_path / "c.csv")

    matrix = pd.read_csv(tmp_path / "c.csv", index_col=0)
    assert ended.code == 0
    assert (matrix.shape, list(matrix.index) == list(matrix.columns)) == ((1000, 1000), True)
    assert (matrix.to_numpy().sum(), np.diag(matrix).sum()) == (24, 12)
    again = inception("evaluate", "--predictions", kept, "--confusion", tmp_path / "c.csv")
    assert again.code == 0  # a file of its own is replaced
    (tmp_path / "c.csv").write_text("precious")
    refused = inception("evaluate", "--predictions", kept, "--confusion", tmp_path / "c.csv")
    assert (refused.code, (tmp_path / "c.csv").read_text()) == (1, "precious")
    assert "--force replaces it" in refused.err


def test_macro_averages_are_in_the_terminal_and_in_json(kept: Path, inception: Inception) -> None:
    found, shown = (inception("evaluate", "--predictions", kept, *words).out for words in (("--json",), ()))

    macro = json.loads(found)["macro"]
    line = f"macro averages of {macro['classes']} classes with photos: precision {macro['precision']:.2f} %, "
    assert line + f"recall {macro['recall']:.2f} %, F1 {macro['f1']:.2f} %" in shown
    assert json.loads(found)["truths"][0]["macro"] == macro
    assert 0 < macro["precision"] < 100


def test_a_copy_of_the_rows_has_the_label_and_whether_it_is_correct(
    kept: Path, tmp_path: Path, inception: Inception
) -> None:
    ended = inception("evaluate", "--predictions", kept, "--rows-with-labels", tmp_path / "l.csv", "-q")

    assert ended.code == 0
    lines = [line.rsplit(b",", 1)[0] for line in (tmp_path / "l.csv").read_bytes().splitlines()]
    table = pd.read_csv(tmp_path / "l.csv")
    assert list(table.columns[-2:]) == ["true_label", "correct"]
    assert table["correct"].sum() == 12
    assert ((table["top1_label"] == table["true_label"]) == table["correct"]).all()
    names = {synset.wnid: synset.name for synset in synsets()}
    assert [names[Path(path).parent.name] for path in table["path"]] == list(table["true_label"])
    for line, row in zip(lines, kept.read_bytes().splitlines(), strict=True):
        assert line.startswith(row + b",")  # the row itself to the byte


@pytest.mark.parametrize("option", ["--confusion", "--rows-with-labels"])
def test_files_of_an_evaluation_are_csv_in_an_existing_folder(
    kept: Path, tmp_path: Path, inception: Inception, option: str
) -> None:
    for name, code in (("c.xlsx", 2), ("nowhere/c.csv", 1), (str(kept), 2)):
        ended = inception("evaluate", "--predictions", kept, option, tmp_path / name)
        assert ended.code == code
        assert ended.err.count("\n") == 1
        assert option in ended.err


def test_top5_of_three_classes_is_noted_as_always_right(photos: Path, tmp_path: Path, inception: Inception) -> None:
    preset = replace(PRESETS["torchvision"], name="small", size=75, resize=85)
    save_weights(tmp_path / "three.safetensors", lively(num_classes=3), ("a", "b", "c"), preset, {})
    for number, photo in enumerate(sorted((photos / "a").iterdir())):
        folder = tmp_path / "val" / "abc"[number % 3]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, folder)

    ended = inception("evaluate", "--val-dir", tmp_path / "val", "-w", tmp_path / "three.safetensors", "-j", 0)

    assert ended.code == 0
    assert "100.00" in ended.out
    assert "3 classes" in ended.out


# Without the command


@pytest.fixture
def scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Predictions of ten classes for four images in folders 0 to 3: three are right, and one has no prediction."""
    monkeypatch.chdir(tmp_path)
    predicted = [0, 1, 9, None]
    predictions = [
        Prediction(f"val/{label}/x.jpg", "missing", error="no such file")
        if index is None
        else Prediction(f"val/{label}/x.jpg", "ok", (index,), (f"class {index}",), (0.5,))
        for label, index in enumerate(predicted)
    ]
    file = tmp_path / "rows.csv"
    file.write_bytes(csv_header(1) + to_csv(predictions, 1))
    return file


def test_rows_without_a_label_or_a_prediction_are_not_correct_and_not_wrong(scored: Path) -> None:
    (scored.parent / "some.csv").write_text("path,label\nval/0/x.jpg,0\nval/1/x.jpg,4\nval/3/x.jpg,3\n")
    settings = EvaluationSettings(LabelSources(labels=("some.csv",)))
    labels = evaluate(scored, new_manifest(), settings).results[0].labels

    write_labelled_rows(scored.parent / "l.csv", scored, labels)

    lines = (scored.parent / "l.csv").read_text().splitlines()
    assert [line.split(",")[-2:] for line in lines] == [
        ["true_label", "correct"],
        ["class 0", "true"],
        ["class 4", "false"],
        ["", ""],
        ["class 3", ""],
    ]


def test_several_correct_classes_are_in_one_field(scored: Path) -> None:
    classes = Classes(tuple(f"class {number}" for number in range(10)))
    labels = Labels.from_sets(classes, "a test", "number", [(0, 5), (2, 7), (), (3,)])

    write_labelled_rows(scored.parent / "l.csv", scored, labels)

    lines = (scored.parent / "l.csv").read_text().splitlines()
    assert [line.split(",")[-2:] for line in lines[1:3]] == [
        ["class 0|class 5", "true"],
        ["class 2|class 7", "false"],
    ]


def published_manifest() -> Manifest:
    """Return a manifest of weights whose accuracy is published."""
    manifest = new_manifest()
    weights = replace(manifest.run.weights[0], top1=77.294, top5=93.45)
    return replace(manifest, run=replace(manifest.run, weights=(weights,)))


def test_the_table_has_a_row_for_each_measurement_and_for_the_published_figures(scored: Path) -> None:
    (scored.parent / "two.csv").write_text("path,label\nval/0/x.jpg,0\nval/2/x.jpg,2\n")
    (scored.parent / "one.csv").write_text("path,label\nval/1/x.jpg,1\n")
    settings = EvaluationSettings(LabelSources(labels=("two.csv", "one.csv")))

    two, one, published, paper = evaluate(scored, published_manifest(), settings).table_rows()

    assert two.name.startswith("measured, n = 2 (two.csv, ")
    assert one.name.startswith("measured, n = 1 (one.csv, ")
    assert (two.params, two.macs, two.top1, one.top1, two.top5, two.top5_ci) == (3, 6, 50, 100, None, None)
    assert two.top1_ci == pytest.approx((9.45, 90.55), abs=0.01)
    assert published == TableRow("published (small)", 3, 6, 77.294, 93.45)
    assert paper == TableRow("paper: 1 × 1 crops, 48,238 images", None, None, 78.8, 94.4)


def test_without_a_manifest_only_the_measured_accuracy_is_known(scored: Path) -> None:
    evaluation = evaluate(scored, None, EvaluationSettings(LabelSources(val_dir="val")))

    (row,) = evaluation.table_rows()
    figures = evaluation.to_json()
    assert (row.name, row.params, row.macs) == ("measured, n = 3", None, None)
    assert row.top1 == pytest.approx(200 / 3)
    assert (figures["n"], figures["failed"], figures["top1_failed_as_wrong"]) == (3, 1, 50)
    assert {figures[name] for name in ("weights", "sha256", "preset", "device", "params", "published", "paper")} == {
        None
    }


def test_the_label_sources_of_the_run_are_used_where_none_are_given(scored: Path) -> None:
    manifest = replace(new_manifest(), labels=LabelSources(val_dir="val", label_format="number"))

    recorded = evaluate(scored, manifest, EvaluationSettings(LabelSources()))
    given = evaluate(scored, manifest, EvaluationSettings(LabelSources(label_format="minus-1")))

    assert recorded.metrics.top1 == pytest.approx(200 / 3)
    assert given.results[0].labels.format == "minus-1"
    assert given.metrics.top1 == 0


@pytest.fixture
def with_recorded_labels(scored: Path, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    """The manifest of predictions whose labels are in two files, seen from a folder with other files of these names."""
    (scored.parent / "l.csv").write_text("path,label\nval/0/x.jpg,0\nval/1/x.jpg,1\nval/2/x.jpg,2\n")
    (scored.parent / "e.txt").write_text("val/1/x.jpg\n")
    sources = record_sources(LabelSources(labels=("l.csv",), exclude="e.txt"))
    names = {file: Path(file).name for file in sources.sha256}  # as manifests had them before
    sources = LabelSources(
        labels=("l.csv",), exclude="e.txt", sha256={names[file]: sources.sha256[file] for file in names}
    )
    elsewhere = scored.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "l.csv").write_text("path,label\nval/0/x.jpg,9\n")
    (elsewhere / "e.txt").write_text("val/0/x.jpg\n")
    monkeypatch.chdir(elsewhere)
    return replace(new_manifest(), directory=str(scored.parent), labels=sources)


def test_recorded_labels_are_read_where_the_run_was_started(scored: Path, with_recorded_labels: Manifest) -> None:
    metrics = evaluate(scored, with_recorded_labels, EvaluationSettings(LabelSources())).metrics

    assert (metrics.n, metrics.top1) == (2, 50)


@pytest.mark.parametrize(
    ("name", "option"), [("l.csv", "--labels FILE"), ("e.txt", "`inception evaluate` --exclude FILE")]
)
@pytest.mark.parametrize("change", ["edited", "removed"])
def test_labels_that_have_changed_since_the_run_are_not_used_without_a_word(
    name: str, option: str, change: str, scored: Path, with_recorded_labels: Manifest
) -> None:
    file = scored.parent / name
    if change == "edited":
        file.write_text(file.read_text().replace("val/1", "val/0"))
    else:
        file.unlink()
    problem = "has changed since the run recorded it" if change == "edited" else "no such file"

    with pytest.raises(InceptionError, match=f"{file}: {problem}.*; restore it, or give {option}"):
        evaluate(scored, with_recorded_labels, EvaluationSettings(LabelSources()))


def test_given_labels_are_used_whatever_the_run_has_recorded(scored: Path, with_recorded_labels: Manifest) -> None:
    (scored.parent / "l.csv").write_text("path,label\nval/0/x.jpg,0\n")

    given = evaluate(scored, with_recorded_labels, EvaluationSettings(LabelSources(labels=("../l.csv",))))
    here = evaluate(scored, with_recorded_labels, EvaluationSettings(LabelSources(labels=("l.csv",))))

    assert (given.metrics.n, given.metrics.top1) == (1, 100)
    assert (here.metrics.n, here.metrics.top1) == (1, 0)


def test_a_given_exclusion_list_replaces_the_recorded_one(scored: Path, with_recorded_labels: Manifest) -> None:
    (scored.parent / "e.txt").unlink()

    metrics = evaluate(scored, with_recorded_labels, EvaluationSettings(LabelSources(exclude="e.txt"))).metrics

    assert (metrics.n, metrics.top1) == (2, 50)  # of the photos 1 and 2: without photo 0


def test_labels_are_recorded_with_absolute_paths(scored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (scored.parent / "l.csv").write_text("path,label\n")

    sources = record_sources(LabelSources("val", ("l.csv",), exclude="l.csv"))

    file = str(scored.parent / "l.csv")
    assert (sources.val_dir, sources.labels, sources.exclude) == ("val", (file,), file)
    assert [*sources.sha256] == [file]


def test_label_sources_are_recorded_with_the_hashes_of_their_files(tmp_path: Path) -> None:
    labels, exclude = tmp_path / "labels.csv", tmp_path / "exclude.txt"
    labels.write_bytes(b"path,label\n")
    exclude.write_bytes(b"")

    sources = record_sources(LabelSources("val", (str(labels),), "wnid", str(exclude)))

    assert sources == LabelSources("val", (str(labels),), "wnid", str(exclude), sources.sha256)
    assert sources.sha256 == {
        str(labels): hashlib.sha256(b"path,label\n").hexdigest(),
        str(exclude): hashlib.sha256(b"").hexdigest(),
    }
    with pytest.raises(InceptionError, match=r"none\.csv: no such file"):
        record_sources(LabelSources(labels=(str(tmp_path / "none.csv"),)))


def test_the_gate_is_not_met_below_the_expected_accuracy(scored: Path) -> None:
    evaluation = evaluate(scored, None, EvaluationSettings(LabelSources(val_dir="val")))

    evaluation.check(EvaluationSettings(LabelSources(), expect_top1=66.7, tolerance=0.1))
    with pytest.raises(GateNotMet, match=r"top-1 is 66\.667 %, expected 70\.0 %"):
        evaluation.check(EvaluationSettings(LabelSources(), expect_top1=70.0, tolerance=0.1))


def test_a_tolerance_is_not_exceeded_by_the_rounding_of_a_difference(scored: Path) -> None:
    evaluation = evaluate(scored, None, EvaluationSettings(LabelSources(val_dir="val")))
    metrics = replace(evaluation.metrics, top1=78.6)  # 78.9 - 0.3 is 78.60000000000001
    evaluation = replace(evaluation, results=(replace(evaluation.results[0], metrics=metrics),))

    evaluation.check(EvaluationSettings(LabelSources(), expect_top1=78.9, tolerance=0.3))
    with pytest.raises(GateNotMet):
        evaluation.check(EvaluationSettings(LabelSources(), expect_top1=78.90001, tolerance=0.3))


def test_per_class_metrics_replace_a_file_completely_or_not_at_all(scored: Path) -> None:
    metrics = evaluate(scored, new_manifest(), EvaluationSettings(LabelSources(val_dir="val"))).metrics
    file = scored.parent / "per-class.csv"
    write_per_class(file, metrics)
    before = file.read_bytes()

    with file_size_limit(100), pytest.raises(InceptionError, match=r"per-class\.csv: file too large"):
        write_per_class(file, metrics)

    assert len(before) > 100
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([(0, "apple"), (0, "banana")], "class 0 is apple in some rows and banana in others"),
        ([(0, "apple"), (1, "apple")], "apple is class 0 in some rows and class 1 in others"),
    ],
)
def test_joined_predictions_of_two_models_are_refused(
    rows: list[tuple[int, str]], problem: str, tmp_path: Path, inception: Inception
) -> None:
    predictions = [Prediction(f"val/{index}/x.jpg", "ok", (index,), (label,), (0.5,)) for index, label in rows]
    file = tmp_path / "joined.csv"
    file.write_bytes(csv_header(1) + to_csv(predictions, 1))

    ended = inception("evaluate", "--predictions", file, "--val-dir", "val")

    assert ended.code == 1
    assert ended.err == f"error: {file}: {problem}, so they are of several models; score each model's rows alone\n"


@pytest.mark.parametrize("change", ["lost", "added"])
def test_rows_that_are_not_all_those_of_the_run_are_refused(change: str, scored: Path) -> None:
    manifest = replace(new_manifest(), counts={"ok": 3, "missing": 1})
    settings = EvaluationSettings(LabelSources(val_dir="val"))
    assert evaluate(scored, manifest, settings).metrics.n == 3
    lines = scored.read_bytes().splitlines(keepends=True)

    scored.write_bytes(b"".join(lines[:-1] if change == "lost" else [*lines, lines[-1]]))

    rows = 3 if change == "lost" else 5
    with pytest.raises(InceptionError, match=rf"rows\.csv: has {rows} rows, but its manifest counts 4"):
        evaluate(scored, manifest, settings)


def test_classes_whose_names_are_like_those_of_unknown_ones_are_scored(tmp_path: Path) -> None:
    file = tmp_path / "preds.csv"  # the classes are class 1, class 2, class 3, and no row has the second one
    rows = [Prediction(f"val/class {n}/x.jpg", "ok", (n - 1,), (f"class {n}",), (0.5,)) for n in (1, 3)]
    file.write_bytes(csv_header(1) + to_csv(rows, 1))

    assert evaluate(file, None, EvaluationSettings(LabelSources(val_dir="val"))).metrics.top1 == 100


def test_other_only_classes_than_those_of_the_run_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "only.txt"
    file.write_text("class 3\nclass 1\n")
    manifest = new_manifest()
    restricted = replace(manifest, run=replace(manifest.run, only_classes=(1, 3)))

    require_same_only_classes(restricted, str(file))
    with pytest.raises(UsageError, match="setting of the run"):
        require_same_only_classes(manifest, str(file))


# Errors


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "give --val-dir DIR"),
        (["--val-dir", "NOWHERE"], 1, "NOWHERE"),
        (["--val-dir", "EMPTY"], 4, "no image"),
        (["--predictions", "NOWHERE.csv"], 1, "NOWHERE.csv"),
        (["--predictions", "ROWS", "--labels", "NOWHERE.txt"], 1, "NOWHERE.txt"),
        (["--predictions", "ROWS"], 1, "folder"),
        (["--predictions", "ROWS", "--label-format", "nonsense", "--val-dir", "PHOTOS"], 2, "nonsense"),
    ],
)
def test_errors_are_one_line(
    words: list[str],
    code: int,
    message: str,
    rows: Path,
    photos: Path,
    tmp_path: Path,
    stub: str,
    inception: Inception,
) -> None:
    (tmp_path / "EMPTY").mkdir()
    places = {"ROWS": str(rows), "EMPTY": str(tmp_path / "EMPTY"), "PHOTOS": str(photos)}
    arguments = [places.get(word, word) for word in words]

    ended = inception("evaluate", *arguments, *(["-w", stub] if "--predictions" not in words else []))

    assert ended.code == code, ended.err
    assert len(ended.err.strip().splitlines()) == 1
    assert message in ended.err

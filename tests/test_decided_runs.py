"""Runs with thresholds: four more columns in every format, the same on saved rows, resumed, and on every backend."""

import csv
import io
import json
import math
import pickle
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from records import run_config
from rich.console import Console
from running import Inception, code_of
from stub_network import WEIGHTS
from torch import Tensor, nn

from inception_cli import Classifier
from inception_cli.cli.console import decision_line, print_bars
from inception_cli.config import Classes, Thresholds
from inception_cli.errors import InceptionError
from inception_cli.images.dataset import Batch
from inception_cli.inference.predictor import DevicePredictor
from inception_cli.predictions.decision import Decision
from inception_cli.predictions.formats import read_predictions, to_csv
from inception_cli.predictions.prediction import DECISION_COLUMNS, Prediction
from inception_cli.predictions.retune import decide_again
from inception_cli.predictions.table import read_table
from inception_cli.storage.store import read_manifest

PARENTS = {
    **{f"class {number}": "even" if number % 2 == 0 else "odd" for number in range(9)},  # class 9 is outside
    "even": "number",
    "odd": "number",
}
CLASSES = Classes(tuple(f"class {number}" for number in range(10)), tuple(PARENTS.items()))
WITH_BOTH = ("--rollup", 0.7, "--min-score", 0.75)


@pytest.fixture(scope="module")
def classes_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The classes of the stub with their tree."""
    file = tmp_path_factory.mktemp("tree") / "classes.csv"
    names = [*CLASSES.names, "even", "odd"]
    file.write_text("name,parent\n" + "".join(f"{name},{PARENTS.get(name, '')}\n" for name in names))
    return file


@pytest.fixture(scope="module")
def words(photos: Path, stub: str, classes_file: Path) -> tuple[object, ...]:
    """A command that classifies the photos and a missing one."""
    return ("classify", photos, "nowhere.jpg", "-w", stub, "--classes", classes_file, "-k", 3, "-b", 7, "-j", 0)


@pytest.fixture(scope="module")
def decided(words: tuple[object, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a run with both thresholds."""
    out = tmp_path_factory.mktemp("decided") / "preds.csv"
    assert code_of(*words, *WITH_BOTH, "-o", out) == 3  # one photo is missing
    return out


def columns(file: Path, decision: bool) -> bytes:
    """Return the columns of the decision of a CSV file, or all others."""
    rows = list(csv.reader(io.StringIO(file.read_text())))
    kept = [[place for place, name in enumerate(rows[0]) if (name in DECISION_COLUMNS) == decision]][0]
    return "\n".join(",".join(row[place] for place in kept) for row in rows).encode()


def test_four_columns_follow_the_classes_and_the_rest_stays(
    decided: Path, words: tuple[object, ...], inception: Inception, tmp_path: Path
) -> None:
    inception(*words, "-o", tmp_path / "plain.csv")

    header = decided.read_text().partition("\n")[0].split(",")
    assert header[-6:] == ["top3_score", "label", "label_score", "label_reason", "label_path", "error"]
    assert columns(decided, decision=False) == (tmp_path / "plain.csv").read_bytes().rstrip(b"\n")
    reasons = {row.decision.reason for row in read_predictions(decided) if row.decision}
    assert reasons == {"top1", "rollup", "low_score"}  # else no test here could fail
    assert decided.read_text().splitlines()[-1].startswith("nowhere.jpg,missing,,,,,,,,,,,,,,no such file")


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_every_format_holds_the_same_decisions(
    suffix: str, decided: Path, words: tuple[object, ...], inception: Inception, tmp_path: Path
) -> None:
    inception(*words, *WITH_BOTH, "-o", tmp_path / f"preds{suffix}")

    assert list(read_predictions(tmp_path / f"preds{suffix}")) == list(read_predictions(decided))
    table, expected = read_table(tmp_path / f"preds{suffix}"), read_table(decided)
    for name in DECISION_COLUMNS:
        assert table[name].dropna().tolist() == expected[name].dropna().tolist()


@pytest.fixture(scope="module")
def saved(words: tuple[object, ...], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Files of runs with other thresholds."""
    folder = tmp_path_factory.mktemp("saved")
    files = [folder / "min-score.csv", folder / "rollup.csv"]
    for file in files:
        code_of(*words, f"--{file.stem}", 0.99, "-o", file)
    return files


@pytest.mark.parametrize("given", [("--min-score", 0.6), ("--rollup", 0.51), ("--rollup", 0.9), WITH_BOTH])
def test_saved_rows_are_decided_as_a_new_run_decides_them(
    given: tuple[str, float], saved: list[Path], words: tuple[object, ...], inception: Inception, tmp_path: Path
) -> None:
    inception(*words, *given, "-o", tmp_path / "new.csv")
    options = dict(zip(given[::2], map(float, given[1::2]), strict=True))
    thresholds = Thresholds(options.get("--min-score"), options.get("--rollup"))

    for file in saved:
        again = decide_again(read_predictions(file), thresholds, CLASSES, file)

        assert to_csv(again, 3, decided=True) == (tmp_path / "new.csv").read_bytes().partition(b"\n")[2]
        assert (tmp_path / "new.csv").read_bytes() != file.read_bytes()


def test_an_interrupted_run_resumes_with_its_thresholds_only(
    decided: Path, words: tuple[object, ...], inception: Inception, tmp_path: Path
) -> None:
    interrupted_from(decided, tmp_path, rows=8)

    other = inception(*words, "--rollup", 0.7, "--min-score", 0.76, "-o", tmp_path / "preds.csv")
    without = inception(*words, "-o", tmp_path / "preds.csv")
    same = inception(*words, *WITH_BOTH, "-o", tmp_path / "preds.csv")

    assert (other.code, without.code, same.code) == (1, 1, 3)
    assert "--min-score: 0.75 → 0.76" in other.err
    assert "--rollup: 0.7 → null" in without.err
    assert (tmp_path / "preds.csv").read_bytes() == decided.read_bytes()


def interrupted_from(finished: Path, folder: Path, rows: int) -> None:
    """Make the files of a run that was interrupted after `rows` rows from those of a finished one."""
    manifest = json.loads(finished.with_name("preds.csv.json").read_text())
    manifest["file"]["bytes"], manifest["counts"], manifest["n"], manifest["images_per_s"] = None, {}, 0, None
    (folder / "preds.csv.part.json").write_text(json.dumps(manifest))
    lines = finished.read_bytes().splitlines(keepends=True)
    (folder / "preds.csv.part").write_bytes(b"".join(lines[: rows + 1]))
    paths = [row.path for row in read_predictions(finished)]
    (folder / "preds.csv.part.inputs").write_bytes(b"".join(f"{path}\0".encode() for path in paths))


def test_the_manifest_keeps_thresholds_and_tree(decided: Path) -> None:
    manifest = read_manifest(decided)

    assert manifest
    assert manifest.run.thresholds == Thresholds(0.75, 0.7)
    assert manifest.run.classes == CLASSES


@pytest.mark.parametrize("other", ["plain", "decided"])
def test_a_manifest_of_rows_with_other_columns_is_refused(
    other: str, decided: Path, words: tuple[object, ...], inception: Inception, tmp_path: Path
) -> None:
    inception(*words, "-o", tmp_path / "plain.csv")
    rows, manifest = (decided, tmp_path / "plain.csv") if other == "plain" else (tmp_path / "plain.csv", decided)
    (tmp_path / "mixed.csv").write_bytes(rows.read_bytes())
    (tmp_path / "mixed.csv.json").write_bytes(manifest.with_name(f"{manifest.name}.json").read_bytes())

    with pytest.raises(InceptionError, match=r"mixed\.csv\.json: damaged manifest: run\.thresholds are"):
        read_manifest(tmp_path / "mixed.csv")


@pytest.mark.parametrize(
    ("column", "text", "problem"),
    [
        ("label_score", "much", "label_score is 'much', not a number"),
        ("label_reason", "luck", "label_reason 'luck'"),
        ("label_path", "n1", "label_path has 'n1'"),
        ("label", "", "label ''"),
    ],
)
def test_a_damaged_decision_names_the_line(column: str, text: str, problem: str, decided: Path, tmp_path: Path) -> None:
    lines = decided.read_text().splitlines()
    fields = lines[1].split(",")
    fields[lines[0].split(",").index(column)] = text
    (tmp_path / "preds.csv").write_text("\n".join([lines[0], ",".join(fields), *lines[2:], ""]))

    with pytest.raises(InceptionError, match=rf"preds\.csv, line 2: .*{problem}"):
        list(read_predictions(tmp_path / "preds.csv"))


def test_json_has_the_columns_of_the_decision(words: tuple[object, ...], decided: Path, inception: Inception) -> None:
    printed = json.loads(inception(*words, *WITH_BOTH, "--json").out)["predictions"]
    plain = json.loads(inception(*words, "--json").out)["predictions"]

    table = read_table(decided)
    assert [row["label"] for row in printed if "label" in row] == table["label"].dropna().tolist()
    assert not any("label" in row for row in plain)


def test_a_single_photo_shows_its_label_and_the_best_class() -> None:
    def line(decision: Decision) -> str:
        return decision_line(Prediction("a.jpg", "ok", (1,), ("Siberian husky",), (0.38,), decision=decision)).plain

    assert line(Decision("dog", 0.96, "rollup")) == "dog (96 %) › Siberian husky (38 %)"
    assert line(Decision("Siberian husky", 0.38, "top1")) == "Siberian husky (38 %)"
    assert line(Decision("unknown", 0.38, "low_score")) == "unknown (low score) › Siberian husky (38 %)"


def test_the_label_stands_above_the_bars_of_a_single_photo() -> None:
    row = Prediction("a.jpg", "ok", (1,), ("husky",), (0.38,), decision=Decision("dog", 0.96, "rollup"))
    console = Console(file=io.StringIO(), width=100)

    print_bars([row, replace(row, decision=None, rounded=True)], console)

    assert isinstance(console.file, io.StringIO)
    lines = [line.strip() for line in console.file.getvalue().splitlines()]
    assert lines[0] == "dog (96 %) › husky (38 %)"
    assert [line.split()[0] for line in lines[1:]] == ["38.0%", "38.0%"]


def test_lines_of_photos_show_the_label(words: tuple[object, ...], decided: Path, inception: Inception) -> None:
    lines = inception(*words, *WITH_BOTH).out.splitlines()

    rows = [row for row in read_predictions(decided) if row.decision]
    assert len(rows) == len(lines) - 1
    for line, row in zip(lines, rows, strict=False):
        assert row.decision
        assert f"{row.decision.score:7.1%}  {row.decision.label} " in line


def test_arrays_and_decisions_of_one_run_are_those_of_two(
    words: tuple[object, ...], decided: Path, inception: Inception, tmp_path: Path
) -> None:
    def run(name: str, *options: object) -> list[np.ndarray]:
        files = [tmp_path / f"{name}-{each}" for each in ("features.npy", "scores.npy")]
        outputs = ("-o", tmp_path / f"{name}.csv", "--features", files[0], "--scores", files[1])
        assert inception(*words, *options, *outputs).code == 3
        return [np.load(file) for file in files]

    both, alone = run("both", *WITH_BOTH), run("alone")

    assert (tmp_path / "both.csv").read_bytes() == decided.read_bytes()
    for with_decisions, without in zip(both, alone, strict=True):
        np.testing.assert_array_equal(with_decisions, without)
    assert [array.shape[1] for array in both] == [2048, 10]
    assert np.isnan(both[1]).all(1).tolist() == [False] * 24 + [True]  # the missing photo


def test_the_python_api_decides_like_the_command(decided: Path, photos: Path, stub: str, classes_file: Path) -> None:
    classify = Classifier(stub, classes=str(classes_file), top_k=3, batch_size=7, rollup=0.7, min_score=0.75, exif=True)

    rows = classify(photos)

    assert rows == [replace(row) for row in list(read_predictions(decided))[:-1]]
    assert classify.to_frame(photos)["label"].tolist() == [row.decision.label for row in rows if row.decision]


def test_rollup_without_a_tree_is_refused(stub: str, photos: Path, inception: Inception, tmp_path: Path) -> None:
    ended = inception("classify", photos, "-w", stub, "--rollup", 0.8, "-o", tmp_path / "preds.csv")

    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "rollup needs a tree" in ended.err
    assert "column parent" in ended.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", [("--rollup", 0.5), ("--rollup", 1.2), ("--min-score", 1.2), ("--min-score", -1)])
def test_impossible_thresholds_are_wrong_usage(option: tuple[str, float], photos: Path, inception: Inception) -> None:
    assert inception("classify", photos, "-w", "demo", *option).code == 2


@pytest.mark.parametrize("command", [("classify",), ("evaluate", "--predictions"), ("report",)])
def test_a_score_in_percent_is_refused_with_an_example(command: tuple[str, ...], inception: Inception) -> None:
    ended = inception(*command, "preds.csv", "--min-score", 50)

    assert (ended.code, ended.err) == (2, "error: --min-score 50: give a score from 0 to 1, such as 0.5\n")


def test_only_classes_of_classify_restricts_to_nodes(
    words: tuple[object, ...], inception: Inception, tmp_path: Path
) -> None:
    inception(*words, "--only-classes", "odd,class 9", "--rollup", 0.51, "-o", tmp_path / "odd.csv")

    rows = [row for row in read_predictions(tmp_path / "odd.csv") if row.status == "ok"]
    assert {index % 2 for row in rows for index in row.classes} == {1}
    assert {row.decision.label for row in rows if row.decision} <= {"odd", "number", "unknown", *CLASSES.names[1::2]}


def test_a_file_that_wins_over_a_node_is_said(
    words: tuple[object, ...], inception: Inception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("odd").write_text("class 2\n")

    ended = inception(*words, "--only-classes", "odd", "-o", "preds.csv")

    assert "only_classes: the file odd is read" in ended.err
    assert {row.labels for row in read_predictions(Path("preds.csv")) if row.status == "ok"} == {("class 2",)}


def test_evaluate_measures_the_labels_of_its_run(
    stub: str, classes_file: Path, inception: Inception, tmp_path: Path
) -> None:
    for number in range(10):
        (tmp_path / "val" / f"class {number}").mkdir(parents=True)
        tiles = Image.frombytes("RGB", (4, 4), random.Random(number).randbytes(48))
        tiles.resize((80, 80), Image.Resampling.NEAREST).save(tmp_path / "val" / f"class {number}" / "a.png")
    words = ("-w", stub, "--classes", classes_file, "-j", 0, "--rollup", 0.95, "-o", tmp_path / "rows.csv", "--json")

    first = json.loads(inception("evaluate", "--val-dir", tmp_path / "val", *words).out)["decisions"]
    again = json.loads(inception("evaluate", "--predictions", tmp_path / "rows.csv", "--json").out)["decisions"]

    # The labels of the rows, counted here: a node is right for a class below it.
    right = [
        row.decision.label in ("number", PARENTS.get(folder), folder)
        for row in read_predictions(tmp_path / "rows.csv")
        if row.decision and row.decision.label != "unknown" and (folder := row.path.split("/")[-2])
    ]
    assert 0 < sum(right) < len(right) < 10  # else this could not fail
    assert (first["answered"]["n"], first["answered"]["right"], first["photos"]) == (len(right), sum(right), 10)
    assert first == again


# ── Sums of all classes ──────────────────────────────────────────────────────────────────────────────────────────────


class Fixed(nn.Module):
    """A network with these probabilities for each of the ten classes; for a bright image with the second ones."""

    def __init__(self, probabilities: list[float], bright: list[float] | None = None) -> None:
        super().__init__()
        self.logits = torch.tensor([probabilities, bright or probabilities]).clamp(min=1e-30).log()

    def forward(self, pixels: Tensor) -> Tensor:
        return self.logits[(pixels.float().mean((1, 2, 3)) > 127).long()]


def decided_row(networks: list[nn.Module], views: Tensor, crops: int = 1, only: tuple[int, ...] = ()) -> Prediction:
    """Return the prediction for one image, with top-1 alone: the path needs all classes."""
    plain = run_config(batch_size=4, top_k=1)
    run = replace(
        plain,
        pixels=replace(plain.pixels, crops=crops),
        only_classes=only,
        weights=(replace(WEIGHTS, classes=CLASSES),),
        thresholds=Thresholds(rollup=0.55),
    )
    predictor = DevicePredictor(run).load()
    predictor._networks = networks
    (row,) = predictor.predict_batch(["a.jpg"], Batch(0, views[None], ())).predictions
    return row


def path_of(row: Prediction) -> dict[str, float]:
    assert row.decision
    return dict(row.decision.path)


FIRST = [0.30, 0.05, 0.25, 0.05, 0.10, 0.05, 0.05, 0.05, 0.0, 0.10]  # even 0.70, odd 0.20, outside 0.10
SECOND = [0.10, 0.35, 0.10, 0.05, 0.10, 0.05, 0.05, 0.05, 0.05, 0.10]  # even 0.40, odd 0.50
DARK, BRIGHT = torch.zeros(75, 75, 3, dtype=torch.uint8), torch.full((75, 75, 3), 255, dtype=torch.uint8)


def test_the_path_sums_the_scores_of_all_classes(stub: str) -> None:
    row = decided_row([Fixed(FIRST)], DARK[None])

    assert path_of(row) == pytest.approx({"number": 0.9, "even": 0.7}, abs=1e-6)
    assert row.decision
    assert (row.decision.label, row.labels) == ("even", ("class 0",))


def test_scores_that_are_no_numbers_have_no_label(stub: str) -> None:
    row = decided_row([Fixed([math.nan] * 10)], DARK[None])

    assert (row.status, row.decision) == ("failed", None)


def test_an_ensemble_sums_its_mean(stub: str) -> None:
    row = decided_row([Fixed(FIRST), Fixed(SECOND)], DARK[None])

    assert path_of(row) == pytest.approx({"number": 0.9, "even": 0.55}, abs=1e-6)  # (0.70 + 0.40) / 2


def test_crops_sum_their_mean(stub: str) -> None:
    views = torch.stack([DARK, DARK, DARK, BRIGHT, BRIGHT])  # ten crops: each is mirrored as well

    row = decided_row([Fixed(FIRST, SECOND)], views, crops=10)

    assert path_of(row) == pytest.approx({"number": 0.9, "even": 0.58}, abs=1e-6)  # 0.6 · 0.70 + 0.4 · 0.40


def test_only_classes_sum_to_one(stub: str) -> None:
    row = decided_row([Fixed(FIRST)], DARK[None], only=(0, 1, 2, 9))

    # 0.30, 0.05, 0.25 and 0.10 of 0.70 are left: even 0.55 / 0.70, with odd 0.60 / 0.70.
    assert path_of(row) == pytest.approx({"number": 0.6 / 0.7, "even": 0.55 / 0.7}, abs=1e-6)
    assert row.scores[0] == pytest.approx(0.3 / 0.7, abs=1e-6)


def test_decisions_can_be_sent_between_machines(decided: Path, photos: Path) -> None:
    manifest = read_manifest(decided)
    assert manifest
    expected = list(read_predictions(decided))
    results = DevicePredictor(manifest.run).predict([row.path for row in expected], [range(len(expected))])

    sent = [pickle.loads(pickle.dumps(result)) for result in results]

    assert [row for result in sent for row in result.predictions] == expected

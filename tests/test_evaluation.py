"""`evaluate`, end to end: the published table, measured; every truth; the gate; rows that exist without torch."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from lively import lively
from running import Inception, code_of

from inception_cli import weights
from inception_cli.images.preprocess import PRESETS
from inception_cli.results.classes import synsets
from inception_cli.results.rows import read_csv

FP32 = ("--precision", "fp32", "--decode", "exact", "--no-exif", "-j", 0)


@pytest.fixture(scope="module")
def rows(photos: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of 24 pictures with five classes each, and their manifest."""
    out = tmp_path_factory.mktemp("rows") / "rows.csv"
    assert code_of("classify", photos, "-w", checkpoint, "-o", out, *FP32) == 0
    return out


@pytest.fixture
def val_dir(rows: Path, photos: Path, tmp_path: Path) -> Path:
    """The pictures in folders by wnid: of each four two in their best class's, one in their third's, one far off."""
    for number, row in enumerate(read_csv(rows)):
        answer = (row.classes[0], row.classes[0], row.classes[2], (row.classes[0] + 500) % 1000)[number % 4]
        folder = tmp_path / "val" / synsets()[answer].wnid
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(row.path, folder / f"{number:02}.jpg")
    return tmp_path / "val"


def expected_top5(rows: Path) -> float:
    """By hand: two of four are first, one is third; the fourth is wrong unless it happens to be among the five."""
    lucky = [
        (row.classes[0] + 500) % 1000 in row.classes for number, row in enumerate(read_csv(rows)) if number % 4 == 3
    ]
    return 100 * (18 + sum(lucky)) / 24


def test_the_figures_are_those_worked_out_by_hand(
    rows: Path, val_dir: Path, checkpoint: Path, inception: Inception
) -> None:
    ended = inception("evaluate", "--val-dir", val_dir, "-w", checkpoint, "-j", 0, "--json")

    figures = json.loads(ended.out)
    assert ended.code == 0
    assert (figures["n"], figures["failed"]) == (24, 0)
    assert (figures["top1"], figures["top5"]) == (50.0, pytest.approx(expected_top5(rows)))
    assert (figures["params"], figures["macs"], figures["flops"]) == (23_834_568, 5_713_216_096, 11_426_432_192)
    assert figures["precision"] == "fp32"
    low, high = figures["top1_ci"]
    assert (low, high) == (pytest.approx(31.43, abs=0.01), pytest.approx(68.57, abs=0.01))  # Wilson, 12 of 24


def test_json_has_every_field_of_the_contract(
    rows: Path, val_dir: Path, checkpoint: Path, inception: Inception
) -> None:
    figures = json.loads(inception("evaluate", "--val-dir", val_dir, "-w", checkpoint, "-j", 0, "--json").out)

    assert set(figures) >= {
        *("model", "weights", "sha256", "preset", "device", "precision", "n", "failed", "params", "macs", "flops"),
        *("top1", "top1_ci", "top5", "top5_ci", "top1_failed_as_wrong", "top5_failed_as_wrong"),
        *("published", "images_per_s"),
    }


def test_the_table_has_the_page_s_columns(val_dir: Path, checkpoint: Path, inception: Inception) -> None:
    ended = inception("evaluate", "--val-dir", val_dir, "-w", checkpoint, "-j", 0)

    for text in ("Params (M)", "Flops (G)", "Top-1 (%)", "Top-5 (%)", "measured, n = 24", "23.83", "5.75", "50.00 ±"):
        assert text in ended.out
    assert "wnids; 24 of 24 photos have an answer" in ended.out


def test_rows_that_exist_are_judged_without_torch(rows: Path, val_dir: Path, checkpoint: Path, tmp_path: Path) -> None:
    code_of("evaluate", "--val-dir", val_dir, "-w", checkpoint, "-j", 0, "-o", tmp_path / "kept.csv", "-q")
    program = (
        "import sys; from inception_cli.__main__ import main\n"
        f"sys.argv = ['inception', 'evaluate', '--predictions', {str(tmp_path / 'kept.csv')!r}, '--json']\n"
        "try: main()\n"
        "finally: print('torch' in sys.modules, file=sys.stderr)"
    )

    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    figures = json.loads(ended.stdout)
    assert ended.stderr.strip() == "False"
    assert (figures["n"], figures["top1"], figures["params"]) == (24, 50.0, 23_834_568)


def test_a_flat_folder_is_judged_by_label_files_several_at_once(
    rows: Path, photos: Path, tmp_path: Path, inception: Inception
) -> None:
    found = list(read_csv(rows))
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
    assert "12 of 24 photos have an answer" in truths[1]["truth"]


def test_what_a_truth_does_not_cover_is_counted_and_named(rows: Path, tmp_path: Path, inception: Inception) -> None:
    first = next(iter(read_csv(rows)))
    (tmp_path / "one.csv").write_text(f"path,label\n{first.path},{first.classes[0]}\nelsewhere.jpg,3\n")

    ended = inception("evaluate", "--predictions", rows, "--labels", tmp_path / "one.csv")

    assert ended.code == 0
    assert "23 photos have no answer" in ended.out
    assert "1 labels name no photo here: elsewhere.jpg" in ended.out


@pytest.mark.parametrize(("expected", "tolerance", "code"), [(50, 0, 0), (50.04, 0.05, 0), (50.1, 0.05, 5)])
def test_the_gate(
    expected: float, tolerance: float, code: int, val_dir: Path, checkpoint: Path, inception: Inception, tmp_path: Path
) -> None:
    kept = tmp_path / "kept.csv"
    inception("evaluate", "--val-dir", val_dir, "-w", checkpoint, "-j", 0, "-o", kept)

    ended = inception("evaluate", "--predictions", kept, "--expect-top1", expected, "--tolerance", tolerance)

    assert ended.code == code
    assert ("expected 50.1 %" in ended.err) == (code == 5)


def test_failures_are_counted_both_ways(val_dir: Path, checkpoint: Path, inception: Inception) -> None:
    folder = next(each for each in sorted(val_dir.iterdir()))
    (folder / "bad.jpg").write_bytes(b"")

    ended = inception("evaluate", "--val-dir", val_dir, "-w", checkpoint, "-j", 0, "--json")

    figures = json.loads(ended.out)
    assert ended.code == 3
    assert (figures["n"], figures["failed"], figures["top1"]) == (24, 1, 50.0)
    assert figures["top1_failed_as_wrong"] == pytest.approx(100 * 12 / 25)


def test_only_classes_is_a_setting_of_the_run(
    rows: Path, val_dir: Path, checkpoint: Path, tmp_path: Path, inception: Inception
) -> None:
    kept = tmp_path / "kept.csv"
    words = ("--val-dir", val_dir, "-w", checkpoint, "-j", 0, "--only-classes", "r", "-o", kept)
    assert inception("evaluate", *words).code == 0
    assert {index for row in read_csv(kept) for index in row.classes} <= {each.index for each in synsets() if each.in_r}

    again = inception("evaluate", "--predictions", kept, "--only-classes", "r", "--json")
    refused = inception("evaluate", "--predictions", rows, "--only-classes", "r")

    assert again.code == 0
    assert refused.code == 2
    assert "setting of the run" in refused.err


def test_two_files_of_rows_are_compared(
    rows: Path, val_dir: Path, checkpoint: Path, inception: Inception, tmp_path: Path
) -> None:
    words = ("evaluate", "--val-dir", val_dir, "-w", checkpoint, "-j", 0)
    inception(*words, "-o", tmp_path / "one.csv")
    inception(*words, "-o", tmp_path / "other.csv", "--preset", "timm-gluon")

    compared = json.loads(
        inception("evaluate", "--predictions", tmp_path / "one.csv", "--against", tmp_path / "other.csv", "--json").out
    )["against"]

    assert compared["n"] == 24
    assert compared["top1"] == 50.0
    assert 0 < compared["p"] <= 1
    assert compared["gained"] - compared["lost"] == pytest.approx(
        24 * (compared["top1"] - compared["other_top1"]) / 100
    )


def test_the_per_class_table(val_dir: Path, checkpoint: Path, tmp_path: Path, inception: Inception) -> None:
    inception("evaluate", "--val-dir", val_dir, "-w", checkpoint, "-j", 0, "--per-class", tmp_path / "classes.csv")

    table = list(csv.DictReader((tmp_path / "classes.csv").read_text().splitlines()))
    assert sum(int(each["support"]) for each in table) == 24
    assert sum(int(each["right"]) for each in table) == 12


def test_top5_of_three_classes_says_so(photos: Path, tmp_path: Path, inception: Inception) -> None:
    weights.save(tmp_path / "three.safetensors", lively(num_classes=3), ("a", "b", "c"), PRESETS["torchvision"], {})
    for number, photo in enumerate(sorted((photos / "a").iterdir())):
        folder = tmp_path / "val" / "abc"[number % 3]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, folder)

    ended = inception("evaluate", "--val-dir", tmp_path / "val", "-w", tmp_path / "three.safetensors", "-j", 0)

    assert ended.code == 0
    assert "100.00 ±" in ended.out
    assert "3 classes" in ended.out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 2, "--val-dir DIR with photos by class, or --predictions"),
        (["--val-dir", "NOWHERE"], 1, "NOWHERE"),
        (["--val-dir", "EMPTY"], 4, "no image"),
        (["--predictions", "NOWHERE.csv"], 1, "NOWHERE.csv"),
        (["--predictions", "ROWS", "--labels", "NOWHERE.txt"], 1, "NOWHERE.txt"),
        (["--predictions", "ROWS"], 1, "folder"),
        (["--predictions", "ROWS", "--label-form", "nonsense", "--val-dir", "PHOTOS"], 2, "nonsense"),
    ],
)
def test_what_is_wrong_is_one_line(
    words: list[str],
    code: int,
    said: str,
    rows: Path,
    photos: Path,
    tmp_path: Path,
    checkpoint: Path,
    inception: Inception,
) -> None:
    (tmp_path / "EMPTY").mkdir()
    places = {"ROWS": str(rows), "EMPTY": str(tmp_path / "EMPTY"), "PHOTOS": str(photos)}
    asked = [places.get(word, word) for word in words]

    ended = inception("evaluate", *asked, *(["-w", checkpoint] if "--predictions" not in words else []))

    assert ended.code == code, ended.err
    assert len(ended.err.strip().splitlines()) == 1
    assert said in ended.err

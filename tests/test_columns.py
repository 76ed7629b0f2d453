"""Rows as columns."""

from pathlib import Path

import pytest

from inception_cli.errors import InceptionError
from inception_cli.results.classes import imagenet
from inception_cli.results.columns import Columns
from inception_cli.results.rows import STATUSES, Prediction, csv_header, to_csv

ROWS = [
    Prediction("a,b.jpg", "ok", (2, 0), ("kiwi", "apple"), (0.75, 0.25)),
    Prediction(b"\xff.jpg".decode("utf-8", "surrogateescape"), "corrupt", error="no image"),
    Prediction("c.jpg", "ok", (0, 1), ("apple", "red, pear"), (0.5, 0.5)),
    Prediction("d.jpg", "missing", error="no such file"),
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "preds.csv"
    file.write_bytes(csv_header(2) + to_csv(ROWS, 2))
    return file


def check(columns: Columns) -> None:
    assert columns.paths == ["a,b.jpg", r"\xff.jpg", "c.jpg", "d.jpg"]
    assert [STATUSES[code] for code in columns.statuses] == ["ok", "corrupt", "ok", "missing"]
    assert columns.ok.tolist() == [True, False, True, False]
    assert columns.classes.tolist() == [[2, 0], [-1, -1], [0, 1], [-1, -1]]
    assert columns.scores.tolist() == [[0.75, 0.25], [0, 0], [0.5, 0.5], [0, 0]]
    assert columns.labels == {0: "apple", 1: "red, pear", 2: "kiwi"}
    assert columns.counts == {"ok": 2, "missing": 1, "corrupt": 1}


def test_columns_hold_rows_from_memory_and_from_a_file_alike(file: Path) -> None:
    check(Columns.of(ROWS, 2))
    check(Columns.read(file))


def test_no_rows_are_no_columns(tmp_path: Path) -> None:
    file = tmp_path / "preds.csv"
    file.write_bytes(csv_header(3))

    assert (len(Columns.read(file)), Columns.read(file).classes.shape) == (0, (0, 3))


def test_classes_are_told_by_the_labels_that_occur() -> None:
    rows = [Prediction("x", "ok", (3, 1), ("kiwi", "apple"), (0.6, 0.4))]
    tench = [Prediction("x", "ok", (0, 999), ("tench", "toilet tissue"), (0.6, 0.4))]

    assert Columns.of(rows, 2).seen_classes().names == ("class 0", "apple", "class 2", "kiwi")
    assert Columns.of(tench, 2).seen_classes() == imagenet()


@pytest.mark.parametrize(
    ("data", "line", "what"),
    [
        (b"", 1, "not the columns"),
        (b"path,label\n", 1, "not the columns"),
        (csv_header(1) + b"x,fine,,,,\n", 2, "status 'fine'"),
        (csv_header(1) + b"x,ok,,,,\n", 2, "do not go together"),
        (csv_header(1) + b"x,corrupt,1,a,0.5,\n", 2, "do not go together"),
        (csv_header(1) + b"x,ok,1,a,0.5,\nx,ok,1,a,much,\n", 3, "could not convert"),
        (csv_header(1) + b"x,ok,1,a\n", 2, "4 fields instead of 6"),
    ],
)
def test_a_damaged_file_is_named_with_the_line(tmp_path: Path, data: bytes, line: int, what: str) -> None:
    file = tmp_path / "preds.csv"
    file.write_bytes(data)

    with pytest.raises(InceptionError, match=what) as error:
        Columns.read(file)

    assert str(error.value).startswith(f"{file}, line {line}: ")


def test_rows_without_predictions_tell_no_classes() -> None:
    with pytest.raises(InceptionError, match="no row has a prediction"):
        Columns.of([ROWS[1]], 2).seen_classes()

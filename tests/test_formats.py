"""Rows as JSON Lines and Parquet: the same rows as in CSV, with types, and the same bytes each time."""

import importlib.util
import json
import math
from io import BytesIO
from pathlib import Path

import pandas
import pyarrow.parquet
import pytest
import torch
from running import Inception
from torch import Tensor

from inception_cli.errors import InceptionError
from inception_cli.predict import Networks
from inception_cli.results import formats
from inception_cli.results.columns import Columns
from inception_cli.results.formats import SUFFIXES, convert, read_rows, width
from inception_cli.results.rows import Prediction, csv_header, to_csv

ROWS = [
    Prediction("a/cat.jpg", "ok", (281, 285), ("tabby", "Egyptian cat"), (0.342251, 1.23457e-07)),
    Prediction('two\nlines, "grün".jpg', "truncated", error="the file ends early"),
    Prediction("\\xff.jpg", "ok", (7, 0), ("", "a, b"), (1.0, 0.0)),
    Prediction("gone.jpg", "missing", error="no such file"),
]


def file_of(folder: Path, suffix: str, rows: list[Prediction], k: int = 2) -> Path:
    file = folder / f"preds{suffix}"
    if suffix == ".csv":
        file.write_bytes(csv_header(k) + to_csv(rows, k))
    else:
        with file.open("wb") as stream:
            convert(rows, k, stream, suffix)
    return file


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_rows_are_the_same_in_every_format(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "ROW_GROUP", 3)  # so that there are two
    file = file_of(tmp_path, suffix, ROWS)

    assert list(read_rows(file)) == ROWS
    assert width(file) == 2
    columns = Columns.read(file)
    assert columns.paths == [row.path for row in ROWS]
    assert columns.classes.tolist() == [[281, 285], [-1, -1], [7, 0], [-1, -1]]
    assert columns.labels == {281: "tabby", 285: "Egyptian cat", 7: "", 0: "a, b"}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_rows_that_all_failed_keep_their_columns(tmp_path: Path, suffix: str) -> None:
    assert Columns.read(file_of(tmp_path, suffix, [ROWS[1]], 5)).classes.shape == (1, 5)


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_the_same_rows_have_the_same_bytes(suffix: str) -> None:
    one, other, shorter = BytesIO(), BytesIO(), BytesIO()
    for file, rows in ((one, ROWS), (other, ROWS), (shorter, ROWS[:3])):
        convert(rows, 2, file, suffix)

    assert one.getvalue() == other.getvalue() != shorter.getvalue()


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_a_score_that_is_no_number_survives(tmp_path: Path, suffix: str) -> None:
    (row,) = read_rows(file_of(tmp_path, suffix, [Prediction("x", "ok", (1,), ("a",), (math.nan,))], 1))

    assert math.isnan(row.scores[0])


def test_jsonl_is_an_object_a_line_with_null_for_what_is_not_there(tmp_path: Path) -> None:
    first, second, *_ = file_of(tmp_path, ".jsonl", ROWS).read_bytes().splitlines()

    assert first == (
        b'{"path": "a/cat.jpg", "status": "ok", "top1_index": 281, "top1_label": "tabby", "top1_score": 0.342251, '
        b'"top2_index": 285, "top2_label": "Egyptian cat", "top2_score": 1.23457e-07, "error": null}'
    )
    failed = json.loads(second)
    assert (failed["path"], failed["status"]) == ('two\nlines, "grün".jpg', "truncated")
    assert {failed[f"top{place}_{what}"] for place in (1, 2) for what in ("index", "label", "score")} == {None}


def test_parquet_has_types_and_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "ROW_GROUP", 3)
    parquet = pyarrow.parquet.ParquetFile(file_of(tmp_path, ".parquet", ROWS))

    kinds = ["string", "string", *("int32", "string", "double") * 2, "string"]
    assert [str(field.type) for field in parquet.schema_arrow] == kinds
    assert parquet.metadata.num_row_groups == 2
    table = pandas.read_parquet(tmp_path / "preds.parquet")
    assert table["top1_score"].tolist()[::2] == [0.342251, 1.0]
    assert table["error"].isna().tolist() == [True, False, True, False]
    assert table["top1_index"].isna().tolist() == [False, True, False, True]


ONE = '{"path": "x", "status": "ok", "top1_index": 1, "top1_label": "a", "top1_score": 0.5, "error": null}\n'


@pytest.mark.parametrize(
    ("data", "line", "what"),
    [
        ("", 1, "there is no row"),
        ("{\n", 1, "no JSON"),
        ("[1, 2]\n", 1, "no JSON object"),
        ('{"path": "x"}\n', 1, "these are not the columns"),
        (ONE + ONE.replace('"error"', '"why"'), 2, "other columns than in the first line"),
        (ONE + ONE.replace('"a"', "1"), 2, "no text"),
        (ONE + ONE.replace("0.5", '"high"'), 2, "could not convert"),
        (ONE + ONE.replace('top1_index": 1', 'top1_index": null'), 2, "int"),
        (ONE + ONE.replace('"ok"', '"fine"'), 2, "status 'fine' is none of"),
        (ONE + ONE[:40], 2, "no JSON"),
    ],
)
def test_damaged_jsonl_is_named_with_the_line(tmp_path: Path, data: str, line: int, what: str) -> None:
    file = tmp_path / "preds.jsonl"
    file.write_text(data)

    with pytest.raises(InceptionError, match=what) as error:
        list(read_rows(file))

    assert str(error.value).startswith(f"{file}, line {line}: ")
    assert "inception classify" in str(error.value)


@pytest.mark.parametrize("cut", [slice(0, 0), slice(0, -20), slice(20, None)])
def test_damaged_parquet_is_told_in_a_line(tmp_path: Path, cut: slice) -> None:
    file = file_of(tmp_path, ".parquet", ROWS)
    file.write_bytes(file.read_bytes()[cut])

    with pytest.raises(InceptionError, match="no Parquet file, or a damaged one") as error:
        list(read_rows(file))

    assert "\n" not in str(error.value)


# From the command


def test_every_suffix_is_written_judged_compared_and_shown(
    inception: Inception, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def best(self: Networks, pixels: Tensor) -> tuple[Tensor, Tensor]:  # answers that cost nothing
        return torch.arange(5).repeat(len(pixels), 1), torch.full((len(pixels), 5), 0.2)

    monkeypatch.setattr(Networks, "_best", best)
    files = [tmp_path / f"preds{suffix}" for suffix in SUFFIXES]
    for file in files:
        words = ("-w", "demo", "-j", 0, "--precision", "fp32", "-o", file)
        assert inception("classify", photos / "a", photos / "none.jpg", "--allow-failures", *words).code == 0
    page = tmp_path / "report.html"

    first, *others = [list(read_rows(file)) for file in files]

    assert len(first) == 9
    assert others == [first, first]
    labels = tmp_path / "labels.csv"
    labels.write_text("path,label\n" + "".join(f"{row.path},{row.labels[0]}\n" for row in first if row.labels))
    for file in files[1:]:
        judged = inception("evaluate", "--predictions", file, "--labels", labels, "--against", files[0], "--json")
        assert judged.code == 0, judged.err
        assert json.loads(judged.out)["top1"] == 100
        assert json.loads(judged.out)["against"]["top1"] == 100
        assert inception("report", file, "-o", page).code == 0
        assert "none.jpg" in page.read_text()


@pytest.mark.parametrize("words", [("classify", "-o"), ("evaluate", "--val-dir", ".", "-o")])
def test_another_suffix_is_refused_before_the_run(inception: Inception, photos: Path, words: tuple[str, ...]) -> None:
    ended = inception(words[0], *([photos] if words[0] == "classify" else []), *words[1:], "preds.txt")

    assert ended.code == 2
    assert ended.err == "error: --out preds.txt: a file of rows ends in .csv, .jsonl or .parquet\n"


def test_parquet_without_its_package_is_told_before_the_run(
    inception: Inception, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(formats, "find_spec", lambda name: None if name == "pyarrow" else found(name))

    for words in (
        ("classify", photos, "-o", tmp_path / "p.parquet"),
        ("report", tmp_path / "p.parquet", "-o", tmp_path / "r.html"),
        ("evaluate", "--predictions", tmp_path / "p.parquet", "--val-dir", photos),
    ):
        ended = inception(*words)
        assert ended.code != 0
        assert "pip install 'inception-cli[parquet]'" in ended.err
    assert list(tmp_path.iterdir()) == []

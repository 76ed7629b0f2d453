"""Files of predictions as CSV, JSON Lines and Parquet: the same rows in each, and the same bytes every time."""

import csv
import importlib.util
import io
import json
import math
from io import BytesIO
from pathlib import Path

import pandas
import pyarrow.parquet
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from running import Inception
from torch import Tensor

from inception_cli.errors import InceptionError
from inception_cli.inference.predictor import DevicePredictor
from inception_cli.predictions import formats
from inception_cli.predictions.formats import (
    SUFFIXES,
    convert,
    csv_header,
    parse_csv,
    read_columns,
    read_predictions,
    shard_files,
    to_csv,
)
from inception_cli.predictions.prediction import STATUSES, Prediction, header
from inception_cli.predictions.table import class_indices, read_table
from inception_cli.predictions.text import escape_bytes

CAT = Prediction("a/cat.jpg", "ok", (281, 285), ("tabby", "Egyptian cat"), (0.5, 0.25))
CUT = Prediction("a/cut.jpg", "truncated", error="the data end after 1234 bytes")
ROWS = [
    Prediction("a/cat.jpg", "ok", (281, 285), ("tabby", "Egyptian cat"), (0.342251, 1.23457e-07)),
    Prediction('two\nlines, "grün".jpg', "truncated", error="the file ends early"),
    Prediction("\\xff.jpg", "ok", (7, 0), ("", "a, b"), (1.0, 0.0)),
    Prediction("gone.jpg", "missing", error="no such file"),
]

# What a label, an error or a name on a Unix disk may hold: any text, and bytes that are not UTF-8.
TEXT = st.text(st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from('=+-@"\n\r, \x1b[')))
NAME = st.one_of(TEXT, st.binary().map(lambda name: name.replace(b"\0", b"").decode("utf-8", "surrogateescape")))


@st.composite
def predictions(draw: st.DrawFn, k: int) -> Prediction:
    status = draw(st.sampled_from(STATUSES))
    n = k if status == "ok" else 0
    numbers = st.tuples(*[st.integers(0, 999)] * n)
    scores = st.tuples(*[st.floats(0, 1)] * n)
    return Prediction(
        draw(NAME.filter(bool)),
        status,
        draw(numbers),
        draw(st.tuples(*[TEXT] * n)),
        draw(scores),
        "" if n else draw(TEXT),
    )


def without_nul(text: str) -> str:
    return text.replace("\0", "\\x00")


def file_of(folder: Path, suffix: str, rows: list[Prediction], k: int = 2, decided: bool = False) -> Path:
    file = folder / f"preds{suffix}"
    if suffix == ".csv":
        file.write_bytes(csv_header(k, decided) + to_csv(rows, k, decided))
    else:
        with file.open("wb") as stream:
            convert(rows, k, stream, suffix, decided)
    return file


# CSV


def test_the_first_line_of_csv_holds_the_columns() -> None:
    assert csv_header(1) == b"path,status,top1_index,top1_label,top1_score,error\n"


def test_a_row_is_a_line_and_has_empty_columns_without_a_prediction() -> None:
    assert to_csv([CAT, CUT], 2) == (
        b"a/cat.jpg,ok,281,tabby,0.5,285,Egyptian cat,0.25,\na/cut.jpg,truncated,,,,,,,the data end after 1234 bytes\n"
    )


def test_scores_have_six_significant_digits() -> None:
    row = Prediction("x", "ok", (0, 1, 2), ("a", "b", "c"), (0.123456789, 1.0, 1.23456789e-7))

    assert to_csv([row], 3) == b"x,ok,0,a,0.123457,1,b,1,2,c,1.23457e-07,\n"


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("=1+1.jpg", b"=1+1.jpg"),
        ("@SUM(A1).jpg", b"@SUM(A1).jpg"),
        ("a,b.jpg", b'"a,b.jpg"'),
        ('say "x".jpg', b'"say ""x"".jpg"'),
        ("two\nlines.jpg", b'"two\nlines.jpg"'),
        ("carriage\rreturn.jpg", b'"carriage\rreturn.jpg"'),
        ("\x1b[31mred.jpg", b"\x1b[31mred.jpg"),
        ("grün.jpg", "grün.jpg".encode()),
        (" spaces ", b" spaces "),
        (b"\xff\xfe.jpg".decode("utf-8", "surrogateescape"), b"\\xff\\xfe.jpg"),
        ("nul\0.jpg", b"nul\\x00.jpg"),
        ("\ud800.jpg", b"\\ud800.jpg"),
    ],
)
def test_a_hostile_name_is_one_field(name: str, field: bytes) -> None:
    line = to_csv([Prediction(name, "missing", error="no such file")], 1)

    assert line == field + b",missing,,,,no such file\n"
    assert next(csv.reader(io.StringIO(line.decode(), newline="")))[0] == escape_bytes(name)


@settings(deadline=None)
@given(st.lists(predictions(3)))
def test_what_is_written_is_read_back(rows: list[Prediction]) -> None:
    lines = io.BytesIO(csv_header(3) + to_csv(rows, 3))

    back = list(parse_csv(lines, Path("preds.csv")))

    assert [(row.path, row.error, row.labels) for row in back] == [
        (escape_bytes(row.path), without_nul(row.error), tuple(map(without_nul, row.labels))) for row in rows
    ]
    assert [(row.status, row.classes, row.scores) for row in back] == [
        (row.status, row.classes, row.scores) for row in rows
    ]


@settings(deadline=None)
@given(st.lists(predictions(2), min_size=1))
def test_predictions_are_converted_as_if_they_had_been_csv_before(rows: list[Prediction]) -> None:
    parsed = parse_csv(io.BytesIO(csv_header(2) + to_csv(rows, 2)), Path("preds.csv"))
    direct, through_csv = BytesIO(), BytesIO()

    convert(rows, 2, direct, ".jsonl")
    convert(parsed, 2, through_csv, ".jsonl")

    assert direct.getvalue() == through_csv.getvalue()


@pytest.mark.parametrize(
    ("data", "line", "message"),
    [
        (b"", 1, "the columns are not those"),
        (b"path,label\nx,1\n", 1, "the columns are not those"),
        (b"\xef\xbb\xbf" + csv_header(1), 1, "byte order mark"),
        (csv_header(1) + b"x,ok,1,a\n", 2, "4 fields instead of 6"),
        (csv_header(1) + b"x,ok,1,a,0.5,\n\xc3,ok,1,a,0.5,\n", 3, "not UTF-8"),
        (csv_header(1) + b"x,ok,1,a,high,\n", 2, "top1_score is 'high'"),
        (csv_header(1) + b"x,ok,1.5,a,0.5,\n", 2, "top1_index is '1.5'"),
        (csv_header(1) + b"x,fine,1,a,0.5,\n", 2, "status 'fine' is none of"),
        (csv_header(1) + b'x,ok,1,"a,0.5,\n', 2, "unexpected end of data"),
        (csv_header(1) + b'x,ok,1,"a"b,0.5,\n', 2, "expected after"),
        (csv_header(1) + b'"two\nlines",ok,1,a\n', 3, "4 fields instead of 6"),
    ],
)
def test_damaged_csv_is_one_line_that_names_the_file_and_the_line(
    tmp_path: Path, data: bytes, line: int, message: str
) -> None:
    file = tmp_path / "preds.csv"
    file.write_bytes(data)

    with pytest.raises(InceptionError, match=message) as error:
        list(read_predictions(file))

    assert str(error.value).startswith(f"{file}, line {line}: ")
    assert "inception classify" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("decided", [False, True])
def test_a_header_may_have_quotes(decided: bool, tmp_path: Path) -> None:
    file = tmp_path / "preds.csv"  # as R and LibreOffice write it
    file.write_text(",".join(f'"{name}"' for name in header(2, decided)) + "\r\n")

    assert read_columns(file) == (2, decided)
    assert list(read_predictions(file)) == []


def test_a_file_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(InceptionError, match=r"none\.csv: no such file"):
        list(read_predictions(tmp_path / "none.csv"))


# All formats


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_rows_are_the_same_in_every_format(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "ROW_GROUP", 3)  # so that there are two
    file = file_of(tmp_path, suffix, ROWS)

    assert list(read_predictions(file)) == ROWS
    assert read_columns(file) == (2, False)
    table = read_table(file)
    assert table["path"].tolist() == [row.path for row in ROWS]
    assert class_indices(table).tolist() == [[281, 285], [-1, -1], [7, 0], [-1, -1]]
    assert table["top1_label"].dropna().tolist() == ["tabby", ""]
    assert table["top2_label"].dropna().tolist() == ["Egyptian cat", "a, b"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_rows_without_any_prediction_keep_their_columns(tmp_path: Path, suffix: str) -> None:
    assert class_indices(read_table(file_of(tmp_path, suffix, [ROWS[1]], 5))).shape == (1, 5)


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_the_same_rows_have_the_same_bytes(suffix: str) -> None:
    one, other, shorter = BytesIO(), BytesIO(), BytesIO()
    for file, rows in ((one, ROWS), (other, ROWS), (shorter, ROWS[:3])):
        convert(rows, 2, file, suffix)

    assert one.getvalue() == other.getvalue() != shorter.getvalue()


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("index", "score", "column"),
    [
        *((1, score, "top2_score") for score in (math.nan, math.inf, -math.inf, -0.001, 1.001)),
        *((index, 0.5, "top2_index") for index in (-5, 100_000, 2_000_000_000)),
    ],
)
def test_a_number_that_no_run_writes_is_an_error_that_names_line_and_column(
    tmp_path: Path, suffix: str, index: int, score: float, column: str
) -> None:
    row = Prediction("x", "ok", (1, index), ("a", "b"), (0.5, score))
    if suffix == ".jsonl" and math.isinf(score):
        return  # JSON has no infinity: it is not written
    file = file_of(tmp_path, suffix, [ROWS[0], row], 2)

    for read in (read_predictions, read_table):
        with pytest.raises(InceptionError, match=rf"line \d: {column} is ") as error:
            list(read(file))
        assert str(error.value).startswith(f"{file}, line ")


def test_jsonl_is_an_object_per_line_with_null_for_missing_values(tmp_path: Path) -> None:
    first, second, *_ = file_of(tmp_path, ".jsonl", ROWS).read_bytes().splitlines()

    assert first == (
        b'{"path": "a/cat.jpg", "status": "ok", "top1_index": 281, "top1_label": "tabby", "top1_score": 0.342251, '
        b'"top2_index": 285, "top2_label": "Egyptian cat", "top2_score": 1.23457e-07, "error": null}'
    )
    truncated = json.loads(second)
    assert (truncated["path"], truncated["status"]) == ('two\nlines, "grün".jpg', "truncated")
    assert {truncated[f"top{place}_{field}"] for place in (1, 2) for field in ("index", "label", "score")} == {None}


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
    ("data", "line", "message"),
    [
        ("", 1, "there is no row"),
        ("{\n", 1, "not JSON"),
        ("[1, 2]\n", 1, "not a JSON object"),
        ('{"path": "x"}\n', 1, "the columns are not those"),
        (ONE + ONE.replace('"error"', '"why"'), 2, "columns differ from those of the first line"),
        (ONE + ONE.replace('"a"', "1"), 2, "top1_label is 1, not a string"),
        (ONE + ONE.replace('"x"', "1"), 2, "path is 1, not a string"),
        (ONE + ONE.replace("null", "false"), 2, "error is False, not a string"),
        (ONE + ONE.replace("0.5", '"high"'), 2, "top1_score is 'high'"),
        (ONE + ONE.replace("0.5", "true"), 2, "top1_score is True"),
        (ONE + ONE.replace("0.5", "9" * 400), 2, "(top1_score is|not JSON)"),
        (ONE + ONE.replace("0.5", "null"), 2, "top1_score is None"),
        *(
            (ONE + ONE.replace('top1_index": 1', f'top1_index": {value}'), 2, "(top1_index is|not JSON)")
            for value in ("null", "true", "1.7", "-5", "2e9", "2000000000", "[]", "9" * 5000)
        ),
        (ONE + ONE.replace('"ok"', f'"{"x" * 5000}"'), 2, "status 'xxx.* is none of"),
        (ONE + "[" * 100_000 + "\n", 2, "not JSON"),
        (ONE + ONE.replace('"ok"', '"fine"'), 2, "status 'fine' is none of"),
        (ONE + ONE[:40], 2, "not JSON"),
    ],
)
def test_damaged_jsonl_is_one_line_that_names_the_file_and_the_line(
    tmp_path: Path, data: str, line: int, message: str
) -> None:
    file = tmp_path / "preds.jsonl"
    file.write_text(data)

    with pytest.raises(InceptionError, match=message) as error:
        list(read_predictions(file))

    assert len(str(error.value)) <= 300 + len(str(file))
    assert str(error.value).startswith(f"{file}, line {line}: ")
    assert "inception classify" in str(error.value)


@pytest.mark.parametrize("cut", [slice(0, 0), slice(0, -20), slice(20, None)])
def test_damaged_parquet_is_one_line_that_names_the_file(tmp_path: Path, cut: slice) -> None:
    file = file_of(tmp_path, ".parquet", ROWS)
    file.write_bytes(file.read_bytes()[cut])

    with pytest.raises(InceptionError, match="not a Parquet file, or damaged") as error:
        list(read_predictions(file))

    assert str(error.value).startswith(f"{file}: ")
    assert "\n" not in str(error.value)


def test_shards_are_read_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (100_000, 2, 10):
        with (tmp_path / f"part-{number:05}.parquet").open("wb") as stream:
            convert([Prediction(f"{number}.jpg", "ok", (1,), ("a",), (0.5,))], 1, stream, ".parquet")

    expected = ["2.jpg", "10.jpg", "100000.jpg"]
    assert [file.name for file in shard_files(tmp_path)] == [
        "part-00002.parquet",
        "part-00010.parquet",
        "part-100000.parquet",
    ]
    assert [row.path for row in read_predictions(tmp_path)] == expected
    assert read_table(tmp_path)["path"].tolist() == expected


def test_a_folder_without_shards_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InceptionError, match=r"has no part-\*\.parquet files; give a folder"):
        list(read_predictions(tmp_path))


# The whole command


def test_every_suffix_is_written_scored_compared_and_shown_in_a_report(
    inception: Inception, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def best_classes(self: DevicePredictor, pixels: Tensor) -> tuple[Tensor, Tensor]:  # without running the network
        return torch.arange(5).repeat(len(pixels), 1), torch.full((len(pixels), 5), 0.2)

    monkeypatch.setattr(DevicePredictor, "_best_classes", best_classes)
    files = [tmp_path / f"preds{suffix}" for suffix in SUFFIXES]
    for file in files:
        words = ("-w", "demo", "-j", 0, "--precision", "fp32", "-o", file)
        assert inception("classify", photos / "a", photos / "none.jpg", "--allow-failures", *words).code == 0
    page = tmp_path / "report.html"

    first, *others = [list(read_predictions(file)) for file in files]

    assert len(first) == 9
    assert others == [first, first]
    labels = tmp_path / "labels.csv"
    labels.write_text("path,label\n" + "".join(f"{row.path},{row.labels[0]}\n" for row in first if row.labels))
    for file in files[1:]:
        evaluated = inception("evaluate", "--predictions", file, "--labels", labels, "--against", files[0], "--json")
        assert evaluated.code == 0, evaluated.err
        assert json.loads(evaluated.out)["top1"] == 100
        assert json.loads(evaluated.out)["against"]["top1"] == 100
        assert inception("report", file, "-o", page).code == 0
        assert "none.jpg" in page.read_text()


@pytest.mark.parametrize("words", [("classify", "-o"), ("evaluate", "--val-dir", ".", "-o")])
def test_another_suffix_is_refused_before_the_run(inception: Inception, photos: Path, words: tuple[str, ...]) -> None:
    ended = inception(words[0], *([photos] if words[0] == "classify" else []), *words[1:], "preds.txt")

    assert ended.code == 2
    assert ended.err == "error: --out preds.txt: a file of predictions ends in .csv, .jsonl or .parquet\n"


def test_parquet_without_pyarrow_is_refused_before_the_run(
    inception: Inception, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(formats, "find_spec", lambda name: None if name == "pyarrow" else found(name))

    assert "pip install pyarrow" in inception("classify", photos, "-o", tmp_path / "p.parquet").err
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "p.parquet").touch()

    for words in (
        ("report", tmp_path / "p.parquet", "-o", tmp_path / "r.html"),
        ("evaluate", "--predictions", tmp_path / "p.parquet", "--val-dir", photos),
    ):
        ended = inception(*words)
        assert ended.code != 0
        assert "pip install pyarrow" in ended.err

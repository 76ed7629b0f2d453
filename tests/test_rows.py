"""The row and its CSV."""

import csv
import io
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inception_cli.errors import InceptionError
from inception_cli.results.rows import STATUSES, Prediction, csv_header, header, parse_csv, read_csv, to_csv, written

CAT = Prediction("a/cat.jpg", "ok", (281, 285), ("tabby", "Egyptian cat"), (0.5, 0.25))
CUT = Prediction("a/cut.jpg", "truncated", error="the data end after 1234 bytes")

# What a label, an error or a name on a Unix disk may hold: any text, and bytes that are no UTF-8.
TEXT = st.text(st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from('=+-@"\n\r, \x1b[')))
NAME = st.one_of(TEXT, st.binary().map(lambda name: name.replace(b"\0", b"").decode("utf-8", "surrogateescape")))


@st.composite
def predictions(draw: st.DrawFn, k: int) -> Prediction:
    status = draw(st.sampled_from(STATUSES))
    n = k if status == "ok" else 0
    numbers = st.tuples(*[st.integers(0, 999)] * n)
    scores = st.tuples(*[st.floats(0, 1).map(lambda score: float(f"{score:.6g}"))] * n)
    return Prediction(
        draw(NAME), status, draw(numbers), draw(st.tuples(*[TEXT] * n)), draw(scores), "" if n else draw(TEXT)
    )


def without_nul(text: str) -> str:
    return text.replace("\0", "\\x00")


def test_columns_are_those_of_the_contract() -> None:
    assert header(2) == [
        *("path", "status", "top1_index", "top1_label", "top1_score"),
        *("top2_index", "top2_label", "top2_score", "error"),
    ]
    assert csv_header(1) == b"path,status,top1_index,top1_label,top1_score,error\n"


def test_a_row_is_a_line_and_a_failure_has_empty_columns() -> None:
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
        ("\ud800.jpg", b"\\ud800.jpg"),
    ],
)
def test_a_hostile_name_is_one_field(name: str, field: bytes) -> None:
    line = to_csv([Prediction(name, "missing", error="no such file")], 1)

    assert line == field + b",missing,,,,no such file\n"
    assert next(csv.reader(io.StringIO(line.decode(), newline="")))[0] == written(name)


@given(st.lists(predictions(3)))
def test_what_is_written_is_read_back(rows: list[Prediction]) -> None:
    lines = io.BytesIO(csv_header(3) + to_csv(rows, 3))

    back = list(parse_csv(lines, Path("preds.csv")))

    assert [(row.path, row.error, row.labels) for row in back] == [
        (written(row.path), without_nul(row.error), tuple(map(without_nul, row.labels))) for row in rows
    ]
    assert [(row.status, row.classes, row.scores) for row in back] == [
        (row.status, row.classes, row.scores) for row in rows
    ]


def test_a_file_is_read_row_by_row(tmp_path: Path) -> None:
    file = tmp_path / "preds.csv"
    file.write_bytes(csv_header(2) + to_csv([CAT, CUT], 2))

    assert list(read_csv(file)) == [CAT, CUT]


def test_a_score_that_is_no_number_survives(tmp_path: Path) -> None:
    file = tmp_path / "preds.csv"
    file.write_bytes(csv_header(1) + to_csv([Prediction("x", "ok", (1,), ("a",), (math.nan,))], 1))

    assert math.isnan(next(read_csv(file)).scores[0])


@pytest.mark.parametrize(
    ("data", "line", "what"),
    [
        (b"", 1, "these are not the columns"),
        (b"path,label\nx,1\n", 1, "these are not the columns"),
        (b"\xef\xbb\xbf" + csv_header(1), 1, "byte order mark"),
        (csv_header(1) + b"x,ok,1,a\n", 2, "4 fields instead of 6"),
        (csv_header(1) + b"x,ok,1,a,0.5,\n\xc3,ok,1,a,0.5,\n", 3, "not UTF-8"),
        (csv_header(1) + b"x,ok,1,a,high,\n", 2, "could not convert"),
        (csv_header(1) + b"x,ok,1.5,a,0.5,\n", 2, "invalid literal"),
        (csv_header(1) + b"x,fine,1,a,0.5,\n", 2, "status 'fine' is none of"),
        (csv_header(1) + b'x,ok,1,"a,0.5,\n', 2, "unexpected end of data"),
        (csv_header(1) + b'"two\nlines",ok,1,a\n', 3, "4 fields instead of 6"),
    ],
)
def test_a_damaged_file_is_named_with_the_line(tmp_path: Path, data: bytes, line: int, what: str) -> None:
    file = tmp_path / "preds.csv"
    file.write_bytes(data)

    with pytest.raises(InceptionError, match=what) as error:
        list(read_csv(file))

    assert str(error.value).startswith(f"{file}, line {line}: ")
    assert "inception classify" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InceptionError, match=r"none\.csv: No such file"):
        list(read_csv(tmp_path / "none.csv"))


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        (("x", "fine"), "none of ok, missing"),
        (("x", "ok"), "status ok with 0 classes"),
        (("x", "corrupt", (1,), ("a",), (0.5,)), "status corrupt with 1 classes"),
        (("x", "ok", (1, 2), ("a",), (0.5,)), "differ in number"),
    ],
)
def test_a_row_that_contradicts_itself_cannot_be_made(fields: tuple[str, ...], what: str) -> None:
    with pytest.raises(ValueError, match=what):
        Prediction(*fields)  # type: ignore[arg-type]

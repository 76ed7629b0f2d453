"""Predictions as a DataFrame."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_formats import file_of

from inception_cli.errors import InceptionError
from inception_cli.predictions.classes import imagenet
from inception_cli.predictions.decision import Decision
from inception_cli.predictions.formats import SUFFIXES, csv_header, read_predictions
from inception_cli.predictions.prediction import Prediction, header
from inception_cli.predictions.table import class_indices, is_ok, read_table, seen_classes, to_frame

FILE = Path("preds.csv")
ROWS = [
    Prediction("a,b.jpg", "ok", (2, 0), ("kiwi", "apple"), (0.75, 0.25)),
    Prediction(b"\xff.jpg".decode("utf-8", "surrogateescape"), "corrupt", error="no image"),
    Prediction("c.jpg", "ok", (0, 1), ("apple", "red, pear"), (0.5, 0.1234567)),
    Prediction("d.jpg", "missing", error="no such file"),
]


def check(table: pd.DataFrame) -> None:
    """Assert that a table is that of ROWS."""
    assert table.columns.tolist() == header(2)
    assert table["path"].tolist() == ["a,b.jpg", r"\xff.jpg", "c.jpg", "d.jpg"]
    assert table["status"].tolist() == ["ok", "corrupt", "ok", "missing"]
    assert is_ok(table).tolist() == [True, False, True, False]
    assert class_indices(table).tolist() == [[2, 0], [-1, -1], [0, 1], [-1, -1]]
    assert table["top1_label"].dropna().to_dict() == {0: "kiwi", 2: "apple"}
    assert table["top2_label"].dropna().to_dict() == {0: "apple", 2: "red, pear"}
    np.testing.assert_array_equal(table["top1_score"], [0.75, np.nan, 0.5, np.nan])
    np.testing.assert_array_equal(table["top2_score"], [0.25, np.nan, 0.123457, np.nan])
    assert table["error"].dropna().to_dict() == {1: "no image", 3: "no such file"}
    assert table.index.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_table_holds_the_rows_of_a_file(tmp_path: Path, suffix: str) -> None:
    check(read_table(file_of(tmp_path, suffix, ROWS)))


def test_a_table_holds_predictions_from_memory() -> None:
    check(to_frame(ROWS, 2))
    check(to_frame(iter(ROWS), 2))


def test_a_table_holds_the_shards_of_a_folder_with_other_labels_each(tmp_path: Path) -> None:
    for number, rows in enumerate((ROWS[:1], ROWS[1:2], ROWS[2:])):
        file_of(tmp_path, ".parquet", rows).rename(tmp_path / f"part-{number:05}.parquet")

    check(read_table(tmp_path))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_columns_have_their_types(tmp_path: Path, suffix: str) -> None:
    types = read_table(file_of(tmp_path, suffix, ROWS)).dtypes

    assert [str(types[name]) for name in ("status", "top1_index", "top1_label", "top1_score")] == [
        *("category", "Int32", "category", "float64"),
    ]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_only_the_requested_columns_are_returned(tmp_path: Path, suffix: str) -> None:
    table = read_table(file_of(tmp_path, suffix, ROWS), ["path", "status", "top2_index"])

    assert table.columns.tolist() == ["path", "status", "top2_index"]
    assert table["top2_index"].dropna().to_dict() == {0: 0, 2: 1}
    assert read_table(tmp_path / f"preds{suffix}", ["path"]).columns.tolist() == ["path"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_many_rows_are_read_in_their_order(tmp_path: Path, suffix: str) -> None:
    rows = [
        Prediction(f"{number}.jpg", "ok", (number % 7,), (f"class {number % 7}",), (0.5,))
        if number % 3
        else Prediction(f"{number}.jpg", "missing", error="no such file")
        for number in range(2500)
    ]

    table = read_table(file_of(tmp_path, suffix, rows, 1))

    assert table["path"].tolist() == [row.path for row in rows]
    assert class_indices(table)[:, 0].tolist() == [row.classes[0] if row.classes else -1 for row in rows]
    assert table["top1_label"].dropna().tolist() == [row.labels[0] for row in rows if row.labels]


def test_a_file_without_rows_is_an_empty_table(tmp_path: Path) -> None:
    file = tmp_path / "preds.csv"
    file.write_bytes(csv_header(3))

    table = read_table(file)

    assert (len(table), class_indices(table).shape, table.columns.tolist()) == (0, (0, 3), header(3))
    assert len(to_frame([], 3)) == 0


def test_parquet_that_pandas_has_written_again_is_read(tmp_path: Path) -> None:
    file = file_of(tmp_path, ".parquet", ROWS)
    pd.read_parquet(file).iloc[::-1].to_parquet(file)  # its indices are float64 now

    assert class_indices(read_table(file)).tolist() == [[-1, -1], [0, 1], [-1, -1], [2, 0]]


def test_a_row_without_a_path_in_the_tree_has_an_empty_one_in_every_version_of_pandas(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decision = Decision("apple", 0.75, "top1", (("apple", 0.75),))
    rows = [replace(ROWS[0], decision=decision), ROWS[1], replace(ROWS[2], decision=replace(decision, path=()))]
    as_type = pd.Series.astype

    def pandas_2(series: pd.Series, dtype: object, *arguments: object) -> pd.Series:
        return series.astype(object).map(str) if dtype == "str" else as_type(series, dtype, *arguments)

    files = [file_of(tmp_path, suffix, rows, decided=True) for suffix in SUFFIXES]
    monkeypatch.setattr(pd.Series, "astype", pandas_2)

    paths = [read_table(file)["label_path"] for file in files]

    for column in paths:
        assert column.isna().tolist() == [False, True, False]
        assert column.dropna().tolist() == ["apple:0.75", ""]


def test_classes_are_those_of_the_labels_that_occur() -> None:
    rows = [Prediction("x", "ok", (3, 1), ("kiwi", "apple"), (0.6, 0.4))]
    tench = [Prediction("x", "ok", (0, 999), ("tench", "toilet tissue"), (0.6, 0.4))]

    unseen = [f"class {index} (in no row)" for index in (0, 2)]
    assert seen_classes(to_frame(rows, 2), FILE).names == (unseen[0], "apple", unseen[1], "kiwi")
    assert seen_classes(to_frame(tench, 2), FILE) == imagenet()


@pytest.mark.parametrize(
    ("data", "line", "message"),
    [
        (b"", 1, "the columns are not those"),
        (b"path,label\n", 1, "the columns are not those"),
        (b"\xef\xbb\xbf" + csv_header(1), 1, "byte order mark"),
        (csv_header(1) + b"x,fine,,,,\n", 2, "status 'fine'"),
        (csv_header(1) + b"x,ok,,,,\n", 2, "top1_index is ''"),
        (csv_header(1) + b"x,corrupt,1,a,0.5,\n", 2, "status corrupt with 1 classes"),
        (csv_header(1) + b"x,ok,1,a,0.5,\nx,ok,1,a,much,\n", 3, "top1_score is 'much'"),
        (csv_header(1) + b"x,ok,1.5,a,0.5,\n", 2, "top1_index is '1.5'"),
        (csv_header(1) + b"x,ok,1.0,a,0.5,\n", 2, "top1_index is '1.0'"),
        (csv_header(1) + b"x,ok,1,a\n", 2, "4 fields instead of 6"),
        (csv_header(1) + b'x,ok,1,"a,0.5,\n', 2, "unexpected end of data"),
        (csv_header(1) + b"\xc3,ok,1,a,0.5,\n", 2, "not UTF-8"),
        (csv_header(2) + b"x,ok,1,a,0.5,2,b,much,\n", 2, "top2_score is 'much'"),
    ],
)
@pytest.mark.parametrize("columns", [None, ["path", "status", "top1_index"]])
def test_damaged_csv_is_one_line_that_names_the_file_and_the_line(
    tmp_path: Path, data: bytes, line: int, message: str, columns: list[str] | None
) -> None:
    file = tmp_path / "preds.csv"
    file.write_bytes(data)

    with pytest.raises(InceptionError, match=message) as error:
        read_table(file, columns)

    assert str(error.value).startswith(f"{file}, line {line}: ")
    assert "\n" not in str(error.value)


ONE = '{"path": "x", "status": "ok", "top1_index": 1, "top1_label": "a", "top1_score": 0.5, "error": null}\n'


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (ONE.replace("1,", "null,", 1), "top1_index is None"),
        *((ONE.replace("1,", f"{value},", 1), "top1_index is") for value in ("true", "1.7", "-5", "2000000000")),
        (ONE.replace("0.5", "true"), "top1_score is True"),
        (ONE.replace('"a"', "1"), "not a string"),
        (ONE.replace('"x"', "1"), "not a string"),
        (ONE.replace('"ok"', "null"), "not a string"),
        (ONE.replace('"ok"', '"corrupt"'), "status corrupt with 1 classes"),
        (ONE.replace("0.5", '"high"'), "top1_score is 'high'"),
        ("[1]\n", "not a JSON object"),
    ],
)
def test_damaged_jsonl_is_one_line_that_names_the_file_and_the_line(tmp_path: Path, data: str, message: str) -> None:
    file = tmp_path / "preds.jsonl"
    file.write_text(ONE + data)

    with pytest.raises(InceptionError, match=message) as error:
        read_table(file)

    assert str(error.value).startswith(f"{file}, line 2: ")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"status": "fine"}, "status 'fine' is none of"),
        ({"status": None}, "not a string"),
        ({"status": "corrupt"}, "status corrupt with 1 classes"),
        ({"path": None}, "not a string"),
        ({"path": 5}, "not a string"),
        ({"top1_index": None}, "top1_index is None"),
        ({"top1_index": True}, "top1_index is True"),
        ({"top1_index": 1.7}, "top1_index is 1.7"),
        ({"top1_score": True}, "top1_score is True"),
        ({"top1_label": None}, "not a string"),
        ({"top1_label": 5}, "not a string"),
        ({"top1_score": "high"}, "top1_score is 'high'"),
    ],
)
def test_a_damaged_row_of_parquet_is_named_with_its_number(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    file = file_of(tmp_path, ".parquet", [ROWS[3], Prediction("x", "ok", (1,), ("a",), (0.5,))], 1)
    table = pd.read_parquet(file, dtype_backend="pyarrow").astype(object)
    for column, value in change.items():
        table[column] = [value if isinstance(value, int) and column == "path" else table[column][0], value]
    table.to_parquet(file)

    with pytest.raises(InceptionError, match=message) as error:
        read_table(file)

    assert str(error.value).startswith(f"{file}, line ")


def test_an_index_beyond_int32_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "preds.csv"
    file.write_bytes(csv_header(1) + b"x,ok,99999999999,a,0.5,\n")

    with pytest.raises(InceptionError, match="top1_index is '99999999999', not the number of a class"):
        read_table(file)


def test_rows_without_predictions_have_no_classes() -> None:
    with pytest.raises(InceptionError, match="no row has a prediction"):
        seen_classes(to_frame([ROWS[1]], 2), FILE)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_empty_path_is_an_error_that_names_the_line(tmp_path: Path, suffix: str) -> None:
    file = file_of(tmp_path, suffix, [ROWS[0], Prediction("", "missing", error="no such file")])

    for read in (read_table, lambda file: list(read_predictions(file))):
        with pytest.raises(InceptionError, match="path is empty"):
            read(file)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_pipe_is_refused(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"preds{suffix}"
    os.mkfifo(file)

    with pytest.raises(InceptionError, match="not a regular file"):
        read_table(file)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_line_that_is_too_long_for_a_row_is_refused_before_all_is_read(tmp_path: Path, suffix: str) -> None:
    file = file_of(tmp_path, suffix, ROWS)
    with file.open("ab") as stream:
        stream.truncate(3 << 30)

    with pytest.raises(InceptionError, match=r"line [56]: over 16 MB, too long for a row"):
        read_table(file)

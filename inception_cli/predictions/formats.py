r"""Read and write files of predictions: CSV, JSON Lines and Parquet, chosen by the suffix.

All three have the columns of `prediction.header` and hold the same rows. A run writes CSV; JSON Lines and Parquet are
converted from it. These two have types: indices are integers (int32 in Parquet), scores numbers (double), the rest
strings; a value that a row does not have is null. Text is UTF-8; other bytes of a file name are escaped as `\xNN`.
"""

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from inception_cli.errors import InceptionError, one_line, os_errors, plural
from inception_cli.files.file_kind import file_kind
from inception_cli.predictions.decision import path_text
from inception_cli.predictions.parse_row import parse_row, parse_typed_row
from inception_cli.predictions.prediction import DECISION_COLUMNS, Prediction, columns_of, csv_columns, header
from inception_cli.predictions.text import escape_bytes

if TYPE_CHECKING:
    import pyarrow
    from pyarrow.parquet import ParquetFile

SUFFIXES = (".csv", ".jsonl", ".parquet")
MAX_LINE = 16_000_000  # bytes of a row: one with 100,000 classes has fewer
ROW_GROUP = 65_536  # rows of a Parquet file that are written, and read, at once

_NEEDS_QUOTES = re.compile('[",\r\n]')
_OTHER_FILE = "give a file that `inception classify` wrote"
REMEDY = "restore the file, or create it again with `inception classify`"
_T = TypeVar("_T")


def check_suffix(file: Path) -> str:
    """Return the suffix of a file of predictions in lower case; ".parquet" for a folder of shards.

    Raises InceptionError for an unknown suffix, and for Parquet without pyarrow.
    """
    suffix = ".parquet" if file_kind(file, "give another file") == "folder" else file.suffix.lower()
    if suffix not in SUFFIXES:
        raise InceptionError(f"{file}: a file of predictions ends in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")
    if suffix == ".parquet" and not find_spec("pyarrow"):
        raise InceptionError(f"{file}: Parquet needs pyarrow: pip install pyarrow, or use .jsonl")
    return suffix


def shard_files(folder: Path) -> list[Path]:
    """Return the Parquet files in a folder of shards, in order; raise InceptionError if there are none."""
    shards = sorted(folder.glob("part-*.parquet"), key=lambda shard: (len(shard.name), shard.name))
    if not shards:
        raise InceptionError(
            f"{folder}: has no part-*.parquet files; give a folder that `inception classify --engine ray` wrote"
        )
    return shards


def read_columns(file: Path) -> tuple[int, bool]:
    """Return the number of classes per row and whether rows have a decision, from the first line or the schema.

    (0, False) if the file is damaged.
    """
    suffix = check_suffix(file)
    with open_predictions(shard_files(file)[0] if file.is_dir() else file) as stream:
        if suffix == ".parquet":
            return columns_of(open_parquet(stream, file).schema_arrow.names)
        first = next(read_rows(stream, file), b"")
        if suffix == ".csv" or not first:
            return csv_columns(first)
        return columns_of([*_parse_json(first, 1, file)])


def csv_header(k: int, decided: bool = False) -> bytes:
    """Return the first line of a CSV file with `k` classes per row."""
    return (",".join(header(k, decided)) + "\n").encode()


def to_csv(predictions: Iterable[Prediction], k: int, decided: bool = False) -> bytes:
    """Return predictions as lines of CSV in UTF-8, with `k` classes per row."""
    return escape_bytes("".join(_csv_line(prediction, k, decided) for prediction in predictions)).encode()


def convert(predictions: Iterable[Prediction], k: int, file: BinaryIO, suffix: str, decided: bool = False) -> None:
    """Write predictions with `k` classes each to `file` as JSON Lines or Parquet, in a stream."""
    rows = (row_values(prediction, k, decided) for prediction in predictions)
    if suffix == ".jsonl":
        _write_jsonl(rows, header(k, decided), file)
    else:
        _write_parquet(rows, _parquet_schema(header(k, decided)), file)


def read_predictions(file: Path) -> Iterator[Prediction]:
    """Yield the predictions in a file or a folder of shards; InceptionError names the file, the line and the remedy."""
    if file_kind(file, _OTHER_FILE) == "folder":
        for shard in shard_files(file):
            yield from read_predictions(shard)
        return
    suffix = check_suffix(file)
    with open_predictions(file) as stream:
        lines = read_rows(stream, file)
        if suffix == ".csv":
            yield from parse_csv(lines, file)
        else:
            k, _ = read_columns(file)
            rows = read_jsonl_rows(lines, file) if suffix == ".jsonl" else _read_parquet_rows(stream, file)
            yield from _predictions(rows, file, partial(parse_typed_row, k))


def parse_csv(lines: Iterable[bytes], file: Path) -> Iterator[Prediction]:
    """Yield the predictions in lines of CSV, header first; `file` is named in errors."""
    lines = iter(lines)
    first = next(lines, b"")
    k, _ = csv_columns(first)
    yield from _predictions(read_csv_rows(chain([first], lines), file), file, partial(parse_row, k))


def row_values(prediction: Prediction, k: int, decided: bool = False) -> list[Any]:
    """Return the values of a row in the order of the columns, None for those that it does not have."""
    values: list[Any] = [escape_bytes(prediction.path), prediction.status]
    for index, label, score in zip(prediction.classes, prediction.labels, prediction.scores, strict=True):
        values += [index, escape_bytes(label), score]
    values += [None] * (2 + 3 * k - len(values))
    if decided:
        values += decision_values(prediction)
    return [*values, escape_bytes(prediction.error) or None]


def decision_values(prediction: Prediction) -> list[Any]:
    """Return the values of the columns of the decision; an empty path has none."""
    decision = prediction.decision
    if (decision is None) != (prediction.status != "ok"):
        raise ValueError(f"{prediction.path}: status {prediction.status} {'with' if decision else 'without'} a label")
    if decision is None:
        return [None] * len(DECISION_COLUMNS)
    path = escape_bytes(path_text(decision.path)) or None
    return [escape_bytes(decision.label), decision.score, decision.reason, path]


def read_csv_rows(lines: Iterable[bytes], file: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of the (last) line and the fields of each row in lines of CSV, header first."""
    reader = csv.reader(_decode(lines, file), strict=True)
    try:
        columns = _check_columns(next(reader, []), file)
        for fields in reader:
            if len(fields) != len(columns):
                raise damaged(file, reader.line_num, f"{plural(len(fields), 'field')} instead of {len(columns)}")
            yield reader.line_num, fields
    except csv.Error as error:
        raise damaged(file, reader.line_num, str(error)) from error


def read_jsonl_rows(lines: Iterable[bytes], file: Path) -> Iterator[tuple[int, list[Any]]]:
    """Yield the number of the line and the values of each row in lines of JSON."""
    columns: list[str] = []
    for number, line in enumerate(lines, start=1):
        row = _parse_json(line, number, file)
        columns = columns or _check_columns(list(row), file)
        if list(row) != columns:
            raise damaged(file, number, "the columns differ from those of the first line")
        yield number, list(row.values())
    if not columns:
        raise damaged(file, 1, "there is no row")


def open_predictions(file: Path) -> BinaryIO:
    """Open a file of predictions for reading; a pipe could not be read twice, and a device might never end."""
    if file_kind(file, _OTHER_FILE) == "other":
        raise InceptionError(f"{file}: not a regular file (a pipe or a device); copy it to a file first")
    with os_errors(file, _OTHER_FILE):
        return file.open("rb")


def read_rows(stream: BinaryIO, file: Path) -> Iterator[bytes]:
    """Yield the lines of a file of predictions; InceptionError before one that is too long for a row takes memory."""
    lines = iter(partial(stream.readline, MAX_LINE + 1), b"")
    for number, line in enumerate(lines, start=1):
        if len(line) > MAX_LINE:
            raise damaged(file, number, f"over {MAX_LINE / 1e6:.0f} MB, too long for a row")
        yield line


def open_parquet(stream: BinaryIO, file: Path, dictionary_columns: Sequence[str] = ()) -> "ParquetFile":
    """Open a Parquet file of predictions and check its columns; `file` is named in errors."""
    from pyarrow.parquet import ParquetFile

    with parquet_errors(file):
        parquet = ParquetFile(stream, read_dictionary=list(dictionary_columns))
    _check_columns(parquet.schema_arrow.names, file)
    return parquet


@contextmanager
def parquet_errors(file: Path) -> Iterator[None]:
    """Turn an error of pyarrow in the block into an InceptionError that names the file and the remedy."""
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError) as error:
        raise InceptionError(f"{file}: not a Parquet file, or damaged ({one_line(error)}); {REMEDY}") from error


def damaged(file: Path, line: int, reason: str) -> InceptionError:
    """Return the error for a file of predictions that is not as it was written."""
    return InceptionError(f"{file}, line {line}: {reason}; {REMEDY}")


def batched(rows: Iterable[_T], size: int) -> Iterator[list[_T]]:
    """Yield lists of `size` rows, the last one shorter (`itertools.batched` needs Python 3.12)."""
    iterator = iter(rows)
    while batch := list(islice(iterator, size)):
        yield batch


def _csv_line(prediction: Prediction, k: int, decided: bool) -> str:
    if len(prediction.classes) not in (0, k):
        raise ValueError(f"{prediction.path}: {len(prediction.classes)} classes in a file of {k}")
    fields = [quote(prediction.path), prediction.status]
    for index, label, score in zip(prediction.classes, prediction.labels, prediction.scores, strict=True):
        fields += [str(index), quote(label), f"{score:.6g}"]
    fields += [""] * (2 + 3 * k - len(fields))
    if decided:
        label, score, reason, path = decision_values(prediction)
        fields += [quote(label or ""), "" if score is None else f"{score:.6g}", reason or "", quote(path or "")]
    return ",".join([*fields, quote(prediction.error)]) + "\n"


def quote(field: str) -> str:
    """Return a field of CSV, between quotes where it needs them."""
    # Not csv.writer: before Python 3.13 it does not quote a carriage return, which readers then take for a line end;
    # and the bytes of a file must not depend on the version of Python.
    return '"' + field.replace('"', '""') + '"' if _NEEDS_QUOTES.search(field) else field


def _predictions(
    rows: Iterable[tuple[int, list[Any]]], file: Path, parse: Callable[[list[Any]], Prediction]
) -> Iterator[Prediction]:
    for number, values in rows:
        try:
            yield parse(values)
        except (ValueError, TypeError) as error:
            raise damaged(file, number, str(error)) from error


def _check_columns(columns: list[str], file: Path) -> list[str]:
    if columns[-2:] == ["true_label", "correct"]:
        raise InceptionError(f"{file}: is a copy with labels (--rows-with-labels); give the predictions without them")
    if columns_of(columns) == (0, False):
        raise damaged(file, 1, "the columns are not those of a file of predictions")
    return columns


def _decode(lines: Iterable[bytes], file: Path) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        if number == 1 and line.startswith(b"\xef\xbb\xbf"):
            raise damaged(file, 1, "a byte order mark: a spreadsheet or an editor has saved the file")
        try:
            yield line.decode()
        except UnicodeDecodeError as error:
            raise damaged(file, number, f"byte {error.start + 1} is not UTF-8") from error


def _parse_json(line: bytes, number: int, file: Path) -> dict[str, Any]:
    from msgspec.json import decode

    try:
        row = decode(line)
    except (ValueError, RecursionError) as error:
        raise damaged(file, number, f"not JSON ({one_line(error, 100)})") from error
    if not isinstance(row, dict):
        raise damaged(file, number, "not a JSON object")
    return row


def _write_jsonl(rows: Iterable[list[Any]], columns: list[str], file: BinaryIO) -> None:
    encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
    for values in rows:
        finite = (None if value != value else value for value in values)  # JSON has no NaN
        file.write(encode(dict(zip(columns, finite, strict=True))).encode() + b"\n")


def _write_parquet(rows: Iterable[list[Any]], schema: "pyarrow.Schema", file: BinaryIO) -> None:
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    with ParquetWriter(file, schema, compression="zstd") as writer:
        for batch in batched(rows, ROW_GROUP):
            columns = zip(*batch, strict=True)
            arrays = [pyarrow.array(values, field.type) for values, field in zip(columns, schema, strict=True)]
            writer.write_table(pyarrow.Table.from_arrays(arrays, schema=schema))


def _parquet_schema(columns: Sequence[str]) -> "pyarrow.Schema":
    import pyarrow

    types = {"index": pyarrow.int32(), "score": pyarrow.float64()}
    return pyarrow.schema([(name, types.get(name.rpartition("_")[2], pyarrow.string())) for name in columns])


def _read_parquet_rows(stream: BinaryIO, file: Path) -> Iterator[tuple[int, list[Any]]]:
    """Yield the number, from 1, and the values of each row."""
    parquet, number = open_parquet(stream, file), 0
    with parquet_errors(file):
        for batch in parquet.iter_batches(ROW_GROUP):
            for values in zip(*map(_to_list, batch.schema.names, batch), strict=True):
                number += 1
                yield number, list(values)


def _to_list(name: str, column: "pyarrow.Array") -> list[Any]:
    """Return the values of a column; indices that pandas has written as floating-point numbers are whole again."""
    values: list[Any] = column.to_pylist()
    if not name.endswith("_index"):
        return values
    return [int(value) if isinstance(value, float) and value.is_integer() else value for value in values]

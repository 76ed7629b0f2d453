"""Files of rows by their suffix: CSV as a run writes it, JSON Lines and Parquet made from that on publishing.

All three have the columns of `rows.header`. JSON Lines and Parquet have types: indices are integers (int32), scores
numbers (double, with the 6 digits of CSV), the rest strings; what a row does not have is null.
"""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from inception_cli.errors import InceptionError
from inception_cli.results.rows import Prediction, damaged, header, open_rows, parse_csv

if TYPE_CHECKING:
    import pyarrow
    from pyarrow.parquet import ParquetFile

SUFFIXES = (".csv", ".jsonl", ".parquet")
ROW_GROUP = 65_536  # rows of a Parquet file that are made, and read, at once


def check_suffix(file: Path) -> str:
    """The suffix of a file of rows, in lower case; InceptionError for another one, or one whose package is missing."""
    suffix = file.suffix.lower()
    if suffix not in SUFFIXES:
        raise InceptionError(f"{file}: a file of rows ends in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")
    if suffix == ".parquet" and not find_spec("pyarrow"):
        raise InceptionError(f"{file}: Parquet needs pyarrow: pip install 'inception-cli[parquet]', or use .jsonl")
    return suffix


def convert(rows: Iterable[Prediction], k: int, file: BinaryIO, suffix: str) -> None:
    """Write rows with `k` classes each as JSON Lines or Parquet, in a stream: the same rows, the same bytes."""
    values = (_values(row, k) for row in rows)
    if suffix == ".jsonl":
        _write_jsonl(values, header(k), file)
    else:
        _write_parquet(values, k, file)


def read_rows(file: Path) -> Iterator[Prediction]:
    """The rows of a file that a run wrote, whatever its suffix; InceptionError names the file, the place, the cure."""
    suffix = check_suffix(file)
    with open_rows(file) as stream:
        if suffix == ".csv":
            yield from parse_csv(stream, file)
            return
        for number, values in _jsonl(stream, file) if suffix == ".jsonl" else _parquet(stream, file):
            try:
                yield _prediction(values)
            except (ValueError, TypeError) as error:
                raise damaged(file, number, str(error)) from error


def width(file: Path) -> int:
    """How many classes a row of the file has; 0 where that cannot be told, which `read_rows` will say better."""
    suffix = check_suffix(file)
    with open_rows(file) as stream:
        if suffix == ".parquet":
            columns = len(_open_parquet(stream, file).schema_arrow.names)
        else:
            first = stream.readline()
            columns = first.count(b",") + 1 if suffix == ".csv" else len(_object(first, 1, file))
    return max(0, columns - 3) // 3


def _values(row: Prediction, k: int) -> list[Any]:
    """A row in the order of the columns."""
    values: list[Any] = [row.path, row.status]
    for index, label, score in zip(row.classes, row.labels, row.scores, strict=True):
        values += [index, label, score]
    values += [None] * (2 + 3 * k - len(values))
    return [*values, row.error or None]


def _prediction(values: Sequence[Any]) -> Prediction:
    path, status, *best, error = values
    k = len(best) // 3 if status == "ok" else 0
    labels = tuple(best[1 : 3 * k : 3])
    if not all(isinstance(text, str) for text in (path, status, *labels, error or "")):
        raise ValueError("a path, status, label or error that is no text")
    scores = tuple(math.nan if score is None else float(score) for score in best[2 : 3 * k : 3])
    return Prediction(path, status, tuple(map(int, best[0 : 3 * k : 3])), labels, scores, error or "")


def _columns(names: Sequence[str], file: Path) -> list[str]:
    columns = list(names)
    if columns != header((len(columns) - 3) // 3):
        raise damaged(file, 1, "these are not the columns of a file of rows")
    return columns


def _write_jsonl(rows: Iterable[list[Any]], columns: list[str], file: BinaryIO) -> None:
    encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
    for values in rows:
        finite = (None if value != value else value for value in values)  # JSON has no NaN
        file.write(encode(dict(zip(columns, finite, strict=True))).encode() + b"\n")


def _jsonl(lines: Iterable[bytes], file: Path) -> Iterator[tuple[int, list[Any]]]:
    """Number and values of each line."""
    columns: list[str] = []
    number = 0
    for number, line in enumerate(lines, start=1):
        row = _object(line, number, file)
        columns = columns or _columns([*row], file)
        if [*row] != columns:
            raise damaged(file, number, "other columns than in the first line")
        yield number, [*row.values()]
    if not number:
        raise damaged(file, 1, "there is no row")


def _object(line: bytes, number: int, file: Path) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise damaged(file, number, f"no JSON ({error})") from error
    if not isinstance(row, dict):
        raise damaged(file, number, "no JSON object")
    return row


def _schema(k: int) -> "pyarrow.Schema":
    import pyarrow

    kinds = {"index": pyarrow.int32(), "score": pyarrow.float64()}
    return pyarrow.schema([(name, kinds.get(name.rpartition("_")[2], pyarrow.string())) for name in header(k)])


def _write_parquet(rows: Iterable[list[Any]], k: int, file: BinaryIO) -> None:
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    schema = _schema(k)
    with ParquetWriter(file, schema, compression="zstd") as writer:
        for some in _batched(rows, ROW_GROUP):
            columns = zip(*some, strict=True)
            arrays = [pyarrow.array(values, field.type) for values, field in zip(columns, schema, strict=True)]
            writer.write_table(pyarrow.Table.from_arrays(arrays, schema=schema))


def _parquet(stream: BinaryIO, file: Path) -> Iterator[tuple[int, list[Any]]]:
    """Number and values of each row."""
    parquet = _open_parquet(stream, file)
    _columns(parquet.schema_arrow.names, file)
    number = 0
    with _telling_damage(file):
        for batch in parquet.iter_batches(ROW_GROUP):
            for values in zip(*(column.to_pylist() for column in batch), strict=True):
                number += 1
                yield number, list(values)


def _open_parquet(stream: BinaryIO, file: Path) -> "ParquetFile":
    from pyarrow.parquet import ParquetFile

    with _telling_damage(file):
        return ParquetFile(stream)


@contextmanager
def _telling_damage(file: Path) -> Iterator[None]:
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError) as error:
        raise damaged(file, 1, f"no Parquet file, or a damaged one ({' '.join(str(error).split())})") from error


def _batched(rows: Iterable[list[Any]], n: int) -> Iterator[list[list[Any]]]:
    iterator = iter(rows)  # itertools.batched is of Python 3.12
    while some := list(islice(iterator, n)):
        yield some

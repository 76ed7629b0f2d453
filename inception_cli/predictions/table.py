"""Predictions as a pandas DataFrame, so that a million rows are scored in seconds.

The columns are those of a file of predictions. Indices are Int32, scores float64, labels and statuses categories; rows
without a prediction have missing values.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from sys import intern
from typing import Any, BinaryIO

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from inception_cli.config import MAX_CLASSES, Classes
from inception_cli.errors import InceptionError, excerpt
from inception_cli.predictions.classes import imagenet
from inception_cli.predictions.decision import MOST_SUM
from inception_cli.predictions.formats import (
    REMEDY,
    batched,
    check_suffix,
    open_parquet,
    open_predictions,
    parquet_errors,
    read_columns,
    read_csv_rows,
    read_jsonl_rows,
    read_predictions,
    read_rows,
    row_values,
    shard_files,
)
from inception_cli.predictions.parse_row import has_classes
from inception_cli.predictions.prediction import STATUSES, Prediction, header
from inception_cli.predictions.text import escape_bytes

_CHUNK = 1000  # rows that are Python objects at the same time
_STATUS = pd.CategoricalDtype(STATUSES)
_INTEGERS, _NUMBERS = msgspec.json.Decoder(list[int]), msgspec.json.Decoder(list[float])


def to_frame(predictions: Iterable[Prediction], k: int, decided: bool = False) -> pd.DataFrame:
    """Return predictions with `k` classes each as a DataFrame with the columns of a file."""
    names = header(k, decided)
    return _from_rows((row_values(prediction, k, decided) for prediction in predictions), names, names)


def read_table(file: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Return the predictions in a file or a folder of shards, with all columns or only `columns`.

    InceptionError names the file, the line and the remedy.
    """
    names = header(*read_columns(file))
    try:
        return _concat(list(_tables(file, names, columns or names)))
    except (ValueError, TypeError, OverflowError) as error:
        for _ in read_predictions(file):
            pass  # the same checks row by row: raises the error with the number of the line
        raise InceptionError(f"{file}: {error}; {REMEDY}") from error


def is_ok(table: pd.DataFrame) -> NDArray[np.bool_]:
    """Return which rows have a prediction, (N,)."""
    ok: NDArray[np.bool_] = (table["status"] == "ok").to_numpy()
    return ok


def class_indices(table: pd.DataFrame) -> NDArray[np.int32]:
    """Return the predicted classes (N, K) as model indices, best first; -1 in rows without a prediction."""
    columns = [table[name] for name in table if name.endswith("_index")]
    return np.stack([column.to_numpy(np.int32, na_value=-1) for column in columns], axis=1)


def seen_classes(table: pd.DataFrame, file: Path) -> Classes:
    """Return the model's classes as far as the rows show them: ImageNet's if all labels are, else those that occur.

    InceptionError if the rows of `file`, which has no manifest, are those of several models.
    """
    labels: dict[int, str] = {}
    indices: dict[str, int] = {}
    for column in [name for name in table if name.endswith("_index")]:
        pairs = table[[column, column.replace("index", "label")]].dropna().drop_duplicates()
        for index, label in pairs.itertuples(index=False, name=None):
            problem = ""
            if labels.setdefault(index, label) != label:
                problem = f"class {index} is {excerpt(labels[index])} in some rows and {excerpt(label)} in others"
            elif indices.setdefault(label, index) != index:
                problem = f"{excerpt(label)} is class {indices[label]} in some rows and class {index} in others"
            if problem:
                raise InceptionError(f"{file}: {problem}, so they are of several models; score each model's rows alone")
    if not labels:
        raise InceptionError("no row has a prediction: there is nothing to score (the column error gives the reasons)")
    names = imagenet().names
    if all(index < len(names) and names[index] == label for index, label in labels.items()):
        return imagenet()
    return Classes(tuple(labels.get(index, unseen_class(index)) for index in range(max(labels) + 1)))


def unseen_class(index: int) -> str:
    """Return what a class is called whose name no row gives; no other class is called so, as `class 1` may be."""
    return f"class {index} (in no row)"


def require_classes(table: pd.DataFrame, classes: Classes, file: Path) -> None:
    """Raise InceptionError unless the best class of every row has the name that it has in the manifest of `file`."""
    for index, label in table[["top1_index", "top1_label"]].dropna().drop_duplicates().itertuples(index=False):
        name = escape_bytes(classes.names[index]) if index < len(classes) else "none"
        if label != name:
            raise InceptionError(
                f"{file}: class {index} is {excerpt(label)}, but {excerpt(name)} in run.weights.0.classes of its "
                "manifest; restore both, or move the manifest away to use the predictions alone"
            )


def _tables(file: Path, names: Sequence[str], columns: Sequence[str]) -> Iterator[pd.DataFrame]:
    """Yield the table of a file with the columns `names`, or of each shard in a folder."""
    if file.is_dir():
        for shard in shard_files(file):
            yield from _tables(shard, names, columns)
        return
    suffix = check_suffix(file)
    with open_predictions(file) as stream:
        if suffix == ".parquet":
            yield _read_parquet(stream, file, columns)
        else:
            read = read_csv_rows if suffix == ".csv" else read_jsonl_rows
            rows = read(read_rows(stream, file), file)
            yield _from_rows((values for _, values in rows), names, columns)


def _from_rows(rows: Iterable[Sequence[Any]], names: Sequence[str], columns: Sequence[str]) -> pd.DataFrame:
    """Return `columns` of rows with the columns `names`; numbers may be text. ValueError or TypeError for damage."""
    chunks = [_arrays(chunk, names, columns) for chunk in batched(rows, _CHUNK)] or [_arrays([], names, columns)]
    ok = np.concatenate([chunk["status"] == "ok" for chunk in chunks])
    table = {}
    for name in columns:
        values = np.concatenate([chunk.pop(name) for chunk in chunks])  # pop: free the memory column by column
        index = np.flatnonzero(ok) if _only_of_ok(name) else None
        table[name] = pd.Series(values, index, _dtype(name)).reindex(range(len(ok)))
    return pd.DataFrame(table)


def _only_of_ok(name: str) -> bool:
    """Return whether only rows that are ok have a value in this column."""
    return name.startswith(("top", "label"))


def _arrays(rows: Sequence[Sequence[Any]], names: Sequence[str], columns: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Return `columns` and the status of rows; columns of the classes have only the rows that are ok."""
    paths, statuses, errors = ([row[position] for row in rows] for position in (0, 1, -1))
    if not set(statuses) <= set(STATUSES) or not set(map(type, paths)) <= {str} or not all(paths):
        raise ValueError("a path is empty or not a string, or a status is unknown")
    if any(has_classes(row) for row in rows if row[1] != "ok"):
        raise ValueError("a row that is not ok has classes")
    values = list(zip(*[row for row in rows if row[1] == "ok"], strict=True)) or [()] * len(names)
    arrays = {name: _array(name, column) for name, column in zip(names[2:-1], values[2:-1], strict=True)}
    arrays["path"], arrays["status"] = np.array(paths, object), np.array([*map(intern, statuses)], object)
    arrays["error"] = np.array([error or None for error in errors], object)
    return {name: arrays[name] for name in {"status", *columns}}


def _array(name: str, values: Sequence[Any]) -> NDArray[Any]:
    """Return the values of one of the columns top1_index … topK_score, or of a decision, as an array."""
    if name == "label_path":
        return np.array([value or "" for value in values], object)
    if _dtype(name) == "category":
        return np.array([*map(intern, values)], object)  # one string per class, not per row
    index = name.endswith("_index")
    if not set(map(type, values)) <= ({str, int} if index else {str, int, float}):
        raise TypeError(f"a value of {name} is no number")
    with suppress(TypeError, ValueError):  # JSON Lines has numbers, not text; NaN is not JSON
        numbers = (_INTEGERS if index else _NUMBERS).decode(f"[{','.join(values)}]")  # 5 times faster than numpy
        if len(numbers) == len(values):
            values = numbers
    array = np.array(values, np.int32 if index else np.float64)
    _check_range(name, array)
    return array


def _check_range(name: str, values: NDArray[Any]) -> None:
    """Raise ValueError for an index that no model can have, and for a score that is not from 0 to 1."""
    most = MAX_CLASSES - 1 if name.endswith("_index") else MOST_SUM if name == "label_score" else 1
    if not ((values >= 0) & (values <= most)).all():
        raise ValueError(f"a value of {name} is not from 0 to {most}")


def _dtype(name: str) -> Any:
    """Return the type of a column in a DataFrame."""
    types = {"index": "Int32", "label": "category", "score": "float64", "reason": "category", "status": _STATUS}
    return types.get(name.rpartition("_")[2], "str")


def _read_parquet(stream: BinaryIO, file: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Return columns of a Parquet file; ValueError or TypeError if a row is damaged."""
    from pyarrow.types import is_floating, is_integer

    parquet = open_parquet(stream, file, [name for name in columns if _dtype(name) == "category"])
    with parquet_errors(file):
        table = parquet.read(columns=list(dict.fromkeys(["status", *columns]))).to_pandas(ignore_metadata=True)
    if not set(table["status"].unique()) <= set(STATUSES):
        raise ValueError("a status is unknown")
    ok = table["status"] == "ok"
    for name in columns:
        number, kind = name.endswith(("_index", "_score")), parquet.schema_arrow.field(name).type
        if number and not (is_integer(kind) or is_floating(kind)):
            raise TypeError(f"a value of {name} is no number")
        if name == "label_path":  # null where there is no tree; not astype("str"), in pandas 2 None becomes "None"
            table[name] = table[name].where(table[name].notna() | ~ok, "")
        elif _only_of_ok(name) or name == "status":
            table[name] = table[name].astype(_dtype(name))
        if _only_of_ok(name) and not table[name].notna().equals(ok):
            raise ValueError(f"{name} and the status contradict each other")
        if number:
            _check_range(name, table[name].dropna().to_numpy())
        elif name != "error":
            _check_text(name, table.loc[ok, name] if _only_of_ok(name) else table[name])
    return table[list(columns)]


def _check_text(name: str, values: pd.Series) -> None:
    """Raise TypeError for a value that is not a string, and ValueError for an empty path."""
    text = values.cat.categories if _dtype(name) == "category" else values
    if text.hasnans or not pd.api.types.is_string_dtype(text):
        raise TypeError(f"a value of {name} is not a string")
    if name == "path" and (text == "").any():
        raise ValueError("a path is empty")


def _concat(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the rows of all tables, whose labels have different categories."""
    if len(tables) == 1:
        return tables[0]
    for name in [name for name in tables[0] if _dtype(name) == "category"]:
        categories = list(dict.fromkeys(chain.from_iterable(table[name].cat.categories for table in tables)))
        for table in tables:
            table[name] = table[name].cat.set_categories(categories)
    return pd.concat(tables, ignore_index=True)

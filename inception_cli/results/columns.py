"""Rows as columns, so that a million of them can be scored in seconds."""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inception_cli.errors import InceptionError
from inception_cli.results.classes import Classes, imagenet
from inception_cli.results.formats import check_suffix, read_rows, width
from inception_cli.results.rows import STATUSES, Prediction, damaged, open_rows, parse_fields, written

_CODES = {status: code for code, status in enumerate(STATUSES)}


@dataclass(frozen=True, eq=False)
class Columns:
    """N rows with K classes each, in their order."""

    paths: list[str]  # as a file of rows holds them
    statuses: NDArray[np.int8]  # (N,) places in STATUSES
    classes: NDArray[np.int32]  # (N, K) model indices, best first; -1 in rows that are not ok
    scores: NDArray[np.float32]  # (N, K); 0 in rows that are not ok
    labels: dict[int, str]  # model index → label, of the classes that occur

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def ok(self) -> NDArray[np.bool_]:
        """(N,) whether a row has classes."""
        return np.equal(self.statuses, _CODES["ok"])

    @property
    def counts(self) -> dict[str, int]:
        """Rows by status, of the statuses that occur."""
        return {status: n for code, status in enumerate(STATUSES) if (n := int((self.statuses == code).sum()))}

    @classmethod
    def of(cls, rows: Iterable[Prediction], k: int) -> "Columns":
        """Rows with `k` classes each."""
        return _gather(k, ((written(row.path), row.status, row.classes, row.labels, row.scores) for row in rows))

    @classmethod
    def read(cls, file: Path) -> "Columns":
        """The rows of a file that classify wrote; InceptionError names the file, the line and the cure."""
        if check_suffix(file) != ".csv":
            return cls.of(read_rows(file), width(file))
        with open_rows(file) as lines:
            first = lines.readline()
            lines.seek(0)
            return _gather((first.count(b",") - 2) // 3, _parsed(file, lines))

    def seen_classes(self) -> Classes:
        """The model's classes as far as rows alone tell them: ImageNet's if all labels are, else those that occur."""
        if not self.labels:
            raise InceptionError("no row has a prediction: there is nothing to judge (their column error says why)")
        names = imagenet().names
        if all(index < len(names) and names[index] == label for index, label in self.labels.items()):
            return imagenet()
        return Classes(tuple(self.labels.get(index, f"class {index}") for index in range(max(self.labels) + 1)))


Row = tuple[str, str, Sequence[int], Sequence[str], Sequence[float]]


def _parsed(file: Path, lines: Iterable[bytes]) -> Iterator[Row]:
    for line, fields in parse_fields(lines, file):
        if fields[1] not in _CODES or (fields[1] == "ok") != bool(fields[2]):
            raise damaged(file, line, f"status {fields[1]!r} and class {fields[2]!r} do not go together")
        best = fields[2:-1] if fields[1] == "ok" else []
        try:
            yield fields[0], fields[1], [*map(int, best[0::3])], best[1::3], [*map(float, best[2::3])]
        except ValueError as error:
            raise damaged(file, line, str(error)) from error


def _gather(k: int, rows: Iterable[Row]) -> Columns:
    paths: list[str] = []
    statuses, classes, scores = array("b"), array("i"), array("f")
    labels: dict[int, str] = {}
    no_classes, no_scores = [-1] * k, [0.0] * k
    for path, status, best, names, sure in rows:
        paths.append(path)
        statuses.append(_CODES[status])
        classes.extend(best or no_classes)
        scores.extend(sure or no_scores)
        labels.update(zip(best, names, strict=True))
    shape = (len(paths), k)
    return Columns(
        paths,
        np.asarray(statuses, np.int8),
        np.asarray(classes, np.int32).reshape(shape),
        np.asarray(scores, np.float32).reshape(shape),
        labels,
    )

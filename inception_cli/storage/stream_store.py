"""Predictions that are kept in no file: CSV or JSON on standard output, or lines for a terminal."""

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Self

from inception_cli.predictions.formats import csv_header, decision_values, escape_bytes, to_csv
from inception_cli.predictions.prediction import DECISION_COLUMNS, Prediction
from inception_cli.storage.input_list import InputList
from inception_cli.storage.store import Manifest


class StreamStore:
    """A run whose predictions are passed to `write_batch`, a batch at a time; nothing resumes (see RunStore)."""

    name = "-"
    manifest: Manifest | None = None
    finished = False

    def __init__(self, write_batch: Callable[[Sequence[Prediction]], None]) -> None:
        self._write_batch = write_batch
        self._inputs = InputList(b"")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        pass

    def open_inputs(self, discover: Callable[[], Iterable[str]]) -> InputList:
        """Return the discovered inputs."""
        self._inputs = InputList.of(discover())
        return self._inputs

    def begin(self, manifest: Manifest) -> Counter[tuple[str, str]]:
        """Start the run."""
        return Counter()

    def pending(self) -> list[range]:
        """Return all positions."""
        return [range(len(self._inputs))]

    def write(self, first: int, predictions: Sequence[Prediction]) -> None:
        """Pass the predictions on."""
        self._write_batch(predictions)

    def update(self, manifest: Manifest) -> None:
        """Keep nothing."""

    def publish(self, manifest: Manifest) -> None:
        """Publish nothing."""


class JsonStream(StreamStore):
    """Keeps the predictions for one JSON document, unless there are more than `limit` inputs."""

    def __init__(self, limit: int) -> None:
        super().__init__(self._keep)
        self.limit = limit
        self._predictions: list[Prediction] = []

    def to_json(self) -> dict[str, Any]:
        """Return the list `predictions`, or nothing where there are too many inputs."""
        if len(self._inputs) > self.limit:
            return {}
        return {"predictions": [*map(_as_json, self._predictions)]}

    def _keep(self, predictions: Sequence[Prediction]) -> None:
        if len(self._inputs) <= self.limit:
            self._predictions += predictions


def _as_json(row: Prediction) -> dict[str, Any]:
    """Return a prediction as JSON; where it is decided, with the columns of the decision."""
    names = ("path", "status", "classes", "labels", "scores", "error")
    fields = {name: getattr(row, name) for name in names} | {"path": escape_bytes(row.path)}
    if row.decision:
        fields |= dict(zip(DECISION_COLUMNS, decision_values(row), strict=True))
    return fields


class CsvStream(StreamStore):
    """CSV on standard output, flushed after each batch."""

    def __init__(self) -> None:
        super().__init__(self._write_rows)
        self._columns = (0, False)

    def begin(self, manifest: Manifest) -> Counter[tuple[str, str]]:
        """Write the header."""
        self._columns = manifest.run.top_k, bool(manifest.run.thresholds)
        self._put(csv_header(*self._columns))
        return Counter()

    def _write_rows(self, predictions: Sequence[Prediction]) -> None:
        self._put(to_csv(predictions, *self._columns))

    def _put(self, data: bytes) -> None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

"""Predictions on standard output: every batch at once, nothing is kept."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from records import new_manifest

from inception_cli.predictions.formats import csv_header, to_csv
from inception_cli.predictions.prediction import Prediction
from inception_cli.storage.stream_store import CsvStream, StreamStore

MANIFEST = new_manifest(top_k=1)
ROWS = [
    Prediction("a.jpg", "ok", (1,), ("a label, quoted",), (0.5,)),
    Prediction("grün \udcff.jpg", "corrupt", error="damaged"),
]


def test_batches_are_passed_on_in_order() -> None:
    batches: list[Sequence[Prediction]] = []
    with StreamStore(batches.append) as store:
        assert (store.manifest, store.finished) == (None, False)
        assert list(store.open_inputs(lambda: ["a.jpg", "b.jpg"])) == ["a.jpg", "b.jpg"]
        assert store.begin(MANIFEST) == {}
        assert store.pending() == [range(2)]
        store.write(0, ROWS[:1])
        store.write(1, ROWS[1:])
        store.update(MANIFEST)
        store.publish(MANIFEST)

    assert batches == [ROWS[:1], ROWS[1:]]


def test_csv_is_written_header_first_and_flushed_after_each_batch(
    capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with CsvStream() as store:
        store.open_inputs(lambda: ["a.jpg", "b.jpg"])
        assert capfdbinary.readouterr().out == b""  # a run that cannot begin prints nothing
        store.begin(MANIFEST)
        assert capfdbinary.readouterr().out == csv_header(1)
        for first, row in enumerate(ROWS):
            store.write(first, [row])
            assert capfdbinary.readouterr().out == to_csv([row], 1)
        store.publish(MANIFEST)

    assert capfdbinary.readouterr().out == b""
    assert [*tmp_path.iterdir()] == []

"""Predictions on standard output: every batch at once, nothing is kept."""

import sys
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
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "stdout"
    with out.open("w") as stdout, CsvStream() as store:
        monkeypatch.setattr(sys, "stdout", stdout)
        store.open_inputs(lambda: ["a.jpg", "b.jpg"])
        expected = b""  # a run that cannot begin prints nothing
        assert out.read_bytes() == expected
        store.begin(MANIFEST)
        expected += csv_header(1)
        assert out.read_bytes() == expected
        for first, row in enumerate(ROWS):
            store.write(first, [row])
            expected += to_csv([row], 1)
            assert out.read_bytes() == expected
        store.publish(MANIFEST)

    assert out.read_bytes() == expected
    assert [*tmp_path.iterdir()] == [out]

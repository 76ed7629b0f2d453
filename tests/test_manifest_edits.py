"""Manifests that were edited: each field replaced or removed is accepted with its meaning, or named in one line."""

import copy
import json
import math
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from records import new_manifest
from running import Inception

from inception_cli.config import Classes, Plan, Settings, Thresholds
from inception_cli.inference.runner import RunProgress, run_job
from inception_cli.storage.file_store import FileStore
from inception_cli.storage.label_sources import LabelSources
from inception_cli.storage.store import FileState, FolderState, Int8Check, Manifest

REMOVED = object()
DEEP: list[Any] = json.loads("[" * 50 + "]" * 50)
EDITS = {
    "null": None,
    "true": True,
    "-1": -1,
    "2e9": 2_000_000_000,
    "1e400": math.inf,  # as Python reads it
    "NaN": math.nan,
    "digits": 10**4000,
    "empty": "",
    "long": "x" * 5000,
    "[]": [],
    "{}": {},
    "deep": DEEP,
    "removed": REMOVED,
}
#: A field that can have no value, or any number.
ANY = {"null", "2e9"}
#: The edits that are accepted, because the field then has another meaning that is possible.
ACCEPTED = {
    "inputs.0": {"long", "removed"},
    "run.pixels.preset.antialias": {"true"},
    "run.weights.0.preset.antialias": {"true"},
    "run.pixels.exif": {"true"},
    "run.pixels.max_pixels": {"2e9"},
    "run.loader.timeout": {"2e9"},
    "run.plan.compile": {"true"},
    "run.weights.0.top1": {"null"},
    "run.weights.0.top5": {"null"},
    "run.weights.0.licence": {"empty"},
    "run.weights.0.notes": {"[]"},
    "run.weights.0.notes.0": {"empty", "removed"},
    "run.weights.0.classes.parents": {"[]"},
    "run.thresholds.min_score": {"null"},
    "run.thresholds.rollup": {"null"},
    "run.thresholds.familiar": {"null"},
    "run.only_classes": {"[]"},
    "run.only_classes.0": {"removed"},
    "versions.python": {"removed"},
    "versions.torch": {"removed"},
    "int8.photos": {"2e9"},
    "labels": {"null"},
    "labels.val_dir": {"null"},
    "labels.labels": {"[]"},
    "labels.labels.0": {"removed"},
    "labels.label_format": {"null"},
    "labels.exclude": {"null"},
    "labels.sha256": {"{}"},
    "labels.sha256.a.csv": {"removed"},
    "reduced_batch": {"null"},
    "unreadable_folders": {"2e9"},
    "images_per_s": ANY,
    "file": {"null"},  # refused on resuming
    "file.bytes": ANY,  # 2e9: refused on resuming
    "folder": {"null"},  # the same
    "folder.shard_size": {"2e9"},  # the same
    **{f"network.{name}": {"2e9"} for name in ("params", "macs", "flops", "mmpretrain_count")},
}


def full_manifest() -> Manifest:
    """Return a manifest in which every field has a value."""
    new = new_manifest()
    classes = Classes(new.run.classes.names, (("class 0", "even"), ("even", "number")))
    weights = replace(new.run.weights[0], top1=77.0, top5=93.0, licence="BSD", notes=("a note",), classes=classes)
    return replace(
        new,
        inputs=("photos", "-"),
        run=replace(
            new.run,
            weights=(weights,),
            only_classes=(1, 3),
            thresholds=Thresholds(0.5, 0.8, 0.9),
            arrays=("scores",),
            plan=Plan(precision="int8"),
            int8_ranges=({"Conv2d_1a_3x3": 7.5},),
        ),
        int8=Int8Check(30, 29, 0.01, "AVX-512 VNNI"),
        versions={"python": "3.12.1", "torch": "2.15.0"},
        labels=LabelSources("val", ("a.csv",), "number", "exclude.txt", {"a.csv": "0" * 64}),
        reduced_batch=2,
        stdin_sha256="0" * 64,
        unreadable_folders=1,
        unreadable_examples=("a: permission denied",),
        counts={"ok": 3},
        images_per_s=12.5,
        file=FileState(
            3,
            "1" * 64,
            "path,status,top1_index,top1_label,top1_score,label,label_score,label_reason,label_path,error\n",
            77,
            {"scores": "/home/user/s.npy"},
        ),
        folder=FolderState(3, "1" * 64, 1000),
    )


def places(value: Any, outer: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the place of each field, and of the first item of each list."""
    items = (
        value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list | tuple) else ()
    )
    for key, inner in items:
        yield (*outer, key)
        yield from places(inner, (*outer, key))


def edited(values: Any, place: tuple[str | int, ...], value: Any) -> Any:
    """Return JSON with another value in one place."""
    result: Any = copy.copy(values) if isinstance(values, dict) else list(values)
    if len(place) > 1:
        result[place[0]] = edited(result[place[0]], place[1:], value)
    elif value is REMOVED:
        del result[place[0]]
    else:
        result[place[0]] = value
    return result


def test_every_edit_of_a_field_is_accepted_with_its_meaning_or_named() -> None:
    values = json.loads(full_manifest().encode())
    accepted: dict[str, set[str]] = {}
    for place in places(values):
        field = ".".join(map(str, place))
        names = [part for part in place if isinstance(part, str)]
        for kind, value in EDITS.items():
            document = json.dumps(edited(values, place, value)).replace("Infinity", "1e400").encode()
            try:
                Manifest.decode(document)
            except ValueError as error:
                message = str(error)
                assert any(name in message for name in names[-2:]), f"{field} {kind}: {message}"
                assert len(message) <= 200, f"{field} {kind}: {message}"
                assert message.isprintable(), f"{field} {kind}"
            else:
                accepted.setdefault(field, set()).add(kind)

    assert accepted == ACCEPTED


@pytest.mark.parametrize(
    "data", [b"[" * 100_000, b'{"a":' * 100_000, b'{"format_version": 1, "inputs": ' + b"[" * 900 + b"]" * 900 + b"}"]
)
def test_deep_nesting_is_a_damaged_manifest(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"nested too deeply|inputs"):
        Manifest.decode(data)


def test_a_larger_file_is_no_manifest() -> None:
    with pytest.raises(ValueError, match="more than 32 MB"):
        Manifest.decode(b" " * 32_000_001)
    with pytest.raises(ValueError, match="more than 1,000,000 values"):
        Manifest.decode(b'{"inputs": [' + b"[]," * 600_000 + b"[]]}")


class Interrupt:
    """A progress callback that interrupts the run after the first batch."""

    def update(self, progress: RunProgress) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    def preparing(self, description: str) -> None:
        pass

    def downloading(self, name: str, done: int, total: int) -> None:
        raise AssertionError("nothing is downloaded")


class Quiet(Interrupt):
    """A progress callback that does nothing."""

    def update(self, progress: RunProgress) -> None:
        pass


@pytest.fixture
def folder(tmp_path: Path, stub: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with `preds.csv` of an interrupted run, and `done.csv` of a finished one."""
    monkeypatch.chdir(tmp_path)
    for number in range(4):
        place = Path("val", f"class {number % 2}")
        place.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (76, 76), (60 * number, 200 - 60 * number, 9)).save(place / f"{number}.png")
    settings = Settings(weights=("stub",), batch_size=2, workers=0, top_k=2, exif=False)
    for out, callback in (("preds.csv", Interrupt()), ("done.csv", Quiet())):
        run_job(["val"], settings, FileStore.open(Path(out)), callback, LabelSources("val"))
    return tmp_path


def edit(file: str, field: str, value: Any) -> None:
    values = json.loads(Path(file).read_text())
    place = tuple(int(part) if part.isdigit() else part for part in field.split("."))
    Path(file).write_text(json.dumps(edited(values, place, value)))


RESUME = ("classify", "val", "-w", "stub", "-o", "preds.csv", "-k", 2, "-j", 0, "--decode", "exact", "--no-exif")


def test_a_resumed_run_names_the_field_and_leaves_the_files_as_they_are(folder: Path, inception: Inception) -> None:
    whole = Path("preds.csv.part.json").read_text()
    for field, value, message in (
        ("file", None, "is damaged (file is null)"),
        ("file.images", 2_000_000_000, "file.images is 2000000000, but the list has 4"),
        ("file.bytes", 2_000_000_000, "file.bytes in preds.csv.part.json"),
        ("file.inputs_sha256", "2" * 64, "file.inputs_sha256 in preds.csv.part.json is of another list"),
        ("format_version", REMOVED, "format_version is missing"),
        ("run.loader.batch_size", 2_000_000_000, "batch_size must be"),
        ("run.plan.threads", 2_000_000_000, "threads must be"),
        ("directory", "/" + "x" * 300, "/xxx"),
        ("inputs.0", "x" * 5000, "they differ in input 1"),
        ("versions.torch", "x" * 4000, "they differ in versions.torch"),
    ):
        Path("preds.csv.part.json").write_text(whole)
        edit("preds.csv.part.json", field, value)
        before = {file.name: file.read_bytes() for file in folder.glob("preds*")}

        ended = inception(*RESUME)

        assert (ended.code, ended.err.count("\n"), "unexpected" in ended.err) == (1, 1, False), ended.err
        assert message in ended.err
        assert len(ended.err) <= 300
        assert {file.name: file.read_bytes() for file in folder.glob("preds*")} == before
    Path("preds.csv.part.json").write_text(whole)
    assert inception(*RESUME).code == 0


def test_report_and_evaluate_refuse_a_manifest_of_other_rows(folder: Path, inception: Inception) -> None:
    whole = Path("done.csv.json").read_text()
    predicted = int(Path("done.csv").read_text().splitlines()[1].split(",")[2])
    for field, value, message in (
        ("run.top_k", 3, "top_k is 3, but the rows have 2"),
        ("inputs", [], "inputs"),
        (f"run.weights.0.classes.names.{predicted}", "kiwi", "but kiwi in run.weights.0.classes"),
    ):
        Path("done.csv.json").write_text(whole)
        edit("done.csv.json", field, value)
        if field == "run.top_k":
            edit(
                "done.csv.json",
                "file.header",
                json.loads(whole)["file"]["header"].replace("error", "top3_index,top3_label,top3_score,error"),
            )

        for command in (("report", "done.csv", "-o", "new.html"), ("evaluate", "--predictions", "done.csv")):
            ended = inception(*command)
            assert (ended.code, ended.err.count("\n")) == (1, 1), ended.err
            assert message in ended.err
            assert len(ended.err) <= 300
    assert not Path("new.html").exists()


def test_labels_that_are_no_classes_are_found_out_before_the_run(
    folder: Path, inception: Inception, tmp_path: Path
) -> None:
    for name in ("class 0", "class 1"):
        Path("val", name).rename(Path("val", name.replace("class", "other")))
    (tmp_path / "labels.csv").write_text("path,label\n0.png,kiwi\n")

    for labels in ((), ("--labels", tmp_path / "labels.csv")):
        ended = inception("evaluate", "--val-dir", "val", "-w", "stub", "-j", 0, "-o", "rows.csv", *labels)

        assert (ended.code, ended.err.count("\n")) == (1, 1)
        assert "no class is called" in ended.err
        assert list(folder.glob("rows*")) == []

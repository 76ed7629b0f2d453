"""The record of a training in the metadata of weights, and what `info` shows of it."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from running import Inception
from safetensors.torch import save_file

from inception_cli.cli.training_lines import training_lines
from inception_cli.errors import UsageError
from inception_cli.weights import describe
from inception_cli.weights.read import METADATA_KEY, read_trained
from inception_cli.weights.registry import demo_file
from inception_cli.weights.training_record import ClassCounts, EpochResult, TrainingRecord

HISTORY = tuple(
    EpochResult(number, planned, 75, 0.04, 1.5, 40.0, 50.0, 50.0, True, 9.0, 30.0)
    for number, planned in ((1, 2), (2, 2), (3, 4))
)
RECORD = TrainingRecord(
    start="scratch",
    photos=1080,
    val_photos=12,
    val_top1=100 * 9 / 12,
    val_class_average=100 * 9 / 12,
    epochs=3,
    best_epoch=2,
    seed=7,
    batch_size=32,
    device="cpu",
    precision="bf16",
    seconds=1234.5,
    recipe='{"hyperparameters": {"momentum": 0.9}, "area": [0.25, 1.0]}',
    val_per_class=ClassCounts([4, 4, 4], [3, 3, 3], [4, 4, 4]),
    train_top1=81.25,
    train_photos_measured=32,
    machine="AMD EPYC, 2 cores",
    finished="2026-11-27T03:38:01+00:00",
    history=HISTORY,
)
CLASSES = ["apple", "banana", "carton"]


def stored(record: TrainingRecord = RECORD) -> dict[str, Any]:
    """Return the record as it is read from the metadata of a file."""
    read: dict[str, Any] = json.loads(json.dumps(asdict(record)))
    return read


def test_the_record_is_the_same_after_it_was_stored() -> None:
    assert TrainingRecord.of(stored()) == RECORD


def test_the_record_is_shown_in_lines() -> None:
    assert [*training_lines(stored(), CLASSES)] == [
        "trained from scratch on 1,080 images (2026-11-27T03:38:01+00:00): epoch 2 of 3 kept, schedule of 2 epochs, "
        "from epoch 3 on 4",
        "seed 7, batches of 32, bf16 on cpu, AMD EPYC, 2 cores, 1,234 s",
        "top-1 75.0 % on 12 validation images (95 % interval 46.8 to 91.1); it also chose the epoch, so expect a "
        "little less on other images",
        "top-1 81.2 % on 32 training images",
        "right by class: apple 3 of 4, banana 3 of 4, carton 3 of 4",
        "recipe: hyperparameters.momentum 0.9, area 0.25 to 1",
    ]


def test_a_training_that_stopped_early_is_called_that() -> None:
    first = next(training_lines(stored(replace(RECORD, stopped_early=True)), CLASSES))

    assert first.endswith("schedule of 2 epochs, from epoch 3 on 4, stopped early as none was better")


def test_the_record_of_many_classes_lists_the_first_ones() -> None:
    counts = [1] * 20
    lines = [
        *training_lines(
            stored(replace(RECORD, val_per_class=ClassCounts(counts, counts, counts))), list("abcdefghijklmnopqrst")
        )
    ]

    assert any(line.endswith("k 1 of 1, l 1 of 1, …") for line in lines)


@pytest.mark.parametrize(
    "wrong",
    [
        {"val_photos": 0},
        {"val_top1": 101},
        {"val_top1": "many"},
        {"val_per_class": {"n": [1, 2], "right": [1], "predicted": [1, 1]}},
        {"val_per_class": 7},
        {"history": [{"number": 1}]},
        {"seconds": None},
    ],
)
def test_a_record_that_makes_no_sense_is_not_shown(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        TrainingRecord.of(stored() | wrong)
    assert [*training_lines(stored() | wrong, CLASSES)] == []


def test_the_record_of_an_earlier_version_is_shown() -> None:
    fields = "start photos skipped val_photos val_top1 val_class_average epochs best_epoch seed batch_size device"

    lines = [
        *training_lines({name: stored()[name] for name in [*fields.split(), "precision", "seconds", "recipe"]}, CLASSES)
    ]

    assert lines[0] == "trained from scratch on 1,080 images: epoch 2 of 3 kept"
    assert lines[2].startswith("top-1 75.0 % on 12 validation images (95 % interval 46.8 to 91.1)")
    assert [*training_lines({}, CLASSES)] == []


def test_the_record_is_read_from_the_metadata_alone(tmp_path: Path) -> None:
    file = tmp_path / "mine.safetensors"
    save_file({"x": torch.zeros(1)}, file, {METADATA_KEY: json.dumps({"classes": CLASSES, "trained": stored()})})

    assert read_trained(file) == stored()
    assert read_trained(tmp_path / "mine.pth") == {}
    save_file({"x": torch.zeros(1)}, file)
    assert read_trained(file) == {}


def test_info_shows_the_record_of_a_file(inception: Inception, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = ClassCounts([2] * 9 + [1], [1] * 10, [2] * 9 + [1])
    hostile = replace(RECORD, val_photos=19, val_top1=52.6, val_per_class=counts, machine="A\x1b[31m processor")
    monkeypatch.setattr(describe, "read_trained", lambda file: stored(hostile) if file == demo_file() else {})

    shown, described = inception("info", "-w", "demo"), inception("info", "-w", "demo", "--json")

    assert shown.code == 0
    assert "  trained from scratch on 1,080 images (2026-11-27T03:38:01+00:00): epoch 2 of 3 kept" in shown.out
    assert "  right by class: apple 1 of 2, " in shown.out
    assert "A\\x1b[31m processor" in shown.out
    assert "\x1b" not in shown.out
    assert "trained from scratch" not in inception("info").out
    assert json.loads(described.out)["weights"][0]["trained"] == stored(hostile)

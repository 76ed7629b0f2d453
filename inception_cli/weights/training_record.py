"""How weights were trained: the record that is stored in their file, and read by `info` and the reports."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import msgspec

from inception_cli.errors import UsageError, one_line, require


@dataclass(frozen=True)
class EpochResult:
    """The loss, accuracies and speed of an epoch."""

    number: int  # from 1
    planned: int  # epochs of the schedule that the learning rate and the crops followed
    crop_size: int  # pixels
    learning_rate: float  # of its first step
    loss: float  # mean over the crops, auxiliary classifier included
    train_top1: float  # percent of some training images, prepared like validation images, by the averaged weights
    top1: float  # percent of the validation images, by the averaged weights
    class_average: float  # percent
    best: bool  # the best so far: its weights are kept
    images_per_s: float  # of training alone
    seconds: float  # with validation
    seconds_left: float = 0.0


@dataclass(frozen=True)
class ClassCounts:
    """Counts of the validation images for each class, in the order of the class names."""

    n: list[int] = field(default_factory=list)
    right: list[int] = field(default_factory=list)  # those of the n that are predicted as this class
    predicted: list[int] = field(default_factory=list)  # all images predicted as this class


def recipe_facts(recipe: str) -> list[tuple[str, str]]:
    """Return the values of a recipe (JSON) by name, such as `augmentation.area`; nothing if it is not a record."""
    try:
        return list(_facts(msgspec.json.decode(recipe, type=dict[str, Any])))
    except msgspec.DecodeError:
        return []


def _facts(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        name = prefix + key
        if isinstance(value, dict):
            yield from _facts(value, f"{name}.")
        elif isinstance(value, list):
            yield name, " to ".join(map(_shown, value))
        else:
            yield name, _shown(value)


def _shown(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class TrainingRecord:
    """How weights were trained, and their accuracy; the fields that older files lack have defaults."""

    start: str  # the weights that training started from, or "scratch"
    photos: int  # for training
    val_photos: int
    val_top1: float  # percent
    val_class_average: float  # percent
    epochs: int  # that were done
    best_epoch: int
    seed: int
    batch_size: int
    device: str
    precision: str
    seconds: float
    recipe: str  # JSON
    stopped_early: bool = False  # as too many epochs in a row brought no better one
    skipped: int = 0  # unreadable images
    val_per_class: ClassCounts = field(default_factory=ClassCounts)
    train_top1: float | None = None  # percent of `train_photos_measured` training images, by the weights that are kept
    train_photos_measured: int = 0
    machine: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    finished: str = ""  # date and time, UTC
    history: tuple[EpochResult, ...] = ()
    last_layer: str = ""  # whether it was fitted again, and the accuracies on the validation images that decided it
    last_layer_compared: bool = False  # whether the validation images chose between two last layers
    familiarity: str = ""  # why there are no statistics for `classify --familiar`

    @property
    def schedule(self) -> str:
        """The number of epochs that was planned, and where a resumed training had another one, from which epoch on."""
        changes = [(planned, next(results)) for planned, results in groupby(self.history, lambda each: each.planned)]
        if not changes:
            return ""
        (planned, _), *later = changes
        return "".join([f"{planned} epochs", *(f", from epoch {first.number} on {now}" for now, first in later)])

    def __post_init__(self) -> None:
        counts = self.val_per_class
        require(self.val_photos > 0, f"val_photos is {self.val_photos}")
        require(0 <= self.val_top1 <= 100, f"val_top1 is {self.val_top1} %")
        require(len(counts.n) == len(counts.right) == len(counts.predicted), "the counts of val_per_class differ")

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> "TrainingRecord":
        """Return the record in the metadata of a file; UsageError if the metadata is not such a record."""
        try:
            return msgspec.convert(dict(metadata), cls)
        except msgspec.ValidationError as error:
            raise UsageError(f"training: {one_line(error)}") from error

"""Check the label order: find a wrong numbering of the classes from the predictions.

A model that is right, but whose labels are numbered in another way, is wrong systematically: it predicts class 65 for
every image with label 490. Each known numbering is therefore tried on the predictions. The best one is reported if it
explains far more of them than the labels as given; McNemar's exact test, corrected for the number of numberings tried,
rules out chance.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from inception_cli.config import Classes
from inception_cli.evaluation.class_numbering import NUMBER_FORMATS, is_number_format, numbers_to_indices
from inception_cli.evaluation.compare import mcnemar
from inception_cli.evaluation.labels import Labels
from inception_cli.evaluation.metrics import Indices, Mask, SingleLabelled, single_labelled
from inception_cli.predictions.classes import is_imagenet, synsets
from inception_cli.predictions.intervals import percent

MIN_GAIN = 10.0  # points of accuracy that an order must gain to be reported
P = 0.001  # significance level for all orders together

_CAUSES = {
    "number": "the labels are the model's own indices",
    "minus-1": "the labels are numbered from 1",
    "plus-1": "the model has a background class before the others",
    "ilsvrc": "the labels are ILSVRC2012 ids",
    "rank": "the model was trained on folders 0, 1, 2, … sorted as strings",
    "rank-1": "the model was trained on folders 1, 2, 3, … sorted as strings",
    "sorted": "the labels number folders 0, 1, 2, … that were sorted as strings",
}


@dataclass(frozen=True)
class Order:
    """A possible order of the classes: `index[c]` is the model's index of what was read as class c, or -1."""

    index: Indices  # (C,)
    cause: str
    remedy: str


@dataclass(frozen=True)
class Finding:
    """An order of the classes that explains the predictions far better than the labels as given."""

    given: float  # top-1 as given, percent of the images with a single correct class
    explained: float  # top-1 in this order
    cause: str
    remedy: str  # the option that corrects it

    @property
    def sentence(self) -> str:
        """In words: `0.1 % as given; 77.0 % if the labels are ILSVRC2012 ids: use --label-format ilsvrc`."""
        return f"{percent(self.given)} % as given; {percent(self.explained)} % if {self.cause}: use {self.remedy}"


def check_label_order(table: pd.DataFrame, labels: Labels) -> Finding | None:
    """Return the order of classes that explains the predictions best, if it is far better than the labels as given."""
    single = single_labelled(table, labels)
    n = len(single.true)
    if not n:
        return None
    orders = list(_orders(single, labels))
    best = max(orders, key=lambda order: _right(single, order).sum())
    given, explained = single.true == single.predicted, _right(single, best)
    gained = int(explained.sum()) - int(given.sum())
    finding = Finding(float(100 * given.sum() / n), float(100 * explained.sum() / n), best.cause, best.remedy)
    p = mcnemar(int((explained & ~given).sum()), int((given & ~explained).sum()))
    tried = len(orders) + len(labels.classes)  # one missing folder per class
    return finding if 100 * gained >= MIN_GAIN * n and p * tried < P else None


def _right(single: SingleLabelled, order: Order) -> Mask:
    return np.equal(order.index[single.true], single.predicted)


def _orders(single: SingleLabelled, labels: Labels) -> Iterator[Order]:
    if not is_number_format(labels.format):
        yield from _model_orders(labels.classes)
        return
    number = _numbers(labels)
    for format in NUMBER_FORMATS:
        if format != "ilsvrc" or is_imagenet(labels.classes):
            yield Order(_read_as(format, number), _CAUSES[format], f"--label-format {format}")
    missing = _missing_folder(number[single.true], single.predicted, len(number))
    cause = f"class {missing} ({labels.classes.names[missing]}) had no folder when the labels were numbered"
    yield Order(_read_as(f"skip-{missing}", number), cause, f"--label-format skip-{missing}")


def _numbers(labels: Labels) -> Indices:
    """Return for each class (C,) its number in the labels as they were read, C + 1 for none."""
    classes = len(labels.classes)
    number = {index: number for number, index in enumerate(numbers_to_indices(labels.format, classes)) if index >= 0}
    return np.array([number.get(index, classes + 1) for index in range(classes)], np.int64)


def _read_as(format: str, number: Indices) -> Indices:
    return np.array([*numbers_to_indices(format, len(number)), -1], np.int64)[number]


def _missing_folder(number: Indices, predicted: Indices, classes: int) -> int:
    """Return the class N for which most predictions equal their number below N, and their number plus 1 from N on."""
    below = np.bincount(number[predicted == number], minlength=classes + 2)[:classes]
    above = np.bincount(number[predicted == number + 1], minlength=classes + 2)[:classes]
    right = np.concatenate([[0], np.cumsum(below)[:-1]]) + np.cumsum(above[::-1])[::-1]
    return int(right.argmax())


def _model_orders(classes: Classes) -> Iterator[Order]:
    """Yield orders in which a model may have the classes that labels give by name."""
    count, remedy = len(classes), "--classes with the names in that order, in a new run"
    for format, cause in (
        ("plus-1", "the model has one more class before the first"),
        ("minus-1", "the model lacks the first class"),
        ("rank", "the model was trained on folders 0, 1, 2, … sorted as strings"),
    ):
        yield Order(np.array(numbers_to_indices(format, count)[:count], np.int64), cause, remedy)
    place = {index: place for place, index in enumerate(sorted(range(count), key=classes.names.__getitem__))}
    alphabetical = np.array([place[index] for index in range(count)], np.int64)
    yield Order(alphabetical, "the model's classes are in alphabetical order", remedy)
    if is_imagenet(classes):
        ids = np.array([synset.ilsvrc2012_id - 1 for synset in synsets()], np.int64)
        yield Order(ids, "the model's classes are in the order of ILSVRC2012 ids", remedy)

"""The label doctor: a wrong order of classes, found in what the model predicted.

A model that is right but whose labels are numbered otherwise is wrong in a fixed way: class 65 comes out for each photo
of label 490. So each known way of numbering is tried on the predictions as they are, and the one that explains far more
of them than the labels as given is reported. McNemar's exact test, over all ways that were tried, rules chance out.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from inception_cli.results.against import mcnemar
from inception_cli.results.classes import Classes, is_imagenet, synsets
from inception_cli.results.columns import Columns
from inception_cli.results.labels import NUMBERED, is_numbered, numbering
from inception_cli.results.scores import Indices, Mask, Singles, single_answers
from inception_cli.results.truth import Truth

POINTS = 10.0  # of accuracy that an order must explain beyond what is given: less is not worth a word
P = 0.001  # for all orders together

_NUMBERED_IF = {
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
    """A way in which classes may be numbered: `index[c]` is where the model has what was read as class c, or -1."""

    index: Indices  # (C,)
    cause: str
    cure: str


@dataclass(frozen=True)
class Finding:
    """An order of classes that explains the predictions far better than the labels as they were read."""

    given: float  # top-1 as given, percent of the photos with a single right answer
    explained: float  # top-1 under that order
    cause: str
    cure: str  # the option that mends it

    @property
    def sentence(self) -> str:
        """In words: `0.1 % as given; 77.0 % if the labels are ILSVRC2012 ids: use --label-form ilsvrc`."""
        return f"{self.given:.1f} % as given; {self.explained:.1f} % if {self.cause}: use {self.cure}"


def diagnose(rows: Columns, truth: Truth) -> Finding | None:
    """The order that explains the predictions best, if it does so far better than the labels as given."""
    singles = single_answers(rows, truth)
    n = len(singles.truth)
    if not n:
        return None
    orders = [*_orders(singles, truth)]
    best = max(orders, key=lambda order: _right(singles, order).sum())
    given, explained = singles.truth == singles.predicted, _right(singles, best)
    finding = Finding(float(100 * given.sum() / n), float(100 * explained.sum() / n), best.cause, best.cure)
    p = mcnemar(int((explained & ~given).sum()), int((given & ~explained).sum()))
    tried = len(orders) + len(truth.classes)  # a missing folder: one for each class
    return finding if finding.explained >= finding.given + POINTS and p * tried < P else None


def _right(singles: Singles, order: Order) -> Mask:
    return np.equal(order.index[singles.truth], singles.predicted)


def _orders(singles: Singles, truth: Truth) -> Iterator[Order]:
    if not is_numbered(truth.form):
        yield from _orders_of_model(truth.classes)
        return
    number = _numbers(truth)
    for form in NUMBERED:
        if form != "ilsvrc" or is_imagenet(truth.classes):
            yield Order(_read(form, number), _NUMBERED_IF[form], f"--label-form {form}")
    missing = _missing_folder(number[singles.truth], singles.predicted, len(number))
    cause = f"class {missing} ({truth.classes.names[missing]}) had no folder when the labels were numbered"
    yield Order(_read(f"skip-{missing}", number), cause, f"--label-form skip-{missing}")


def _numbers(truth: Truth) -> Indices:
    """(C,) the number that stands for each class in the labels as they were read; C + 1 for none."""
    classes = len(truth.classes)
    number = {index: number for number, index in enumerate(numbering(truth.form, classes)) if index >= 0}
    return np.array([number.get(index, classes + 1) for index in range(classes)], np.int64)


def _read(form: str, number: Indices) -> Indices:
    return np.array([*numbering(form, len(number)), -1], np.int64)[number]


def _missing_folder(number: Indices, predicted: Indices, classes: int) -> int:
    """The class N for which most predictions are the number below N, and the number plus 1 from N on."""
    below = np.bincount(number[predicted == number], minlength=classes + 2)[:classes]
    above = np.bincount(number[predicted == number + 1], minlength=classes + 2)[:classes]
    right = np.concatenate([[0], np.cumsum(below)[:-1]]) + np.cumsum(above[::-1])[::-1]
    return int(right.argmax())


def _orders_of_model(classes: Classes) -> Iterator[Order]:
    """Orders in which the model may have classes that the labels call by name."""
    count, cure = len(classes), "--classes with its names in that order"
    for form, cause in (
        ("plus-1", "the model has a class before the first that is named"),
        ("minus-1", "the model lacks the first class that is named"),
        ("rank", "the model was trained on folders 0, 1, 2, … sorted as strings"),
    ):
        yield Order(np.array(numbering(form, count)[:count], np.int64), cause, cure)
    place = {index: place for place, index in enumerate(sorted(range(count), key=classes.names.__getitem__))}
    alphabetical = np.array([place[index] for index in range(count)], np.int64)
    yield Order(alphabetical, "the model's classes are in alphabetical order", cure)
    if is_imagenet(classes):
        ids = np.array([synset.ilsvrc2012_id - 1 for synset in synsets()], np.int64)
        yield Order(ids, "the model's classes are in the order of ILSVRC2012 ids", cure)

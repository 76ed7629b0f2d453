"""Compute accuracy, calibration, per-class metrics and confusions. All accuracies are in percent, not rounded.

Images with a label and a prediction (`n`) are scored. Images with a label but without a prediction (`not_ok`) do not
count in `top1` and `top5`; in `…_not_ok_as_wrong` they count as wrong. An image with several correct classes (ReaL) is
right if any of them is predicted; per-class metrics, confusions and the label order check leave it out, because a wrong
prediction for it belongs to no single class.
"""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from inception_cli.errors import InceptionError, plural
from inception_cli.evaluation.confusion_matrix import ConfusionMatrix
from inception_cli.evaluation.labels import Labels
from inception_cli.predictions.intervals import wilson
from inception_cli.predictions.table import class_indices, is_ok
from inception_cli.predictions.text import escape_bytes

BINS = 15  # of confidence, as in Guo et al. (arXiv 1706.04599)
Mask = NDArray[np.bool_]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class ClassMetrics:
    """Metrics of one class. None: the denominator is zero (no image of the class, or never predicted)."""

    index: int
    label: str
    support: int  # images of this class
    predicted: int  # images with this class as top-1
    right: int
    precision: float | None  # right / predicted, percent
    recall: float | None  # right / support: the accuracy within the class, percent
    f1: float | None  # harmonic mean of precision and recall, percent


@dataclass(frozen=True)
class MacroAverages:
    """Means over the classes that have a photo, each class counting the same, in percent.

    A class that is never predicted has the precision 0, as in scikit-learn. The mean recall is the balanced accuracy.
    """

    classes: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Confusion:
    """A class and the class that was predicted instead, `count` times."""

    true_class: int
    predicted_class: int
    true_label: str
    predicted_label: str
    count: int


@dataclass(frozen=True)
class Bin:
    """The images whose top-1 score is in (low, high]. None: there are none."""

    low: float
    high: float
    n: int
    accuracy: float | None  # percent
    confidence: float | None  # mean top-1 score, percent


@dataclass(frozen=True)
class Metrics:
    """Metrics of predictions against one set of labels."""

    n: int  # images with a label and a prediction
    not_ok: int  # images with a label, without a prediction
    multi_label: int  # of the n, images with several correct classes
    top1: float
    top1_ci: tuple[float, float]  # 95 %, Wilson
    top5: float | None  # None: the rows hold fewer than 5 classes although the model has more
    top5_ci: tuple[float, float] | None
    top1_not_ok_as_wrong: float
    top5_not_ok_as_wrong: float | None
    calibration_error: float  # expected calibration error, percent: 0 when confidence equals accuracy
    reliability: tuple[Bin, ...]
    per_class: tuple[ClassMetrics, ...]
    macro: MacroAverages | None  # None: no photo has a single correct class
    confusions: tuple[Confusion, ...]  # the most frequent first
    notes: tuple[str, ...]  # sentences that belong beside the figures


@dataclass(frozen=True)
class SingleLabelled:
    """The scored images with a single correct class: that class, and the top-1 class."""

    true: Indices
    predicted: Indices


def compute_metrics(table: pd.DataFrame, labels: Labels, most_confused: int = 20, allowed: int = 0) -> Metrics:
    """Return the metrics of a table of predictions with the columns path, status, top1_index …, top1_score.

    `allowed` is the number of classes that the run could predict, 0 for all (`only_classes`).

    InceptionError if there is nothing to score, or if a predicted class is not one of the labels' classes.
    """
    labelled, ok = has_label(labels), is_ok(table)
    scored, not_ok = labelled & ok, int((labelled & ~ok).sum())
    n = int(scored.sum())
    if not n:
        raise InceptionError(
            f"nothing to score: {labels.description}, {not_ok} of them without a prediction; "
            "give the --val-dir or the --labels of these photos"
        )
    right = hits(class_indices(table), labels)[scored]
    first, classes = int(right[:, 0].sum()), len(labels.classes)
    fifth = int(right[:, :5].any(1).sum()) if right.shape[1] >= min(5, classes) else None
    single = single_labelled(table, labels)
    confidence = table["top1_score"].to_numpy(np.float32)[scored]  # fp32, like the softmax
    bins, per_class = _reliability(confidence, right[:, 0]), _per_class(single, labels)
    return Metrics(
        n=n,
        not_ok=not_ok,
        multi_label=n - len(single.true),
        top1=100 * first / n,
        top1_ci=wilson(first, n),
        top5=None if fifth is None else 100 * fifth / n,
        top5_ci=None if fifth is None else wilson(fifth, n),
        top1_not_ok_as_wrong=100 * first / (n + not_ok),
        top5_not_ok_as_wrong=None if fifth is None else 100 * fifth / (n + not_ok),
        calibration_error=sum(abs((bin.accuracy or 0) - (bin.confidence or 0)) * bin.n for bin in bins) / n,
        reliability=bins,
        per_class=per_class,
        macro=_macro(per_class),
        confusions=_confusions(single, labels, most_confused),
        notes=_notes(right.shape[1], allowed, labels, n - len(single.true)),
    )


def confusion_matrix(table: pd.DataFrame, labels: Labels) -> ConfusionMatrix:
    """Return the confusion matrix of the photos with a prediction and a single correct class."""
    single = single_labelled(table, labels)
    return ConfusionMatrix.of(labels.classes, single.true, single.predicted)


def per_class_csv(metrics: Metrics) -> bytes:
    """Return the per-class metrics as CSV: percent with 6 significant digits, empty where the denominator is zero."""
    rows = [replace(each, label=escape_bytes(each.label)) for each in metrics.per_class]
    text: str = pd.DataFrame(rows).to_csv(index=False, float_format="%.6g", lineterminator="\n")
    return text.encode()


def has_label(labels: Labels) -> Mask:
    """Return which rows have a label, (N,)."""
    return np.diff(labels.offsets) > 0


def hits(predicted: NDArray[np.int32], labels: Labels) -> Mask:
    """Return which of the predicted classes (N, K) are correct; -1 never is."""
    _check_classes(predicted, labels)
    if not len(labels.values):
        return np.zeros(predicted.shape, bool)
    rows, classes = np.arange(len(labels)), len(labels.classes)
    # A row and a class as one number, in ascending order for the correct classes.
    correct = np.repeat(rows, np.diff(labels.offsets)) * classes + labels.values
    candidates = rows[:, None] * classes + predicted
    found: Mask = correct[np.searchsorted(correct, candidates).clip(max=len(correct) - 1)] == candidates
    return found & (predicted >= 0)


def single_labelled(table: pd.DataFrame, labels: Labels) -> SingleLabelled:
    """Return the rows with a prediction and a single correct class."""
    predicted = table["top1_index"].to_numpy(np.int64, na_value=-1)
    _check_classes(predicted, labels)
    single = (np.diff(labels.offsets) == 1) & is_ok(table)
    return SingleLabelled(labels.values[labels.offsets[:-1][single]].astype(np.int64), predicted[single])


def _check_classes(predicted: NDArray[np.integer], labels: Labels) -> None:
    if len(predicted) != len(labels):
        raise ValueError(f"{len(predicted)} rows and labels of {len(labels)}")
    largest, classes = int(predicted.max(initial=-1)), len(labels.classes)
    if largest >= classes:
        raise InceptionError(
            f"the predictions contain class {largest}, but there are {classes} classes; "
            "restore their manifest, or classify again"
        )


def _notes(places: int, allowed: int, labels: Labels, multi_label: int) -> tuple[str, ...]:
    notes, classes = [], len(labels.classes)
    if places < min(5, classes):
        all_classes = plural(classes, "class", "classes")
        notes.append(
            f"only {allowed} of {all_classes} could be predicted (--only-classes), so there is no top-5"
            if 0 < allowed < min(5, classes)
            else f"the rows hold {places} of {all_classes}, so there is no top-5: classify with --top-k 5"
        )
    elif classes <= 5:
        notes.append(f"with {plural(classes, 'class', 'classes')}, top-5 is always right")
    if multi_label:
        notes.append(
            f"per-class metrics and confusions leave out {plural(multi_label, 'photo')} with several correct classes"
        )
    return tuple(notes)


def _per_class(single: SingleLabelled, labels: Labels) -> tuple[ClassMetrics, ...]:
    classes = len(labels.classes)
    support = np.bincount(single.true, minlength=classes).tolist()
    predicted = np.bincount(single.predicted, minlength=classes).tolist()
    right = np.bincount(single.true[single.true == single.predicted], minlength=classes).tolist()
    return tuple(
        ClassMetrics(
            *(index, label, support[index], predicted[index], right[index]),
            precision=_percent(right[index], predicted[index]),
            recall=_percent(right[index], support[index]),
            f1=_percent(2 * right[index], predicted[index] + support[index]),
        )
        for index, label in enumerate(labels.classes.names)
    )


def _macro(per_class: tuple[ClassMetrics, ...]) -> MacroAverages | None:
    present = [each for each in per_class if each.support]
    if not present:
        return None
    names = ("precision", "recall", "f1")
    return MacroAverages(
        len(present), *(sum(getattr(each, name) or 0.0 for each in present) / len(present) for name in names)
    )


def _percent(part: float, whole: int) -> float | None:
    return 100 * part / whole if whole else None


def _confusions(single: SingleLabelled, labels: Labels, most: int) -> tuple[Confusion, ...]:
    matrix, names = ConfusionMatrix.of(labels.classes, single.true, single.predicted), labels.classes.names
    wrong = np.flatnonzero(matrix.true != matrix.predicted)
    largest = wrong[np.argsort(-matrix.counts[wrong], kind="stable")[:most]]
    columns = (each[largest].tolist() for each in (matrix.true, matrix.predicted, matrix.counts))
    return tuple(
        Confusion(true, predicted, names[true], names[predicted], count)
        for true, predicted, count in zip(*columns, strict=True)
    )


def _reliability(confidence: NDArray[np.float32], right: Mask) -> tuple[Bin, ...]:
    edges = np.linspace(0, 1, BINS + 1)
    # Bins are open below and closed above. In fp32 like the scores: 0.2 in fp32 is above 0.2 in fp64.
    place = np.searchsorted(edges[1:-1].astype(np.float32), confidence)
    n = np.bincount(place, minlength=BINS).tolist()
    hit = np.bincount(place, weights=right, minlength=BINS).tolist()
    total = np.bincount(place, weights=confidence, minlength=BINS).tolist()
    return tuple(
        Bin(float(edges[at]), float(edges[at + 1]), n[at], _percent(hit[at], n[at]), _percent(total[at], n[at]))
        for at in range(BINS)
    )

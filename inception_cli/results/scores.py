"""Rows and their truth → scores. All accuracies are in percent, not rounded.

Two populations: photos with an answer and status ok (`n`), and photos with an answer that failed (`failed`). Those do
not count in `top1` and `top5`, and count as wrong in `…_failed_as_wrong`. A photo with several right answers (ReaL) is
right when any of them is predicted; but per class, in confusions and for the doctor only photos with a single one
count, as a wrong prediction for the others can be laid to no class.
"""

import csv
import io
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from inception_cli.errors import InceptionError
from inception_cli.results.columns import Columns
from inception_cli.results.truth import Truth

Z = 1.959963984540054  # the normal distribution's 97.5th percentile: 95 % lie within
BINS = 15  # of confidence, as in Guo et al. (arXiv 1706.04599)
Mask = NDArray[np.bool_]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class ClassScore:
    """How well one class is recognised. None: nothing to divide by (no photo of it, or never predicted)."""

    index: int
    label: str
    support: int  # photos of this class
    predicted: int  # photos for which it came first
    right: int
    precision: float | None  # right / predicted, percent
    recall: float | None  # right / support: the accuracy within the class, percent
    f1: float | None  # their harmonic mean, percent


@dataclass(frozen=True)
class Confusion:
    """A class that was taken for another, `count` times."""

    truth: int
    predicted: int
    truth_label: str
    predicted_label: str
    count: int


@dataclass(frozen=True)
class Bin:
    """The photos whose best score lies in (low, high]. None: there are none."""

    low: float
    high: float
    n: int
    accuracy: float | None  # percent
    confidence: float | None  # the mean of their best scores, percent


@dataclass(frozen=True)
class Scores:
    """What rows are worth against one truth."""

    n: int  # photos with an answer and status ok
    failed: int  # photos with an answer and another status
    several: int  # of the n, photos with several right answers
    top1: float
    top1_ci: tuple[float, float]  # 95 %, Wilson
    top5: float | None  # None: rows hold fewer than 5 classes though the model has more
    top5_ci: tuple[float, float] | None
    top1_failed_as_wrong: float
    top5_failed_as_wrong: float | None
    calibration_error: float  # expected, percent: 0 when scores are as sure as they are right
    reliability: tuple[Bin, ...]
    per_class: tuple[ClassScore, ...]
    confusions: tuple[Confusion, ...]  # the most frequent first
    notes: tuple[str, ...]  # sentences that belong beside the figures


@dataclass(frozen=True)
class Singles:
    """The scored photos with a single right answer: it, and the class that came first."""

    truth: Indices
    predicted: Indices


def score(rows: Columns, truth: Truth, most_confused: int = 20) -> Scores:
    """Judge `rows`; InceptionError when there is nothing to judge, or when they know other classes than the truth."""
    judged = answered(truth)
    scored, failed = judged & rows.ok, int((judged & ~rows.ok).sum())
    n = int(scored.sum())
    if not n:
        raise InceptionError(
            f"nothing to score: {truth.described}, {failed} of them failed; "
            "give the --val-dir or the --labels of these photos"
        )
    right = hits(rows, truth)[scored]
    classes = len(truth.classes)
    first = int(right[:, 0].sum())
    fifth = int(right[:, :5].any(1).sum()) if right.shape[1] >= min(5, classes) else None
    singles = single_answers(rows, truth)
    bins = _reliability(rows.scores[scored, 0], right[:, 0])
    return Scores(
        n=n,
        failed=failed,
        several=n - len(singles.truth),
        top1=100 * first / n,
        top1_ci=wilson(first, n),
        top5=None if fifth is None else 100 * fifth / n,
        top5_ci=None if fifth is None else wilson(fifth, n),
        top1_failed_as_wrong=100 * first / (n + failed),
        top5_failed_as_wrong=None if fifth is None else 100 * fifth / (n + failed),
        calibration_error=sum(abs((bin.accuracy or 0) - (bin.confidence or 0)) * bin.n for bin in bins) / n,
        reliability=bins,
        per_class=_per_class(singles, truth),
        confusions=_confusions(singles, truth, most_confused),
        notes=_notes(right.shape[1], truth, n - len(singles.truth)),
    )


def wilson(right: int, n: int) -> tuple[float, float]:
    """The 95 % interval of an accuracy, in percent: Wilson's, which holds for few photos and near 0 and 100 as well."""
    share = right / n
    middle = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    return max(0.0, 100 * (middle - half)), min(100.0, 100 * (middle + half))


def answered(truth: Truth) -> Mask:
    """(N,) which rows have an answer."""
    return np.diff(np.asarray(truth.offsets)) > 0


def hits(rows: Columns, truth: Truth) -> Mask:
    """(N, K) which of the predicted classes are right answers."""
    _check(rows, truth)
    classes = len(truth.classes)
    lengths = np.diff(np.asarray(truth.offsets))
    right = np.repeat(np.arange(len(rows)), lengths) * classes + np.asarray(
        truth.values
    )  # ascending: (row, class) pairs
    asked = np.arange(len(rows))[:, None] * classes + rows.classes
    found = np.searchsorted(right, asked).clip(max=max(len(right) - 1, 0))
    return (right[found] == asked) & (rows.classes >= 0) if len(right) else np.zeros(rows.classes.shape, bool)


def single_answers(rows: Columns, truth: Truth) -> Singles:
    """Of the rows that are ok, those with a single right answer."""
    _check(rows, truth)
    offsets = np.asarray(truth.offsets)
    single = (np.diff(offsets) == 1) & rows.ok
    return Singles(np.asarray(truth.values, np.int64)[offsets[:-1][single]], rows.classes[single, 0].astype(np.int64))


def _check(rows: Columns, truth: Truth) -> None:
    if len(rows) != len(truth):
        raise ValueError(f"{len(rows)} rows and {len(truth)} answers")
    if len(rows) and int(rows.classes.max(initial=-1)) >= len(truth.classes):
        raise InceptionError(
            f"the rows know a class {rows.classes.max()}, but there are {len(truth.classes)} classes; "
            f"give those of their model with --classes FILE"
        )


def _notes(places: int, truth: Truth, several: int) -> tuple[str, ...]:
    notes, classes = [], len(truth.classes)
    if places < min(5, classes):
        notes.append(f"the rows hold {places} of {classes} classes, so there is no top-5: classify with --top-k 5")
    elif classes <= 5:
        notes.append(f"with {classes} classes top-5 is always right: it says nothing")
    if several:
        notes.append(f"{several:,} photos have several right answers: per class and in confusions they are left out")
    return tuple(notes)


def _per_class(singles: Singles, truth: Truth) -> tuple[ClassScore, ...]:
    classes = len(truth.classes)
    support = np.bincount(singles.truth, minlength=classes).tolist()
    predicted = np.bincount(singles.predicted, minlength=classes).tolist()
    right = np.bincount(singles.truth[singles.truth == singles.predicted], minlength=classes).tolist()
    return tuple(
        ClassScore(
            *(index, label, support[index], predicted[index], right[index]),
            precision=_percent(right[index], predicted[index]),
            recall=_percent(right[index], support[index]),
            f1=_percent(2 * right[index], predicted[index] + support[index]),
        )
        for index, label in enumerate(truth.classes.names)
    )


def _percent(part: float, whole: int) -> float | None:
    return 100 * part / whole if whole else None


def _confusions(singles: Singles, truth: Truth, most: int) -> tuple[Confusion, ...]:
    classes, names = len(truth.classes), truth.classes.names
    wrong = singles.truth != singles.predicted
    pairs, counts = np.unique(singles.truth[wrong] * classes + singles.predicted[wrong], return_counts=True)
    best = np.argsort(-counts, kind="stable")[:most]
    return tuple(
        Confusion(pair // classes, pair % classes, names[pair // classes], names[pair % classes], count)
        for pair, count in zip(pairs[best].tolist(), counts[best].tolist(), strict=True)
    )


def _reliability(confidence: NDArray[np.float32], right: Mask) -> tuple[Bin, ...]:
    edges = np.linspace(0, 1, BINS + 1)
    place = np.searchsorted(edges[1:-1], confidence)  # bins are open below and closed above
    n = np.bincount(place, minlength=BINS).tolist()
    hit = np.bincount(place, weights=right, minlength=BINS).tolist()
    sure = np.bincount(place, weights=confidence, minlength=BINS).tolist()
    return tuple(
        Bin(float(edges[at]), float(edges[at + 1]), n[at], _percent(hit[at], n[at]), _percent(sure[at], n[at]))
        for at in range(BINS)
    )


def per_class_csv(scores: Scores) -> bytes:
    """The table of `--per-class`: percent with 6 significant digits, nothing where there is nothing to divide by."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("index", "label", "support", "predicted", "right", "precision", "recall", "f1"))
    for each in scores.per_class:
        percents = ("" if each is None else f"{each:.6g}" for each in (each.precision, each.recall, each.f1))
        table.writerow((each.index, each.label, each.support, each.predicted, each.right, *percents))
    return text.getvalue().encode()

"""Measure decisions: how many photos get a label, how many of these labels are right, and which threshold to choose.

A label that is a node above classes is right if the photo's class is under it. Shares are in percent, not rounded.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from inception_cli.config import Thresholds
from inception_cli.errors import InceptionError, excerpt
from inception_cli.evaluation.labels import Labels
from inception_cli.evaluation.metrics import Mask, has_label, hits
from inception_cli.predictions.decision import REASONS, Decision, decide, parse_path
from inception_cli.predictions.intervals import wilson
from inception_cli.predictions.retune import DAMAGED_DECISION
from inception_cli.predictions.table import class_indices, is_ok
from inception_cli.predictions.tree import Tree, tree_of

#: Thresholds of the curve: 0, 0.05, ..., 0.95.
CURVE = tuple(step / 20 for step in range(20))
#: Accuracies for which a threshold is proposed: the first that is not reached without one. And the choices.
WANTED = (95.0, 99.0)
PROPOSALS = tuple(step / 100 for step in range(1, 100))


@dataclass(frozen=True)
class Answered:
    """The photos that get a label with one `min_score`."""

    min_score: float
    n: int  # photos that get a label
    coverage: float  # their share of all photos that are scored, percent
    right: int
    accuracy: float | None  # right / n, percent; None without any


@dataclass(frozen=True)
class DecisionMetrics:
    """Metrics of the decisions against one set of labels."""

    thresholds: Thresholds
    photos: int  # with a correct class and a prediction
    answered: Answered  # with these thresholds
    accuracy_ci: tuple[float, float] | None  # of answered.accuracy: 95 %, Wilson
    classes_per_label: float | None  # mean number of classes under the labels: 1 if all are classes
    curve: tuple[Answered, ...]  # by CURVE
    wanted: float | None  # accuracy of the proposal, percent; None if every one of WANTED is reached without it
    proposal: Answered | None  # with the lowest threshold that reaches it; None if none does


@dataclass(frozen=True, eq=False)
class _Labelled:
    """The labels of N scored photos before `min_score`."""

    score: NDArray[np.float64]  # -1: unknown, whatever the threshold
    right: Mask
    classes: NDArray[np.int64]  # number of classes under the label

    def answered(self, min_score: float) -> Answered:
        """Return the photos whose label has at least this score."""
        kept = (self.score >= min_score) & (self.score >= 0)
        n, right = int(kept.sum()), int((kept & self.right).sum())
        return Answered(min_score, n, 100 * n / len(kept), right, 100 * right / n if n else None)


def measure_decisions(rows: Path, table: pd.DataFrame, labels: Labels, thresholds: Thresholds) -> DecisionMetrics:
    """Return the metrics of the decisions that these thresholds make from a table of predictions.

    It has the columns path, status, top1_index, top1_label, top1_score, and those of an earlier decision if there are.
    """
    scored = np.flatnonzero(has_label(labels) & is_ok(table))
    labelled = _label(rows, table, labels, replace(thresholds, min_score=None), scored)
    min_score = thresholds.min_score or 0.0
    answered = labelled.answered(min_score)
    kept = labelled.classes[labelled.score >= min_score]
    reached = labelled.answered(0.0).accuracy
    wanted = next((each for each in WANTED if reached is not None and reached < each), None)
    return DecisionMetrics(
        thresholds=thresholds,
        photos=len(scored),
        answered=answered,
        accuracy_ci=wilson(answered.right, answered.n) if answered.n else None,
        classes_per_label=float(kept.mean()) if len(kept) else None,
        curve=tuple(map(labelled.answered, CURVE)),
        wanted=wanted,
        proposal=_propose(labelled, wanted) if wanted else None,
    )


def _propose(labelled: _Labelled, wanted: float) -> Answered | None:
    """Return the photos that get a label at the lowest threshold that is right on `wanted` percent of them."""
    choices = map(labelled.answered, PROPOSALS)
    return next((each for each in choices if each.accuracy is not None and each.accuracy >= wanted), None)


def _label(
    rows: Path, table: pd.DataFrame, labels: Labels, thresholds: Thresholds, scored: NDArray[np.int64]
) -> _Labelled:
    """Return the labels of the scored rows."""
    right = hits(class_indices(table[["top1_index"]]), labels)[scored, 0]
    score, classes = np.empty(len(scored)), np.ones(len(scored), np.int64)
    under = cache(partial(_classes_under, tree_of(labels.classes)))
    for place, decision in enumerate(_decisions(rows, table.iloc[scored], labels, thresholds)):
        score[place] = decision.score if decision.reason in ("top1", "rollup") else -1
        if decision.reason == "rollup":
            below = under(decision.label)
            right[place] = not below.isdisjoint(labels.of(int(scored[place])))
            classes[place] = len(below)
    return _Labelled(score, right, classes)


def _classes_under(tree: Tree | None, label: str) -> frozenset[int]:
    """Return the model indices of the classes under a label."""
    node = tree.find_label(label) if tree else None
    return frozenset(tree.classes_under(node).tolist()) if tree and node else frozenset()


def _decisions(rows: Path, table: pd.DataFrame, labels: Labels, thresholds: Thresholds) -> Iterator[Decision]:
    """Yield the decision for each row of a table, from its best class and, if it has one, from its saved path."""
    tree = tree_of(labels.classes)
    paths = table["label_path"] if "label_path" in table else [""] * len(table)
    reasons = table["label_reason"] if "label_reason" in table else ["top1"] * len(table)
    columns = (table["path"], table["top1_label"], table["top1_score"], paths, reasons)
    for name, label, score, path, reason in zip(*columns, strict=True):
        try:
            if reason not in REASONS:
                raise ValueError(f"label_reason {excerpt(repr(reason))} is none of {', '.join(REASONS)}")
            yield decide(label, score, parse_path(path), thresholds, tree, reason == "unfamiliar")
        except ValueError as error:
            raise InceptionError(f"{rows}: {name}: {error}; {DAMAGED_DECISION}") from error

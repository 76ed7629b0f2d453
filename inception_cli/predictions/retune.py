"""Decide again from saved rows: another threshold needs no network."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from inception_cli.config import Classes, Thresholds
from inception_cli.errors import InceptionError
from inception_cli.predictions.formats import read_columns, read_predictions
from inception_cli.predictions.prediction import Prediction, with_decision
from inception_cli.predictions.tree import require_tree, tree_of

#: Remedy for a decision that does not fit the tree.
DAMAGED_DECISION = "restore the file and, beside it, its manifest (FILE.json), which holds the tree of its classes"


def for_saved_rows(thresholds: Thresholds, run: Thresholds) -> Thresholds:
    """Return what decides the saved rows of a run with the thresholds `run`: without new `thresholds` those of the run.

    `familiar` stays that of the run: the rows say which photos it found unfamiliar.
    """
    return replace(thresholds, familiar=run.familiar) if thresholds else run


def require_paths(rows: Path, thresholds: Thresholds, classes: Classes) -> None:
    """Raise an InceptionError unless `thresholds` can decide the rows in a file: `rollup` needs their `label_path`."""
    require_tree(classes, thresholds)
    if thresholds.rollup is not None and not read_columns(rows)[1]:
        raise InceptionError(
            f"{rows}: has no column label_path, from which rollup decides; classify again with --rollup or --min-score"
        )


def read_decided(rows: Path, thresholds: Thresholds, classes: Classes) -> Iterator[Prediction]:
    """Return the predictions in a file: with `thresholds` decided again, else with the decisions that they have."""
    predictions = read_predictions(rows)
    if not thresholds:
        return predictions
    require_paths(rows, thresholds, classes)
    return decide_again(predictions, thresholds, classes, rows)


def decide_again(
    predictions: Iterable[Prediction], thresholds: Thresholds, classes: Classes, rows: Path
) -> Iterator[Prediction]:
    """Yield saved predictions with the decisions that a run with these thresholds would have made.

    A photo that the run found unfamiliar stays so. InceptionError names `rows` for a path that is damaged.
    """
    tree = tree_of(classes)
    for prediction in predictions:
        saved = prediction.decision
        path, unfamiliar = (saved.path, saved.reason == "unfamiliar") if saved else ((), False)
        try:
            yield with_decision(prediction, path, thresholds, tree, unfamiliar)
        except ValueError as error:
            raise InceptionError(f"{rows}: {prediction.path}: {error}; {DAMAGED_DECISION}") from error

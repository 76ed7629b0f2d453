"""The prediction in the values of a row of a file, which are checked: files are edited and damaged."""

import math
from collections.abc import Sequence
from typing import Any

from inception_cli.config import MAX_CLASSES
from inception_cli.errors import excerpt
from inception_cli.predictions.decision import MOST_SUM, REASONS, Decision, parse_path
from inception_cli.predictions.prediction import DECISION_COLUMNS, Prediction


def parse_row(k: int, values: Sequence[Any]) -> Prediction:
    """Return the prediction in a row with `k` classes, whose numbers may be texts; ValueError if it is damaged."""
    path, status, error = values[0], values[1], values[-1] or ""
    if not path:
        raise ValueError("path is empty")
    if status != "ok" and not has_classes(values):
        return Prediction(path, status, error=error)
    end = 2 + 3 * k  # of the classes; a decision may follow
    classes, scores = _class_numbers(values[2:end:3]), _scores(values[4:end:3])
    decision = _decision(values[end:-1]) if values[end:-1] else None
    return Prediction(path, status, classes, tuple(values[3:end:3]), scores, error, decision, rounded=True)


def parse_typed_row(k: int, values: Sequence[Any]) -> Prediction:
    """Return the prediction in a row of a format with types; TypeError for a value of another type."""
    texts = {"path": values[0], "status": values[1], "error": "" if values[-1] is None else values[-1]}
    if values[1] == "ok":
        end = 2 + 3 * k
        texts |= {f"top{place}_label": label for place, label in enumerate(values[3:end:3], start=1)}
        for place, (index, score) in enumerate(zip(values[2:end:3], values[4:end:3], strict=True), start=1):
            if type(index) is not int:
                raise TypeError(f"top{place}_index is {excerpt(repr(index))}, not an integer")
            if type(score) not in (int, float):
                raise TypeError(f"top{place}_score is {excerpt(repr(score))}, not a number")
        for name, value in zip(DECISION_COLUMNS, values[end:-1], strict=False):
            if name == "label_score" and type(value) not in (int, float):
                raise TypeError(f"{name} is {excerpt(repr(value))}, not a number")
            if name != "label_score":
                texts[name] = "" if value is None else value
    for name, text in texts.items():
        if type(text) is not str:
            raise TypeError(f"{name} is {excerpt(repr(text))}, not a string")
    return parse_row(k, values)


def has_classes(values: Sequence[Any]) -> bool:
    """Return whether any value between a row's status and its error is filled; "" and None are empty."""
    return any(value is not None and value != "" for value in values[2:-1])


def _decision(values: Sequence[Any]) -> Decision:
    """Return the decision in the four values of a row; ValueError if it is damaged."""
    label, score, reason, path = values
    if not label or reason not in REASONS:
        raise ValueError(f"label {excerpt(repr(label))} with label_reason {excerpt(repr(reason))}")
    if not _is_between(score, float, MOST_SUM):
        raise ValueError(f"label_score is {excerpt(repr(score))}, not a number from 0 to 1")
    return Decision(label, float(score), reason, parse_path(path or ""))


def _class_numbers(values: Sequence[Any]) -> tuple[int, ...]:
    """Return the indices in a row, which may be text; ValueError for one that no model can have."""
    try:
        numbers = tuple(map(int, values))
        if min(numbers) >= 0 and max(numbers) < MAX_CLASSES:
            return numbers
    except (ValueError, OverflowError):
        pass
    place, value = next(pair for pair in enumerate(values, start=1) if not _is_between(pair[1], int, MAX_CLASSES - 1))
    raise ValueError(f"top{place}_index is {excerpt(repr(value))}, not the number of a class")


def _scores(values: Sequence[Any]) -> tuple[float, ...]:
    """Return the scores in a row, which may be text; ValueError for one that is no share."""
    try:
        scores = tuple(map(float, values))
        if min(scores) >= 0 and max(scores) <= 1 and not math.isnan(sum(scores)):
            return scores
    except (ValueError, OverflowError):
        pass
    place, value = next(pair for pair in enumerate(values, start=1) if not _is_between(pair[1], float, 1))
    raise ValueError(f"top{place}_score is {excerpt(repr(value))}, not a number from 0 to 1")


def _is_between(value: Any, convert: type[int | float], most: float) -> bool:
    """Return whether a text or number is from 0 to `most`."""
    try:
        return 0 <= convert(value) <= most
    except (ValueError, OverflowError):
        return False

"""The prediction of one input: a record for every input of a run, and its columns in a file."""

import csv
from collections.abc import Sequence
from dataclasses import InitVar, dataclass, field, replace
from typing import TYPE_CHECKING, Literal, get_args

from inception_cli.errors import excerpt
from inception_cli.predictions.decision import Decision, TreePath, decide

if TYPE_CHECKING:
    import numpy as np

    from inception_cli.config import Thresholds
    from inception_cli.predictions.tree import Tree

Status = Literal["ok", "missing", "denied", "unsupported", "too_large", "truncated", "corrupt", "failed"]
STATUSES: tuple[Status, ...] = get_args(Status)
#: The columns of a decision, present where a run has thresholds.
DECISION_COLUMNS = ("label", "label_score", "label_reason", "label_path")


@dataclass(frozen=True)
class Prediction:
    """The classes predicted for one input, or the reason why there are none.

    Scores are rounded to 6 significant digits, so that all file formats and the Python API hold the same numbers;
    `rounded=True` skips that for scores which were read from a file.
    """

    path: str
    status: Status = "ok"
    classes: tuple[int, ...] = ()  # model indices, best first
    labels: tuple[str, ...] = ()  # class names
    scores: tuple[float, ...] = ()  # softmax in fp32, mean over views, then over networks
    error: str = ""  # one line: why there is no class
    decision: Decision | None = None  # the label after thresholds, where the run has some
    features: "np.ndarray | None" = field(default=None, compare=False, repr=False)  # (2048,), where they were requested
    rounded: InitVar[bool] = False

    def __post_init__(self, rounded: bool) -> None:
        if self.status not in STATUSES:
            raise ValueError(f"status {excerpt(repr(self.status))} is none of {', '.join(STATUSES)}")
        if not len(self.classes) == len(self.labels) == len(self.scores):
            raise ValueError(f"{excerpt(self.path)}: classes, labels and scores differ in number")
        if (self.status == "ok") != bool(self.classes):
            raise ValueError(f"{excerpt(self.path)}: status {self.status} with {len(self.classes)} classes")
        if self.decision and not self.classes:
            raise ValueError(f"{excerpt(self.path)}: status {self.status} with a label")
        if not rounded:
            object.__setattr__(self, "scores", tuple([float(f"{score:.6g}") for score in self.scores]))


def with_decision(
    prediction: Prediction, path: TreePath, thresholds: "Thresholds", tree: "Tree | None", unfamiliar: bool = False
) -> Prediction:
    """Return a prediction with its decision (see `decide`); one that is not ok has none."""
    if prediction.status != "ok":
        return prediction
    decision = decide(prediction.labels[0], prediction.scores[0], path, thresholds, tree, unfamiliar)
    return replace(prediction, decision=decision, rounded=True)


def header(k: int, decided: bool = False) -> list[str]:
    """Return the columns of a file with `k` classes per row, and with those of the decision if it is `decided`."""
    top = [f"top{place}_{field}" for place in range(1, k + 1) for field in ("index", "label", "score")]
    return ["path", "status", *top, *(DECISION_COLUMNS if decided else ()), "error"]


def columns_of(names: Sequence[str]) -> tuple[int, bool]:
    """Return the number of classes per row that a header has, and whether it is decided; (0, False) for another one."""
    decided = tuple(names[-5:-1]) == DECISION_COLUMNS
    k = (len(names) - 3 - (len(DECISION_COLUMNS) if decided else 0)) // 3
    return (k, decided) if k > 0 and list(names) == header(k, decided) else (0, False)


def csv_columns(line: bytes) -> tuple[int, bool]:
    """Return what `columns_of` does, of the first line of a CSV, whose fields may be between quotes."""
    try:
        return columns_of(next(csv.reader([line.decode(errors="replace")]), []))
    except csv.Error:
        return (0, False)


def reason(error: str) -> str:
    """Return the error of a row without what differs from file to file, so that rows can be counted by it."""
    if "more than max_pixels" in error:
        return "more pixels than max_pixels" + error.partition("max_pixels")[2]
    kind, _, _ = error.partition(": ")
    return kind if kind in ("damaged image", "not a valid file name") else error

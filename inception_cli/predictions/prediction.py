"""The prediction of one input: a record for every input of a run, and its columns in a file."""

from dataclasses import InitVar, dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

from inception_cli.errors import excerpt

if TYPE_CHECKING:
    import numpy as np

Status = Literal["ok", "missing", "denied", "unsupported", "too_large", "truncated", "corrupt", "failed"]
STATUSES: tuple[Status, ...] = get_args(Status)


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
    decision: object | None = None  # reserved: the label after thresholds; always None
    features: "np.ndarray | None" = field(default=None, compare=False, repr=False)  # (2048,), where they were requested
    rounded: InitVar[bool] = False

    def __post_init__(self, rounded: bool) -> None:
        if self.status not in STATUSES:
            raise ValueError(f"status {excerpt(repr(self.status))} is none of {', '.join(STATUSES)}")
        if not len(self.classes) == len(self.labels) == len(self.scores):
            raise ValueError(f"{excerpt(self.path)}: classes, labels and scores differ in number")
        if (self.status == "ok") != bool(self.classes):
            raise ValueError(f"{excerpt(self.path)}: status {self.status} with {len(self.classes)} classes")
        if not rounded:
            object.__setattr__(self, "scores", tuple([float(f"{score:.6g}") for score in self.scores]))


def header(k: int) -> list[str]:
    """Return the columns of a file with `k` classes per row."""
    top = [f"top{place}_{field}" for place in range(1, k + 1) for field in ("index", "label", "score")]
    return ["path", "status", *top, "error"]

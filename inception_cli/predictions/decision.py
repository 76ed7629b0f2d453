"""Decide which label a photo gets: its best class, a node above it, or `unknown`.

The network's own classes and scores stay as they are; the decision stands beside them. It follows from a row alone, so
a threshold can be changed on saved rows without running the network again. In this order:

    unfamiliar   the photo is unlike the training photos: unknown
    rollup       the last node on the path down the tree whose sum is at least the threshold; unknown if there is none
    min-score    a label whose score is below the threshold: unknown

Scores are compared as they are printed, with 6 significant digits.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from inception_cli.config import Thresholds
from inception_cli.errors import excerpt

if TYPE_CHECKING:  # imports numpy
    from inception_cli.predictions.tree import Tree

Reason = Literal["top1", "rollup", "low_score", "unfamiliar"]
REASONS: tuple[Reason, ...] = get_args(Reason)
UNKNOWN = "unknown"
#: Sums of scores that are rounded, or computed in fp32, can pass 1 by little.
MOST_SUM = 1.001

#: The nodes of a tree in which a photo's scores sum to more than 0.5, from the root down: (id, sum as printed). Nodes
#: that are hidden are left out. The last one may be a class.
TreePath = tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Decision:
    """The label of a photo."""

    label: str  # a class, a node above classes, or UNKNOWN
    score: float  # of the label; of an unknown photo the score that was too low, or that of its best class
    reason: Reason
    path: TreePath = ()  # () without a tree


def decide(
    label: str, score: float, path: TreePath, thresholds: Thresholds, tree: "Tree | None", unfamiliar: bool = False
) -> Decision:
    """Return the decision for one photo, whose best class is `label` with this score.

    All commands decide by this function. `tree` is needed for `rollup` alone; ValueError for a node that it lacks.
    """
    if unfamiliar:
        return Decision(UNKNOWN, score, "unfamiliar", path)
    reason: Reason = "top1"
    if thresholds.rollup is not None:
        if tree is None:
            raise ValueError("rollup without a tree")
        reached = [node for node in path if node[1] >= thresholds.rollup and not tree.is_hidden(node[0])]
        if not reached:
            return Decision(UNKNOWN, score, "low_score", path)
        node, score = reached[-1]
        if not tree.is_class(node):
            label, reason = tree.name(node), "rollup"
    if thresholds.min_score is not None and score < thresholds.min_score:
        return Decision(UNKNOWN, score, "low_score", path)
    return Decision(label, score, reason, path)


def as_printed(score: float) -> float:
    """Return a score with 6 significant digits."""
    return float(f"{score:.6g}")


def path_text(path: TreePath) -> str:
    """Return a path as a row holds it: `n00015388:0.981>n02084071:0.964`."""
    return ">".join(f"{node}:{score:.6g}" for node, score in path)


def parse_path(text: str) -> TreePath:
    """Return the path in a row; ValueError for anything else."""
    return tuple(map(_parse_node, text.split(">"))) if text else ()


def _parse_node(text: str) -> tuple[str, float]:
    node, _, score = text.rpartition(":")
    try:
        if node and 0.5 < (number := float(score)) <= MOST_SUM:
            return node, number
    except ValueError:
        pass
    raise ValueError(f"label_path has {excerpt(repr(text))}, which is not a node with a sum above 0.5")

"""Two files of rows on the same photos: what changed, and whether that can be chance."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from inception_cli.errors import InceptionError
from inception_cli.results.columns import Columns
from inception_cli.results.scores import answered, hits
from inception_cli.results.truth import Truth


@dataclass(frozen=True)
class Against:
    """Top-1 of these rows against others, on the photos that both have, read, and have an answer."""

    n: int
    top1: float  # of these rows, percent
    other_top1: float
    gained: int  # wrong there, right here
    lost: int  # right there, wrong here
    p: float  # McNemar's exact, two-sided: how often chance alone would part gained and lost this far
    missing: int  # rows here without a row there


def against(rows: Columns, other: Columns, truth: Truth) -> Against:
    """Compare photo by photo, under the truth of `rows`; InceptionError when there is nothing to compare.

    Of a path that is named twice the first row is compared with the first, the second with the second.
    """
    places = _places(rows, other)
    both = (places >= 0) & rows.ok & answered(truth)
    both[both] = other.ok[places[both]]
    if not both.any():
        raise InceptionError(
            "--against: the two files have no photo in common that both read and that has an answer; "
            "name rows of the same photos, classified from the same folder"
        )
    moved = Columns(rows.paths, other.statuses[places], other.classes[places], other.scores[places], other.labels)
    right, other_right = hits(rows, truth)[both, 0], hits(moved, truth)[both, 0]
    n, gained, lost = int(both.sum()), int((right & ~other_right).sum()), int((~right & other_right).sum())
    return Against(
        n=n,
        top1=100 * int(right.sum()) / n,
        other_top1=100 * int(other_right.sum()) / n,
        gained=gained,
        lost=lost,
        p=mcnemar(gained, lost),
        missing=int((places < 0).sum()),
    )


def mcnemar(gained: int, lost: int) -> float:
    """The exact two-sided p of McNemar's test: that of a fair coin giving `gained` heads and `lost` tails, or worse."""
    tosses, fewer = gained + lost, min(gained, lost)
    chosen = np.arange(1, fewer + 1)
    # log C(tosses, k) for k = 0…fewer, as a sum of logarithms: the numbers themselves outgrow any float.
    ways = np.concatenate([[0.0], np.cumsum(np.log(tosses - chosen + 1) - np.log(chosen))])
    return float(min(1.0, 2 * np.exp(ways - tosses * np.log(2)).sum()))


def _places(rows: Columns, other: Columns) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """(N,) for each row the other's row for the same path, or -1."""
    waiting: dict[str, list[int]] = defaultdict(list)
    for place in range(len(other) - 1, -1, -1):
        waiting[other.paths[place]].append(place)
    return np.array([places.pop() if (places := waiting.get(path)) else -1 for path in rows.paths], np.int64)

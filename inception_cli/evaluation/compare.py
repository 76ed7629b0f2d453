"""Compare the predictions of two files on the same images: what changed, and whether it may be chance."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from inception_cli.errors import InceptionError
from inception_cli.evaluation.labels import Labels
from inception_cli.evaluation.metrics import has_label, hits


@dataclass(frozen=True)
class Comparison:
    """Top-1 accuracy of two files of predictions, on the images that have a label and a prediction in both."""

    n: int
    top1: float  # percent
    other_top1: float
    gained: int  # images that only this file has right
    lost: int  # images that only the other file has right
    p: float  # McNemar's exact test, two-sided: the probability of a difference at least as large by chance
    missing: int  # rows without a row in the other file


def compare(table: pd.DataFrame, other: pd.DataFrame, labels: Labels) -> Comparison:
    """Compare two tables with the columns path, status and top1_index; `labels` are those of `table`.

    The first row of a path is compared with the other's first row of that path, the second with the second.
    InceptionError if there is nothing to compare.
    """
    keys = ["path", "occurrence"]
    merged = _numbered(table).merge(_numbered(other), how="left", on=keys, suffixes=("", "_other"))
    both = (merged[["status", "status_other"]] == "ok").all(axis=1).to_numpy() & has_label(labels)
    n = int(both.sum())
    if not n:
        raise InceptionError(
            "against: no labelled photo has a prediction in both files; "
            "compare files on the same photos, classified from the same folder"
        )
    right, other_right = (_hits(merged[column], labels)[both] for column in ("top1_index", "top1_index_other"))
    gained, lost = int((right & ~other_right).sum()), int((~right & other_right).sum())
    return Comparison(
        n=n,
        top1=100 * int(right.sum()) / n,
        other_top1=100 * int(other_right.sum()) / n,
        gained=gained,
        lost=lost,
        p=mcnemar(gained, lost),
        missing=int(merged["status_other"].isna().sum()),
    )


def mcnemar(gained: int, lost: int) -> float:
    """Return the two-sided p-value of McNemar's exact test.

    It is the probability that a fair coin splits `gained + lost` tosses at least as unevenly.
    """
    tosses, fewer = gained + lost, min(gained, lost)
    chosen = np.arange(1, fewer + 1)
    # log C(tosses, k) for k = 0…fewer as a sum of logarithms: the binomials themselves overflow a float.
    ways = np.concatenate([[0.0], np.cumsum(np.log(tosses - chosen + 1) - np.log(chosen))])
    return float(min(1.0, 2 * np.exp(ways - tosses * np.log(2)).sum()))


def _numbered(table: pd.DataFrame) -> pd.DataFrame:
    """Return the columns to compare, and for each row how often its path has occurred before."""
    columns = table[["path", "status", "top1_index"]]
    return columns.assign(occurrence=columns.groupby("path", sort=False).cumcount())


def _hits(top1: pd.Series, labels: Labels) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    return hits(top1.to_numpy(np.int32, na_value=-1)[:, None], labels)[:, 0]

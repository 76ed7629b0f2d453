"""Compare the predictions of two files on the same images: what changed, and whether it may be chance."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from inception_cli.config import Classes
from inception_cli.errors import InceptionError
from inception_cli.evaluation.labels import Labels
from inception_cli.evaluation.metrics import has_label, hits
from inception_cli.predictions.classes import class_lookup, imagenet, is_imagenet
from inception_cli.predictions.table import read_table, unseen_class
from inception_cli.predictions.text import escape_bytes

SAME_PHOTOS = "compare files on the same photos, classified from the same folder"


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
    """Compare two tables with the columns path, status and top1_index, `other` with top1_label, too.

    `labels` are those of `table`. The other's classes are matched by name, because another model may number them in
    another way. The first row of a path is compared with the other's first row of that path, the second with the
    second. InceptionError if there is nothing to compare, or if the classes of the two files do not match.
    """
    keys = ["path", "occurrence"]
    other = other.assign(top1_index=_matched_by_name(other, labels.classes))
    merged = _numbered(table).merge(_numbered(other), how="left", on=keys, suffixes=("", "_other"))
    both = (merged[["status", "status_other"]] == "ok").all(axis=1).to_numpy() & has_label(labels)
    n = int(both.sum())
    if not n:
        raise InceptionError(f"against: no labelled photo has a prediction in both files; {SAME_PHOTOS}")
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


def require_shared_paths(paths: Sequence[str], other: Path) -> None:
    """Raise InceptionError if the file `other` has a row for none of the paths: before they are classified."""
    if not read_table(other, ["path"])["path"].isin([*map(escape_bytes, paths)]).any():
        raise InceptionError(f"against: {other} has a row for none of these photos; {SAME_PHOTOS}")


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


def _matched_by_name(other: pd.DataFrame, classes: Classes) -> NDArray[np.int32]:
    """Return for each row (N,) the index in `classes` of its top-1 class, -1 without a prediction or for another class.

    A class beyond those that are known here is wrong for every label. InceptionError if a class has another name here,
    for then nothing shows which of the classes it is.
    """
    matched, lookup = np.full(len(other), -1, np.int32), _name_lookup(classes)
    for (index, label), rows in other.groupby(["top1_index", "top1_label"], observed=True).indices.items():
        matched[rows] = own = lookup(label)
        # Without a manifest, the name of a class that no row predicts is not known (predictions.table.seen_classes).
        if own < 0 and index < len(classes) and classes.names[index] != unseen_class(index):
            raise InceptionError(
                f"against: its class {index} is {label}, which is no class here (class {index} is "
                f"{escape_bytes(classes.names[index])}); compare predictions of models with the same class names"
            )
    return matched


def _name_lookup(classes: Classes) -> Callable[[str], int]:
    """Return the function from a label in a row to a model index, -1 for none; ImageNet's classes have two names."""
    lookups = [class_lookup("name", Classes(tuple(map(escape_bytes, classes.names))))]
    if is_imagenet(classes):
        lookups += [class_lookup("name", imagenet()), class_lookup("wnid", classes)]
    return lambda label: next((index for lookup in lookups if (index := lookup(label)) >= 0), -1)


def _hits(top1: pd.Series, labels: Labels) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    return hits(top1.to_numpy(np.int32, na_value=-1)[:, None], labels)[:, 0]

"""How the text of a label identifies a class: by wnid, by name, or by one of the ways to number classes.

wnid       WordNet's number of an ImageNet class: n01440764
name       the class name; case, and _ for a space, make no difference where names stay distinct
number     the model's index, from 0
minus-1    the index plus 1: labels are numbered from 1, or have a background class before the others
plus-1     the index minus 1: the model has a background class before the others
ilsvrc     ILSVRC2012_ID of the devkit, from 1, in an order of its own
rank       a folder name among 0, 1, 2, …; the index is its rank among these names sorted as strings, as ImageFolder
           assigns it when a model is trained on such folders
rank-1     the same with folders 1, 2, 3, …
sorted     a rank among 0, 1, 2, … sorted as strings; the index is the name at that rank: labels that ImageFolder
           assigned to folders named by the index
skip-N     like number, but class N had no folder when the labels were numbered: N means class N + 1, and so on
"""

from collections.abc import Callable
from typing import get_args

from inception_cli.config import Classes
from inception_cli.errors import UsageError
from inception_cli.predictions.classes import class_lookup, is_imagenet, is_number, synsets
from inception_cli.storage.label_sources import SKIP, LabelFormat, require_label_format

NUMBER_FORMATS = tuple(format for format in get_args(LabelFormat) if format not in ("wnid", "name"))


def numbers_to_indices(format: str, count: int) -> list[int]:
    """Return the model indices that the numbers 0…count mean in a format, for `count` classes; -1 for none."""
    numbers = range(count + 1)
    if skip := SKIP.fullmatch(format):
        indices = [number + (number >= int(skip[1])) for number in numbers]
    elif format == "number":
        indices = [*numbers]
    elif format == "minus-1":
        indices = [number - 1 for number in numbers]
    elif format == "plus-1":
        indices = [number + 1 for number in numbers]
    elif format == "ilsvrc":
        index = {synset.ilsvrc2012_id: synset.index for synset in synsets()}
        indices = [index.get(number, -1) for number in numbers]
    elif format in ("rank", "rank-1"):
        first = 1 if format == "rank-1" else 0
        rank = {number: place for place, number in enumerate(sorted(range(first, count + first), key=str))}
        indices = [rank.get(number, -1) for number in numbers]
    elif format == "sorted":
        indices = sorted(range(count), key=str)
    else:
        raise ValueError(f"{format} is not a way to number classes")
    return [index if index < count else -1 for index in [*indices, -1][: count + 1]]


def is_number_format(format: str) -> bool:
    """Return whether labels of this format are numbers."""
    return format in NUMBER_FORMATS or bool(SKIP.fullmatch(format))


def label_lookup(format: str, classes: Classes) -> Callable[[str], int]:
    """Return the function from a label to its model index, -1 if it is none of `classes`.

    UsageError for an unknown format, and for one of ImageNet's with other classes.
    """
    require_label_format(format)
    if format in ("wnid", "ilsvrc") and not is_imagenet(classes):
        raise UsageError(
            f"label_format {format} is for ImageNet's classes, not for these {len(classes)}; try name or number"
        )
    if format == "wnid":
        return class_lookup("wnid", classes)
    if format == "name":
        return class_lookup("name", classes)
    indices = numbers_to_indices(format, len(classes))
    return lambda label: indices[int(label)] if is_number(label) and int(label) < len(indices) else -1

"""A label → the model's index: wnids, names, and the ways in which classes are numbered.

wnid       WordNet's number of an ImageNet class: n01440764
name       a class name; case, and _ for a space, make no difference where the names allow it
number     the model's index, from 0
minus-1    minus 1 it is the model's index: numbers from 1, or a background class before the others
plus-1     plus 1 it is the model's index: the model has a background class before the others
ilsvrc     ILSVRC2012_ID of the devkit, from 1, in an order of its own
rank       sorted as strings among 0, 1, 2, … its place is the model's index: a model that ImageFolder fed from folders
           0, 1, 2, …
rank-1     the same with folders 1, 2, 3, …
sorted     a place among 0, 1, 2, … sorted as strings, where the model's index stands: a list that was made by
           ImageFolder from folders 0, 1, 2, …
skip-N     as number, but class N had no folder when they were numbered, so N stands for class N + 1, and so on
"""

import re
from collections.abc import Callable, Collection
from pathlib import Path

from inception_cli.errors import InceptionError, UsageError
from inception_cli.results.classes import Classes, is_imagenet, synsets

NUMBERED = ("number", "minus-1", "plus-1", "ilsvrc", "rank", "rank-1", "sorted")
FORMS = ("wnid", "name", *NUMBERED, "skip-N")

_SKIP = re.compile(r"skip-(\d+)")


def numbering(form: str, count: int) -> list[int]:
    """What the numbers 0…count mean under `form`, for `count` classes: model indices, or -1 for none."""
    numbers = range(count + 1)
    if skip := _SKIP.fullmatch(form):
        means = [number + (number >= int(skip[1])) for number in numbers]
    elif form == "number":
        means = [*numbers]
    elif form == "minus-1":
        means = [number - 1 for number in numbers]
    elif form == "plus-1":
        means = [number + 1 for number in numbers]
    elif form == "ilsvrc":
        index = {synset.ilsvrc2012_id: synset.index for synset in synsets()}
        means = [index.get(number, -1) for number in numbers]
    elif form in ("rank", "rank-1"):
        first = 1 if form == "rank-1" else 0
        rank = {number: place for place, number in enumerate(sorted(range(first, count + first), key=str))}
        means = [rank.get(number, -1) for number in numbers]
    elif form == "sorted":
        means = sorted(range(count), key=str)
    else:
        raise ValueError(f"{form} is no way to number classes")
    return [index if index < count else -1 for index in [*means, -1][: count + 1]]


def is_numbered(form: str) -> bool:
    """Whether labels of this form are numbers."""
    return form in NUMBERED or bool(_SKIP.fullmatch(form))


def reader(form: str, classes: Classes) -> Callable[[str], int]:
    """The function that reads a label as `form` says: its model index, or -1 when it is none of `classes`.

    UsageError for a form that there is not, or that only ImageNet has.
    """
    if form not in FORMS[:-1] and not is_numbered(form):
        raise UsageError(f"--label-form {form}: choose from {', '.join(FORMS)}")
    if form in ("wnid", "ilsvrc") and not is_imagenet(classes):
        raise UsageError(
            f"--label-form {form} is for ImageNet's classes, not for these {len(classes)}; try name or number"
        )
    if form == "wnid":
        known = {synset.wnid: synset.index for synset in synsets()}
        return lambda label: known.get(label, -1)
    if form == "name":
        exact, loose = classes.index, _loose_index(classes)
        return lambda label: exact.get(label, loose.get(_loose(label), -1))
    means = numbering(form, len(classes))
    return lambda label: means[int(label)] if _is_number(label) and int(label) < len(means) else -1


def recognise(labels: Collection[str], classes: Classes) -> str | None:
    """wnid, name or number: the form in which most of `labels` are classes, names before numbers; None if none are."""
    forms = (["wnid"] if is_imagenet(classes) else []) + ["name", "number"]
    known = {form: sum(index >= 0 for index in map(reader(form, classes), labels)) for form in forms}
    best = max(forms, key=lambda form: known[form])
    return best if known[best] else None


def only_classes(named: str, classes: Classes) -> tuple[int, ...]:
    """The model indices that `--only-classes` leaves: `a` and `r` are the 200 of ImageNet-A and of -R, else a file.

    The file has a class a line: wnids, names or numbers from 0.
    """
    if named in ("a", "r"):
        if not is_imagenet(classes):
            raise UsageError(
                f"--only-classes {named} is for ImageNet's classes, not for these {len(classes)}; name a file"
            )
        return tuple(synset.index for synset in synsets() if (synset.in_a if named == "a" else synset.in_r))
    try:
        labels = [line.strip() for line in Path(named).read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InceptionError(f"{named}: {error}; --only-classes takes a, r, or a file with a class a line") from error
    read = reader(recognise(labels, classes) or "name", classes)
    unknown = [label for label in labels if read(label) < 0]
    if unknown or not labels:
        raise InceptionError(
            f"{named}: {(unknown or ['(nothing)'])[0]} is no class; a line is a wnid, a name or a number"
        )
    return tuple(sorted({read(label) for label in labels}))


def _is_number(label: str) -> bool:
    return label.isascii() and label.isdigit()


def _loose(name: str) -> str:
    return name.replace("_", " ").casefold().strip()


def _loose_index(classes: Classes) -> dict[str, int]:
    """Index by loosely written name, but for names that are then alike."""
    loose = [_loose(name) for name in classes.names]
    twice = {name for name in loose if loose.count(name) > 1} if len(set(loose)) < len(loose) else set()
    return {name: index for index, name in enumerate(loose) if name not in twice}

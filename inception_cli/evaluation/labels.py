"""Ground truth of predictions, from the folders of the images or from a label file.

Nothing is guessed: an image whose folder is not a class, or that the label file does not name, counts as unlabelled.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inception_cli.config import Classes
from inception_cli.errors import InceptionError, excerpt, plural
from inception_cli.evaluation.class_numbering import is_number_format, label_lookup
from inception_cli.evaluation.label_files import read_image_names, read_labels
from inception_cli.evaluation.path_matching import match_paths
from inception_cli.predictions.classes import recognise
from inception_cli.predictions.text import escape_bytes

#: The labels of an image, each of them correct; empty if the image is excluded, None if it has no label.
LabelSet = tuple[str, ...] | None


@dataclass(frozen=True)
class Examples:
    """The number of items of a kind, and the names of the first five."""

    count: int = 0
    names: tuple[str, ...] = ()

    @classmethod
    def of(cls, names: Iterable[str]) -> "Examples":
        """Count `names` and keep the first five."""
        listed = list(names)
        return cls(len(listed), tuple(excerpt(name, 200) for name in listed[:5]))


@dataclass(frozen=True, eq=False)
class Labels:
    """Ground truth of N rows: the correct classes of row i are `values[offsets[i]:offsets[i + 1]]`, in ascending order.

    A row has no, one or several correct classes (ReaL).
    """

    classes: Classes
    source: str  # in words: the folder, or the file
    format: str  # how labels identify classes
    offsets: NDArray[np.int64]  # (N + 1,)
    values: NDArray[np.int32]  # model indices
    unlabelled: Examples = Examples()  # images without a label
    excluded: Examples = Examples()  # images that are not scored: ReaL's empty sets, and `exclude`
    unknown: Examples = Examples()  # folders or labels that are not classes
    unused: Examples = Examples()  # images in the label file that have no row

    @classmethod
    def from_sets(cls, classes: Classes, source: str, format: str, sets: Sequence[Sequence[int]]) -> "Labels":
        """Return the ground truth whose row i has the correct classes `sets[i]`."""
        offsets = np.cumsum([0, *map(len, sets)])
        return cls(classes, source, format, offsets, np.fromiter(chain.from_iterable(sets), np.int32))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def labelled(self) -> int:
        """Number of rows with a label."""
        return len(self) - self.unlabelled.count - self.excluded.count

    @property
    def description(self) -> str:
        """What was recognised, in a sentence."""
        kind = f"numbers (--label-format {self.format})" if is_number_format(self.format) else f"{self.format}s"
        excluded = f", {self.excluded.count:,} excluded" if self.excluded.count else ""
        photos = plural(len(self), "photo has", "photos have")
        return f"{self.source}: {kind}; {self.labelled:,} of {photos} a label{excluded}"

    @property
    def warning(self) -> str:
        """A sentence if fewer than half of the photos have a label, apart from excluded ones; else empty."""
        photos = len(self) - self.excluded.count
        if 2 * self.labelled >= photos:
            return ""
        counted = plural(photos, "photo has", "photos have")
        return f"{self.source}: only {self.labelled:,} of {counted} a label; the figures are of these alone"

    def of(self, row: int) -> tuple[int, ...]:
        """Return the correct classes of a row."""
        return tuple(self.values[self.offsets[row] : self.offsets[row + 1]].tolist())


def labels_from_folders(
    paths: Sequence[str], val_dir: str | None, classes: Classes, format: str | None = None
) -> Labels:
    """Return labels by folder: the first folder below `val_dir`, or without that the folder that an image is in.

    `format` is how folder names identify classes, None to recognise it. InceptionError if no folder is a class.
    """
    if val_dir is not None:
        val_dir = escape_bytes(val_dir)  # as in the paths
    source = "labels from the folders " + ("of the photos" if val_dir is None else f"in {val_dir}")
    sets: dict[str, LabelSet] = {"": None}  # one object per folder, not per image
    labels = [sets.setdefault(folder, (folder,)) for folder in _folders(paths, val_dir)]
    if not any(labels):
        raise InceptionError(_without_folders(paths, val_dir))
    return _resolve(source, paths, labels, classes, format)


def labels_from_file(file: Path, paths: Sequence[str], classes: Classes, format: str | None = None) -> Labels:
    """Return the labels that `file` gives to `paths`; `format` is how they identify classes, None to recognise it.

    InceptionError if the file names no image, or two images by one name, or if none of its labels is a class.
    """
    content = read_labels(file, classes, format)
    names = match_paths(file, content.labels, paths)
    labels = [content.labels[name] if name else None for name in names]
    resolved = _resolve(f"{file.name}, {content.description}", paths, labels, classes, format or content.format)
    return replace(resolved, unused=Examples.of(sorted(content.labels.keys() - set(names))))


def exclude_images(labels: Labels, file: Path, paths: Sequence[str]) -> Labels:
    """Return `labels` without the images in `file`: one path per line, or one number of ImageNet's validation set."""
    excluded = np.array([name is not None for name in match_paths(file, read_image_names(file), paths)])
    counts = np.diff(labels.offsets)
    removed = [escape_bytes(paths[row]) for row in np.flatnonzero(excluded & (counts > 0)).tolist()]
    return replace(
        labels,
        offsets=np.cumsum([0, *np.where(excluded, 0, counts)]),
        values=labels.values[np.repeat(~excluded, counts)],
        excluded=Examples(labels.excluded.count + len(removed), (*labels.excluded.names, *removed)[:5]),
    )


def _resolve(
    source: str, paths: Sequence[str], labels: Sequence[LabelSet], classes: Classes, format: str | None
) -> Labels:
    """Return the ground truth that labels as text mean."""
    distinct = sorted({label for each in set(labels) if each for label in each})
    format = format or recognise(distinct, classes) or "name"
    index = dict(zip(distinct, map(label_lookup(format, classes), distinct), strict=True))
    unknown = [label for label in distinct if index[label] < 0]
    if distinct and len(unknown) == len(distinct):
        raise InceptionError(
            f"{source}: no class is called {_listed(unknown)}; the classes are {_listed(classes.names)}; "
            "check --val-dir, --labels and --label-format (of evaluate), or classify with other --weights or --classes"
        )
    indices = {each: tuple(sorted({index[label] for label in each or ()} - {-1})) for each in set(labels)}
    sets = [indices[each] for each in labels]
    return replace(
        Labels.from_sets(classes, source, format, sets),
        unlabelled=Examples.of(
            escape_bytes(path) for path, each in zip(paths, labels, strict=True) if each != () and not indices[each]
        ),
        excluded=Examples.of(escape_bytes(path) for path, each in zip(paths, labels, strict=True) if each == ()),
        unknown=Examples.of(map(escape_bytes, unknown)),
    )


def _without_folders(paths: Sequence[str], val_dir: str | None) -> str:
    """Return the error for photos that are in no class folder."""
    if val_dir is None:
        return "the photos are in no folders that could be their labels; give --labels FILE"
    if paths and not any(_below(path, val_dir) for path in paths):
        return (
            f"{val_dir}: none of the photos is in this folder (the first is {excerpt(paths[0], 100)}); "
            "give the folder in which they were classified, or --labels FILE"
        )
    return f"{val_dir} has no class folders with photos; give the folder that holds them, or --labels FILE"


def _folders(paths: Sequence[str], val_dir: str | None) -> list[str]:
    """Return the folder that gives the class of each image, "" where there is none."""
    if val_dir is None:
        return [os.path.basename(os.path.dirname(path)) for path in paths]  # noqa: PTH119, PTH120 - Path is slow
    below = (_below(path, val_dir) for path in paths)
    return [path.split("/", 1)[0] if "/" in path else "" for path in below]


def _below(path: str, val_dir: str) -> str:
    """Return a path relative to `val_dir`, "" if it is not in this folder."""
    start = val_dir if val_dir.endswith("/") else val_dir + "/"
    if path.startswith(start) and not path.startswith(("/", "."), len(start)):  # `photos//cat`, `photos/./cat`
        return path[len(start) :]
    relative = os.path.relpath(path, val_dir)  # by names alone: links are not followed
    return "" if f"{relative}/".startswith("../") else relative


def _listed(names: Sequence[str]) -> str:
    return ", ".join(excerpt(escape_bytes(name), 40) for name in names[:3]) + (", …" if len(names) > 3 else "")

"""The right answers for rows: from the folders that photos lie in, or from a file of labels.

Nothing is guessed: a photo whose folder is no class, or that a file does not name, has no answer, and is counted.
"""

import os
from array import array
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

from inception_cli.errors import InceptionError
from inception_cli.results.classes import Classes
from inception_cli.results.label_files import read_labels, read_names
from inception_cli.results.labels import is_numbered, reader, recognise
from inception_cli.results.matching import match
from inception_cli.results.rows import written

#: What a row's photo is said to be: labels of which each is right, none when it is not to be scored; None: nothing.
Labels = tuple[str, ...] | None


@dataclass(frozen=True)
class Some:
    """How many there are of a kind, and the first few by name."""

    count: int = 0
    examples: tuple[str, ...] = ()

    @classmethod
    def of(cls, names: Iterable[str]) -> "Some":
        """All of `names` counted, five of them kept."""
        listed = list(names)
        return cls(len(listed), tuple(listed[:5]))


NONE = Some()


@dataclass(frozen=True, eq=False)
class Truth:
    """The right answers of N rows: those of row i are `values[offsets[i]:offsets[i + 1]]`, in ascending order."""

    classes: Classes
    source: str  # in words: folders below what, or which file
    form: str  # how labels were read: a form of labels.py
    offsets: "array[int]"  # (N + 1,) int64
    values: "array[int]"  # int32, model indices
    uncovered: Some  # photos without an answer
    excluded: Some  # photos that are not to be scored: ReaL's empty sets, --exclude
    unknown: Some  # folders, or labels, that are no class
    unused: Some = NONE  # photos that the file names and that have no row

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def covered(self) -> int:
        """The number of rows with an answer."""
        return len(self) - self.uncovered.count - self.excluded.count

    @property
    def described(self) -> str:
        """What was recognised, in a sentence."""
        read_as = "numbers" if is_numbered(self.form) else f"{self.form}s"
        how = f" (--label-form {self.form})" if is_numbered(self.form) else ""
        rest = f", {self.excluded.count:,} excluded" if self.excluded.count else ""
        return f"{self.source}: {read_as}{how}; {self.covered:,} of {len(self):,} photos have an answer{rest}"

    def answers(self, row: int) -> tuple[int, ...]:
        """The right answers of one row."""
        return tuple(self.values[self.offsets[row] : self.offsets[row + 1]])


def from_folders(paths: Sequence[str], val_dir: str | None, classes: Classes, form: str | None = None) -> Truth:
    """A photo's class is the first folder below `val_dir`; without that, the folder it lies in.

    `form` forces how folder names are read. InceptionError when no photo lies in a folder that is a class.
    """
    source = "folders of the photos" if val_dir is None else f"folders below {written(val_dir)}"
    labels: list[Labels] = [(folder,) if folder else None for folder in _folders(paths, val_dir)]
    if not any(labels):
        raise InceptionError(
            f"{source}: there are none; name the folder that holds the class folders, or give --labels"
        )
    return _truth(source, paths, labels, classes, form)


def from_file(file: Path, paths: Sequence[str], classes: Classes, form: str | None = None) -> Truth:
    """The labels that `file` gives to `paths`; `form` forces how labels are read.

    InceptionError when the file names no photo, or two by one name, or when none of its labels is a class.
    """
    table = read_labels(file)
    names = match(file, table.labels, paths)
    labels = [table.labels[name] if name else None for name in names]
    truth = _truth(f"{file.name}, {table.described}", paths, labels, classes, form or table.form)
    return replace(truth, unused=Some.of(sorted(table.labels.keys() - set(names))))


def exclude(truth: Truth, file: Path, paths: Sequence[str]) -> Truth:
    """`truth` without the photos that `file` names: a path a line, or a number of ImageNet's validation set."""
    names = match(file, read_names(file), paths)
    answers = [() if name else truth.answers(row) for row, name in enumerate(names)]
    gone = [written(path) for row, path in enumerate(paths) if truth.answers(row) and not answers[row]]
    offsets, values = _arrays(answers)
    excluded = Some(truth.excluded.count + len(gone), (*truth.excluded.examples, *gone)[:5])
    return replace(truth, offsets=offsets, values=values, excluded=excluded)


def _truth(source: str, paths: Sequence[str], labels: Sequence[Labels], classes: Classes, form: str | None) -> Truth:
    distinct = sorted({label for some in set(labels) if some for label in some})
    form = form or recognise(distinct, classes) or "name"
    index = dict(zip(distinct, map(reader(form, classes), distinct), strict=True))
    unknown = [label for label in distinct if index[label] < 0]
    if distinct and len(unknown) == len(distinct):
        raise InceptionError(
            f"{source}: no class is called {_listed(unknown)}; classes are such as {_listed(classes.names)}; "
            f"--classes names them, --label-form says how labels are meant"
        )
    sets = {some: tuple(sorted({index[label] for label in some} - {-1})) for some in set(labels) if some is not None}
    answers = [() if some is None else sets[some] for some in labels]
    offsets, values = _arrays(answers)
    return Truth(
        *(classes, source, form, offsets, values),
        uncovered=Some.of(
            written(path) for path, some, right in zip(paths, labels, answers, strict=True) if some != () and not right
        ),
        excluded=Some.of(written(path) for path, some in zip(paths, labels, strict=True) if some == ()),
        unknown=Some.of(map(written, unknown)),
    )


def _arrays(answers: Collection[tuple[int, ...]]) -> tuple["array[int]", "array[int]"]:
    offsets = array("q", accumulate(map(len, answers), initial=0))
    return offsets, array("i", (index for right in answers for index in right))


def _folders(paths: Sequence[str], val_dir: str | None) -> list[str]:
    """The folder that says each photo's class, "" where there is none."""
    if val_dir is None:
        return [path.rsplit("/", 2)[-2] if path.count("/") else "" for path in paths]
    start = val_dir if val_dir.endswith("/") else val_dir + "/"
    below = (path[len(start) :] if path.startswith(start) else _below(path, val_dir) for path in paths)
    return [path.split("/", 1)[0] if "/" in path else "" for path in below]


def _below(path: str, val_dir: str) -> str:
    relative = os.path.relpath(path, val_dir)  # by names alone: links are not followed
    return "" if f"{relative}/".startswith("../") else relative


def _listed(names: Sequence[str]) -> str:
    return ", ".join(written(name) for name in names[:3]) + (", …" if len(names) > 3 else "")

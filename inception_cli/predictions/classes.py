"""Class names in the order of a model, and the table of ImageNet's classes."""

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from inception_cli.config import Classes
from inception_cli.errors import InceptionError, UsageError, one_line, os_errors

LookupKind = Literal["wnid", "name", "number"]

_NAME_COLUMNS = ("name", "label", "class")


@dataclass(frozen=True)
class Synset:
    """A class of ImageNet-1k. `ilsvrc2012_id` (1…1000) is the devkit's, in another order than `index` (0…999)."""

    index: int
    wnid: str
    name: str  # torchvision's
    ilsvrc2012_id: int
    in_a: bool  # one of the 200 classes of ImageNet-A
    in_r: bool  # one of the 200 classes of ImageNet-R


@cache
def synsets() -> tuple[Synset, ...]:
    """Return ImageNet-1k's 1000 classes by index, which is the order of their wnids as strings."""
    table = files("inception_cli").joinpath("data", "imagenet.csv").read_text(encoding="utf-8")
    return tuple(
        Synset(int(index), wnid, name, int(ilsvrc), in_a == "1", in_r == "1")
        for index, wnid, name, ilsvrc, in_a, in_r in list(csv.reader(io.StringIO(table)))[1:]
    )


@cache
def imagenet() -> Classes:
    """Return ImageNet-1k's classes with torchvision's names, which are unique (other lists have two cranes)."""
    return Classes(tuple(synset.name for synset in synsets()))


def is_imagenet(classes: Classes) -> bool:
    """Return whether these are ImageNet-1k's classes in its order, by name or by wnid."""
    return classes == imagenet() or classes.names == tuple(synset.wnid for synset in synsets())


def read_classes(file: Path) -> Classes:
    """Return the class names in `file`, in the model's order: one name per line, or a .csv or .json list.

    A CSV has a column `name`, `label` or `class` (or one column without a header) and may have a column `index`. JSON
    is a list of names, or an object `{"0": name}`, whose names may be lists that end in the name (Keras's format).
    """
    try:
        with os_errors(file, "give a file of class names"):
            text = file.read_text(encoding="utf-8-sig")
        names = _PARSERS.get(file.suffix.lower(), _from_lines)(text)
        return Classes(tuple(names))
    except ValueError as error:
        raise InceptionError(f"{file}: {error}; give one class name per line, in the model's order") from error


def _from_lines(text: str) -> list[str]:
    return [line.strip() for line in text.rstrip().split("\n")]


def _from_csv(text: str) -> list[str]:
    rows = [row for row in csv.reader(io.StringIO(text)) if row]
    titles = [title.strip().lower() for title in rows[0]] if rows else []
    column = next((titles.index(title) for title in _NAME_COLUMNS if title in titles), None)
    if column is None and any(len(row) > 1 for row in rows):
        raise ValueError(f"no column is called {', '.join(_NAME_COLUMNS)}")
    if column is None:
        return [row[0].strip() for row in rows]
    names = [row[column].strip() if column < len(row) else "" for row in rows[1:]]
    if "index" not in titles:
        return names
    return _in_order((row[titles.index("index")], name) for row, name in zip(rows[1:], names, strict=True))


def _from_json(text: str) -> list[str]:
    value: Any = json.loads(text)
    if isinstance(value, dict):
        value = _in_order((key, name[-1] if isinstance(name, list) and name else name) for key, name in value.items())
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ValueError("the JSON is not a list of names")
    return value


def _in_order(numbered: Iterable[tuple[str, str]]) -> list[str]:
    names = {int(number): name for number, name in numbered}
    if sorted(names) != list(range(len(names))):
        raise ValueError("its class indices are not 0, 1, 2, …")
    return [names[number] for number in range(len(names))]


_PARSERS = {".csv": _from_csv, ".json": _from_json}


def class_lookup(kind: LookupKind, classes: Classes) -> Callable[[str], int]:
    """Return the function from a text to a model index, by wnid, name or index; -1 for a text that is not a class.

    In names, case and `_` for a space make no difference, unless two classes would then have the same name.
    """
    if kind == "wnid":
        known = {synset.wnid: synset.index for synset in synsets()}
        return lambda text: known.get(text, -1)
    if kind == "name":
        exact, loose = classes.index, _loose_index(classes)
        return lambda text: exact.get(text, loose.get(_loose(text), -1))
    return lambda text: int(text) if is_number(text) and int(text) < len(classes) else -1


def recognise(texts: Collection[str], classes: Classes) -> LookupKind | None:
    """Return the kind of lookup that finds a class for most of `texts`, names before indices; None if none does."""
    kinds: tuple[LookupKind, ...] = ("wnid", "name", "number") if is_imagenet(classes) else ("name", "number")
    found = {kind: sum(index >= 0 for index in map(class_lookup(kind, classes), texts)) for kind in kinds}
    best = max(kinds, key=lambda kind: found[kind])
    return best if found[best] else None


def is_number(text: str) -> bool:
    """Return whether a text is a number in ASCII digits."""
    return text.isascii() and text.isdigit()


def _loose(name: str) -> str:
    return name.replace("_", " ").casefold().strip()


def _loose_index(classes: Classes) -> dict[str, int]:
    """Return the index by name without regard to case and `_`, leaving out names that are then equal."""
    loose = [_loose(name) for name in classes.names]
    counts = Counter(loose)
    return {name: index for index, name in enumerate(loose) if counts[name] == 1}


def find_classes(only_classes: str, classes: Classes) -> tuple[int, ...]:
    """Return the model indices of a subset of classes: `a` or `r`, ImageNet-A's or -R's 200 classes, or a file.

    The file has one class per line: a wnid, a name or an index.
    """
    if only_classes in ("a", "r"):
        if not is_imagenet(classes):
            raise UsageError(
                f"only_classes {only_classes} is for ImageNet's classes, not for these {len(classes)}; give a file"
            )
        return tuple(synset.index for synset in synsets() if (synset.in_a if only_classes == "a" else synset.in_r))
    try:
        lines = Path(only_classes).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InceptionError(
            f"{only_classes}: {one_line(error)}; give a, r, or a file with one class per line"
        ) from error
    texts = [line.strip() for line in lines if line.strip()]
    lookup = class_lookup(recognise(texts, classes) or "name", classes)
    unknown = [text for text in texts if lookup(text) < 0]
    if unknown or not texts:
        raise InceptionError(
            f"{only_classes}: {(unknown or ['(nothing)'])[0]} is not a class; give one wnid, name or index per line"
        )
    return tuple(sorted({lookup(text) for text in texts}))

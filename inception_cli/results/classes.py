"""Class names in a model's order, and ImageNet's table of them."""

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

from inception_cli.errors import InceptionError

_NAME_COLUMNS = ("name", "label", "class")


@dataclass(frozen=True)
class Classes:
    """The names of a model's classes: position is the model's index. Unique and not empty, else ValueError."""

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.names:
            raise ValueError("there are no classes")
        if not all(name.strip() for name in self.names):
            raise ValueError(f"class {[bool(name.strip()) for name in self.names].index(False)} has no name")
        if len(self.index) < len(self.names):
            # Lists with two cranes are in use elsewhere; to look up by name would then lose a class.
            twice = next(name for index, name in enumerate(self.names) if self.index[name] != index)
            raise ValueError(f"the class {twice!r} occurs twice")

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def index(self) -> dict[str, int]:
        """Name → model index."""
        return {name: index for index, name in enumerate(self.names)}


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
    """ImageNet-1k's 1000 classes by index, which is the order of their wnids as strings."""
    table = files(__package__).joinpath("imagenet.csv").read_text(encoding="utf-8")
    return tuple(
        Synset(int(index), wnid, name, int(ilsvrc), in_a == "1", in_r == "1")
        for index, wnid, name, ilsvrc, in_a, in_r in list(csv.reader(io.StringIO(table)))[1:]
    )


@cache
def imagenet() -> Classes:
    """ImageNet-1k's classes by torchvision's names, which are unique (other lists have two cranes)."""
    return Classes(tuple(synset.name for synset in synsets()))


def is_imagenet(classes: Classes) -> bool:
    """Whether these are ImageNet-1k's classes in its order, by name or by wnid."""
    return classes == imagenet() or classes.names == tuple(synset.wnid for synset in synsets())


def read_classes(file: Path) -> Classes:
    """Names in the model's order from `file`: a name a line, or a .csv or .json list.

    A CSV has a column `name`, `label` or `class` (or one column without a title) and may have a column `index`. JSON is
    a list of names, or an object `{"0": name}`, whose names may be lists that end in the name (as Keras has them).
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
        names = _PARSERS.get(file.suffix.lower(), _from_lines)(text)
        return Classes(tuple(names))
    except OSError as error:
        raise InceptionError(f"{file}: {error.strerror}; --classes takes a file of class names") from error
    except ValueError as error:
        raise InceptionError(f"{file}: {error}; --classes takes one name a line, in the model's order") from error


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
        raise ValueError("this JSON is no list of names")
    return value


def _in_order(numbered: Iterable[tuple[str, str]]) -> list[str]:
    names = {int(number): name for number, name in numbered}
    if sorted(names) != list(range(len(names))):
        raise ValueError("the numbers of its classes are not 0, 1, 2, …")
    return [names[number] for number in range(len(names))]


_PARSERS = {".csv": _from_csv, ".json": _from_json}

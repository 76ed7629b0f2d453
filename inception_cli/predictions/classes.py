"""Class names in the order of a model, and the table of ImageNet's classes."""

import csv
import io
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal
from unicodedata import normalize

from inception_cli.config import MAX_CLASSES, Classes
from inception_cli.errors import InceptionError, UsageError, excerpt, one_line
from inception_cli.files.text_list import read_text_file
from inception_cli.predictions.decision import UNKNOWN

LookupKind = Literal["wnid", "name", "number"]

#: A longer file is no list of classes.
MAX_BYTES, MAX_LINES = 100 * MAX_CLASSES, 10 * MAX_CLASSES
#: Digits of a 64-bit integer; Python refuses to convert thousands of them.
_MAX_DIGITS = 18

_NAME_COLUMNS = ("name", "label", "class", "class_name", "label_name", "category")
_NUMBER_COLUMNS = ("index", "class_index", "class_id", "id", "class_idx", "idx", "label_id")
PARENT = "parent"  # the column of a CSV that makes a tree
_NUMBER_REMEDY = "number the classes from 0 without gaps, or give a CSV with the column name alone"
#: `9 tomato`, `9: tomato`, `9. tomato`; and `tomato: 9` with a separator, as names may end in a number.
_NUMBER_NAME = re.compile(r"(\d+)(?:\s*[:,;=\t]\s*|[.)]?\s+)(\S.*)", re.ASCII)
_NAME_NUMBER = re.compile(r"(.*\S)\s*[:,;=\t]\s*(\d+)", re.ASCII)


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
    return classes.names in (imagenet().names, tuple(synset.wnid for synset in synsets()))


def read_classes(file: Path) -> Classes:
    """Return the class names in `file`, in the model's order: one name per line, or a .csv or .json list.

    Lines may give each class its number: `9 tomato`, `9: tomato`, `tomato: 9`. A CSV has a column of names, and may
    have one of numbers; without a header it has one column, or two of numbers and names. JSON is a list of names, or an
    object `{"0": name}` or `{name: 0}`; the former's names may be lists that end in the name (Keras's format).

    A CSV with a column `parent` brings a tree: a row whose name is the parent of another is a node, not a class.
    """
    remedy = "give one class name per line, in the model's order"
    try:
        lines = read_text_file(file, MAX_BYTES, MAX_LINES, "give a file of class names")
        while lines and not lines[-1].strip():
            lines.pop()
        names = _PARSERS.get(file.suffix.lower(), _from_lines)(lines)
        _check_count(len(names) > MAX_CLASSES)
        if parents := _parents(lines) if file.suffix.lower() == ".csv" else ():
            remedy = "correct the column parent, which makes the tree of the classes"
        if any(parent == UNKNOWN for _, parent in parents):
            raise ValueError(f"{UNKNOWN} is the label of photos without another one; choose another name for the node")
        return Classes(tuple(names), parents)
    except (ValueError, RecursionError, csv.Error) as error:
        problem = "nested too deeply" if isinstance(error, RecursionError) else one_line(error, 240)
        raise InceptionError(f"{file}: {problem}; {remedy}") from error


def _check_count(too_many: bool) -> None:
    if too_many:
        raise ValueError(f"more than {MAX_CLASSES:,} classes, which is no list of a model's classes")


def _from_lines(lines: Sequence[str]) -> list[str]:
    """Return the names in lines, in the order of their numbers if they have numbers."""
    _check_count(len(lines) > MAX_CLASSES)
    stripped = [line.strip() for line in lines]
    matches = [_NUMBER_NAME.fullmatch(line) for line in stripped]
    missing = [number for number, match in enumerate(matches, start=1) if not match]
    if 2 * len(missing) < len(matches):
        if missing:
            raise ValueError(f"line {missing[0]} has no number, but other lines begin with one; {_NUMBER_REMEDY}")
        return _in_order([(match[1], match[2]) for match in matches if match])
    trailing = [match for line in stripped if (match := _NAME_NUMBER.fullmatch(line))]
    if stripped and len(trailing) == len(stripped):
        return _in_order([(match[2], match[1]) for match in trailing])
    first: dict[str, int] = {}
    for number, name in enumerate(stripped, start=1):
        if not name:
            raise ValueError(f"line {number} is empty")
        if first.setdefault(name, number) < number:
            raise ValueError(f"the class {excerpt(repr(name))} occurs twice, in the lines {first[name]} and {number}")
    return stripped


def _from_csv(lines: Sequence[str]) -> list[str]:
    titles, rows = _csv_rows(lines)
    if not _name_columns(titles):
        return _from_untitled([row for _, row in rows])
    for number, row in rows[1:]:
        if len(row) != len(titles):
            raise ValueError(f"line {number} has not {len(titles)} fields but {len(row)}; quote names with commas")
    table = [row for _, row in rows[1:]]
    name = _name_column(titles, table)
    if PARENT in titles:
        nodes = {row[titles.index(PARENT)] for row in table}
        table = [row for row in table if row[name] not in nodes]
    return _from_columns(titles, list(zip(*table, strict=True)) or [()] * len(titles), name)


def _parents(lines: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Return the pairs of a class or node and its parent in a CSV; () without a column for parents."""
    titles, rows = _csv_rows(lines)
    if PARENT not in titles or not _name_columns(titles):
        return ()
    table = [row for _, row in rows[1:]]
    name, parent = _name_column(titles, table), titles.index(PARENT)
    return tuple((row[name], row[parent]) for row in table if row[parent])


def _csv_rows(lines: Sequence[str]) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the titles of a CSV in lower case, and its rows with the numbers of their lines, the titles first."""
    _check_count(len(lines) > 2 * MAX_CLASSES)
    delimiter = next((each for each in ",;\t" if _name_columns(_titles(lines, each))), ",")
    reader = csv.reader((f"{line}\n" for line in lines), delimiter=delimiter)
    rows = [(reader.line_num, [field.strip() for field in row]) for row in reader if row]
    return _titles(lines, delimiter), rows


def _titles(lines: Sequence[str], delimiter: str) -> list[str]:
    return [title.strip().lower() for title in next(csv.reader(lines, delimiter=delimiter), [])]


def _name_columns(titles: Sequence[str]) -> list[int]:
    return [titles.index(title) for title in _NAME_COLUMNS if title in titles]


def _name_column(titles: Sequence[str], table: Sequence[Sequence[str]]) -> int:
    """Return the position of the names of classes and nodes: of several columns the first that is not one of numbers.

    In a column of numbers the cell of a node, which is no class, may be empty.
    """
    candidates = _name_columns(titles)
    texts = {position: {row[position] for row in table} - {""} for position in candidates}
    names = (position for position in candidates if texts[position] and not all(map(is_number, texts[position])))
    return next(names, candidates[0])


def _from_untitled(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the names in a CSV without a header: one column, or numbers and names in either order."""
    if all(len(row) == 1 for row in rows):
        return _from_lines([row[0] for row in rows])
    if all(len(row) == 2 for row in rows):
        for number, name in ((0, 1), (1, 0)):
            if all(is_number(row[number]) for row in rows):
                return _in_order([(row[number], row[name]) for row in rows])
    raise ValueError(f"no column is called {', '.join(_NAME_COLUMNS)}")


def _from_columns(titles: Sequence[str], columns: Sequence[Sequence[str]], name: int) -> list[str]:
    """Return the names in the column `name`; of several columns of numbers those that count the classes must agree."""
    numbers = [titles.index(title) for title in _NUMBER_COLUMNS if title in titles]
    numbers += [position for position in _name_columns(titles) if all(map(is_number, columns[position]))]
    orders: dict[str, list[str]] = {}
    problem: ValueError | None = None
    for position in (position for position in numbers if position != name):
        try:
            orders[titles[position]] = _in_order(list(zip(columns[position], columns[name], strict=True)))
        except ValueError as error:
            problem = problem or error
    if problem and not orders:
        raise problem
    if len(set(map(tuple, orders.values()))) > 1:
        raise ValueError(f"the columns {' and '.join(orders)} number the classes in different orders; keep one of them")
    return next(iter(orders.values()), list(columns[name]))


def _from_json(lines: Sequence[str]) -> list[str]:
    value: Any = json.loads("\n".join(lines), object_pairs_hook=_pairs, parse_int=_integer)
    if isinstance(value, _Pairs):
        by_name = all(_is_index(number) for _, number in value) and (
            all(isinstance(number, int) for _, number in value) or not all(is_number(key) for key, _ in value)
        )
        pairs = [(str(number), key) if by_name else (key, _last(number)) for key, number in value]
        value = _in_order(pairs) if all(isinstance(name, str) for _, name in pairs) else None
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ValueError("the JSON is not a list of names")
    return value


class _Pairs(tuple[tuple[str, Any], ...]):
    """The members of a JSON object, in which a name may occur twice."""


def _integer(text: str) -> int | float:
    """Return the number in a JSON text; one with too many digits, which Python does not convert, is infinite."""
    return int(text) if len(text) <= _MAX_DIGITS else math.inf


def _pairs(members: list[tuple[str, Any]]) -> _Pairs:
    return _Pairs(members)


def _is_index(value: Any) -> bool:
    return is_number(value) if isinstance(value, str) else isinstance(value, int) and not isinstance(value, bool)


def _last(name: Any) -> Any:
    return name[-1] if isinstance(name, list) and name else name


def _in_order(numbered: Sequence[tuple[str, str]]) -> list[str]:
    """Return names in the order of their numbers 0, 1, 2, …; numbers from 1 must be in ascending order.

    ValueError for other numbers. From 1 in another order they may be a publisher's own ids, such as ILSVRC2012's, which
    are not the model's order.
    """
    _check_count(len(numbered) > MAX_CLASSES)
    names: dict[int, str] = {}
    for text, name in numbered:
        if not is_number(text) or len(text) > 9:
            raise ValueError(f"{excerpt(repr(name), 30)} has the number {excerpt(repr(text), 20)}; {_NUMBER_REMEDY}")
        if int(text) in names:
            raise ValueError(
                f"{excerpt(repr(names[int(text)]), 30)} and {excerpt(repr(name), 30)} both have the number {text}; "
                f"{_NUMBER_REMEDY}"
            )
        names[int(text)] = name
    if list(names) == list(range(1, len(names) + 1)):
        return list(names.values())
    missing = next((number for number in range(len(names)) if number not in names), None)
    if missing is not None:
        raise ValueError(f"its class numbers are not 0, 1, 2, … (no class has {missing}); {_NUMBER_REMEDY}")
    return [names[number] for number in range(len(names))]


_PARSERS = {".csv": _from_csv, ".json": _from_json}


def class_lookup(kind: LookupKind, classes: Classes) -> Callable[[str], int]:
    """Return the function from a text to a model index, by wnid, name or index; -1 for a text that is not a class.

    In names, case, `_` for a space and the Unicode form make no difference, unless two classes would then have the same
    name.
    """
    if kind == "wnid":
        known = {synset.wnid: synset.index for synset in synsets()}
        return lambda text: known.get(text, -1)
    if kind == "name":
        exact, loose = classes.index, _loose_index(classes)
        return lambda text: exact.get(text, loose.get(_loose(text), -1))
    return lambda text: int(text) if is_number(text) and int(text) < len(classes) else -1


def find_class(text: str, classes: Classes) -> int:
    """Return the model index of a class by its name, number or (of ImageNet's) wnid; UsageError names the nearest."""
    for kind in ("name", "number", *(("wnid",) if is_imagenet(classes) else ())):
        if (index := class_lookup(kind, classes)(text)) >= 0:
            return index
    nearest = get_close_matches(text, classes.names, n=3, cutoff=0.5)
    known = ", ".join(map(excerpt, nearest or classes.names[:5]))
    remedy = f"did you mean {known}?" if nearest else f"the classes are {known}{', …' if len(classes) > 5 else ''}"
    raise UsageError(f"{excerpt(repr(text))} is no class of the weights: {remedy}")


def recognise(texts: Collection[str], classes: Classes) -> LookupKind | None:
    """Return the kind of lookup that finds a class for most of `texts`, names before indices; None if none does."""
    kinds: tuple[LookupKind, ...] = ("wnid", "name", "number") if is_imagenet(classes) else ("name", "number")
    found = {kind: sum(index >= 0 for index in map(class_lookup(kind, classes), texts)) for kind in kinds}
    best = max(kinds, key=lambda kind: found[kind])
    return best if found[best] else None


def is_number(text: str) -> bool:
    """Return whether a text is a number in at most 18 ASCII digits."""
    return text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS


def _loose(name: str) -> str:
    # NFC: a name from macOS may have its accents as characters of their own.
    return normalize("NFC", name.replace("_", " ").casefold().strip())


def _loose_index(classes: Classes) -> dict[str, int]:
    """Return the index by name without regard to case and `_`, leaving out names that are then equal."""
    loose = [_loose(name) for name in classes.names]
    counts = Counter(loose)
    return {name: index for index, name in enumerate(loose) if counts[name] == 1}

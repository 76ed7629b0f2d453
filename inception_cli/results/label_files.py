"""Files of labels, told apart by what is in them.

devkit        a label a line, the n-th for ILSVRC2012_val_0000000n: numbers are ILSVRC2012 ids
caffe         a path and a label a line, between them a space: Caffe's and mmpretrain's val.txt
kaggle        LOC_val_solution.csv: ImageId, and a PredictionString that starts with a wnid
csv           a CSV (or TSV) with a column for paths and one for labels
real          ReaL's real.json: for the n-th photo all indices that are right, or none
"""

import csv
import io
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from inception_cli.errors import InceptionError

PATH_COLUMNS = ("path", "file", "filename", "file_name", "image", "image_path", "image_id", "imageid", "img")
LABEL_COLUMNS = (
    *("wnid", "synset", "index", "class_index", "class_id", "label", "target", "truth"),
    *("class", "category", "name", "class_name"),
)

_KAGGLE = ["imageid", "predictionstring"]
_ILSVRC = re.compile(r"(ILSVRC2012_val_\d{8})(_n\d{8})?(\.\w+)?")
_LAYOUTS = {
    "devkit": "a label a line, by the number in ILSVRC2012_val_00000001.JPEG",
    "caffe": "a path and a label a line (Caffe's, mmpretrain's form)",
    "kaggle": "Kaggle's LOC_val_solution.csv",
    "csv": "columns of paths and labels",
    "real": "ReaL's sets of right answers",
}


@dataclass(frozen=True)
class LabelFile:
    """What a file says: a photo (a path, or ILSVRC2012_val_0000000n) → its labels; none: it is not to be scored."""

    layout: str
    labels: dict[str, tuple[str, ...]]
    form: str | None = None  # of the labels, where the layout says it

    @property
    def described(self) -> str:
        """The layout in words."""
        return _LAYOUTS[self.layout]


def read_labels(file: Path) -> LabelFile:
    """The labels in `file`; InceptionError when it has none of the layouts above."""
    text = _text(file, "--labels")
    try:
        if text.lstrip()[:1] in ("[", "{"):
            return _real(text)
        lines = _lines(text)
        if not lines:
            raise ValueError("it is empty")
        if file.suffix.lower() in (".csv", ".tsv") or _has_titles(lines[0]):
            return _csv(text)
        if any(len(line.split()) > 1 or "," in line for line in lines):
            return _caffe(lines)
        return _devkit(lines)
    except ValueError as error:
        raise InceptionError(
            f"{file}: {error}; --labels takes lines of `path label`, or a CSV with such columns"
        ) from error


def read_names(file: Path) -> tuple[str, ...]:
    """The photos that `--exclude` names: a path a line, or a number a line, n for ILSVRC2012_val_0000000n."""
    lines = [line.strip() for line in _lines(_text(file, "--exclude"))]
    if all(line.isascii() and line.isdigit() for line in lines):
        return tuple(nth_photo(int(line)) for line in lines)
    return tuple(lines)


def nth_photo(n: int) -> str:
    """The n-th photo of ImageNet's validation set, from 1."""
    return f"ILSVRC2012_val_{n:08d}"


def imagenet_photo(path: str) -> str | None:
    """Which photo of ImageNet's validation set a path names, whatever its folder and suffix."""
    found = _ILSVRC.fullmatch(path, path.rfind("/") + 1)
    return found[1] if found else None


def _text(file: Path, option: str) -> str:
    try:
        return file.read_bytes().decode("utf-8-sig", "backslashreplace")  # as rows hold a name that is no UTF-8
    except OSError as error:
        raise InceptionError(f"{file}: {error.strerror}; {option} takes a file") from error


def _lines(text: str) -> list[str]:
    # Not splitlines, which takes some letters of names for ends of lines.
    return [line for line in text.split("\n") if line.strip()]


def _real(text: str) -> LabelFile:
    sets = json.loads(text)
    if not isinstance(sets, list) or not all(isinstance(one, list) for one in sets):
        raise ValueError("this JSON is no list of lists, as ReaL's real.json is")
    labels = {nth_photo(n): tuple(str(label) for label in one) for n, one in enumerate(sets, start=1)}
    return LabelFile("real", labels, "number")


def _devkit(lines: list[str]) -> LabelFile:
    form = "ilsvrc" if all(line.strip().isdigit() for line in lines) else None
    return LabelFile("devkit", {nth_photo(n): (line.strip(),) for n, line in enumerate(lines, start=1)}, form)


def _caffe(lines: list[str]) -> LabelFile:
    pairs = [line.rsplit(maxsplit=1) for line in lines]
    if short := next((number for number, pair in enumerate(pairs, start=1) if len(pair) < 2), None):
        raise ValueError(f"line {short} has no label")
    return LabelFile("caffe", _by_name((name, label) for name, label in pairs))


def _by_name(pairs: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    labels: dict[str, tuple[str, ...]] = {}
    for name, label in pairs:
        if labels.setdefault(name, (label,)) != (label,):
            raise ValueError(f"{name} is labelled {labels[name][0]} and {label}")
    return labels


def _csv(text: str) -> LabelFile:
    first = text.split("\n", 1)[0]
    reader = csv.reader(io.StringIO(text, newline="\n"), delimiter=_delimiter(first), strict=True)
    try:
        titles = [title.strip().lower() for title in next(reader)]
        rows = [row for row in reader if row]
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: {error}") from error
    path, label = _columns(titles)
    if short := next((row for row in rows if len(row) <= max(path, label) or not row[label].strip()), None):
        raise ValueError(f"{short[0]} has no label")
    if titles == _KAGGLE:
        return LabelFile("kaggle", _by_name((row[path], row[label].split()[0]) for row in rows))
    return LabelFile("csv", _by_name((row[path], row[label].strip()) for row in rows))


def _delimiter(line: str) -> str:
    return max(",\t;", key=line.count)


def _has_titles(line: str) -> bool:
    try:
        _columns([title.strip().lower() for title in line.split(_delimiter(line))])
    except ValueError:
        return False
    return True


def _columns(titles: list[str]) -> tuple[int, int]:
    """Where paths and labels stand."""
    if titles == _KAGGLE:
        return 0, 1
    path = next((titles.index(title) for title in PATH_COLUMNS if title in titles), None)
    label = next((titles.index(title) for title in LABEL_COLUMNS if title in titles), None)
    if path is None or label is None:
        wanted = PATH_COLUMNS if path is None else LABEL_COLUMNS
        raise ValueError(f"its first line ({', '.join(titles)[:80]}) has no column called {', '.join(wanted)}")
    return path, label

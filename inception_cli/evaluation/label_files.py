"""Read files of labels. The layout of a file is recognised from its content:

devkit        one label per line, the n-th for ILSVRC2012_val_0000000n; numbers are ILSVRC2012 ids
caffe         path and label per line, separated by a space: Caffe's and mmpretrain's val.txt
kaggle        LOC_val_solution.csv: ImageId, and a PredictionString that begins with a wnid
csv           CSV (or TSV) with a column of paths and a column of labels
real          ReaL's real.json: for the n-th image all correct indices, or none
"""

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from inception_cli.errors import InceptionError, os_errors

PATH_COLUMNS = ("path", "file", "filename", "file_name", "image", "image_path", "image_id", "imageid", "img")
LABEL_COLUMNS = (
    *("wnid", "synset", "index", "class_index", "class_id", "label", "target", "truth"),
    *("class", "category", "name", "class_name"),
)

_KAGGLE = ["imageid", "predictionstring"]
_ILSVRC = re.compile(r"(ILSVRC2012_val_\d{8})(_n\d{8})?(\.\w+)?")
_LAYOUTS = {
    "devkit": "one label per line, for ILSVRC2012_val_00000001.JPEG and so on",
    "caffe": "path and label per line (Caffe's and mmpretrain's layout)",
    "kaggle": "Kaggle's LOC_val_solution.csv",
    "csv": "columns of paths and labels",
    "real": "ReaL's sets of labels",
}


@dataclass(frozen=True)
class LabelFile:
    """The content of a label file: the labels of each image, by path or as ILSVRC2012_val_0000000n.

    An image with an empty tuple is excluded from the metrics.
    """

    layout: str
    labels: dict[str, tuple[str, ...]]
    format: str | None = None  # of the labels, where the layout determines it

    @property
    def description(self) -> str:
        """The layout in words."""
        return _LAYOUTS[self.layout]


def read_labels(file: Path) -> LabelFile:
    """Return the labels in `file`; raise InceptionError if it has none of the layouts above."""
    text = _read_text(file)
    try:
        if text.lstrip()[:1] in ("[", "{"):
            return _parse_real(text)
        first = next(_lines(text), None)
        if first is None:
            raise ValueError("the file is empty")
        if file.suffix.lower() in (".csv", ".tsv") or _is_header(first):
            return _parse_csv(text)
        if any(len(line.split()) > 1 or "," in line for line in _lines(text)):
            return LabelFile("caffe", _by_name(_pairs(_lines(text))))
        return _parse_devkit(list(_lines(text)))
    except ValueError as error:
        raise InceptionError(
            f"{file}: {error}; a label file has lines of `path label`, or is a CSV with columns such as path and label"
        ) from error


def read_image_names(file: Path) -> tuple[str, ...]:
    """Return the images that `file` lists: one path per line, or one number per line, n for ILSVRC2012_val_0000000n."""
    lines = [line.strip() for line in _lines(_read_text(file))]
    if all(line.isascii() and line.isdigit() for line in lines):
        return tuple(validation_image(int(line)) for line in lines)
    return tuple(lines)


def validation_image(n: int) -> str:
    """Return the name, without suffix, of the n-th image of ImageNet's validation set, from 1."""
    return f"ILSVRC2012_val_{n:08d}"


def validation_image_of(path: str) -> str | None:
    """Return the name of an image of ImageNet's validation set without folder and suffix; None for other paths."""
    match = _ILSVRC.fullmatch(path, path.rfind("/") + 1)
    return match[1] if match else None


def _read_text(file: Path) -> str:
    with os_errors(file, "give an existing text file"):
        # Files of predictions escape bytes that are not UTF-8 in the same way.
        return file.read_bytes().decode("utf-8-sig", "backslashreplace")


def _lines(text: str) -> Iterator[str]:
    # Not splitlines: it also splits at characters that may occur in names.
    return (line for line in io.StringIO(text, newline="\n") if line.strip())


def _parse_real(text: str) -> LabelFile:
    sets = json.loads(text)
    if not isinstance(sets, list) or not all(isinstance(each, list) for each in sets):
        raise ValueError("the JSON is not a list of lists, as ReaL's real.json is")
    labels = {validation_image(n): tuple(str(label) for label in each) for n, each in enumerate(sets, start=1)}
    return LabelFile("real", labels, "number")


def _parse_devkit(lines: list[str]) -> LabelFile:
    format = "ilsvrc" if all(line.strip().isdigit() for line in lines) else None
    return LabelFile("devkit", {validation_image(n): (line.strip(),) for n, line in enumerate(lines, start=1)}, format)


def _parse_csv(text: str) -> LabelFile:
    # Not pandas.read_csv: it fills rows that are too short, and converts text such as "NA" and "007".
    first = text.split("\n", 1)[0]
    reader = csv.reader(io.StringIO(text, newline="\n"), delimiter=_delimiter(first), strict=True)
    try:
        titles = [title.strip().lower() for title in next(reader)]
        pairs = _csv_pairs(reader, *_path_and_label(titles))
        if titles == _KAGGLE:
            return LabelFile("kaggle", _by_name((path, prediction.split()[0]) for path, prediction in pairs))
        return LabelFile("csv", _by_name(pairs))
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: {error}") from error


def _csv_pairs(rows: Iterable[list[str]], path: int, label: int) -> Iterator[tuple[str, str]]:
    for row in rows:
        if row and (len(row) <= max(path, label) or not row[label].strip()):
            raise ValueError(f"{row[0]} has no label")
        if row:
            yield row[path], row[label].strip()


def _pairs(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(lines, start=1):
        name, *label = line.rsplit(maxsplit=1)
        if not label:
            raise ValueError(f"line {number} has no label")
        yield name, label[0]


def _by_name(pairs: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    labels: dict[str, tuple[str, ...]] = {}
    sets: dict[str, tuple[str, ...]] = {}  # one object per label, not per image
    for name, label in pairs:
        labelled = sets.setdefault(label, (label,))
        if labels.setdefault(name, labelled) != labelled:
            raise ValueError(f"{name} is labelled {labels[name][0]} and {label}")
    return labels


def _delimiter(line: str) -> str:
    return max(",\t;", key=line.count)


def _is_header(line: str) -> bool:
    try:
        _path_and_label([title.strip().lower() for title in line.split(_delimiter(line))])
    except ValueError:
        return False
    return True


def _path_and_label(titles: list[str]) -> tuple[int, int]:
    """Return the positions of the columns of paths and of labels."""
    if titles == _KAGGLE:
        return 0, 1
    path = next((titles.index(title) for title in PATH_COLUMNS if title in titles), None)
    label = next((titles.index(title) for title in LABEL_COLUMNS if title in titles), None)
    if path is None or label is None:
        wanted = PATH_COLUMNS if path is None else LABEL_COLUMNS
        raise ValueError(f"its first line ({', '.join(titles)[:80]}) has no column called {', '.join(wanted)}")
    return path, label

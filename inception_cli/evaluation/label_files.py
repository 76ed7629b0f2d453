"""Read files of labels. The layout of a file is recognised from its content:

devkit        one label per line, the n-th for ILSVRC2012_val_0000000n; numbers are ILSVRC2012 ids
caffe         path and label per line, separated by a tab or a space: Caffe's and mmpretrain's val.txt
kaggle        LOC_val_solution.csv: ImageId, and a PredictionString that begins with a wnid
csv           CSV (or TSV) with a column of paths and a column of labels, which its values show
real          ReaL's real.json: for the n-th image all correct indices, or none
"""

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from inception_cli.config import Classes
from inception_cli.errors import InceptionError, excerpt, one_line
from inception_cli.evaluation.class_numbering import label_lookup
from inception_cli.evaluation.label_columns import LABEL_COLUMNS, find_label_column
from inception_cli.files.text_list import read_text_file
from inception_cli.predictions.classes import is_number

PATH_COLUMNS = ("path", "file", "filename", "file_name", "image", "image_path", "image_id", "imageid", "img")

#: Largest label file in bytes, lines and columns; ImageNet's list of 1.3 million training images has 60 MB.
MAX_BYTES, MAX_LINES, MAX_COLUMNS = 250_000_000, 5_000_000, 1000

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


def read_labels(file: Path, classes: Classes, format: str | None = None) -> LabelFile:
    """Return the labels in `file`; raise InceptionError if it has none of the layouts above.

    `classes` are the model's, and `format` how labels identify them, if it is given: they show which column of a CSV
    holds the labels.
    """
    if format:
        label_lookup(format, classes)  # raises UsageError for a wrong format
    text = read_text_file(file, MAX_BYTES, MAX_LINES, "give a file of labels")
    lines = {number: line for number, line in enumerate(text, start=1) if line.strip()}
    first = next(iter(lines), 0)
    try:
        if not lines:
            raise ValueError("the file is empty")
        if lines[first].lstrip()[:1] in ("[", "{"):
            return _parse_real("\n".join(text))
        if file.suffix.lower() in (".csv", ".tsv") or _is_header(lines[first]):
            return _parse_csv(text, first - 1, classes, format)
        if any(len(line.split()) > 1 or "," in line for line in lines.values()):
            return LabelFile("caffe", _by_name(_pairs(lines)))
        return _parse_devkit(lines)
    except (ValueError, RecursionError) as error:
        problem = "nested too deeply" if isinstance(error, RecursionError) else one_line(error)
        raise InceptionError(
            f"{file}: {problem}; "
            "a label file has lines of `path label`, or is a CSV with columns such as path and label"
        ) from error


def read_image_names(file: Path) -> tuple[str, ...]:
    """Return the images that `file` lists: one path per line, or one number per line, n for ILSVRC2012_val_0000000n."""
    lines = [
        line.strip() for line in read_text_file(file, MAX_BYTES, MAX_LINES, "give a list of images") if line.strip()
    ]
    if all(map(is_number, lines)):
        return tuple(validation_image(int(line)) for line in lines)
    return tuple(lines)


def validation_image(n: int) -> str:
    """Return the name, without suffix, of the n-th image of ImageNet's validation set, from 1."""
    return f"ILSVRC2012_val_{n:08d}"


def validation_image_of(path: str) -> str | None:
    """Return the name of an image of ImageNet's validation set without folder and suffix; None for other paths."""
    match = _ILSVRC.fullmatch(path, path.rfind("/") + 1)
    return match[1] if match else None


def _parse_real(text: str) -> LabelFile:
    sets = json.loads(text, parse_int=str)  # labels are texts; Python refuses to convert numbers of 5,000 digits
    if not isinstance(sets, list) or not all(isinstance(each, list) for each in sets):
        raise ValueError("the JSON is not a list of lists, as ReaL's real.json is")
    labels = {}
    for n, each in enumerate(sets, start=1):
        for label in each:
            if not isinstance(label, str):
                raise ValueError(f"image {n} has the label {excerpt(json.dumps(label))}, which is no number")
        labels[validation_image(n)] = tuple(each)
    return LabelFile("real", labels, "number")


def _parse_devkit(lines: Mapping[int, str]) -> LabelFile:
    """Return the labels in lines by their number, from 1: a line without a label would leave its image without one."""
    blank = next((number for number in range(1, len(lines) + 1) if number not in lines), None)
    if blank:
        raise ValueError(f"line {blank} is blank, but line n has the label of ILSVRC2012_val_0000000n")
    format = "ilsvrc" if all(is_number(line.strip()) for line in lines.values()) else None
    return LabelFile("devkit", {validation_image(n): (line.strip(),) for n, line in lines.items()}, format)


def _parse_csv(lines: Sequence[str], first: int, classes: Classes, format: str | None) -> LabelFile:
    """Return the labels in the lines of a CSV from position `first` on."""
    # Not pandas.read_csv: it fills rows that are too short, and converts text such as "NA" and "007".
    reader = csv.reader((f"{line}\n" for line in lines[first:]), delimiter=_delimiter(lines[first]), strict=True)
    try:
        titles = [title.strip().lower() for title in next(reader)]
        if len(titles) > MAX_COLUMNS:
            raise ValueError(f"its first line has {len(titles):,} columns")
        numbered = [(first + reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise ValueError(f"line {first + reader.line_num}: {error}") from error
    if titles == _KAGGLE:
        pairs = _csv_pairs(numbered, 0, 1)
        return LabelFile("kaggle", _by_name((line, path, label.split()[0]) for line, path, label in pairs))
    path = _path_column(titles)
    label = find_label_column(titles, [row for _, row in numbered], path, classes, format)
    return LabelFile("csv", _by_name(_csv_pairs(numbered, path, label)))


def _path_column(titles: Sequence[str]) -> int:
    position = next((titles.index(title) for title in PATH_COLUMNS if title in titles), None)
    if position is None:
        raise ValueError(f"its first line ({', '.join(titles)[:80]}) has no column called {', '.join(PATH_COLUMNS)}")
    return position


def _csv_pairs(rows: Iterable[tuple[int, Sequence[str]]], path: int, label: int) -> Iterator[tuple[int, str, str]]:
    """Yield the number of the line, the path and the label of each row."""
    for line, row in rows:
        if len(row) <= max(path, label) or not row[label].strip():
            raise ValueError(f"line {line}: {excerpt(row[0])} has no label")
        yield line, row[path], row[label].strip()


def _pairs(lines: Mapping[int, str]) -> Iterator[tuple[int, str, str]]:
    """Yield the number of the line, the path and the label of each line."""
    with_tabs = all("\t" in line for line in lines.values())  # then names and labels may have spaces
    for number, line in lines.items():
        name, *label = line.rstrip().rsplit("\t" if with_tabs else None, maxsplit=1)
        if not label:
            raise ValueError(f"line {number} has no label")
        yield number, name.rstrip(), label[0].strip()


def _by_name(rows: Iterable[tuple[int, str, str]]) -> dict[str, tuple[str, ...]]:
    labels: dict[str, tuple[str, ...]] = {}
    sets: dict[str, tuple[str, ...]] = {}  # one object per label, not per image
    for line, path, label in rows:
        name, labelled = path.removeprefix("./"), sets.setdefault(label, (label,))
        if labels.setdefault(name, labelled) != labelled:
            other = excerpt(labels[name][0])
            raise ValueError(f"line {line}: {excerpt(name)} is labelled {other} and {excerpt(label)}")
    return labels


def _delimiter(line: str) -> str:
    return max(",\t;", key=line.count)


def _is_header(line: str) -> bool:
    titles = [title.strip().lower() for title in next(csv.reader([line], delimiter=_delimiter(line)))]
    return titles == _KAGGLE or not (set(titles).isdisjoint(PATH_COLUMNS) or set(titles).isdisjoint(LABEL_COLUMNS))

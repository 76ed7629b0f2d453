"""The row: what network and images make together, and all that `results/` eats; and its CSV."""

import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from inception_cli.errors import InceptionError

STATUSES = ("ok", "missing", "denied", "unsupported", "too_large", "truncated", "corrupt", "failed")

_QUOTED = re.compile('[",\r\n]')
_NO_TEXT = re.compile("[\0\udc80-\udcff]")
_CURE = "restore the file as inception wrote it, or make it anew with `inception classify`"


@dataclass(frozen=True)
class Prediction:
    """What became of one input: its best classes, or why there are none."""

    path: str
    status: str = "ok"
    classes: tuple[int, ...] = ()  # model indices, best first
    labels: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()  # softmax in fp32, mean over views, then over networks
    error: str = ""  # one line, for people

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ValueError(f"status {self.status!r} is none of {', '.join(STATUSES)}")
        if not len(self.classes) == len(self.labels) == len(self.scores):
            raise ValueError(f"{self.path}: classes, labels and scores differ in number")
        if (self.status == "ok") != bool(self.classes):
            raise ValueError(f"{self.path}: status {self.status} with {len(self.classes)} classes")


def header(k: int) -> list[str]:
    """The columns of a file with `k` classes a row."""
    best = [f"top{place}_{what}" for place in range(1, k + 1) for what in ("index", "label", "score")]
    return ["path", "status", *best, "error"]


def csv_header(k: int) -> bytes:
    """The first line of a file with `k` classes a row."""
    return (",".join(header(k)) + "\n").encode()


def to_csv(rows: Iterable[Prediction], k: int) -> bytes:
    """Whole lines for `rows`, in UTF-8; scores with 6 significant digits."""
    return written("".join(_line(row, k) for row in rows)).encode()


def written(text: str) -> str:
    r"""`text` as a file of rows holds it: a byte of a name that is no UTF-8 (and NUL) stands as `\xNN`."""
    escaped = _NO_TEXT.sub(lambda found: f"\\x{ord(found[0]) & 0xFF:02x}", text)
    return escaped.encode("utf-8", "backslashreplace").decode()


def _line(row: Prediction, k: int) -> str:
    if len(row.classes) not in (0, k):
        raise ValueError(f"{row.path}: {len(row.classes)} classes in a file of {k}")
    fields = [_quoted(row.path), row.status]
    for index, label, score in zip(row.classes, row.labels, row.scores, strict=True):
        fields += [str(index), _quoted(label), f"{score:.6g}"]
    fields += [""] * (2 + 3 * k - len(fields))
    return ",".join([*fields, _quoted(row.error)]) + "\n"


def _quoted(field: str) -> str:
    # Not csv.writer: before Python 3.13 it leaves a carriage return bare, which no reader takes; and bytes must not
    # depend on the Python that wrote them.
    return '"' + field.replace('"', '""') + '"' if _QUOTED.search(field) else field


def read_csv(file: Path) -> Iterator[Prediction]:
    """The rows of a file that `to_csv` wrote; InceptionError names the file, the line and the cure."""
    with open_rows(file) as lines:
        yield from parse_csv(lines, file)


def parse_csv(lines: Iterable[bytes], file: Path) -> Iterator[Prediction]:
    """The rows that `lines`, header first, hold; `file` is what errors name."""
    for line, fields in parse_fields(lines, file):
        try:
            yield _prediction(fields)
        except ValueError as error:
            raise damaged(file, line, str(error)) from error


def _prediction(fields: list[str]) -> Prediction:
    path, status, *best, error = fields
    k = len(best) // 3 if status == "ok" else 0
    classes, labels, scores = best[0 : 3 * k : 3], best[1 : 3 * k : 3], best[2 : 3 * k : 3]
    return Prediction(path, status, tuple(map(int, classes)), tuple(labels), tuple(map(float, scores)), error)


def parse_fields(lines: Iterable[bytes], file: Path) -> Iterator[tuple[int, list[str]]]:
    """Number of its (last) line and fields, as text, of each row that `lines` hold; the header is checked."""
    reader = csv.reader(_decoded(lines, file), strict=True)
    try:
        columns = next(reader, [])
        if not columns or columns != header((len(columns) - 3) // 3):
            raise damaged(file, 1, "these are not the columns of a file of rows")
        for fields in reader:
            if len(fields) != len(columns):
                raise damaged(file, reader.line_num, f"{len(fields)} fields instead of {len(columns)}")
            yield reader.line_num, fields
    except csv.Error as error:
        raise damaged(file, reader.line_num, str(error)) from error


def open_rows(file: Path) -> BinaryIO:
    """`file` for reading, or the InceptionError that says what to name instead."""
    try:
        return file.open("rb")
    except OSError as error:
        raise InceptionError(f"{file}: {error.strerror}; name a file that `inception classify --out` wrote") from error


def damaged(file: Path, line: int, what: str) -> InceptionError:
    """The error for a file of rows that `to_csv` did not write, or not so."""
    return InceptionError(f"{file}, line {line}: {what}; {_CURE}")


def _decoded(lines: Iterable[bytes], file: Path) -> Iterator[str]:
    for number, line in enumerate(lines, start=1):
        if number == 1 and line.startswith(b"\xef\xbb\xbf"):
            raise damaged(file, 1, "a byte order mark, so a spreadsheet or an editor saved it")
        try:
            yield line.decode()
        except UnicodeDecodeError as error:
            raise damaged(file, number, f"byte {error.start + 1} is not UTF-8") from error

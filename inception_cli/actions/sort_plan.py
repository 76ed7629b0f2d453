"""The plan of a sort: one step for each file, made before the first file is copied, linked or moved.

The plan is a file of JSON lines in the target folder: a `Header`, the steps, a `Tally`. It is written as a stream and
read as a stream, so that a million steps take little memory.
"""

import json
import mmap
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, get_args

import msgspec

from inception_cli.actions.sidecars import Sidecar, sidecars
from inception_cli.actions.target_folder import TargetFolder, TargetFolders
from inception_cli.errors import InceptionError, excerpt, one_line, os_errors, os_reason
from inception_cli.files.atomic import replacing
from inception_cli.files.remote import is_remote
from inception_cli.predictions.prediction import Prediction
from inception_cli.predictions.text import existing_path

Method = Literal["copy", "link", "move"]
PLAN = ".inception-sort.jsonl"
FORMAT_VERSION = 1
#: Examples that are kept for messages.
MAX_EXAMPLES = 8
_T = TypeVar("_T")
_DAMAGED = "restore it from a backup; without it the sort cannot be undone"


class Step(NamedTuple):
    """One file that is copied, linked or moved, as it was when the plan was made."""

    method: Method
    source: str  # absolute path
    folder: str  # in the target folder
    name: str  # in `folder`
    size: int  # bytes
    mtime: int  # nanoseconds
    inode: int
    mode: int  # permissions


@dataclass(frozen=True)
class Header:
    """What was sorted, how, and into which folder."""

    predictions: str  # the file
    sha256: str  # of it
    method: Method
    into: str  # absolute path of the target folder
    inode: int  # of the target folder
    created: bool  # whether the sort has created the target folder
    id: str  # 8 hex digits, part of the name of unfinished copies
    thresholds: str = ""  # by which the rows were decided again
    format_version: int = FORMAT_VERSION


@dataclass
class Tally:
    """The counts of a plan."""

    photos: dict[str, int] = field(default_factory=dict)  # by folder
    new_folders: list[str] = field(default_factory=list)
    steps: int = 0  # photos and sidecars
    sidecars: int = 0
    bytes: int = 0  # that the target's file system needs
    in_place: int = 0  # photos that are already in their folder
    twice: int = 0  # rows of a photo that an earlier row has
    not_ok: dict[str, int] = field(default_factory=dict)  # rows by status
    left: dict[str, int] = field(default_factory=dict)  # photos that cannot be sorted, by reason
    renamed: int = 0
    same: int = 0
    left_examples: list[str] = field(default_factory=list)
    renamed_examples: list[tuple[str, str]] = field(default_factory=list)  # photo, its new name
    same_examples: list[tuple[str, str]] = field(default_factory=list)  # photo, the same photo elsewhere


def label_of(prediction: Prediction) -> str:
    """Return the label of a row that is ok: that of its decision, `unknown` included, or else its best class."""
    return prediction.decision.label if prediction.decision else prediction.labels[0]


def _count(counts: dict[str, int], name: str) -> None:
    counts[name] = counts.get(name, 0) + 1


#: Reads a step five times as fast as `json`.
_STEP = msgspec.json.Decoder(Step)


class Planner:
    """Makes the steps of a plan, and counts them in `tally`."""

    def __init__(self, into: Path, method: Method, directory: Path) -> None:
        """Plan into the folder `into`, a real path that may not exist; relative paths are relative to `directory`."""
        self.method, self.directory = method, directory
        self.tally = Tally()
        self._targets = TargetFolders(into)
        self._device = (into if into.exists() else into.parent).stat().st_dev
        self._seen: set[str] = set()
        self._real_folders: dict[str, str] = {}

    def steps(self, predictions: Iterable[Prediction]) -> Iterator[Step]:
        """Yield the steps for the rows that are ok and whose photos exist."""
        for prediction in predictions:
            if prediction.status != "ok":
                _count(self.tally.not_ok, prediction.status)
            else:
                yield from self._row_steps(prediction.path, label_of(prediction))
        self.tally.photos = {folder.name: folder.photos for folder in self._targets if folder.photos}
        self.tally.new_folders = [folder.name for folder in self._targets if folder.new and folder.photos]

    def _row_steps(self, path: str, label: str) -> Iterator[Step]:
        """Yield the steps for the photo of a row, and count one that cannot be sorted."""
        try:
            source = self._find(path)
            status = self._photo_status(source)
        except OSError as error:
            self._leave(path, os_reason(error))
        except ValueError as error:  # also for a NUL character in a path
            self._leave(path, one_line(error))
        else:
            if source in self._seen:
                self.tally.twice += 1
                return
            self._seen.add(source)
            yield from self._photo_steps(source, status, self._targets.of_label(label))

    def _find(self, path: str) -> str:
        """Return the absolute path of a photo without symbolic links in its folder; ValueError for a remote photo."""
        if is_remote(path):
            raise ValueError("it is in a remote store")
        folder, _, name = existing_path(os.path.join(self.directory, path)).rpartition("/")  # noqa: PTH118
        if folder not in self._real_folders:
            self._real_folders[folder] = os.path.realpath(folder or "/")
        return f"{self._real_folders[folder].rstrip('/')}/{name}"

    def _photo_status(self, source: str) -> os.stat_result:
        """Return the status of a photo; ValueError for what cannot be sorted."""
        status = os.lstat(source)
        if stat.S_ISLNK(status.st_mode):
            if self.method == "move":
                raise ValueError("it is a symbolic link, which --move leaves in its place")
            status = os.stat(source)  # noqa: PTH116
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is not a regular file")
        return status

    def _leave(self, path: str, reason: str) -> None:
        _count(self.tally.left, reason)
        if len(self.tally.left_examples) < MAX_EXAMPLES:
            self.tally.left_examples.append(path)

    def _photo_steps(self, source: str, status: os.stat_result, target: TargetFolder) -> Iterator[Step]:
        """Yield the steps for a photo and its sidecars."""
        if target.holds(source):
            self.tally.in_place += 1
            return
        if same := target.same_photo(source, status.st_size):
            self.tally.same += 1
            if len(self.tally.same_examples) < MAX_EXAMPLES:
                self.tally.same_examples.append((source, same))
            return
        beside = sidecars(source, self.method == "move")
        name = target.add(source, beside)
        if name != source.rpartition("/")[2]:
            self.tally.renamed += 1
            if len(self.tally.renamed_examples) < MAX_EXAMPLES:
                self.tally.renamed_examples.append((source, f"{target.name}/{name}"))
        yield self._step(self.method, source, target, name, status)
        for sidecar in beside:
            yield from self._sidecar_step(sidecar, target, name)

    def _sidecar_step(self, sidecar: Sidecar, target: TargetFolder, photo: str) -> Iterator[Step]:
        """Yield the step for a sidecar, unless it is beside the photo already, with another photo."""
        name = sidecar.name_for(photo)
        if target.add_sidecar(name, sidecar.source):
            self.tally.sidecars += 1
            method = "copy" if sidecar.shared and self.method == "move" else self.method
            yield self._step(method, sidecar.source, target, name, sidecar.status)

    def _step(self, method: Method, source: str, target: TargetFolder, name: str, status: os.stat_result) -> Step:
        self.tally.steps += 1
        if method == "copy" or (method == "move" and status.st_dev != self._device):
            self.tally.bytes += status.st_size
        mode = stat.S_IMODE(status.st_mode)
        return Step(method, source, target.name, name, status.st_size, status.st_mtime_ns, status.st_ino, mode)


def write_plan(file: Path, header: Header, steps: Iterable[Step], tally: Tally) -> None:
    """Write a plan and sync it; `tally` is complete when the last step has been taken from `steps`."""
    with replacing(file, "choose another folder") as stream:
        stream.write(_line(vars(header)))
        for step in steps:
            stream.write(_line(step))
        stream.write(_line(vars(tally)))


def read_header(file: Path) -> Header:
    """Return the header of a plan."""
    with os_errors(file, _DAMAGED), file.open("rb") as stream:
        line = stream.readline()
    header = _record(file, line, Header)
    if header.format_version != FORMAT_VERSION:
        raise InceptionError(f"{file}: was written by another version of inception; use that version")
    if not is_plain_name(header.id):
        raise InceptionError(f"{file}: damaged (id is {excerpt(repr(header.id))}); {_DAMAGED}")
    return header


def read_tally(file: Path) -> Tally:
    """Return the counts at the end of a plan."""
    with (
        os_errors(file, _DAMAGED),
        file.open("rb") as stream,
        mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ) as data,
    ):
        last = data[data.rfind(b"\n", 0, len(data) - 1) + 1 :]
    return _record(file, last, Tally)


def read_steps(file: Path) -> Iterator[Step]:
    """Yield the steps of a plan; InceptionError for one that this program did not write."""
    with os_errors(file, _DAMAGED), file.open("rb") as stream:
        stream.readline()
        for number, line in enumerate(stream, start=2):
            if line.startswith(b"["):
                yield _parse_step(file, number, line)


def is_plain_name(name: str) -> bool:
    """Return whether a name from a plan is that of a file in a folder, and leads nowhere else."""
    return name not in ("", ".", "..") and "/" not in name and "\0" not in name


def _parse_step(file: Path, number: int, line: bytes) -> Step:
    """Return the step in a line; its folder and name are plain names, so that it stays in the target folder."""
    try:
        step = _decode_step(line)
        if not step.source.startswith("/") or "\0" in step.source:
            raise ValueError(f"the source {excerpt(step.source)} is no absolute path")
        for name in (step.folder, step.name):
            if not is_plain_name(name):
                raise ValueError(f"{excerpt(repr(name))} is no name of a file or folder")
        return step
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InceptionError(f"{file}, line {number}: damaged ({one_line(error)}); {_DAMAGED}") from error


def _decode_step(line: bytes) -> Step:
    """Return the step in a line, with values of the right types."""
    try:
        return _STEP.decode(line)
    except (msgspec.MsgspecError, UnicodeError):
        step = Step(*json.loads(line))  # msgspec refuses names of files that are not UTF-8, and numbers over 64 bits
    numbers = (step.size, step.mtime, step.inode, step.mode)
    if step.method not in get_args(Method) or set(map(type, numbers)) != {int}:
        raise ValueError("it is no step of a sort")
    return step


def _line(record: Any) -> bytes:
    try:
        return msgspec.json.encode(record) + b"\n"
    except (UnicodeError, OverflowError):  # a name that is not UTF-8, or a number over 64 bits
        return json.dumps(record, separators=(",", ":")).encode() + b"\n"


def _record(file: Path, line: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.convert(json.loads(line), kind)
    except (ValueError, RecursionError) as error:
        raise InceptionError(f"{file}: damaged ({one_line(error)}); {_DAMAGED}") from error

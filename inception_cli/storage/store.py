"""Where the predictions of a run go (`RunStore`), and the record beside them (`Manifest`). Readable without torch."""

import errno
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, get_args

from inception_cli.config import ARRAY_SUFFIX, Classes, Int8Instructions, RunConfig
from inception_cli.errors import (
    InceptionError,
    excerpt,
    os_reason,
    require,
    require_choice,
    require_range,
    require_sha256,
    require_text,
)
from inception_cli.files.file_kind import file_kind
from inception_cli.predictions.classes import imagenet
from inception_cli.predictions.formats import read_columns
from inception_cli.predictions.prediction import STATUSES, Prediction, header
from inception_cli.storage.input_list import InputList
from inception_cli.storage.label_sources import LabelSources
from inception_cli.storage.manifest_json import FORMAT_VERSION, read_record, require_complete

if TYPE_CHECKING:
    import numpy as np

#: Names in a folder of shards: its manifest, and that of a run that is not finished.
FOLDER_MANIFEST, FOLDER_UNFINISHED = "_manifest.json", "_run.json"


@dataclass(frozen=True)
class NetworkCounts:
    """Parameters and operations of one network for one view."""

    params: int
    macs: int
    flops: int
    mmpretrain_count: int

    def per_photo(self, networks: int, views: int) -> "NetworkCounts":
        """Return the counts of `networks` such networks that each see `views` views of a photo."""
        passes = networks * views
        return NetworkCounts(
            self.params * networks, self.macs * passes, self.flops * passes, self.mmpretrain_count * passes
        )

    def __post_init__(self) -> None:
        for name, count in vars(self).items():
            require_range(name, count, 1)


@dataclass(frozen=True)
class Int8Check:
    """How the predictions of a run in int8 agree with fp32 on photos of the run."""

    photos: int
    same_class: int  # photos whose best class is the same
    mean_difference: float  # of the score of fp32's best class
    instructions: str  # of the processor that computed it

    def __post_init__(self) -> None:
        require_range("int8.photos", self.photos, 1)
        require_range("int8.same_class", self.same_class, 0, self.photos)
        require_range("int8.mean_difference", self.mean_difference, 0, 1)
        require_choice("int8.instructions", self.instructions, get_args(Int8Instructions))

    def __str__(self) -> str:
        return (
            f"int8: same class on {100 * self.share:.1f} % of {self.photos} photos, scores differ by "
            f"{self.mean_difference:.2g} on average"
        )

    @property
    def share(self) -> float:
        """Share of the photos whose best class is the same."""
        return self.same_class / self.photos


@dataclass(frozen=True)
class FileState:
    """What a file store keeps in the manifest: its list, its header and, once published, the file's size."""

    images: int
    inputs_sha256: str
    header: str
    bytes: int | None = None
    arrays: dict[str, str] = field(default_factory=dict)  # absolute paths of the arrays by name


@dataclass(frozen=True)
class FolderState:
    """What a folder store keeps in the manifest: its list and the number of images in a shard."""

    images: int
    inputs_sha256: str
    shard_size: int


@dataclass(frozen=True)
class Manifest:
    """The record of a run: what was requested, how it was done, and what came out."""

    inputs: tuple[str, ...]  # as given on the command line
    directory: str  # the working directory that relative inputs belong to
    run: RunConfig
    versions: dict[str, str]  # of this program, Python and the libraries that predictions depend on
    network: NetworkCounts
    labels: LabelSources | None = None  # the ground truth of `evaluate`
    reduced_batch: int | None = None  # images a batch after one did not fit into memory
    int8: Int8Check | None = None  # of a run in int8
    stdin_sha256: str | None = None  # of the names in a list on standard input
    unreadable_folders: int = 0
    unreadable_examples: tuple[str, ...] = ()  # the first of them with the reason
    counts: dict[str, int] = field(default_factory=dict)  # rows by status; empty until the run has finished
    images_per_s: float | None = None
    file: FileState | None = None
    folder: FolderState | None = None
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        require_text("directory", self.directory or "/")  # version 0.1 has none
        for status, number in self.counts.items():
            require_choice("counts", status, STATUSES)
            require_range(f"counts.{status}", number, 0)
        if self.images_per_s is not None:
            require_range("images_per_s", self.images_per_s, 0, sys.float_info.max)
        if self.reduced_batch is not None:
            require_range("reduced_batch", self.reduced_batch, 1, self.run.images_per_batch)
        for text in self.unreadable_examples:
            require_text("unreadable_examples", text)
        if self.stdin_sha256 is not None:
            require_sha256("stdin_sha256", self.stdin_sha256)
        require_range("unreadable_folders", self.unreadable_folders, len(self.unreadable_examples))

    @property
    def n(self) -> int:
        """Number of rows of a finished run."""
        return sum(self.counts.values())

    def to_json(self) -> dict[str, Any]:
        """Return the manifest in JSON's own types."""
        return {"command": "classify", "n": self.n, **asdict(self)}

    def encode(self) -> bytes:
        """Return the manifest as the bytes of its file."""
        # Not msgspec's encoder: it refuses names of files that are not UTF-8.
        return json.dumps(self.to_json(), indent=1, allow_nan=False).encode() + b"\n"

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Return the manifest in the bytes of a file; ValueError names the field that is missing or wrong.

        A manifest of version 0.1 has `format_version` 0: it can be scored and shown, but its run cannot resume.
        """
        fields, manifest = read_record(data, cls)
        if manifest.format_version:
            manifest._check_consistency()
            require_complete(fields, manifest.to_json())
        return manifest

    def with_result(self, counts: Mapping[str, int], images_per_s: float) -> "Manifest":
        """Return the manifest of the finished run."""
        return replace(self, counts=dict(counts), images_per_s=images_per_s)

    def _check_consistency(self) -> None:
        """Raise UsageError if fields of a manifest that was read contradict each other."""
        require(bool(self.inputs) and all(self.inputs), "inputs: there are none, or one is empty")
        require(Path(self.directory).is_absolute(), f"directory {excerpt(repr(self.directory))} is not absolute")
        require(bool(self.versions), "versions: there are none")
        for name, text in self.versions.items():
            require_text(f"versions.{name}", text)
        require(
            ("-" in self.inputs) == (self.stdin_sha256 is not None),
            "stdin_sha256 is for a list on standard input, the input -",
        )
        require(
            bool(self.unreadable_folders) == bool(self.unreadable_examples),
            "unreadable_folders and unreadable_examples contradict each other",
        )
        quantised = {self.run.plan.precision == "int8", bool(self.run.int8_ranges), self.int8 is not None}
        require(len(quantised) == 1, "int8, run.int8_ranges and run.plan.precision contradict each other")
        for name, state in (("file", self.file), ("folder", self.folder)):
            if state:
                require(not self.counts or self.n == state.images, f"{name}.images is {state.images}, counts {self.n}")
                require_range(f"{name}.images", state.images, 1)
                require_sha256(f"{name}.inputs_sha256", state.inputs_sha256)
        if self.file:
            names = header(self.run.top_k, bool(self.run.thresholds))
            require(self.file.header == ",".join(names) + "\n", "file.header is not that of run.top_k and thresholds")
            require(self.file.bytes is None or self.file.bytes > 0, f"file.bytes is {self.file.bytes}")
            require(tuple(self.file.arrays) == self.run.arrays, "file.arrays does not name those of run.arrays")
            for name, path in self.file.arrays.items():
                absolute = Path(path).is_absolute() and path.endswith(ARRAY_SUFFIX)
                require(absolute, f"file.arrays.{name} {excerpt(repr(path))} is no absolute path of a .npy file")
        if self.folder:
            require_range("folder.shard_size", self.folder.shard_size, 1)


def classes_of(manifest: Manifest | None) -> Classes:
    """Return the classes of the run that made the predictions; ImageNet's without a manifest."""
    return manifest.run.classes if manifest else imagenet()


def read_manifest(rows: Path) -> Manifest | None:
    """Return the manifest beside a file of predictions, or in a folder of shards; None when there is none."""
    remedy = "give a file of predictions that can be read"
    is_folder = file_kind(rows, remedy) == "folder"
    if is_folder and file_kind(rows / FOLDER_UNFINISHED, remedy):
        raise InceptionError(f"{rows}: the run is not finished; run the command that started it again to resume it")
    file = rows / FOLDER_MANIFEST if is_folder else rows.with_name(rows.name + ".json")
    try:
        manifest = Manifest.decode(file.read_bytes())
        _require_same_columns(manifest, rows)
        return manifest
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:  # the run could not write one
            return None
        raise InceptionError(f"{file}: {os_reason(error)}; make it readable, or move it away") from error
    except ValueError as error:
        raise InceptionError(f"{file}: damaged manifest: {error}; move it away to use the predictions alone") from error


def _require_same_columns(manifest: Manifest, rows: Path) -> None:
    """Raise ValueError if the manifest is of other rows; damaged rows are reported where they are read."""
    k, decided = 0, False
    with suppress(InceptionError):
        k, decided = read_columns(rows)
    if k not in (0, manifest.run.top_k):
        raise ValueError(f"run.top_k is {manifest.run.top_k}, but the rows have {k}")
    if k and decided != bool(manifest.run.thresholds):
        raise ValueError(f"run.thresholds {'are not set' if decided else 'are set'}, unlike the rows' columns")


def differences(old: Any, new: Any, name: str = "") -> list[str]:
    """Return what differs between two records of JSON types, a line each: `plan.precision: bf16 → fp32`."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = dict.fromkeys([*old, *new])
        inner = [(f"{name}.{key}" if name else str(key), old.get(key, _UNSET), new.get(key, _UNSET)) for key in keys]
    elif isinstance(old, list | tuple) and isinstance(new, list | tuple):
        pairs = zip_longest(old, new, fillvalue=_UNSET)
        inner = [(f"{name}.{position}", before, after) for position, (before, after) in enumerate(pairs)]
    else:
        return [] if old == new else [f"{name}: {_shown(old)} → {_shown(new)}"]
    return [line for key, before, after in inner for line in differences(before, after, key)]


class RunStore(Protocol):
    """Where the predictions of a run go, and how an interrupted run resumes. Used as a context manager."""

    name: str  # of the file or folder, for messages
    manifest: Manifest | None  # of the interrupted run; None: a fresh start
    finished: bool  # publishing was interrupted and has been completed on opening: nothing is left to do

    def open_inputs(self, discover: Callable[[], Iterable[str]]) -> InputList:
        """Return the list of inputs: that of the interrupted run, else the discovered one, which is kept."""

    def begin(self, manifest: Manifest) -> Counter[tuple[str, str]]:
        """Start or resume the run; return the rows that are already there by status and reason."""

    def pending(self) -> list[range]:
        """Return the positions of the inputs without a row, in ranges of whole batches."""

    def write(self, first: int, predictions: Sequence[Prediction], arrays: Sequence["np.ndarray"] = ()) -> None:
        """Write the predictions of consecutive inputs from position `first` on, and their rows of `run.arrays`.

        Only a file store keeps arrays.
        """

    def update(self, manifest: Manifest) -> None:
        """Keep what has changed in the manifest during the run."""

    def publish(self, manifest: Manifest) -> None:
        """Give the rows and the manifest their final names, when every input has its row."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None: ...


_UNSET = "not set"


def _shown(value: Any) -> str:
    return excerpt(value if isinstance(value, str) and value else json.dumps(value), 76)

"""Where the predictions of a run go (`RunStore`), and the record beside them (`Manifest`). Readable without torch."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import msgspec

from inception_cli.config import LabelSources, RunConfig
from inception_cli.errors import InceptionError, os_reason
from inception_cli.predictions.prediction import Prediction
from inception_cli.storage.input_list import InputList

#: Version of the manifest's fields; manifests of version 0.1 of the program have none.
FORMAT_VERSION = 1

#: Names in a folder of shards: its manifest, and that of a run that is not finished.
FOLDER_MANIFEST, FOLDER_UNFINISHED = "_manifest.json", "_run.json"


@dataclass(frozen=True)
class NetworkCounts:
    """Parameters and operations of one network for one view."""

    params: int
    macs: int
    flops: int
    mmpretrain_count: int


@dataclass(frozen=True)
class FileState:
    """What a file store keeps in the manifest: its list, its header and, once published, the file's size."""

    images: int
    inputs_sha256: str
    header: str
    bytes: int | None = None


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
    stdin_sha256: str | None = None  # of the names in a list on standard input
    unreadable_folders: int = 0
    unreadable_examples: tuple[str, ...] = ()  # the first of them with the reason
    counts: dict[str, int] = field(default_factory=dict)  # rows by status; empty until the run has finished
    images_per_s: float | None = None
    file: FileState | None = None
    folder: FolderState | None = None
    format_version: int = FORMAT_VERSION

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
        try:
            fields = json.loads(data)
            if isinstance(fields, dict) and "format_version" not in fields:
                fields = _from_0_1(fields)
            manifest = msgspec.convert(fields, cls)
        except RecursionError as error:
            raise ValueError("nested too deeply") from error
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"a field is missing or of another type ({error})") from error
        if manifest.format_version > FORMAT_VERSION:
            raise ValueError(
                f"format_version {manifest.format_version}: it was written by a newer version of inception"
            )
        return manifest

    def with_result(self, counts: Mapping[str, int], images_per_s: float) -> "Manifest":
        """Return the manifest of the finished run."""
        return replace(self, counts=dict(counts), images_per_s=images_per_s)


def read_manifest(rows: Path) -> Manifest | None:
    """Return the manifest beside a file of predictions, or in a folder of shards; None when there is none."""
    if (rows / FOLDER_UNFINISHED).exists():
        raise InceptionError(f"{rows}: the run is not finished; run the command that started it again to resume it")
    file = rows / FOLDER_MANIFEST if rows.is_dir() else rows.with_name(rows.name + ".json")
    try:
        return Manifest.decode(file.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InceptionError(f"{file}: {os_reason(error)}; make it readable, or move it away") from error
    except ValueError as error:
        raise InceptionError(f"{file}: damaged manifest: {error}; move it away to use the predictions alone") from error


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

    def begin(self, manifest: Manifest) -> dict[str, int]:
        """Start or resume the run; return the rows that are already there by status."""

    def pending(self) -> list[range]:
        """Return the positions of the inputs without a row, in ranges of whole batches."""

    def write(self, first: int, predictions: Sequence[Prediction]) -> None:
        """Write the predictions of consecutive inputs from position `first` on."""

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
    return value if isinstance(value, str) else json.dumps(value)


def _from_0_1(old: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a manifest of version 0.1, which had other names, as they are today."""
    run = dict(old["run"])
    run["loader"] = run.pop("loading")
    run["plan"] = run["plan"] | {"threads": run.pop("threads")}
    run["only_classes"] = run.pop("only")
    fields: dict[str, Any] = {
        name: old[name] for name in ("inputs", "versions", "network", "counts", "images_per_s") if name in old
    }
    fields |= {"run": run, "directory": "", "reduced_batch": old.get("split_to"), "format_version": 0}
    if labels := old.get("truth"):
        fields["labels"] = {"label_format" if name == "label_form" else name: labels[name] for name in labels}
    return fields

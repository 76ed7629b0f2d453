"""Read the tensors and metadata of a checkpoint file within bounds of memory and time; nothing in it is executed."""

import errno
import io
import os
import pickletools
import re
import struct
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, filterfalse
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from inception_cli.config import MAX_CLASSES, MIN_SIDE, Classes, Preset
from inception_cli.errors import InceptionError, one_line, os_errors, os_reason, require
from inception_cli.files.hashing import sha256
from inception_cli.weights import checkpoint
from inception_cli.weights.checkpoint import CheckpointError

SUFFIXES = (".pth", ".pt", ".safetensors")
FILE_REMEDY = f"give the name of published weights, or a file that ends in {', '.join(SUFFIXES)}"
#: Key of this program's metadata in the header of a safetensors file.
METADATA_KEY = "inception"
#: Names of tensors that are not the network's: statistics of the training photos (network/familiarity.py).
FAMILIARITY = "familiarity."
#: The file of these tensors beside weights in timm's layout: timm refuses weights with tensors that it does not know.
FAMILIARITY_FILE = "familiarity.safetensors"

MAX_LINE = 300  # characters of an error
MAX_INDEX = 16 << 20  # bytes of the pickle, or of the header of a safetensors file: Inception V3's have 0.1 MB
#: Operations of the pickle. The tensors of Inception V3 take 20,000, an optimizer's another 40,000; each can make an
#: object of 100 bytes.
MAX_OPERATIONS = 500_000
MAX_DIRECTORY = 4 << 20  # bytes of the list of parts of a zip file
MAX_SIDE = 8192  # pixels: `resize` of the preset in the metadata
MAX_NAME = 1000  # characters of the name of a class or preset

#: Pickles in a file of torch before 1.6: magic number, version, system, state dict, names of the storages.
_OLD_PICKLES = 5
_NOT_TENSORS = CheckpointError(
    "not a checkpoint of tensors only, and others are not loaded", "save the network's state_dict()"
)
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_SYSTEM_REMEDY = "allow more open files (ulimit -n 1024) and memory (ulimit -v), or stop other programs"
#: Functions that torch allows in a pickle, but that take memory which the file does not have. State dicts need none.
_ALLOCATING = {
    "builtins.bytearray",
    "torch._utils._rebuild_device_tensor_from_cpu_tensor",
    "torch._utils._rebuild_device_tensor_from_numpy",
}
#: Libraries whose objects training scripts save beside the weights: arguments, metrics, hyperparameters.
_IGNORED_LIBRARIES = {
    *("argparse", "collections", "datetime", "pathlib", "numpy", "omegaconf", "easydict", "yacs", "addict"),
    *("ml_collections", "mmengine", "lightning", "lightning_fabric", "pytorch_lightning"),
}
#: Types that a `defaultdict` makes its values of.
_IGNORED_TYPES = {"builtins.list", "builtins.dict", "builtins.int", "builtins.float"}


@dataclass(frozen=True)
class Metadata:
    """What this program stores with the tensors; the fields of a file from elsewhere are empty."""

    classes: tuple[str, ...] | None = None
    preset: Preset | None = None
    trained: dict[str, Any] = field(default_factory=dict)  # how the weights were trained
    familiarity_sha256: str | None = None  # of FAMILIARITY_FILE, if the statistics are in it

    def __post_init__(self) -> None:
        if self.classes is not None:
            require(len(self.classes) <= MAX_CLASSES, f"classes: {len(self.classes):,} names, not 1 to {MAX_CLASSES:,}")
            require(len(max(self.classes, key=len, default="")) <= MAX_NAME, f"classes: a name is over {MAX_NAME} long")
            Classes(self.classes)  # raises UsageError for names that are empty or not unique
        if self.preset is not None:
            require_usable(self.preset)


class CheckpointFile(NamedTuple):
    """The content of a checkpoint file: tensors as named in it, metadata, and notes for the user."""

    tensors: dict[str, Tensor]
    metadata: Metadata
    notes: tuple[str, ...]


def read_checkpoint(file: Path) -> CheckpointFile:
    """Return the content of a checkpoint file; InceptionError when it is none, or exceeds the bounds of this module."""
    require_readable(file)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as torch's of sparse and quantised tensors, which are refused later
            _require_no_pointer(file)
            return _read_safetensors(file) if file.suffix.lower() == ".safetensors" else _read_torch(file)
    except CheckpointError as error:
        raise refusal(file, error) from error
    except (OSError, MemoryError, RuntimeError) as error:
        reason = _system_reason(error)
        raise refusal(file, CheckpointError(reason, _SYSTEM_REMEDY) if reason else _NOT_TENSORS) from error
    except Exception as error:  # torch, pickle and zipfile raise many types; each means that this is no state dict
        raise refusal(file, _NOT_TENSORS) from error


def _require_no_pointer(file: Path) -> None:
    """Raise CheckpointError for what `git clone` without Git LFS leaves in place of a large file (Git LFS, spec.md)."""
    with file.open("rb") as stream:
        if stream.read(len(_LFS_POINTER)) == _LFS_POINTER:
            raise CheckpointError("is a pointer of Git LFS, not the weights", "run git lfs pull in its folder")


def _system_reason(error: Exception) -> str:
    """Return the operating system's reason why a file could not be read, "" if that is not the cause.

    In errors of torch and safetensors the number is at the end: "… Too many open files (24)", "… (os error 12)".
    """
    if isinstance(error, OSError) and error.errno:
        return os_reason(error)
    number = re.search(r"\((?:os error )?(\d+)\)$", str(error))
    if number and int(number[1]) in errno.errorcode:
        return os.strerror(int(number[1])).lower()
    return "out of memory" if isinstance(error, MemoryError) else ""


def require_readable(file: Path, remedy: str = FILE_REMEDY) -> None:
    """Raise InceptionError unless a file can be read; one that is no regular file might never end."""
    with os_errors(file, remedy):
        if not (file.is_file() or file.is_dir()) and file.exists():
            raise InceptionError(f"{file}: not a regular file (a pipe or a device); copy it to a file first")
        with file.open("rb"):
            pass


def refusal(file: Path, error: CheckpointError) -> InceptionError:
    """Return the error for a checkpoint, in one line of at most MAX_LINE characters."""
    limit = max(60, MAX_LINE - len(f"{file}: ; {error.remedy}"))
    reason = " ".join(error.reason.split())
    return InceptionError(f"{file}: {reason if len(reason) <= limit else reason[: limit - 1] + '…'}; {error.remedy}")


@contextmanager
def _utf8_name(file: Path) -> Iterator[str]:
    """Yield a name of a file in UTF-8, which safetensors and torch need to map it: its own, else its descriptor's."""
    try:
        str(file).encode()
    except UnicodeEncodeError:
        with file.open("rb") as stream:
            yield f"/dev/fd/{stream.fileno()}"
    else:
        yield str(file)


@contextmanager
def _open_safetensors(file: Path) -> Iterator[Any]:
    with _utf8_name(file) as name, safe_open(name, framework="pt") as stream:
        yield stream


def _read_safetensors(file: Path) -> CheckpointFile:
    with file.open("rb") as stream:
        header_size = int.from_bytes(stream.read(8), "little")
    if MAX_INDEX < header_size < file.stat().st_size:
        raise _too_large("header", header_size)
    try:
        with _open_safetensors(file) as stream:
            names = [*filterfalse(_is_familiarity, stream.keys())]
            if len(names) > checkpoint.MAX_TENSORS:
                raise CheckpointError(f"has {len(names):,} tensors, more than {checkpoint.MAX_TENSORS:,}")
            tensors = {name: stream.get_tensor(name) for name in names}
            metadata = (stream.metadata() or {}).get(METADATA_KEY, "{}")
    except SafetensorError as error:
        raise CheckpointError(
            f"damaged safetensors file ({one_line(error, limit=160)})", "copy or download it again"
        ) from error
    return CheckpointFile(tensors, _decode_metadata(metadata), ())


def read_trained(file: Path) -> dict[str, Any]:
    """Return how the weights in a file that `read_checkpoint` can read were trained; empty if it does not say so."""
    if file.suffix.lower() != ".safetensors" or not file.is_file():
        return {}
    return _read_metadata(file).trained


def has_metadata(file: Path) -> bool:
    """Return whether this program has written a safetensors file."""
    try:
        with _open_safetensors(file) as stream:
            return METADATA_KEY in (stream.metadata() or {})
    except (SafetensorError, OSError):
        return False


def files_of(file: Path) -> list[Path]:
    """Return the files that weights consist of: their own, and the statistics of the training photos beside it."""
    familiarity = find_familiarity(file)
    return [file] if familiarity in (None, file) else [file, familiarity]


def find_familiarity(file: Path) -> Path | None:
    """Return the file with the statistics of the training photos of weights that `read_checkpoint` can read.

    It is the weights' own file, or FAMILIARITY_FILE beside it if the weights' metadata names that; None if none is.
    """
    if file.suffix.lower() != ".safetensors" or not file.is_file():
        return None
    with _open_safetensors(file) as stream:
        if any(map(_is_familiarity, stream.keys())):
            return file
    beside = separate_familiarity_file(file)
    return beside if beside and beside.is_file() else None


def separate_familiarity_file(file: Path) -> Path | None:
    """Return the file of statistics beside weights, which may be missing; None if their metadata names none."""
    if file.suffix.lower() != ".safetensors" or not file.is_file():
        return None
    return file.with_name(FAMILIARITY_FILE) if _read_metadata(file).familiarity_sha256 else None


def read_familiarity(file: Path) -> dict[str, Tensor]:
    """Return the statistics of the training photos of weights for which `find_familiarity` has returned a file.

    Raises ValueError if it is a file beside the weights, and not the one that was written with them.
    """
    found = find_familiarity(file) or file
    if found != file and sha256(found) != _read_metadata(file).familiarity_sha256:
        raise ValueError(f"{FAMILIARITY_FILE} does not belong to these weights")
    with _open_safetensors(found) as stream:
        names = filter(_is_familiarity, stream.keys())
        return {name.removeprefix(FAMILIARITY): stream.get_tensor(name) for name in names}


def _read_metadata(file: Path) -> Metadata:
    with _open_safetensors(file) as stream:
        return _decode_metadata((stream.metadata() or {}).get(METADATA_KEY, "{}"))


def _is_familiarity(name: str) -> bool:
    return name.startswith(FAMILIARITY)


def _decode_metadata(text: str) -> Metadata:
    try:
        return msgspec.json.decode(text, type=Metadata)
    except msgspec.DecodeError as error:  # or a ValidationError, which names the field
        reason = one_line(error)
    except RecursionError:
        reason = "nested too deeply"
    raise CheckpointError(f"invalid metadata: {reason}", "save the weights again with `inception train`")


def require_usable(preset: Preset) -> None:
    """Raise UsageError for a preset that no network can be trained with."""
    require(len(preset.name) <= MAX_NAME, f"preset: the name is over {MAX_NAME} characters long")
    require(
        preset.size >= MIN_SIDE and preset.resize <= MAX_SIDE,
        f"preset: size {preset.size} and resize {preset.resize} are not from {MIN_SIDE} to {MAX_SIDE} pixels",
    )
    require(min(preset.std) >= 0.001, f"preset: std {preset.std} is not from 0.001 to 1000")


def _read_torch(file: Path) -> CheckpointFile:
    """Return the content of a file of `torch.save`: a zip file, or before torch 1.6 pickles and bytes."""
    is_archive = zipfile.is_zipfile(file)
    used = _scan_archive(file) if is_archive else _scan_old(file)
    if used & _ALLOCATING:
        raise _NOT_TENSORS
    with torch.serialization.safe_globals(_ignored(used)), _utf8_name(file) as name:
        # Only a zip file can be memory-mapped.
        loaded = torch.load(name, map_location="cpu", weights_only=True, mmap=is_archive)
    tensors, notes = checkpoint.unwrap(loaded)
    return CheckpointFile(tensors, Metadata(), notes)


def _scan_archive(file: Path) -> set[str]:
    """Return the classes and functions in the pickles of a zip file; CheckpointError if it inflates when it is read."""
    file_size = file.stat().st_size
    with file.open("rb") as stream:
        if (directory_size := _directory_size(stream)) > MAX_DIRECTORY:
            raise _too_large("list of parts", directory_size)
        with zipfile.ZipFile(stream) as archive:
            parts = archive.infolist()
            pickles = [part for part in parts if part.filename.endswith(".pkl")]
            for part in pickles:
                if part.file_size > MAX_INDEX:
                    raise _too_large("pickle", part.file_size)
            if any(part.compress_type != zipfile.ZIP_STORED for part in parts):
                raise CheckpointError("has compressed parts, unlike files of torch.save", "save it with torch.save")
            if sum(part.file_size for part in parts) > file_size:
                raise CheckpointError("has parts that are larger than the file", "copy or download it again")
            return set().union(*(_scan_pickles(io.BytesIO(archive.read(part)), 1) for part in pickles))


def _directory_size(stream: BinaryIO) -> int:
    """Return the size of the directory of a zip file in bytes (APPNOTE 6.3.10, sections 4.3.14 to 4.3.16)."""
    tail_size = (1 << 16) + 22 + 20  # the longest comment, the end record, and the locator of the zip64 end record
    start = max(0, stream.seek(0, io.SEEK_END) - tail_size)
    stream.seek(start)
    tail = stream.read(tail_size)
    end = tail.rfind(b"PK\5\6")
    (size,) = struct.unpack_from("<L", tail, end + 12)
    if end >= 20 and tail[end - 20 : end - 16] == b"PK\6\7":
        stream.seek(struct.unpack_from("<Q", tail, end - 12)[0])
        (size,) = struct.unpack_from("<Q", stream.read(56), 40)
    return int(size)


def _scan_old(file: Path) -> set[str]:
    """Return the classes and functions in the pickles at the start of a file of torch before 1.6."""
    with file.open("rb") as stream:
        start = stream.read(MAX_INDEX)
    try:
        return _scan_pickles(io.BytesIO(start), _OLD_PICKLES)
    except ValueError:
        if start[:2] == b"\x80\x02" and len(start) == MAX_INDEX:
            raise _too_large("pickle", MAX_INDEX) from None
        raise


def _scan_pickles(stream: BinaryIO, count: int) -> set[str]:
    """Return the classes and functions in pickles that follow one another, without loading them."""
    used = set()
    operations = chain.from_iterable(pickletools.genops(stream) for _ in range(count))
    for number, (operation, argument, _) in enumerate(operations):
        if number == MAX_OPERATIONS:
            raise CheckpointError(
                f"its pickle makes over {MAX_OPERATIONS:,} objects", "save the network's state_dict() alone"
            )
        if operation.name == "GLOBAL":
            used.add(str(argument).replace(" ", ".").replace("__builtin__", "builtins"))
    return used


def _too_large(part: str, size: int) -> CheckpointError:
    return CheckpointError(
        f"its {part} has over {size >> 20} MB, but an Inception V3's has less than 1 MB",
        "save the network's state_dict() alone",
    )


def _ignored(used: Iterable[str]) -> list[Any]:
    """Return stand-ins for the objects of known libraries, for `torch.serialization.safe_globals`: none is executed."""
    stand_ins: list[Any] = []
    for name in used:
        library = name.partition(".")[0]
        if library in _IGNORED_LIBRARIES or name in _IGNORED_TYPES:
            stand_ins.append((_IgnoredArray if library == "numpy" else _IgnoredRecord, name))
    return stand_ins


class _IgnoredRecord:
    """Stands for a class or function with attributes or items; its objects are dicts, which torch fills."""

    def __new__(cls, *args: object) -> Any:
        return OrderedDict()


class _IgnoredArray:
    """Stands for numpy's classes and functions, whose state is a tuple."""

    def __init__(self, *args: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass

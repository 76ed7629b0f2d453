"""What was named on the command line → the list of images, and that list in few bytes."""

import mmap
import os
import stat
import sys
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from glob import has_magic
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, overload

from inception_cli import stores
from inception_cli.errors import InceptionError, NoImages

if TYPE_CHECKING:
    from pyarrow.fs import FileType

READ_SUFFIXES = frozenset(
    f".{suffix}"
    for names in (
        ("jpg", "jpeg", "jpe", "jfif", "jif", "mpo", "png", "apng", "gif", "webp", "tif", "tiff", "avif", "avifs"),
        ("bmp", "dib", "ppm", "pgm", "pbm", "pnm", "pfm", "jp2", "j2k", "j2c", "jpc", "jpf", "jpx"),
        ("tga", "icb", "vda", "vst", "ico", "qoi"),
    )
    for suffix in names
)
RAW = "raw camera"
FOREIGN_SUFFIXES = {  # images that get a row `unsupported`, and what people call them
    f".{suffix}": kind
    for kind, suffixes in {
        "HEIC": ("heic", "heics", "heif", "heifs", "hif"),
        "Photoshop": ("psd", "psb"),
        "JPEG XL": ("jxl",),
        "SVG": ("svg", "svgz"),
        RAW: (
            *("3fr", "arw", "cr2", "cr3", "crw", "dcr", "dng", "erf", "iiq", "kdc", "mef", "mos", "mrw"),
            *("nef", "nrw", "orf", "pef", "raf", "raw", "rw2", "rwl", "sr2", "srf", "srw", "x3f"),
        ),
    }.items()
    for suffix in suffixes
}
NOT_PHOTOS = frozenset(("@eaDir", "__MACOSX"))  # thumbnails of Synology, resource forks of macOS
NO_SUFFIX = "without a suffix"
LONGEST_SUFFIX = 8  # letters; a longer one is part of a name, and counting those apart would take memory


def suffix_of(name: str) -> str:
    """The suffix of a file's name in lower case, `.jpg`; empty when it has none."""
    stem, _, suffix = name.rpartition("/")[2].rpartition(".")
    return f".{suffix.lower()}" if stem else ""


@dataclass
class _Level:
    """A folder that is being walked: its entries in reverse, the next one last."""

    prefix: str  # as the user could type it, up to the slash
    names: list[bytes]
    folders: dict[bytes, frozenset[int]]  # those of the names that are folders, and how far the pattern has matched


class Inputs:
    """The images of what was named: iterate it once for the paths, then `skipped` counts the rest by suffix.

    A name is a folder, a file, a glob, or `-` for a path a line on standard input; or a folder, file or glob of a
    store's, `s3://bucket/photos`. Iterating raises InceptionError when nothing that was named exists.
    """

    def __init__(self, named: Sequence[str], stdin: BinaryIO | None = None) -> None:
        self.named = tuple(named)
        self.skipped: Counter[str] = Counter()
        self._stdin = stdin

    def __iter__(self) -> Iterator[str]:
        if self.named and not any(name == "-" or has_magic(name) or _there(name) for name in self.named):
            raise InceptionError(f"{self.named[0]}: no such file or folder; check the name")
        for name in self.named:
            if name == "-":
                for path in _lines(self._stdin or sys.stdin.buffer):
                    # One of a store's is a file: to ask takes too long.
                    yield from (path,) if stores.is_remote(path) else self._named(path)
            elif stores.is_remote(name):
                yield from self._stored(name)
            elif has_magic(name) and not _exists(name):
                yield from self._glob(name)
            else:
                yield from self._named(name)

    def _named(self, name: str) -> Iterator[str]:
        """A path named outright: the images below a folder, anything else as it is."""
        if _folder_id(name) is None:
            return iter((name,))
        return self._walk(name if name.endswith("/") else f"{name}/", ())

    def _glob(self, name: str) -> Iterator[str]:
        """The images that match a pattern, or lie below a folder that does."""
        parts = (f"{name}*" if name.endswith("/") else name).split("/")  # a slash at the end: what lies in folders
        literal = next(i for i, part in enumerate(parts) if has_magic(part))
        prefix, pattern = "".join(f"{part}/" for part in parts[:literal]), tuple(filter(None, parts[literal:]))
        below = self._stored_below(prefix, pattern) if stores.is_remote(name) else self._walk(prefix, pattern)
        path = None
        for path in below:
            yield path
        if path is None:
            self.skipped[f"pattern without an image: {name}"] += 1

    def _walk(self, prefix: str, pattern: tuple[str, ...]) -> Iterator[str]:
        """The images below a folder in the order of their bytes, each folder once however many links lead to it."""
        seen = {_folder_id(prefix or ".")}
        levels = [self._level(prefix, pattern, frozenset((0,)))]  # a stack of our own: folders may nest 2,000 deep
        while levels:
            level = levels[-1]
            if not level.names:
                levels.pop()
                continue
            name = level.names.pop()
            path = level.prefix + os.fsdecode(name)
            if name not in level.folders:
                yield path
            elif (identity := _folder_id(path)) not in seen:
                seen.add(identity)
                levels.append(self._level(f"{path}/", pattern, level.folders[name]))

    def _stored(self, name: str) -> Iterator[str]:
        """The images below a store's folder, or of a glob there; anything else as it is."""
        from pyarrow.fs import FileType

        found = _stored_type(name)
        if found == FileType.Directory:
            return self._stored_below(f"{name.rstrip('/')}/", ())
        if found == FileType.NotFound and has_magic(name):
            return self._glob(name)
        return iter((name,))

    def _stored_below(
        self, prefix: str, pattern: tuple[str, ...], states: frozenset[int] = frozenset((0,))
    ) -> Iterator[str]:
        """The images below a store's folder that a pattern matches, in the order and by the rules of `_walk`."""
        from pyarrow.fs import FileSelector, FileType

        store, path = stores.locate(prefix)
        with stores.telling(prefix):
            entries = store.get_file_info(FileSelector(path, allow_not_found=True))
        for entry in sorted(entries, key=lambda entry: os.fsencode(entry.base_name)):
            reached = _advance(pattern, states, entry.base_name)
            if not reached:
                continue
            if entry.type == FileType.Directory:
                yield from self._stored_below(f"{prefix}{entry.base_name}/", pattern, reached)
            elif len(pattern) in reached and self._is_image(entry.base_name):
                yield f"{prefix}{entry.base_name}"

    def _level(self, prefix: str, pattern: tuple[str, ...], states: frozenset[int]) -> _Level:
        """One folder's images and folders; the rest is counted."""
        level = _Level(prefix, [], {})
        try:
            with os.scandir(os.fsencode(prefix or ".")) as entries:
                for entry in entries:
                    reached = _advance(pattern, states, os.fsdecode(entry.name))
                    if reached:
                        self._sort_in(level, entry, reached, matched=len(pattern) in reached)
        except OSError:
            self.skipped[f"unreadable folder {prefix.rstrip('/') or prefix or '.'}"] += 1
        level.names.sort(reverse=True)
        return level

    def _sort_in(self, level: _Level, entry: os.DirEntry[bytes], reached: frozenset[int], matched: bool) -> None:
        """Put an entry among the level's folders or images, or count it."""
        if _is_folder(entry):
            level.folders[entry.name] = reached
            level.names.append(entry.name)
            return
        if matched and self._is_image(os.fsdecode(entry.name)):
            level.names.append(entry.name)

    def _is_image(self, name: str) -> bool:
        """Whether a name is an image's; one that is not is counted."""
        suffix = suffix_of(name)
        found = suffix in READ_SUFFIXES or suffix in FOREIGN_SUFFIXES
        if not found:
            self.skipped[suffix if suffix[1:].isalnum() and len(suffix) <= LONGEST_SUFFIX + 1 else NO_SUFFIX] += 1
        return found


def no_images(inputs: Inputs) -> NoImages:
    """The error for inputs without an image: what was skipped, by suffix and count."""
    named = ", ".join(inputs.named)
    if not inputs.skipped:
        return NoImages(f"no image in {named}: nothing there; name photos, or a folder with some")
    skipped = ", ".join(f"{count} {suffix}" for suffix, count in inputs.skipped.most_common(10))
    return NoImages(f"no image in {named}: skipped {skipped}; name photos (.jpg, .png, .webp, …) or a folder with some")


def _lines(stream: BinaryIO) -> Iterator[str]:
    """The paths on a stream, one a line (NUL, as of `find -print0`, ends one too); blank lines are none."""
    for line in stream:
        for path in line.removesuffix(b"\n").removesuffix(b"\r").split(b"\0"):
            if path:
                yield os.fsdecode(path)


def _there(name: str) -> bool:
    """Whether something has that name, on this machine or in a store."""
    if not stores.is_remote(name):
        return _exists(name)
    return bool(_stored_type(name).value)  # 0: nothing of that name


def _stored_type(name: str) -> "FileType":
    """What has that name in a store."""
    store, path = stores.locate(name)
    with stores.telling(name):
        return store.get_file_info(path).type


def _exists(name: str) -> bool:
    """Whether a name is there, be it a link that leads nowhere; one that may not be looked at counts as there."""
    try:
        Path(name).lstat()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    except OSError:
        return True
    return True


def _folder_id(name: str) -> tuple[int, int] | None:
    """(device, inode) of a folder, links followed; None for anything else."""
    try:
        status = Path(name).stat()
    except (OSError, ValueError):
        return None
    return (status.st_dev, status.st_ino) if stat.S_ISDIR(status.st_mode) else None


def _is_folder(entry: os.DirEntry[bytes]) -> bool:
    """Whether an entry is a folder or a link to one; what cannot be told is none, and decoding will say why."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _advance(pattern: tuple[str, ...], states: frozenset[int], name: str) -> frozenset[int]:
    """How many parts of a glob are matched when `name` is added to a path, for each way to match; none: no match.

    len(pattern) is a full match, and stays one for all below. `**` matches any number of folders, none included.
    Hidden files and NOT_PHOTOS are matched only by a part that begins as they do.
    """
    special = name.startswith(".") or name in NOT_PHOTOS
    reached = set()
    for state in _skip_stars(pattern, states):
        if state == len(pattern) or pattern[state] == "**":
            if not special:
                reached.add(state)
        elif fnmatchcase(name, pattern[state]) and not (special and pattern[state][0] != name[0]):
            reached.add(state + 1)
    return _skip_stars(pattern, reached)


def _skip_stars(pattern: tuple[str, ...], states: Iterable[int]) -> frozenset[int]:
    """The states with those behind a `**` that matches nothing."""
    reached = set(states)
    for i, part in enumerate(pattern):
        if part == "**" and i in reached:
            reached.add(i + 1)
    return frozenset(reached)


def encode(path: str) -> bytes:
    """A path as it stands in the list file: its bytes and a NUL."""
    if "\0" in path:
        raise InceptionError(f"{path!r}: no path holds a NUL character; take it out of the list")
    return os.fsencode(path) + b"\0"


class PathList(Sequence[str]):
    """Paths as NUL-terminated bytes and an array of their ends: a million of them are two objects.

    One of a file is memory-mapped and pickles as the file's name, so each worker process opens it for itself.
    """

    def __init__(self, data: bytes | mmap.mmap, file: Path | None = None) -> None:
        self._data = data
        self._file = file
        self._ends = array("Q", _ends(data))

    @classmethod
    def open(cls, file: Path) -> "PathList":
        """The list in `file`."""
        if file.stat().st_size == 0:  # which cannot be mapped
            return cls(b"", file.absolute())
        with file.open("rb") as stream:
            return cls(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ), file.absolute())

    @classmethod
    def of(cls, paths: Iterable[str]) -> "PathList":
        """A list in memory."""
        return cls(b"".join(map(encode, paths)))

    def __len__(self) -> int:
        return len(self._ends)

    def encoded(self, positions: range) -> bytes:
        """Consecutive paths as bytes, each with its NUL: PathList(…) of them is that part of the list."""
        start = self._ends[positions.start - 1] + 1 if positions.start else 0
        return self._data[start : self._ends[positions.stop - 1] + 1]

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        position = range(len(self))[index]
        start = self._ends[position - 1] + 1 if position else 0
        return os.fsdecode(self._data[start : self._ends[position]])

    def __reduce__(self) -> tuple[object, ...]:
        return (PathList.open, (self._file,)) if self._file else (PathList, (self._data,))


def _ends(data: bytes | mmap.mmap) -> Iterator[int]:
    """The position of each NUL."""
    end = data.find(b"\0")
    while end >= 0:
        yield end
        end = data.find(b"\0", end + 1)

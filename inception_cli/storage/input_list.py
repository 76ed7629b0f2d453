"""The list of a run's inputs in few bytes: NUL-terminated paths, in memory or memory-mapped from a file."""

import mmap
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import overload

from inception_cli.errors import InceptionError


def encode(path: str) -> bytes:
    """Return a path as it is written to the list file: its bytes and a NUL."""
    if not path:
        raise InceptionError("a path in the list is empty; remove it")
    if "\0" in path:
        raise InceptionError(f"{path!r}: a path cannot contain a NUL character; remove it from the list")
    return os.fsencode(path) + b"\0"


class _Paths(Sequence[str]):
    """A sequence of paths that are made when they are asked for; a slice is a list of them."""

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self._path(i) for i in range(*index.indices(len(self)))]
        return self._path(range(len(self))[index])

    def _path(self, position: int) -> str:
        """Return the path at a position from 0 on."""
        raise NotImplementedError


class InputList(_Paths):
    """A list of paths, stored as NUL-terminated bytes and an array of their ends: two objects for a million paths.

    The list of a file is memory-mapped and is pickled as the file's name, so that each worker process opens the file.
    """

    def __init__(self, data: bytes | mmap.mmap, file: Path | None = None) -> None:
        self._data = data
        self._file = file
        self._ends = array("Q", _ends(data))

    @classmethod
    def open(cls, file: Path) -> "InputList":
        """Return the list in `file`."""
        if file.stat().st_size == 0:  # an empty file cannot be mapped
            return cls(b"", file.absolute())
        with file.open("rb") as stream:
            return cls(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ), file.absolute())

    @classmethod
    def of(cls, paths: Iterable[str]) -> "InputList":
        """Return a list in memory."""
        return cls(b"".join(map(encode, paths)))

    def __len__(self) -> int:
        return len(self._ends)

    def encoded(self, positions: range) -> bytes:
        """Return consecutive paths as bytes, each with its NUL, from which InputList makes that part of the list."""
        start = self._ends[positions.start - 1] + 1 if positions.start else 0
        return self._data[start : self._ends[positions.stop - 1] + 1]

    def _path(self, position: int) -> str:
        start = self._ends[position - 1] + 1 if position else 0
        return os.fsdecode(self._data[start : self._ends[position]])

    def __reduce__(self) -> tuple[object, ...]:
        return (InputList.open, (self._file,)) if self._file else (InputList, (self._data,))


def _ends(data: bytes | mmap.mmap) -> Iterator[int]:
    """Yield the position of each NUL."""
    end = data.find(b"\0")
    while end >= 0:
        yield end
        end = data.find(b"\0", end + 1)


class LocatedPaths(_Paths):
    """Paths whose relative ones belong to another directory than the working directory, as they can be opened."""

    def __init__(self, paths: Sequence[str], directory: str) -> None:
        self._paths, self._directory = paths, directory

    def __len__(self) -> int:
        return len(self._paths)

    def _path(self, position: int) -> str:
        return os.path.join(self._directory, self._paths[position])  # noqa: PTH118 - a Path would drop a final slash

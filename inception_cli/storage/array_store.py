"""Features and scores in files of NumPy's format: row i is that of input i, NaN where it has no prediction.

    features.npy.part   header and rows; locked while a run writes it
    features.npy        published

The space of all rows is reserved when a run starts, so that a full disk is found then and not after hours. The rows of
a batch are on the disk before the predictions of the same inputs are written: an array has at least as many rows as the
file of predictions, unless somebody has cut it.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Self

from inception_cli.config import FEATURES, ArrayType, RunConfig
from inception_cli.errors import InceptionError
from inception_cli.files.atomic import beside, lock, sync_folder, writing

if TYPE_CHECKING:
    import numpy as np


class ArrayFile:
    """The array `file` of a run, locked while this is open."""

    def __init__(self, file: Path, descriptor: int) -> None:
        self.file = file
        self._part = beside(file, ".part")
        self._descriptor = descriptor
        self._header, self._row_bytes, self._images = b"", 0, 0

    @classmethod
    def open(cls, file: Path, replace: bool = False) -> Self:
        """Lock the part file of an array; InceptionError when another run is writing it, or it cannot be written.

        Without `replace` also when it has rows.
        """
        array = cls(file, lock(beside(file, ".part"), append=False))
        if not replace and os.fstat(array._descriptor).st_size:
            array.close()
            raise InceptionError(
                f"{array._part}: it belongs to an interrupted run; resume that, give another name, or --restart "
                "replaces it"
            )
        return array

    def set_shape(self, images: int, columns: int, dtype: ArrayType) -> None:
        """Set the shape of the array to (images, columns)."""
        self._header = npy_header(images, columns, dtype)
        self._images, self._row_bytes = images, columns * ITEM_BYTES[dtype]

    def count_rows(self) -> int:
        """Return the rows in the part file: reserved ones count; none if it is not of this shape."""
        with writing(self._part):
            if os.pread(self._descriptor, len(self._header), 0) != self._header:
                return 0
            return (os.fstat(self._descriptor).st_size - len(self._header)) // self._row_bytes

    def begin(self, rows: int) -> None:
        """Keep the first `rows` rows, and reserve the space of all."""
        with writing(self._part):
            os.ftruncate(self._descriptor, self._position(rows) if rows else 0)
            reserve(self._descriptor, self._position(self._images))
            self._write_at(0, self._header)
            os.fsync(self._descriptor)

    def write(self, first: int, rows: "np.ndarray") -> None:
        """Write the rows (N, columns) of consecutive inputs from position `first` on, and sync them."""
        with writing(self._part):
            self._write_at(self._position(first), rows.tobytes())
            os.fsync(self._descriptor)

    def discard(self) -> None:
        """Empty the part file, which is then removed on closing."""
        os.ftruncate(self._descriptor, 0)

    def close(self) -> None:
        """Release the lock; an empty part file is removed."""
        with suppress(OSError):
            if not os.fstat(self._descriptor).st_size:
                self._part.unlink()
        os.close(self._descriptor)

    def _position(self, row: int) -> int:
        return len(self._header) + row * self._row_bytes

    def _write_at(self, position: int, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            written = os.pwrite(self._descriptor, rest, position)
            rest, position = rest[written:], position + written


#: Bytes of a number.
ITEM_BYTES: Mapping[ArrayType, int] = {"float32": 4, "float16": 2}


def array_width(run: RunConfig, array: str) -> int:
    """Return the width of an array of a run: 2048 features, or a score for each class."""
    return FEATURES if array == "features" else len(run.classes)


def npy_header(images: int, columns: int, dtype: ArrayType) -> bytes:
    """Return the header of a .npy file with an array (images, columns)."""
    import numpy as np

    stream = BytesIO()
    header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": (images, columns)}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue()


def reserve(descriptor: int, size: int) -> None:
    """Make a file `size` bytes long; where the system can do it, on space that is reserved on the disk."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:  # macOS
        os.ftruncate(descriptor, size)


def publish_array(file: Path) -> None:
    """Give the array its final name, unless it has it already."""
    part = beside(file, ".part")
    if part.exists():
        part.replace(file)
        sync_folder(file)

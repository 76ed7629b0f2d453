"""Files beyond this machine's own, s3:// gs:// hdfs:// and what else pyarrow reads (fsspec's as fsspec+NAME://)."""

import posixpath
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from inception_cli.errors import InceptionError

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

MISSING = "needs Ray and pyarrow: pip install 'inception-cli[ray]'"
_REMOTE = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+://[^/]+/?)(.*)", re.DOTALL)


def is_remote(name: str) -> bool:
    """Whether a name is one of a store's, `s3://bucket/photos`, not a path of this machine."""
    return _REMOTE.fullmatch(name) is not None


def locate(name: str) -> "tuple[FileSystem, str]":
    """The file system that a name is of, and its path there.

    Keys may hold whatever a URI may not (spaces, umlauts, %), so only what stands before them is read as one.
    """
    try:
        from pyarrow.fs import LocalFileSystem
    except ImportError as error:
        raise InceptionError(f"{name}: {MISSING}") from error
    found = _REMOTE.fullmatch(name)
    if found is None:
        return LocalFileSystem(), name
    store, root = _store(found[1])
    return store, posixpath.join(root, found[2]).rstrip("/")


@contextmanager
def nearby(name: str) -> Iterator[Path]:
    """The file or folder of that name on this machine: that of a store is copied, for as long as this is entered."""
    if not is_remote(name):
        yield Path(name)
        return
    store, path = locate(name)
    from pyarrow.fs import FileType, LocalFileSystem, copy_files

    with TemporaryDirectory() as folder:
        copy = Path(folder, posixpath.basename(path) or "rows")
        with telling(name):
            if store.get_file_info(path).type == FileType.Directory:
                copy.mkdir()
            copy_files(path, str(copy), source_filesystem=store, destination_filesystem=LocalFileSystem())
        try:
            yield copy
        except InceptionError as error:
            error.args = (str(error).replace(str(copy), name.rstrip("/")),)
            raise


def page_beside(rows: str) -> str:
    """The .html file for the report of some rows: beside them, or here if they lie in a store."""
    return str(Path(posixpath.basename(rows.rstrip("/")) if is_remote(rows) else rows).with_suffix(".html"))


@contextmanager
def telling(name: str) -> Iterator[None]:
    """Make what a store refuses the one line that a user can act on."""
    try:
        yield
    except OSError as error:
        reason = "nothing is there" if isinstance(error, FileNotFoundError) else " ".join(str(error).split())
        raise InceptionError(f"{name}: {reason}; check the name and the credentials") from error


@cache
def _store(root: str) -> "tuple[FileSystem, str]":
    from pyarrow import ArrowException
    from pyarrow.fs import FileSystem

    try:
        store, path = FileSystem.from_uri(root)
    except (ArrowException, OSError, ValueError, ImportError) as error:
        reason = " ".join(str(error).split())
        raise InceptionError(f"{root}: cannot be opened ({reason}); check the name and the credentials") from error
    return store, path

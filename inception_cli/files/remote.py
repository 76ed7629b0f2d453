"""Files in remote stores: s3://, gs://, hdfs:// and whatever else pyarrow opens (fsspec's as fsspec+NAME://)."""

import posixpath
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from inception_cli.errors import InceptionError, one_line

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

_REMOTE = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+://[^/]+/?)(.*)", re.DOTALL)
_REMEDY = "check the address and the credentials"


def is_remote(path: str) -> bool:
    """Return whether a path is in a remote store, such as `s3://bucket/photos`."""
    return _REMOTE.fullmatch(path) is not None


def open_store(path: str) -> "tuple[FileSystem, str]":
    """Return the file system of a path, local or remote, and the path within it."""
    try:
        from pyarrow.fs import LocalFileSystem
    except ImportError as error:
        raise InceptionError(f"{path}: needs pyarrow: pip install pyarrow") from error
    match = _REMOTE.fullmatch(path)
    if match is None:
        return LocalFileSystem(), path
    # Only the root is parsed as a URI: keys may hold what a URI may not (spaces, umlauts, %).
    store, root = _open_root(match[1])
    return store, posixpath.join(root, match[2]).rstrip("/")


@contextmanager
def local_copy(path: str) -> Iterator[Path]:
    """Yield a local path to a file or folder: the path itself, or a copy that is deleted at the end of the block.

    An InceptionError in the block names the remote path instead of the copy.
    """
    if not is_remote(path):
        yield Path(path)
        return
    store, key = open_store(path)
    from pyarrow.fs import FileType, LocalFileSystem, copy_files

    with TemporaryDirectory() as folder:
        copy = Path(folder, posixpath.basename(key) or "rows")
        with remote_errors(path):
            if store.get_file_info(key).type == FileType.Directory:
                copy.mkdir()
            copy_files(key, str(copy), source_filesystem=store, destination_filesystem=LocalFileSystem())
        try:
            yield copy
        except InceptionError as error:
            error.args = (str(error).replace(str(copy), path.rstrip("/")),)
            raise


def page_beside(rows: str) -> str:
    """Return the suggested .html file for the report of some rows: beside them, or here for those in a remote store."""
    return str(Path(posixpath.basename(rows.rstrip("/")) if is_remote(rows) else rows).with_suffix(".html"))


@contextmanager
def remote_errors(path: str) -> Iterator[None]:
    """Turn an OSError of a remote store into an InceptionError that names the path and the remedy."""
    try:
        yield
    except OSError as error:
        reason = "no such file or folder" if isinstance(error, FileNotFoundError) else one_line(error, limit=1000)
        raise InceptionError(f"{path}: {reason}; {_REMEDY}") from error


@cache
def _open_root(root: str) -> "tuple[FileSystem, str]":
    """Return the file system of a store's root, `s3://bucket/`, and the path of the root within it."""
    from pyarrow import ArrowException
    from pyarrow.fs import FileSystem

    try:
        store, path = FileSystem.from_uri(root)
    except (ArrowException, OSError, ValueError, ImportError) as error:
        raise InceptionError(f"{root}: cannot be opened ({one_line(error, limit=1000)}); {_REMEDY}") from error
    return store, path

"""Fetch remote files (s3://, gs://, hdfs://) in parallel: each takes long to arrive and little work."""

import errno
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from inception_cli.errors import one_line
from inception_cli.files.remote import is_remote, open_store
from inception_cli.images.decode import FetchedFile, Source
from inception_cli.images.failure import Failure, os_failure

#: Files that a process fetches at the same time: at 50 ms each that is 600 files a second.
PARALLEL = 32


def fetch_remote(paths: Sequence[str]) -> list[Source]:
    """Return the paths, each remote one replaced by the fetched file."""
    if not any(map(is_remote, paths)):
        return list(paths)
    with ThreadPoolExecutor(PARALLEL) as threads:
        return [*threads.map(lambda path: _fetch(path) if is_remote(path) else path, paths)]


def _fetch(path: str) -> FetchedFile:
    try:
        store, key = open_store(path)
        with store.open_input_file(key) as file:
            return FetchedFile(path, file.read())
    except FileNotFoundError:  # fsspec raises it without an errno
        return FetchedFile(path, os_failure(OSError(errno.ENOENT, "")))
    except OSError as error:
        denied = isinstance(error, PermissionError) or "ACCESS_DENIED" in str(error)
        return FetchedFile(path, os_failure(OSError(errno.EACCES, "") if denied else error))
    except ValueError as error:  # raised by pyarrow for a name that the store does not allow
        return FetchedFile(path, Failure("missing", f"not a valid file name: {one_line(error, 100)}"))

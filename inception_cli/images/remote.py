"""Photos of a store's: many are fetched at once, for each takes a while to come and little work."""

import errno
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from inception_cli.images.decode import Failure, Fetched, Source, refused
from inception_cli.stores import is_remote, locate

#: Files on their way at once, by one process: at 50 ms each that is 600 files a second.
AT_ONCE = 32


def fetched(paths: Sequence[str]) -> list[Source]:
    """The paths, those of a store's with their bytes, or with why there are none."""
    if not any(map(is_remote, paths)):
        return list(paths)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return [*pool.map(lambda path: _fetch(path) if is_remote(path) else path, paths)]


def _fetch(path: str) -> Fetched:
    try:
        store, name = locate(path)
        with store.open_input_file(name) as file:
            return Fetched(path, file.read())
    except FileNotFoundError:  # without its number where fsspec raises it
        return Fetched(path, refused(OSError(errno.ENOENT, "")))
    except OSError as error:
        denied = isinstance(error, PermissionError) or "ACCESS_DENIED" in str(error)
        return Fetched(path, refused(OSError(errno.EACCES, "") if denied else error))
    except ValueError as error:  # pyarrow's own, for a name that the store cannot have
        return Fetched(path, Failure("missing", f"no file can have this name: {' '.join(str(error).split())[:100]}"))

"""A file on a disk: whole or not there, locked by one process, and what goes wrong with it told in a line."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from inception_cli.errors import InceptionError

_CURES = {
    errno.ENOSPC: "make room, and the same command goes on",
    errno.EDQUOT: "make room, and the same command goes on",
    errno.EFBIG: "allow larger files (ulimit -f), and the same command goes on",
    errno.EIO: "see to the disk, and the same command goes on",
}


def writable(out: Path) -> Path:
    """`out`, or what it is a link to; InceptionError when that can be no file of rows."""
    with telling(out):
        if out.is_symlink():
            target = Path(os.path.realpath(out))  # or publishing would put a file in the link's place
            if target.suffix.lower() != out.suffix.lower():
                raise InceptionError(f"{out} is a link to {target}, of another suffix; name that, or another --out")
            out = target
        if out.is_dir():
            raise InceptionError(f"{out} is a folder; name a file in it, such as {out / 'preds.csv'}")
        if out.exists() and not out.is_file():
            raise InceptionError(f"{out} is no regular file; name one, or - for standard output")
        if not out.parent.is_dir():
            raise InceptionError(f"{out.parent}: no such folder; make it, or choose another --out")
        return out


def lock(file: Path) -> int:
    """A locked descriptor of `file`, which is made if it is not there.

    lockf, not flock: a lock of flock's would be held by the orphaned workers of a run that was killed.
    """
    while True:
        with telling(file):
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), file.stat()):
                return descriptor
        except FileNotFoundError:
            pass  # published or removed by another run since it was opened
        except (BlockingIOError, PermissionError) as error:
            os.close(descriptor)
            raise InceptionError(f"{file}: another run writes it; wait for that, or choose another --out") from error
        except OSError as error:
            os.close(descriptor)
            if not file.stat().st_size:
                file.unlink()
            raise InceptionError(
                f"{file}: cannot be locked ({error.strerror}); choose an --out on another disk"
            ) from error
        os.close(descriptor)


def beside(file: Path, suffix: str) -> Path:
    """The file of that name and suffix in the same folder."""
    return file.with_name(file.name + suffix)


def temporary(file: Path) -> Path:
    """What a file is called until it is whole."""
    return beside(file, ".tmp")


@contextmanager
def replacing(file: Path) -> Iterator[BinaryIO]:
    """A new file that takes the place of `file` when it is whole and on the disk; else nothing stays of it."""
    unfinished = temporary(file)
    try:
        with unfinished.open("wb") as new:
            yield new
            new.flush()
            os.fsync(new.fileno())
        unfinished.replace(file)
        sync_folder(file)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def sync_folder(file: Path) -> None:
    """Bring the names of the folder of `file` to the disk, where the file system can."""
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        with suppress(OSError):
            os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def telling(file: Path) -> Iterator[None]:
    """Make an OSError the one line that a user can act on."""
    try:
        yield
    except OSError as error:
        cure = _CURES.get(error.errno or 0, "choose another --out")
        raise InceptionError(f"{file}: {error.strerror or error}; {cure}") from error

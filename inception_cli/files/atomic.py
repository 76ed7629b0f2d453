"""Files on the local disk: replace a file atomically, lock it, check that it can be written."""

import errno
import fcntl
import glob
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from inception_cli.errors import InceptionError, os_reason

OTHER_OUTPUT = "choose another output file"

#: Remedies for errors of the disk, whichever file was being written.
_DISK_REMEDIES = {
    errno.ENOSPC: "free some disk space and run the same command again",
    errno.EDQUOT: "free some disk space and run the same command again",
    errno.EFBIG: "allow larger files (ulimit -f) and run the same command again",
    errno.EIO: "check the disk and run the same command again",
}


@contextmanager
def replacing(file: Path, remedy: str = OTHER_OUTPUT) -> Iterator[BinaryIO]:
    """Yield a new file to write, which replaces `file` atomically at the end of the block.

    After an exception `file` is as it was before, and the new file is removed. The data is on the disk before the
    rename, and the rename before this returns. If `file` is a symbolic link, the link is replaced. Raises
    InceptionError for an OSError, those of the block included.
    """
    temporary = _temporary(file)
    # Mode "x" creates the file or fails: it never opens an existing file or follows a symbolic link.
    with writing(file, remedy), temporary.open("xb") as stream:
        try:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
            temporary.replace(file)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(file)


@contextmanager
def new_folder(folder: Path, remedy: str = "choose another output folder") -> Iterator[Path]:
    """Yield an empty folder to fill with files, which gets the name `folder` at the end of the block.

    A killed process leaves either the complete folder or none of this name. `folder` may exist if it is empty.
    Raises InceptionError for an OSError, those of the block included; then nothing is left.
    """
    temporary = _temporary(folder)
    with writing(folder, remedy):
        temporary.mkdir()
        try:
            yield temporary
            for file in temporary.iterdir():
                with file.open("rb") as stream:
                    os.fsync(stream.fileno())
            sync_folder(temporary / "file")
            temporary.rename(folder)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        sync_folder(folder)


def set_aside(folder: Path) -> Path:
    """Rename a folder so that `remove_temporaries(folder)` removes it, and return its new name."""
    with writing(folder, "choose another output folder"):
        return folder.rename(_temporary(folder))


def remove_temporaries(file: Path) -> None:
    """Remove what killed processes left of `replacing(file)` or `new_folder(file)`; none may be running."""
    for temporary in file.parent.glob(f".{glob.escape(file.name)}.{'[0-9a-f]' * 8}.tmp"):
        if temporary.is_dir() and not temporary.is_symlink():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def _temporary(file: Path) -> Path:
    """Return the name under which `file` is written, or kept until it is removed."""
    return file.with_name(f".{file.name}.{secrets.token_hex(4)}.tmp")


def sync_folder(file: Path) -> None:
    """Flush the folder of `file` to the disk, so that renames in it survive a power cut; skip it where unsupported."""
    with suppress(OSError):
        folder = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def lock(file: Path, append: bool = True, remedy: str = OTHER_OUTPUT) -> int:
    """Open `file` for reading and appending, create it if it does not exist, lock it, and return the descriptor.

    Without `append` it is written at the position of each write: on Linux `pwrite` appends to a file opened to append.

    Closing any descriptor of the file in this process releases the lock. Raises InceptionError if another process
    holds it, or the file cannot be opened; `remedy` is what the user can do then.
    """
    while True:
        with writing(file, remedy):
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT | (os.O_APPEND if append else 0), 0o666)
        try:
            # Not flock: the orphaned worker processes of a killed run would inherit that lock and keep it.
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), file.stat()):
                return descriptor
        except FileNotFoundError:
            pass  # another run has published or removed the file since it was opened
        except (BlockingIOError, PermissionError) as error:
            os.close(descriptor)
            raise InceptionError(f"{file}: another run is writing it; wait until it ends, or {remedy}") from error
        except OSError as error:
            os.close(descriptor)
            if not file.stat().st_size:
                file.unlink()
            raise InceptionError(
                f"{file}: cannot be locked ({os_reason(error)}); choose an output file on another disk"
            ) from error
        os.close(descriptor)


@contextmanager
def locked(file: Path, remedy: str) -> Iterator[None]:
    """Hold the lock of a file that exists only for this; InceptionError if another process holds it.

    `remedy` is what the user can do then.
    """
    with writing(file, remedy):
        is_link = file.is_symlink()
    if is_link:
        raise InceptionError(f"{file}: is a symbolic link; delete it, or {remedy}")
    descriptor = lock(file, remedy=remedy)
    try:
        yield
    finally:
        with suppress(OSError):
            file.unlink(missing_ok=True)
        os.close(descriptor)


def resolve_output(file: Path, example: str = "preds.csv") -> Path:
    """Return `file`, or the target if it is a symbolic link; raise InceptionError unless it can be written there."""
    with writing(file):
        if file.is_symlink():
            target = Path(os.path.realpath(file))  # replacing the link itself would leave the target unchanged
            if target.suffix.lower() != file.suffix.lower():
                raise InceptionError(
                    f"{file}: links to {target}, which has another suffix; give the target, or {OTHER_OUTPUT}"
                )
            file = target
        if file.is_dir():
            raise InceptionError(f"{file}: is a folder; give a file in it, such as {file / example}")
        if file.exists() and not file.is_file():
            raise InceptionError(f"{file}: not a regular file; {OTHER_OUTPUT}, or - for standard output")
        if not file.parent.is_dir():
            raise InceptionError(f"{file.parent}: no such folder; create it, or {OTHER_OUTPUT}")
        return file


def beside(file: Path, suffix: str) -> Path:
    """Return the path of `file` with `suffix` added to its name."""
    return file.with_name(file.name + suffix)


@contextmanager
def writing(file: Path, remedy: str = OTHER_OUTPUT) -> Iterator[None]:
    """Turn an OSError while `file` is written into an InceptionError with the reason and a remedy.

    `remedy` is for errors of the file; a full or broken disk has a remedy of its own.
    """
    try:
        yield
    except OSError as error:
        raise InceptionError(f"{file}: {os_reason(error)}; {_DISK_REMEDIES.get(error.errno or 0, remedy)}") from error

"""What is at a path that a user has given."""

import os
import stat
from pathlib import Path
from typing import Literal

from inception_cli.errors import os_errors

FileKind = Literal["file", "folder", "other"]  # other: a pipe or a device


def file_kind(path: Path | str, remedy: str) -> FileKind | None:
    """Return what a path leads to, links followed; None if nothing is there.

    Raises InceptionError, with the path and the remedy, if the system refuses to say: without permission for the
    folder, for a name that is too long. There `Path.exists`, `is_file` and `is_dir` raise an OSError, and from Python
    3.14 on they return False.
    """
    with os_errors(path, remedy):
        try:
            mode = os.stat(path).st_mode  # noqa: PTH116 - a Path would drop the slash of `x.csv/`
        except (FileNotFoundError, NotADirectoryError):
            return None
    return "file" if stat.S_ISREG(mode) else "folder" if stat.S_ISDIR(mode) else "other"


def file_id(path: Path | str) -> tuple[int, int] | None:
    """Return (device, inode) of a file or folder, links followed: equal for all its names; None if it has no status."""
    try:
        status = Path(path).stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino

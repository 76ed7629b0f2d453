"""Why a file has no image: the status and the error of its row."""

import errno
from dataclasses import dataclass
from typing import Literal

from inception_cli.errors import os_reason

MAX_ERROR_LENGTH = 160  # characters
PILLOW_DECODES_IT = (
    "Pillow decodes it without an error"  # in the error of a damaged image that other programs would count
)
FailureStatus = Literal["missing", "denied", "unsupported", "too_large", "truncated", "corrupt", "failed"]


@dataclass(frozen=True)
class Failure:
    """Why a file has no prediction: the status of its row, and the error in one line."""

    status: FailureStatus
    error: str


NO_SUCH_FILE = Failure("missing", "no such file")
#: The failure of an image that does not fit into memory, even if no other one is decoded at the same time.
OUT_OF_MEMORY = Failure("failed", "out of memory")


class Unreadable(Exception):
    """Raised while a file is decoded; holds the failure of its row."""

    def __init__(self, status: FailureStatus, error: str) -> None:
        super().__init__(error)
        self.failure = Failure(status, error)


def os_failure(error: OSError) -> Failure:
    """Return the failure for an error of the operating system."""
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR:
            return NO_SUCH_FILE
        case errno.ELOOP:
            return Failure("missing", "the link points to itself")
        case errno.ENAMETOOLONG:
            return Failure("missing", "the file name is too long")
        case errno.ENXIO:  # a socket has replaced the file
            return Failure("unsupported", "a socket or a device, not a file")
        case errno.EACCES | errno.EPERM:
            return Failure("denied", "permission denied")
        case errno.ENOMEM:
            return OUT_OF_MEMORY
        case _:
            return Failure("failed", f"the file could not be read: {printable(os_reason(error))}")


def printable(text: str) -> str:
    """Return a text of one line, shortened, with ? in place of control characters."""
    return "".join(c if c.isprintable() else "?" for c in text)[:MAX_ERROR_LENGTH]

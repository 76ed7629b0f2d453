"""Exceptions that are shown to users in one line, and the exit codes of the `inception` command.

InceptionError          1  one line that names the file and the remedy
├── UsageError          2  invalid command-line usage, or an invalid argument (also a ValueError)
├── NoImages            4  there is nothing to classify
└── GateNotMet          5  a metric is below the expected value
"""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path


class ExitCode(IntEnum):
    """Exit codes of the `inception` command."""

    OK = 0
    ERROR = 1
    USAGE = 2
    SOME_FAILED = 3
    NO_IMAGES = 4
    GATE_NOT_MET = 5
    INTERRUPTED = 130


class InceptionError(Exception):
    """An error that the user can fix; its text is one line that names the file and the remedy."""

    exit_code = ExitCode.ERROR


class UsageError(InceptionError, ValueError):
    """Invalid command-line usage, or an invalid argument of the Python API."""

    exit_code = ExitCode.USAGE


class NoImages(InceptionError):
    """None of the inputs is an image."""

    exit_code = ExitCode.NO_IMAGES


class GateNotMet(InceptionError):
    """A metric is below the expected value."""

    exit_code = ExitCode.GATE_NOT_MET


def one_line(error: BaseException, limit: int = 200) -> str:
    """Return the text of an exception as one line of at most `limit` characters."""
    return " ".join(str(error).split())[:limit] or type(error).__name__


def os_reason(error: OSError) -> str:
    """Return the operating system's reason in lower case, without the file name."""
    return (error.strerror or one_line(error)).lower()


@contextmanager
def os_errors(file: Path | str, remedy: str) -> Iterator[None]:
    """Turn an OSError in the block into an InceptionError that names the file, the reason and the remedy."""
    try:
        yield
    except OSError as error:
        raise InceptionError(f"{file}: {os_reason(error)}; {remedy}") from error

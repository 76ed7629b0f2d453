"""Exceptions that are shown to users in one line, the exit codes of the `inception` command, and checks of fields.

InceptionError          1  one line that names the file and the remedy
├── UsageError          2  invalid command-line usage, or an invalid argument (also a ValueError)
├── NoImages            4  there is nothing to classify
└── GateNotMet          5  a metric is below the expected value
"""

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path

#: Longest name, path or note in characters; PATH_MAX of Linux.
MAX_TEXT = 4096
#: In a RuntimeError that means that memory was short: of a GPU, of torch on the processor, of C++.
NO_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "std::bad_alloc")
_SHA256 = re.compile(r"[0-9a-f]{64}")


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


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether the host, or a GPU, had no memory left: torch has no exception of its own for the host."""
    text = str(error).lower()
    of_torch = isinstance(error, RuntimeError) and any(words in text for words in NO_MEMORY)
    return of_torch or isinstance(error, MemoryError)


def one_line(error: BaseException, limit: int = 200) -> str:
    """Return the text of an exception as one line of at most `limit` characters."""
    return " ".join(str(error).split())[:limit] or type(error).__name__


def excerpt(value: object, limit: int = 60) -> str:
    """Return a value of a user's file as text in a message: at most `limit` characters, its beginning and its end."""
    text = value if isinstance(value, str) else repr(value)
    half = (limit - 3) // 2
    return text if len(text) <= limit else f"{text[:half]} … {text[-half:]}"


def plural(n: int, one: str, many: str = "") -> str:
    """Return a number with its noun: "1 row", "2,000 rows"; `many` is the plural where it is not `one` with an s."""
    return f"{n:,} {one if n == 1 else many or f'{one}s'}"


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


def require(condition: bool, message: str) -> None:
    """Raise UsageError with `message` unless `condition` holds."""
    if not condition:
        raise UsageError(message)


def require_choice(name: str, value: object, choices: Sequence[object]) -> None:
    """Raise UsageError unless `value` is one of `choices`."""
    require(value in choices, f"{name} {excerpt(repr(value))}: choose from {', '.join(map(str, choices))}")


def require_range(name: str, value: object, least: float, most: float = math.inf) -> None:
    """Raise UsageError unless `value` is a number from `least` to `most`."""
    upper = f" and at most {most}" if most < math.inf else ""
    require(
        isinstance(value, int | float) and least <= value <= most,
        f"{name} must be at least {least}{upper}, not {excerpt(repr(value))}",
    )


def require_text(name: str, value: str) -> None:
    """Raise UsageError for a text that is blank or longer than MAX_TEXT."""
    require(bool(value.strip()), f"{name} is empty")
    require(len(value) <= MAX_TEXT, f"{name} has {len(value):,} characters, more than {MAX_TEXT:,}")


def require_sha256(name: str, value: str) -> None:
    """Raise UsageError unless `value` is a sha256 in hexadecimal."""
    require(bool(_SHA256.fullmatch(value)), f"{name} {excerpt(repr(value))} is no sha256 in hexadecimal")


def require_timeout(seconds: float) -> None:
    """Raise UsageError unless `seconds` is a finite number above zero."""
    require(0 < seconds < math.inf, f"timeout must be above 0 seconds, and finite, not {seconds}")

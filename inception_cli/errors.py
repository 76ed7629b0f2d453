"""What a user can be told, and the exit codes.

InceptionError          1  one line that names the file and the cure
├── UsageError          2  the command's words are off
├── NoImages            4  nothing to classify
└── GateNotMet          5  a figure is below what was asked for
"""

from enum import IntEnum


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
    """Something went wrong that the user can mend; its text is one line that names the file and the cure."""

    exit_code = ExitCode.ERROR


class UsageError(InceptionError):
    """The command's words are off."""

    exit_code = ExitCode.USAGE


class NoImages(InceptionError):
    """Nothing that was named holds an image."""

    exit_code = ExitCode.NO_IMAGES


class GateNotMet(InceptionError):
    """A measured figure is below the one asked for."""

    exit_code = ExitCode.GATE_NOT_MET

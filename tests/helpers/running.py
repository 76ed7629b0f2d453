"""Run the command `inception` in the process of the test."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from unittest import mock

from inception_cli.__main__ import main


@dataclass(frozen=True)
class Ended:
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str


Inception = Callable[..., Ended]


def code_of(*words: object) -> int:
    """Run the command and return its exit code."""
    with mock.patch.object(sys, "argv", ["inception", *map(str, words)]):
        try:
            main()
        except SystemExit as ended:
            return int(ended.code or 0)
    raise AssertionError("main() always exits")

"""The command `inception`, as tests run it: in their own process."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from unittest import mock

from inception_cli.__main__ import main


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str


Inception = Callable[..., Ended]


def code_of(*words: object) -> int:
    """Run the command; its exit code."""
    with mock.patch.object(sys, "argv", ["inception", *map(str, words)]):
        try:
            main()
        except SystemExit as ended:
            return int(ended.code or 0)
    raise AssertionError("the command ends by its exit code")

"""A process that dies at a chosen change of the disk, without leaving the process of the test."""

import os
from collections.abc import Callable
from typing import Any

import pytest

#: The functions of `os` that change the disk, also when pathlib calls them.
CHANGES = (
    *("link", "symlink", "unlink", "rename", "replace", "mkdir", "rmdir", "open", "write"),
    *("copy_file_range", "fchown", "fchmod", "utime", "fsync", "sync", "setxattr"),
)


class Killed(BaseException):
    """The process has been killed."""


class Mortal:
    """Counts changes of the disk; dies before change number `moment`, after which nothing can change any more."""

    def __init__(self, patch: pytest.MonkeyPatch, moment: int | None = None) -> None:
        self.changes, self.moment = 0, moment
        for name in CHANGES:
            patch.setattr(os, name, self._mortal(name, getattr(os, name)))

    def _mortal(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def change(*arguments: Any, **options: Any) -> Any:
            if name != "open" or arguments[1] & os.O_CREAT:
                self.changes += 1
                if self.moment is not None and self.changes >= self.moment:
                    raise Killed
            return function(*arguments, **options)

        return change

"""Run the command `inception` in a terminal, and return what is on its screen at the end."""

import os
import re
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from unittest import mock

from running import code_of

_CONTROL = re.compile(r"\x1b\[(\?)?(\d*)(?:;\d+)*([A-Za-z])|([\r\n])|([^\x1b\r\n]+)")


@dataclass(frozen=True)
class Screen:
    """The exit code of a command, the lines on the screen, and everything that was sent to it."""

    code: int
    lines: list[str]
    sent: str


def run_in_terminal(*words: object, width: int = 80) -> Screen:
    """Run the command in this process, with standard output and standard error in one new terminal."""
    master, slave = os.openpty()
    termios.tcsetwinsize(slave, (50, width))
    received: list[bytes] = []
    reader = threading.Thread(target=_read, args=(master, received))
    reader.start()
    with mock.patch.dict(os.environ, COLUMNS=str(width), LINES="50", TERM="xterm-256color"), _standard_streams(slave):
        code = code_of(*words)
    reader.join()
    os.close(master)
    sent = b"".join(received).decode()
    return Screen(code, screen(sent), sent)


@contextmanager
def _standard_streams(terminal: int) -> Iterator[None]:
    """Connect standard output and standard error to a terminal, which is closed at the end."""
    kept = {number: os.dup(number) for number in (1, 2)}
    for number in kept:
        os.dup2(terminal, number)
    os.close(terminal)
    try:
        yield
    finally:
        sys.stdout.flush()
        for number, before in kept.items():
            os.dup2(before, number)
            os.close(before)


def screen(sent: str) -> list[str]:
    """Return the lines that a terminal shows; it knows the control sequences that Rich sends."""
    lines, row, column = [""], 0, 0
    for private, number, command, control, text in _CONTROL.findall(sent):
        if control == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif control == "\r":
            column = 0
        elif text:
            lines[row] = lines[row][:column].ljust(column) + text + lines[row][column + len(text) :]
            column += len(text)
        elif command == "A":
            row = max(0, row - int(number or 1))
        elif command == "K":
            lines[row] = lines[row][:column] if number in ("", "0") else ""
        elif command not in "mhl":
            raise AssertionError(f"unknown control sequence: {private}{number}{command}")
    return [line.rstrip() for line in lines]


def _read(master: int, received: list[bytes]) -> None:
    while True:
        try:
            data = os.read(master, 65_536)
        except OSError:  # the other end is closed
            return
        if not data:
            return
        received.append(data)

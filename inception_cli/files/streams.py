"""Standard output and standard error: what happens when they are closed or full, and muting libraries."""

import errno
import io
import locale
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, TextIO

from inception_cli.errors import InceptionError, os_reason

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_lock = Lock()


class ClosedPipe(Exception):
    """The program that reads standard output has ended, such as `| head`. No OSError: Rich handles that one itself."""


class _Data(io.FileIO):
    """Standard output. The first write that fails raises an error; what is written after it is dropped."""

    _failed = False

    def write(self, data: "ReadableBuffer", /) -> int:
        """Write data; raise ClosedPipe or InceptionError if this fails."""
        if self._failed:
            return memoryview(data).nbytes  # else Python reports the same error once more when it exits
        try:
            return super().write(data)
        except OSError as error:
            self._failed = True
            if isinstance(error, BrokenPipeError):
                raise ClosedPipe from None
            reason = "it is closed" if error.errno == errno.EBADF else os_reason(error)
            raise InceptionError(f"standard output: {reason}; redirect it to a file that can be written") from error


class _Messages(io.FileIO):
    """Standard error. Messages that cannot be written are dropped: they never end the work that they report on."""

    def write(self, data: "ReadableBuffer", /) -> int:
        """Write a message, if possible."""
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def open_standard_streams() -> None:
    """Make `sys.stdout` and `sys.stderr` work under every scheduler: closed, full, or in ASCII.

    Data that cannot be written raises an error, messages are dropped, and characters that the encoding lacks are
    escaped. Descriptors that are closed are opened: else the next file to be opened would get their numbers, and what
    libraries print would go into it.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest free number is this one. Writing data fails, as to a closed descriptor; messages vanish.
            opened = os.open(os.devnull, os.O_WRONLY if descriptor == 2 else os.O_RDONLY)
            os.set_inheritable(opened, True)  # by the processes of several GPUs
    sys.stdout = _text_stream(_Data(1, "w", closefd=False), sys.stdout, os.isatty(1))
    sys.stderr = _text_stream(_Messages(2, "w", closefd=False), sys.stderr, True)


def _text_stream(raw: io.FileIO, before: TextIO | None, line_buffering: bool) -> TextIO:
    """Return a text stream with the encoding of the one before, if there was one."""
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=getattr(before, "encoding", None) or locale.getencoding(),
        errors="backslashreplace",
        line_buffering=line_buffering,
    )


@contextmanager
def stderr_muted() -> Iterator[None]:
    """Discard what is written to file descriptor 2, by native libraries too; one thread at a time."""
    with _lock:  # a second thread would restore the muted descriptor of the first
        try:
            kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        except OSError:  # standard error is closed, or no descriptor is left
            yield
            return
        os.dup2(null, 2)
        os.close(null)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _unlock_after_fork() -> None:
    """Replace the lock in a forked child: the thread that held it exists only in the parent."""
    global _lock
    _lock = Lock()


os.register_at_fork(after_in_child=_unlock_after_fork)

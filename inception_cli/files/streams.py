"""Standard error, muted while a library writes to it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

_lock = Lock()


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

"""Worker processes, by a PyTorch DataLoader, which may die, fall silent, or be stopped."""

import multiprocessing
import os
import signal
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.sharedctypes import RawValue
from typing import Any, Generic, Protocol, Self, TypeVar, cast

from torch.utils.data import DataLoader, Dataset

T = TypeVar("T")

#: How far workers stand back: the network runs at full speed, they have what it leaves, and all while it waits.
BELOW = 19
#: Seconds from one look at the workers to the next, while nothing comes.
BEAT = 1.0


class Lost(Exception):
    """The workers are of no use any more; `silent`: they live, but nothing has come for too long."""

    def __init__(self, silent: bool) -> None:
        super().__init__("silent" if silent else "dead")
        self.silent = silent


class Progress(Protocol):
    """A number that workers raise with each file and their parent reads; a lost update does no harm."""

    value: int


def progress() -> Progress:
    """In shared memory and without a lock, which a worker that is killed would hold for ever."""
    return cast(Progress, RawValue("Q", 0))


class Workers(Generic[T]):
    """The items of a dataset at some positions, in order, made by worker processes ahead of being asked for.

    They start at once; `pin` puts what they made into pinned memory, by its own method `pin_memory`. Iterating raises
    `Lost` when one of them has died, or when for `patience` seconds nothing came and `moved` stayed as it was; nothing
    can be had of them then.
    """

    def __init__(
        self,
        dataset: Dataset[T],
        positions: range,
        workers: int,
        ahead: int,
        patience: float,
        moved: Progress,
        pin: bool = False,
    ) -> None:
        self._patience, self._moved = patience, moved
        others = set(multiprocessing.active_children())
        with interrupts_held(), _no_deaths_told(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "This DataLoader will create")  # more than cores: the user's choice
            warnings.filterwarnings(
                "ignore", ".*multi-threaded, use of fork", DeprecationWarning
            )  # readers use no threads
            loader: DataLoader[T] = DataLoader(
                dataset,
                batch_size=None,
                sampler=positions,
                num_workers=workers,
                prefetch_factor=ahead,
                timeout=BEAT,
                pin_memory=pin,
                worker_init_fn=_begin,
            )
            self._items: Iterator[T] | None = iter(loader)
        self._processes = set(multiprocessing.active_children()) - others

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        if self._items is None:
            raise StopIteration
        seen, since = self._moved.value, time.monotonic()
        while True:
            try:
                return next(self._items)
            except (ConnectionError, EOFError) as error:  # it died before its shared memory had been taken over
                raise Lost(silent=False) from error
            except RuntimeError as error:
                if not str(error).startswith("DataLoader timed out"):
                    if "exited unexpectedly" in str(error):
                        raise Lost(silent=False) from error
                    raise
            if seen != self._moved.value:
                seen, since = self._moved.value, time.monotonic()
            elif time.monotonic() - since > self._patience:
                raise Lost(silent=True)

    def close(self) -> None:
        """End the processes, whatever they are at."""
        for process in self._processes:
            process.kill()
        self._items = None


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back while workers start: they inherit that until they ignore it themselves."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _no_deaths_told() -> Iterator[None]:
    """Keep DataLoader's handler of SIGCHLD off: it raises wherever the parent is, while it writes rows, say.

    A death is noticed all the same, when the parent waits for an item.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: Any = signal.getsignal(signal.SIGCHLD)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, before)


def _begin(worker: int) -> None:
    """Ctrl-C is the parent's business: a worker lives until the parent ends it, or ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(BELOW)
    threading.Thread(target=end_with_parent, daemon=True).start()


def end_with_parent() -> None:
    """Wait for the end of the process that started this one, and end: for a thread.

    DataLoader's own watch looks at the process that forked this one, which under forkserver outlives the parent.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)

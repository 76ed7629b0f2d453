"""Worker processes of a PyTorch DataLoader that may die or hang without ending the run."""

import gc
import multiprocessing
import os
import resource
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing.process import BaseProcess
from multiprocessing.sharedctypes import RawValue
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, Self, TypeVar, cast

from torch.utils.data import DataLoader, Dataset

from inception_cli.errors import InceptionError, os_reason

T = TypeVar("T")

#: Niceness of workers: the network runs at full speed, and they use what it leaves, or everything while it waits.
WORKER_NICENESS = 19
#: Seconds between two checks of the workers while no item comes.
POLL_SECONDS = 1.0
#: Open files of a run beside those of its workers, and those of a worker: pipes, and shared memory of its batches.
OPEN_FILES, OPEN_FILES_PER_WORKER = 16, 8
#: Signals that a terminal sends to all processes of a command: Ctrl-C, and its own closing.
INTERRUPTS = {signal.SIGINT, signal.SIGHUP}

_starting = threading.Lock()  # held by a thread that starts processes


class WorkersLost(Exception):
    """The workers must be replaced: one has died, they have made no progress, or memory was short for the next item."""

    def __init__(self, cause: Literal["died", "timed out", "out of memory"]) -> None:
        super().__init__(cause)
        self.cause = cause


class WorkersNotStarted(InceptionError):
    """Worker processes cannot start, or die before they read a file: no file is to blame."""


class SharedCounter(Protocol):
    """A number that workers increase and their parent reads; a lost update does no harm."""

    value: int


def shared_counter() -> SharedCounter:
    """Return a counter in shared memory. It has no lock, which a killed worker would hold forever."""
    with _start_errors():
        return cast(SharedCounter, RawValue("Q", 0))


class WorkerPool(Generic[T]):
    """Iterate over items of a dataset, in order, made by worker processes that start at once and work ahead.

    `timeout` is in seconds; `counter` counts what the workers have done; with `pin` the items' own `pin_memory` puts
    them into pinned memory. Iterating raises WorkersLost if a worker has died, if for `timeout` seconds no item came
    and the counter did not change, or if the next item raised MemoryError; no further item can be had then.
    """

    def __init__(
        self,
        dataset: Dataset[T],
        positions: range,
        workers: int,
        prefetch: int,
        timeout: float,
        counter: SharedCounter,
        pin: bool = False,
    ) -> None:
        self._timeout, self._counter = timeout, counter
        _allow_open_files(workers)
        with (
            _start_errors(),
            block_interrupts(),
            without_main_module(),
            _keep_sigchld_handler(),
            _frozen_objects(),
            warnings.catch_warnings(),
        ):
            self._started = shared_counter()
            multiprocessing.Lock()  # fails where the many locks of a DataLoader, half made by then, would
            # More workers than cores are the user's choice. Readers use no threads, so forking is safe.
            warnings.filterwarnings("ignore", "This DataLoader will create")
            warnings.filterwarnings("ignore", ".*multi-threaded, use of fork", DeprecationWarning)
            loader: DataLoader[T] = DataLoader(
                dataset,
                batch_size=None,
                sampler=positions,
                num_workers=workers,
                prefetch_factor=prefetch,
                timeout=POLL_SECONDS,
                pin_memory=pin,
                worker_init_fn=partial(_init_worker, self._started),
            )
            self._items: Iterator[T] | None = iter(loader)
        self._processes: list[BaseProcess] = self._items._workers  # type: ignore[attr-defined]  # DataLoader's own

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        if self._items is None:
            raise StopIteration
        count, since = self._counter.value, time.monotonic()
        while True:
            try:
                return next(self._items)
            except (ConnectionError, EOFError) as error:  # it died before its shared memory was handed over
                raise self._lost() from error
            except MemoryError as error:
                error.__traceback__ = None  # a cycle with the DataLoader, whose threads fail when that is collected
                raise WorkersLost("out of memory") from None
            except RuntimeError as error:
                if not str(error).startswith("DataLoader timed out"):
                    if "exited unexpectedly" in str(error):
                        raise self._lost() from error
                    raise
            if count != self._counter.value:
                count, since = self._counter.value, time.monotonic()
            elif time.monotonic() - since > self._timeout:
                raise WorkersLost("timed out")

    def _lost(self) -> Exception:
        if self._started.value:
            return WorkersLost("died")
        return WorkersNotStarted(
            "worker processes die before they read a file: see their messages above, or use workers=0 (--workers 0)"
        )

    def close(self) -> None:
        """Kill the worker processes, and wait until their memory is free; not long for one that waits for a disk."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.join(POLL_SECONDS)
        self._items = None


def _allow_open_files(workers: int) -> None:
    """Raise this process's limit of open files to what workers need, as far as the system allows it.

    Beyond the limit workers cannot send what they have made, and their parent would wait for it.
    """
    needed = sum(1 for _ in Path("/dev/fd").iterdir()) + OPEN_FILES + OPEN_FILES_PER_WORKER * workers
    limit, allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY in (limit, allowed) or needed <= limit:
        return
    if allowed < needed:
        raise WorkersNotStarted(
            f"worker processes cannot start: {allowed} open files are allowed, and {workers} workers need {needed}: "
            "allow more (ulimit -n 1024), or use fewer workers (--workers 0 for none)"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, allowed))


@contextmanager
def _start_errors() -> Iterator[None]:
    """Turn an OSError in the block into one line: no shared memory, too many processes or too little memory."""
    try:
        yield
    except OSError as error:
        raise WorkersNotStarted(
            f"worker processes cannot start: {os_reason(error)}: they need a writable /dev/shm, memory, and processes "
            "(ulimit -u); use fewer workers (--workers 0 for none)"
        ) from error


@contextmanager
def block_interrupts() -> Iterator[None]:
    """Block INTERRUPTS while processes start: they inherit this, until each ignores them for itself."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def ignore_interrupts() -> None:
    """Ignore INTERRUPTS in a process that was started while they were blocked: its parent handles them."""
    for number in INTERRUPTS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPTS)


@contextmanager
def without_main_module() -> Iterator[None]:
    """Keep processes that start in the block from importing the main script again.

    With spawn and forkserver a child imports the script that the parent runs: without an `if __name__ == "__main__"`
    guard it would classify as well. Workers need nothing of that script. One thread at a time: a second one would
    restore what the first has hidden.
    """
    main = sys.modules["__main__"]
    with _starting:
        hidden = {name: getattr(main, name) for name in ("__file__", "__spec__") if hasattr(main, name)}
        main.__file__ = main.__spec__ = None
        try:
            yield
        finally:
            for name in ("__file__", "__spec__"):
                delattr(main, name)
            for name, value in hidden.items():
                setattr(main, name, value)


def _unlock_after_fork() -> None:
    """Replace the lock in a forked child: the thread that held it exists only in the parent."""
    global _starting
    _starting = threading.Lock()


os.register_at_fork(after_in_child=_unlock_after_fork)


def exit_with_parent() -> None:
    """Wait until the process that started this one has ended, then exit; run it in a thread.

    DataLoader checks the process that forked this one; with forkserver that is the server, which outlives the parent.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def _keep_sigchld_handler() -> Iterator[None]:
    """Restore the handler of SIGCHLD: DataLoader's raises in the middle of what the parent does, such as writing rows.

    The death of a worker is noticed without it, when the parent waits for an item.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler: Any = signal.getsignal(signal.SIGCHLD)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, handler)


@contextmanager
def _frozen_objects() -> Iterator[None]:
    """Keep the garbage collector of forked processes off the objects of this one: freeing a GPU's tensor ends them."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _init_worker(started: SharedCounter, worker: int) -> None:
    """Ignore interrupts, which the parent handles: a worker lives until the parent kills it or exits."""
    ignore_interrupts()
    os.nice(WORKER_NICENESS)
    threading.Thread(target=exit_with_parent, daemon=True).start()
    started.value += 1

"""Worker processes of a PyTorch DataLoader that may die or hang without ending the run."""

import gc
import multiprocessing
import os
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
from typing import Any, Generic, Protocol, Self, TypeVar, cast

from torch.utils.data import DataLoader, Dataset

from inception_cli.errors import InceptionError

T = TypeVar("T")

#: Niceness of workers: the network runs at full speed, and they use what it leaves, or everything while it waits.
WORKER_NICENESS = 19
#: Seconds between two checks of the workers while no item comes.
POLL_SECONDS = 1.0


class WorkersLost(Exception):
    """The workers must be replaced: one has died, or if `timed_out` they live but have made no progress."""

    def __init__(self, timed_out: bool) -> None:
        super().__init__("timed out" if timed_out else "died")
        self.timed_out = timed_out


class WorkersNotStarted(InceptionError):
    """A worker process died before it could read a file: no file is to blame."""

    def __init__(self) -> None:
        super().__init__(
            "worker processes die before they read a file: see their messages above, or use workers=0 (--workers 0)"
        )


class Counter(Protocol):
    """A number that workers increase and their parent reads; a lost update does no harm."""

    value: int


def shared_counter() -> Counter:
    """Return a counter in shared memory. It has no lock, which a killed worker would hold forever."""
    return cast(Counter, RawValue("Q", 0))


class WorkerPool(Generic[T]):
    """Iterate over items of a dataset, in order, made by worker processes that start at once and work ahead.

    `timeout` is in seconds; `counter` counts what the workers have done; with `pin` the items' own `pin_memory` puts
    them into pinned memory. Iterating raises WorkersLost if a worker has died, or if for `timeout` seconds no item came
    and the counter did not change; no further item can be had then.
    """

    def __init__(
        self,
        dataset: Dataset[T],
        positions: range,
        workers: int,
        prefetch: int,
        timeout: float,
        counter: Counter,
        pin: bool = False,
    ) -> None:
        self._timeout, self._counter, self._started = timeout, counter, shared_counter()
        with (
            block_interrupts(),
            without_main_module(),
            _keep_sigchld_handler(),
            _frozen_objects(),
            warnings.catch_warnings(),
        ):
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
            except RuntimeError as error:
                if not str(error).startswith("DataLoader timed out"):
                    if "exited unexpectedly" in str(error):
                        raise self._lost() from error
                    raise
            if count != self._counter.value:
                count, since = self._counter.value, time.monotonic()
            elif time.monotonic() - since > self._timeout:
                raise WorkersLost(timed_out=True)

    def _lost(self) -> Exception:
        return WorkersLost(timed_out=False) if self._started.value else WorkersNotStarted()

    def close(self) -> None:
        """Kill the worker processes."""
        for process in self._processes:
            process.kill()
        self._items = None


@contextmanager
def block_interrupts() -> Iterator[None]:
    """Block Ctrl-C while workers start: they inherit this, until each ignores it for itself."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@contextmanager
def without_main_module() -> Iterator[None]:
    """Keep processes that start in the block from importing the main script again.

    With spawn and forkserver a child imports the script that the parent runs: without an `if __name__ == "__main__"`
    guard it would classify as well. Workers need nothing of that script.
    """
    main = sys.modules["__main__"]
    hidden = {name: getattr(main, name) for name in ("__file__", "__spec__") if hasattr(main, name)}
    main.__file__ = main.__spec__ = None
    try:
        yield
    finally:
        for name in ("__file__", "__spec__"):
            delattr(main, name)
        for name, value in hidden.items():
            setattr(main, name, value)


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


def _init_worker(started: Counter, worker: int) -> None:
    """Ignore Ctrl-C, which the parent handles: a worker lives until the parent kills it or exits."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(WORKER_NICENESS)
    threading.Thread(target=exit_with_parent, daemon=True).start()
    started.value += 1

"""The same as predict, on every GPU of this machine: a process a device, batch i to process i mod n."""

import multiprocessing
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

import torch

from inception_cli import predict
from inception_cli.errors import InceptionError
from inception_cli.images.loader import images_per_batch
from inception_cli.images.workers import end_with_parent, interrupts_held
from inception_cli.results.rows import Prediction
from inception_cli.settings import Run

#: A process that has used CUDA must not be forked.
START = "spawn"
#: Seconds from one look at a process to the next, while nothing comes.
BEAT = 1.0
#: Deaths over one batch that are no accident any more.
DEATHS = 3

#: What a process sends: the rows of a batch; how many images memory has room for; an error of the user's to mend; what
#: it dies of.
Message = list[Prediction] | int | InceptionError | str


class _Died(Exception):
    """A process has ended before its share was done; its text says of what, where that is known."""


def visible(run: Run) -> tuple[str, ...]:
    """The devices that a run is for: for `cuda` all that are visible, else the one that it names."""
    if run.plan.device != "cuda":
        return (run.plan.device,)
    return tuple(f"cuda:{number}" for number in range(torch.cuda.device_count()))


def classify(
    paths: Sequence[str],
    run: Run,
    start: int = 0,
    split: Callable[[int], None] = lambda at_once: None,
    devices: Sequence[str] = (),
) -> Iterator[list[Prediction]]:
    """The rows of `paths` from position `start` on, a batch at a time, in order, as predict.classify gives them.

    `devices` are those visible unless given. A process that dies is replaced by one on the device where the fewest
    died, from its first batch on that has not come; InceptionError when a batch has brought down three.
    """
    devices = devices or visible(run)
    size = images_per_batch(run.loading.batch_size, run.pixels.crops)
    firsts = range(start, len(paths), size)
    deaths: Counter[str] = Counter()
    lanes = [
        _Lane(paths, shared_out(run, len(devices)), devices, number, first, size)
        for number, first in zip(range(len(devices)), firsts, strict=False)
    ]
    try:
        for number, first in enumerate(firsts):
            yield lanes[number % len(devices)].rows(first, split, deaths)
    finally:
        for lane in lanes:
            lane.close()


def shared_out(run: Run, processes: int) -> Run:
    """What each of so many processes runs: its part of the workers, at least one unless there are none."""
    workers = run.loading.workers and max(1, run.loading.workers // processes)
    return replace(run, loading=replace(run.loading, workers=workers))


@dataclass
class _Lane:
    """One of n shares of the batches, and the process that is at it."""

    paths: Sequence[str]
    run: Run
    devices: Sequence[str]
    number: int  # of its device
    first: int  # position in the list of its first batch that has not come
    size: int  # images a batch
    process: BaseProcess = field(init=False)
    receiver: Connection = field(init=False)

    def __post_init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        """A process for all from `first` on; Ctrl-C is held back until it ignores that itself."""
        run = replace(self.run, plan=replace(self.run.plan, device=self.devices[self.number]))
        context = multiprocessing.get_context(START)
        self.receiver, sender = context.Pipe(duplex=False)
        words = (self.paths, run, self.first, len(self.devices), sender)
        # Not a daemon, which may have no workers.
        self.process = context.Process(target=_serve, args=words, daemon=False)  # type: ignore[attr-defined]
        with interrupts_held():
            self.process.start()
        sender.close()  # the process has its own; when that is closed nothing can come any more

    def rows(self, first: int, split: Callable[[int], None], deaths: Counter[str]) -> list[Prediction]:
        """The rows of the batch that begins at `first`, which is the next of this share."""
        self.first = first
        for death in range(1, DEATHS + 1):
            try:
                return self._next_rows(split)
            except _Died as cause:
                self.close()
                if death == DEATHS:
                    raise self._given_up(cause) from None
                deaths[self.devices[self.number]] += 1
                others = [(self.number + further) % len(self.devices) for further in range(1, len(self.devices) + 1)]
                self.number = min(others, key=lambda other: deaths[self.devices[other]])
                self._begin()
        raise AssertionError("the last death has been told")

    def _given_up(self, cause: _Died) -> InceptionError:
        last = min(self.first + self.size, len(self.paths)) - 1
        return InceptionError(
            f"{self.devices[self.number]}: a process died, the third over the photos {self.paths[self.first]} … "
            f"{self.paths[last]} ({cause}); if nvidia-smi shows a GPU in trouble, leave it out by "
            "CUDA_VISIBLE_DEVICES: the same command goes on"
        )

    def _next_rows(self, split: Callable[[int], None]) -> list[Prediction]:
        """The rows that the process sends next; raises _Died, and the InceptionError that it sent."""
        while True:
            match self._receive():
                case list() as rows:
                    return rows
                case int() as at_once:
                    split(at_once)
                case InceptionError() as error:
                    raise error
                case str() as cause:
                    raise _Died(cause)

    def _receive(self) -> Message:
        try:
            # Workers of a process that was killed hold its end of the pipe for a moment: so it is looked at as well.
            while not self.receiver.poll(BEAT):
                if not self.process.is_alive() and not self.receiver.poll():
                    raise EOFError
            message: Message = self.receiver.recv()
        except (EOFError, OSError):  # OSError: in the middle of a message
            self.process.join(BEAT)
            raise _Died(f"exit code {self.process.exitcode}") from None
        return message

    def close(self) -> None:
        """End the process, whatever it is at; its workers end with it."""
        self.process.kill()
        self.process.join()
        self.receiver.close()


def _serve(paths: Sequence[str], run: Run, start: int, step: int, sender: Connection) -> None:
    """What a process does: every `step`th batch from `start` on, its rows sent; it waits while the pipe is full."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the parent's business
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=end_with_parent, daemon=True).start()
    try:
        for rows in predict.classify(paths, run, start, sender.send, step):
            sender.send(rows)
    except InceptionError as error:
        sender.send(error)
    except BrokenPipeError:  # the parent is gone
        return
    except Exception as error:  # of a device that fell out of use, say: another may do better
        sender.send(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")

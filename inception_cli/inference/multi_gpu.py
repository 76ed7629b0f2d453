"""Predictions on every GPU of this machine: one process per device, batch i on device i mod n."""

import multiprocessing
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import torch

from inception_cli.config import RunConfig
from inception_cli.errors import InceptionError, one_line
from inception_cli.images.worker_pool import (
    SharedCounter,
    block_interrupts,
    exit_with_parent,
    ignore_interrupts,
    shared_counter,
    without_main_module,
)
from inception_cli.inference.predictor import BatchResult, DevicePredictor

#: A process that has used CUDA must not be forked.
START_METHOD = "spawn"
#: Seconds between two checks of a process while nothing arrives.
POLL_SECONDS = 1.0
#: Seconds between two signs of life of a process.
PULSE_SECONDS = 0.2
#: Processes that may die on one batch before the run ends.
MAX_DEATHS = 3


class _ProcessDied(Exception):
    """A process ended before its batches were done; the text says why, where that is known."""


@dataclass(frozen=True)
class _Message:
    """What a process sends: the result of a batch, an error that ends the run, or the reason why the process failed."""

    result: BatchResult | None = None
    error: InceptionError | None = None
    failure: str = ""


def visible_devices(run: RunConfig) -> tuple[str, ...]:
    """Return the devices of a run: every visible GPU for `cuda`, else the device itself."""
    if run.plan.device != "cuda":
        return (run.plan.device,)
    return tuple(f"cuda:{number}" for number in range(torch.cuda.device_count()))


class MultiGpuPredictor:
    """The networks of a run on several devices, in a process each (see Predictor).

    A process that dies is replaced by one on the device with the fewest deaths, which starts at the missing batch;
    InceptionError when three have died on one batch. One that is stopped, or hangs, is killed after `timeout` seconds;
    for a GPU that hangs see `cuda_pipeline.deadline`.
    """

    def __init__(self, run: RunConfig, devices: Sequence[str], directory: str = "") -> None:
        self.run, self.devices, self.directory = run, devices, directory

    def predict(self, paths: Sequence[str], pending: Sequence[range]) -> Iterator[BatchResult]:
        """Yield the predictions of the inputs at the `pending` positions in order, a batch at a time."""
        for positions in pending:
            yield from self._predict_batches(paths, self.run.batch_numbers(positions))

    def _predict_batches(self, paths: Sequence[str], numbers: range) -> Iterator[BatchResult]:
        run, deaths = share_workers(self.run, len(self.devices)), Counter[str]()
        lanes = [
            _Lane(paths, run, self.directory, self.devices, device, numbers[device :: len(self.devices)])
            for device in range(min(len(self.devices), len(numbers)))
        ]
        try:
            for place in range(len(numbers)):
                yield lanes[place % len(lanes)].next_result(deaths)
        finally:
            for lane in lanes:
                lane.close()


def share_workers(run: RunConfig, processes: int) -> RunConfig:
    """Return the run of each of several processes: its share of the workers, at least one unless there are none."""
    workers = run.loader.workers and max(1, run.loader.workers // processes)
    return replace(run, loader=replace(run.loader, workers=workers))


@dataclass
class _Lane:
    """Every n-th batch of a run, and the process that computes them."""

    paths: Sequence[str]
    run: RunConfig
    directory: str
    devices: Sequence[str]
    device: int  # index of the process's device
    numbers: range  # of the batches that have not arrived
    process: BaseProcess = field(init=False)
    receiver: Connection = field(init=False)
    hung: threading.Event = field(init=False)  # set when the process was killed for its silence

    def __post_init__(self) -> None:
        self._start()

    def _start(self) -> None:
        """Start a process for the batches that have not arrived."""
        run = replace(self.run, plan=replace(self.run.plan, device=self.devices[self.device]))
        context = multiprocessing.get_context(START_METHOD)
        self.receiver, sender = context.Pipe(duplex=False)
        pulse, self.hung = shared_counter(), threading.Event()
        arguments = (self.paths, run, self.directory, self.numbers, sender, pulse)
        # Not a daemon: daemons must not have children, and this process has workers.
        self.process = context.Process(target=_serve, args=arguments, daemon=False)  # type: ignore[attr-defined]
        with block_interrupts(), without_main_module():  # until the process ignores Ctrl-C itself
            self.process.start()
        sender.close()  # the process has its own end; when that is closed, nothing can arrive any more
        watched = (self.process, pulse, run.loader.timeout, self.hung)
        threading.Thread(target=_kill_when_silent, args=watched, daemon=True).start()

    def next_result(self, deaths: Counter[str]) -> BatchResult:
        """Return the result of the next batch; `deaths` counts the processes that died by device."""
        died = 0
        while True:
            try:
                result = self._receive()
            except _ProcessDied as cause:
                self.close()
                died += 1
                if died == MAX_DEATHS:
                    raise self._too_many_deaths(cause) from None
                self._replace(deaths)
            else:
                self.numbers = self.numbers[1:]
                return result

    def _replace(self, deaths: Counter[str]) -> None:
        """Start another process on the device with the fewest deaths, the next one first."""
        deaths[self.devices[self.device]] += 1
        others = [(self.device + step) % len(self.devices) for step in range(1, len(self.devices) + 1)]
        self.device = min(others, key=lambda other: deaths[self.devices[other]])
        self._start()

    def _receive(self) -> BatchResult:
        """Return what the process sends next; _ProcessDied, or the InceptionError that it sent."""
        try:
            # Workers of a killed process keep its end of the pipe open for a moment: so the process is checked as well.
            while not self.receiver.poll(POLL_SECONDS):
                if not self.process.is_alive() and not self.receiver.poll():
                    raise EOFError
            message: _Message = self.receiver.recv()
        except (EOFError, OSError):  # OSError: in the middle of a message
            self.process.join(POLL_SECONDS)
            silence = f"no sign of life for {self.run.loader.timeout:g} seconds"
            raise _ProcessDied(silence if self.hung.is_set() else f"exit code {self.process.exitcode}") from None
        if message.error:
            raise message.error
        if message.result is None:
            raise _ProcessDied(message.failure)
        return message.result

    def _too_many_deaths(self, cause: _ProcessDied) -> InceptionError:
        first = self.numbers.start * self.run.images_per_batch
        last = min(first + self.run.images_per_batch, len(self.paths)) - 1
        return InceptionError(
            f"{self.devices[self.device]}: {MAX_DEATHS} processes died on the images {self.paths[first]} … "
            f"{self.paths[last]} ({cause}); if nvidia-smi reports a faulty GPU, exclude it with CUDA_VISIBLE_DEVICES; "
            "the same command resumes"
        )

    def close(self) -> None:
        """Kill the process; its workers end with it."""
        self.process.kill()
        self.process.join()
        self.receiver.close()


def _kill_when_silent(process: BaseProcess, pulse: SharedCounter, timeout: float, hung: threading.Event) -> None:
    """Kill a process that has begun to count its pulse, and has not counted for `timeout` seconds.

    In a thread of its own: the process may stop in the middle of a message, and reading the rest cannot be interrupted.
    """
    count, silent = 0, 0.0  # seconds in which this process ran: Ctrl-Z stops both
    while not wait([process.sentinel], POLL_SECONDS):
        if count == pulse.value and count:
            silent += POLL_SECONDS
        else:
            count, silent = pulse.value, 0.0
        if silent >= timeout:
            hung.set()
            process.kill()
            return


def _count_pulse(pulse: SharedCounter) -> None:
    """Show that this process runs, and that no native code blocks its threads."""
    while True:
        pulse.value += 1
        time.sleep(PULSE_SECONDS)


def _serve(
    paths: Sequence[str], run: RunConfig, directory: str, numbers: range, sender: Connection, pulse: SharedCounter
) -> None:
    """Compute the batches with these numbers in a process of its own, and send a message for each."""
    ignore_interrupts()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # handled by the parent as well
    threading.Thread(target=exit_with_parent, daemon=True).start()
    threading.Thread(target=_count_pulse, args=(pulse,), daemon=True).start()
    try:
        for result in DevicePredictor(run, directory).predict_batches(paths, numbers):
            sender.send(_Message(result=result))
    except InceptionError as error:
        sender.send(_Message(error=error))
    except BrokenPipeError:  # the parent has ended
        return
    except Exception as error:  # a faulty device, for example: another one may succeed
        sender.send(_Message(failure=f"{type(error).__name__}: {one_line(error)}"))

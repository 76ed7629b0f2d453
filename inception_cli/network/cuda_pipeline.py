"""Keep a GPU busy: copy the next batch while the network runs, and wait for results only when they are needed.

On other devices the same functions copy and compute at once.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

#: Wait for a batch and return its classes (N, K) int64 and scores (N, K) fp32, on the CPU.
PendingResult = Callable[[], tuple[Tensor, ...]]


def set_current_device(device: str) -> None:
    """Make a numbered GPU the current device of this process, so that pinning memory takes none on the first GPU."""
    chosen = torch.device(device)
    if chosen.type == "cuda" and chosen.index is not None:
        torch.cuda.set_device(chosen)


class HostToDevice:
    """Copy batches to a device; to a GPU on a stream of its own, while the network runs on the batch before."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.startswith("cuda") else None  # type: ignore[no-untyped-call]

    def __call__(self, batch: Tensor) -> Tensor:
        """Return the batch on the device; work that is queued there afterwards starts when the copy is complete."""
        if self._stream is None:
            return batch.to(self._device)
        network_stream = torch.cuda.current_stream(self._device)
        with torch.cuda.stream(self._stream):
            copied = batch.to(self._device, non_blocking=True)
        network_stream.wait_stream(self._stream)
        copied.record_stream(network_stream)  # else the next copy could reuse memory that the network still reads
        return copied


def pad_batch(batch: Tensor, size: int) -> Tensor:
    """Append zeros until the batch has `size` images: a CUDA graph is made for one shape. Size 0 adds none."""
    if len(batch) >= size:
        return batch
    return torch.cat([batch, batch.new_zeros(size - len(batch), *batch.shape[1:])])


def copy_to_host(classes: Tensor, scores: Tensor, *others: Tensor) -> PendingResult:
    """Start copying classes int64 and scores fp32, both (N, K), and others to the CPU; from a GPU asynchronously.

    Classes and scores are one copy.
    """
    if not scores.is_cuda:
        on_host = classes.cpu(), scores.cpu(), *(other.cpu() for other in others)
        return lambda: on_host
    both = torch.stack([classes.int(), scores.view(torch.int32)]).to("cpu", non_blocking=True)
    rest = [other.to("cpu", non_blocking=True) for other in others]
    copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
    copied.record(torch.cuda.current_stream(scores.device))

    def wait() -> tuple[Tensor, ...]:
        copied.synchronize()
        return both[0].long(), both[1].view(torch.float32), *rest

    return wait


def map_ahead(items: Iterable[T], function: Callable[[T], T], threads: int) -> Iterator[T]:
    """Yield `function(item)` for each item in order, while threads compute the next ones.

    An error is raised after the results of all items before it.
    """
    with ThreadPoolExecutor(threads) as pool:
        futures = (pool.submit(function, item) for item in items)
        yield from (future.result() for future in keep_in_flight(futures, threads))


def keep_in_flight(items: Iterable[T], count: int) -> Iterator[T]:
    """Yield the items in order, each when `count` more have been started.

    An error in `items` is raised after all items before it.
    """
    in_flight: deque[T] = deque()
    try:
        for item in items:
            in_flight.append(item)
            if len(in_flight) > count:
                yield in_flight.popleft()
    except Exception:
        yield from in_flight
        raise
    yield from in_flight


@contextmanager
def deadline(device: str, seconds: float) -> Iterator[None]:
    """End the process with one line when a GPU takes longer than this: waiting for it cannot be interrupted."""

    def end_process() -> None:
        message = (
            f"error: {device}: no result within {seconds:g} seconds; if nvidia-smi reports a faulty GPU, exclude it "
            "with CUDA_VISIBLE_DEVICES, else choose a larger --timeout; the same command resumes\n"
        )
        with suppress(OSError):
            os.write(2, message.encode())
        os._exit(1)  # an orderly exit would wait for the GPU as well

    if not device.startswith("cuda"):
        yield
        return
    timer = threading.Timer(seconds, end_process)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()

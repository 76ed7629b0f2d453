"""A device that never waits: batches are copied to it beside the network, and answers fetched when they are wanted."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

#: Classes (N, K) int64 and scores (N, K) fp32 on the CPU, waited for by the call.
Answer = Callable[[], tuple[Tensor, Tensor]]


def choose(device: str) -> None:
    """Make a numbered GPU this process's own: else threads that pin memory would take room on the first one."""
    chosen = torch.device(device)
    if chosen.type == "cuda" and chosen.index is not None:
        torch.cuda.set_device(chosen)


class Feed:
    """Pixels to a device; to a GPU on a stream of their own, beside the network that is at the batch before."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.startswith("cuda") else None  # type: ignore[no-untyped-call]

    def __call__(self, pixels: Tensor) -> Tensor:
        """The pixels there; what is asked of the device next begins when they have come."""
        if self._stream is None:
            return pixels.to(self._device)
        network = torch.cuda.current_stream(self._device)
        with torch.cuda.stream(self._stream):
            there = pixels.to(self._device, non_blocking=True)
        network.wait_stream(self._stream)
        there.record_stream(network)  # or the next copy could take the memory that the network still reads
        return there


def padded(images: Tensor, number: int) -> Tensor:
    """Images (N, …) with zeros after them, `number` in all: a CUDA graph is made for one shape. 0: as they are."""
    if len(images) >= number:
        return images
    return torch.cat([images, images.new_zeros(number - len(images), *images.shape[1:])])


def fetch(classes: Tensor, scores: Tensor) -> Answer:
    """Have classes int64 and scores fp32, both (N, K), come back: from a GPU in one copy, beside all else."""
    if not scores.is_cuda:
        here = classes.cpu(), scores.cpu()
        return lambda: here
    both = torch.stack([classes.int(), scores.view(torch.int32)]).to("cpu", non_blocking=True)
    arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
    arrived.record(torch.cuda.current_stream(scores.device))

    def answer() -> tuple[Tensor, Tensor]:
        arrived.synchronize()
        return both[0].long(), both[1].view(torch.float32)

    return answer


def ahead(items: Iterable[T], act: Callable[[T], T]) -> Iterator[T]:
    """What becomes of each item, in order, a thread being at the next one; all that came comes before an error."""
    with ThreadPoolExecutor(1) as pool:
        yield from (made.result() for made in behind((pool.submit(act, item) for item in items), 1))


def behind(items: Iterable[T], number: int) -> Iterator[T]:
    """The same in the same order, each when `number` more have been made; all that were made come before an error."""
    waiting: deque[T] = deque()
    try:
        for item in items:
            waiting.append(item)
            if len(waiting) > number:
                yield waiting.popleft()
    except Exception:
        yield from waiting
        raise
    yield from waiting

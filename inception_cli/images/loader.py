"""The list of paths → batches of uint8 views, by a PyTorch DataLoader whose item i is batch i."""

import signal
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch.utils.data import DataLoader, Dataset

from inception_cli.errors import InceptionError
from inception_cli.images import decode
from inception_cli.images.preprocess import Pixels, shipped, views


@dataclass(frozen=True)
class Loading:
    """How batches are made: network images a batch, worker processes (0: none), seconds that one file may take."""

    batch_size: int
    workers: int = 0
    timeout: float = 60.0

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size is at least 1, not {self.batch_size}")
        if self.workers < 0:
            raise ValueError(f"workers is at least 0, not {self.workers}")
        if self.timeout <= 0:
            raise ValueError(f"timeout is above 0 seconds, not {self.timeout}")


@dataclass(frozen=True)
class Batch:
    """Consecutive images of the list: uint8 (N, V, S, S, 3), mirrors left out; a failed image's slot is zeros."""

    first: int  # position of its first image in the list
    pixels: torch.Tensor
    failures: tuple[tuple[int, decode.Failure], ...]  # (offset in the batch, why)


class _Batches(Dataset[Batch]):
    """The list cut into batches; small to pickle, so that any start method of processes will do."""

    def __init__(self, paths: Sequence[str], pixels: Pixels, images: int) -> None:
        self.paths, self.pixels, self.images = paths, pixels, images

    def __len__(self) -> int:
        return -(-len(self.paths) // self.images)

    def __getitem__(self, index: int) -> Batch:
        first = index * self.images
        count = min(self.images, len(self.paths) - first)
        side = self.pixels.preset.size
        pixels = torch.zeros(count, shipped(self.pixels.crops), side, side, 3, dtype=torch.uint8)
        slots = pixels.numpy()
        failures = []
        for offset in range(count):
            image = decode.read(self.paths[first + offset], self.pixels)
            if isinstance(image, decode.Failure):
                failures.append((offset, image))
            else:
                slots[offset] = views(image, self.pixels)
        return Batch(first, pixels, tuple(failures))


def images_per_batch(batch_size: int, views: int) -> int:
    """How many images of V views each make a batch of `batch_size` network images."""
    return max(1, batch_size // views)


def batches(paths: Sequence[str], pixels: Pixels, loading: Loading, start: int = 0) -> Iterator[Batch]:
    """The batches in order, from the image at position `start`, which begins a batch.

    Workers start at once, before the first batch is asked for: a caller builds its network while they decode. The
    iterator raises InceptionError when a worker process dies.
    """
    images = images_per_batch(loading.batch_size, pixels.crops)
    if start % images:
        raise ValueError(f"start {start} is not a multiple of {images} images a batch")
    dataset = _Batches(paths, pixels, images)
    with _interrupts_held(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This DataLoader will create")  # more workers than cores: the user's choice
        loader = DataLoader(
            dataset,
            batch_size=None,
            sampler=range(start // images, len(dataset)),
            num_workers=loading.workers,
            timeout=loading.timeout * images if loading.workers else 0,
            worker_init_fn=_ignore_interrupts,
        )
        return _told_of_deaths(iter(loader))


def _told_of_deaths(loader: Iterator[Batch]) -> Iterator[Batch]:
    """The same batches; that the loader's workers died or fell silent becomes an InceptionError."""
    try:
        yield from loader
    except RuntimeError as error:
        if (told := _told(str(error))) is None:
            raise
        raise InceptionError(f"{told}; the same command goes on where this stopped") from error


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back while workers start: they inherit that until they ignore it themselves."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _ignore_interrupts(worker: int) -> None:
    """Ctrl-C is the parent's business: a worker lives until the parent ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _told(error: str) -> str | None:
    """What DataLoader said of its workers, for people; None for any other error."""
    if "DataLoader timed out" in error:
        return "no photo came for too long (--timeout)"
    if "DataLoader worker" in error:
        return "a process that reads photos died (out of memory?)"
    return None

"""Load batches of uint8 views from a list of paths, with worker processes."""

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, get_worker_info

from inception_cli.config import LoaderConfig, PixelConfig, images_per_batch
from inception_cli.images import decode
from inception_cli.images.failure import OUT_OF_MEMORY, Failure
from inception_cli.images.preprocess import shipped_views, views
from inception_cli.images.worker_pool import SharedCounter, WorkerPool, WorkersLost, shared_counter

#: Batches that each worker makes ahead.
PREFETCH = 2
#: Bytes of undecoded files in all prefetched batches; workers decode the files beyond that: views take less memory.
MAX_UNDECODED = 4 << 30


@dataclass(frozen=True)
class Jpegs:
    """The files of a batch that the GPU decodes: their bytes one after the other, uint8."""

    data: torch.Tensor
    headers: tuple[tuple[int, int, int, int], ...]  # (offset in the batch, bytes, pixels, EXIF orientation)

    @classmethod
    def pack(cls, files: Mapping[int, decode.Jpeg]) -> "Jpegs":
        """Join files, given by their offset in the batch."""
        headers = tuple((offset, len(file.data), file.pixels, file.orientation) for offset, file in files.items())
        return cls(torch.from_numpy(np.concatenate([file.data for file in files.values()])), headers)

    def unpack(self) -> dict[int, decode.Jpeg]:
        """Return the files by their offset in the batch; their bytes are views of `data`."""
        data, start, files = self.data.numpy(), 0, {}
        for offset, length, pixels, orientation in self.headers:
            files[offset] = decode.Jpeg(data[start : start + length], pixels, orientation)
            start += length
        return files


@dataclass(frozen=True)
class Batch:
    """The views of consecutive images: uint8 (N, V, S, S, 3), without mirrored views; zeros for a failed image.

    Images in `jpegs` are left out of `pixels`.
    """

    first: int  # position of the first image in the list
    pixels: torch.Tensor
    failures: tuple[tuple[int, Failure], ...]  # (offset in the batch, failure)
    jpegs: Jpegs | None = None

    def __len__(self) -> int:
        return len(self.pixels) + (len(self.jpegs.headers) if self.jpegs else 0)

    def pin_memory(self) -> "Batch":
        """Return the batch in pinned memory, which a GPU copies from without the CPU; DataLoader calls this method."""
        return replace(self, pixels=torch.as_tensor(self.pixels).pin_memory())

    def to_shared_memory(self) -> "Batch":
        """Return the batch as a worker sends it."""
        jpegs = self.jpegs and replace(self.jpegs, data=_to_shared_memory(self.jpegs.data))
        return replace(self, pixels=_to_shared_memory(self.pixels), jpegs=jpegs)

    def to_tensors(self) -> "Batch":
        """Return a batch that a worker has sent with tensors in place of arrays."""
        jpegs = self.jpegs and replace(self.jpegs, data=torch.as_tensor(self.jpegs.data))
        return replace(self, pixels=torch.as_tensor(self.pixels), jpegs=jpegs)


Views = NDArray[np.uint8] | Failure | decode.Jpeg


def load_batches(
    paths: Sequence[decode.Source],
    config: PixelConfig,
    loader: LoaderConfig,
    batches: range | None = None,
    pin: bool = False,
) -> Iterator[Batch]:
    """Return the batches of a list of paths, in order; `batches` are the numbers of those to load, None: all.

    With size = images_per_batch, batch i holds the images at positions i * size to (i + 1) * size - 1. With `pin` they
    are in pinned memory. Workers start at once, so the caller builds its network while they decode. Without workers
    this process decodes, and a file that makes it hang or crash ends the run.
    """
    size = images_per_batch(loader.batch_size, config.crops)
    counter = shared_counter() if loader.workers else SimpleNamespace(value=0)
    dataset = _Batches(_Images(paths, config, counter), size, MAX_UNDECODED // max(1, loader.workers * PREFETCH))
    numbers = range(len(dataset)) if batches is None else batches
    if any(number not in range(len(dataset)) for number in numbers):
        raise ValueError(f"batches {numbers}: {len(paths)} images make {len(dataset)} batches of {size}")
    if loader.workers:
        return _load_with_workers(dataset, loader, numbers, pin, _start_workers(dataset, loader, numbers, pin))
    loaded = map(dataset.__getitem__, numbers)
    return map(Batch.pin_memory, loaded) if pin else loaded


def shared_memory_note(config: PixelConfig, loader: LoaderConfig, folder: str = "/dev/shm") -> str | None:
    """Return a note for the user if shared memory is too small for the prefetched batches; a container has 64 MB."""
    if not (loader.workers and Path(folder).is_dir()):
        return None
    side, images = config.preset.size, images_per_batch(loader.batch_size, config.crops)
    needed = loader.workers * PREFETCH * images * shipped_views(config.crops) * side * side * 3
    free = shutil.disk_usage(folder).free
    if free >= needed:
        return None
    return (
        f"{folder} has {free / 1e6:.0f} MB free, and the prefetched batches need {needed / 1e6:.0f} MB: some go "
        "through slower pipes (give a container more with --shm-size=1g)"
    )


class _Images(Dataset[Views]):
    """The images of a list: their views, or the undecoded file if the GPU decodes it, or the failure."""

    def __init__(self, paths: Sequence[decode.Source], config: PixelConfig, counter: SharedCounter) -> None:
        self.paths, self.config = paths, config
        self.counter = counter

    def __getitem__(self, position: int) -> Views:
        return self.load(position)

    def load(self, position: int, undecoded: bool = True) -> Views:
        """Load an image; `undecoded`: whether it may be left to the GPU."""
        loaded = self._load(self.paths[position], undecoded)
        self.counter.value += 1
        return loaded

    def _load(self, source: decode.Source, undecoded: bool) -> Views:
        if undecoded and self.config.decode == "gpu" and (jpeg := decode.read_jpeg(source, self.config)):
            return jpeg
        image = decode.read(source, self.config)
        try:
            return image if isinstance(image, Failure) else views(image, self.config)
        except MemoryError:
            return OUT_OF_MEMORY


class _Batches(Dataset[Batch]):
    """The list cut into batches; small when pickled, so that workers can be started by any method."""

    def __init__(self, images: _Images, size: int, max_undecoded: int) -> None:
        self.images, self.size = images, size
        self.max_undecoded = max_undecoded  # bytes of undecoded files in a batch

    def __len__(self) -> int:
        return -(-len(self.images.paths) // self.size)

    def __getitem__(self, number: int) -> Batch:
        batch = self.assemble(number, self._load(number))
        if not get_worker_info():
            return batch
        if any(failure == OUT_OF_MEMORY for _, failure in batch.failures):
            raise MemoryError  # without the other workers there may be enough
        return batch.to_shared_memory()

    def _load(self, number: int) -> Iterator[Views]:
        undecoded = 0
        for position in self.positions(number):
            loaded = self.images.load(position, undecoded < self.max_undecoded)
            undecoded += len(loaded.data) if isinstance(loaded, decode.Jpeg) else 0
            yield loaded

    def positions(self, number: int) -> range:
        """Return the positions of a batch's images in the list."""
        first = number * self.size
        return range(first, min(first + self.size, len(self.images.paths)))

    def assemble(self, number: int, loaded: Iterable[Views]) -> Batch:
        """Return the batch of its loaded images."""
        positions, config = self.positions(number), self.images.config
        side = config.preset.size
        pixels = np.zeros((len(positions), shipped_views(config.crops), side, side, 3), np.uint8)
        failures, jpegs = [], {}
        for offset, image in enumerate(loaded):
            if isinstance(image, Failure):
                failures.append((offset, image))
            elif isinstance(image, decode.Jpeg):
                jpegs[offset] = image
            else:
                pixels[offset - len(jpegs)] = image
        pixels = pixels[: len(positions) - len(jpegs)]
        return Batch(positions.start, torch.from_numpy(pixels), tuple(failures), Jpegs.pack(jpegs) if jpegs else None)


def _to_shared_memory(pixels: torch.Tensor) -> torch.Tensor:
    """Return pixels in shared memory; if that is full, as an array, which is sent through a pipe."""
    try:
        return pixels.share_memory_()  # type: ignore[no-any-return, no-untyped-call]
    except RuntimeError:
        return pixels.numpy()  # type: ignore[return-value]  # `to_tensors` makes it a tensor again


def _start_workers(dataset: _Batches, loader: LoaderConfig, numbers: range, pin: bool) -> WorkerPool[Batch]:
    return WorkerPool(dataset, numbers, loader.workers, PREFETCH, loader.timeout, dataset.images.counter, pin)


def _load_with_workers(
    dataset: _Batches, loader: LoaderConfig, numbers: range, pin: bool, workers: WorkerPool[Batch]
) -> Iterator[Batch]:
    """Yield the batches, whatever happens to the workers.

    When workers are lost, the file that caused it is not known, so the images of the prefetched batches are loaded one
    at a time; then new workers start. When memory was short for a batch, only its images are.
    """
    try:
        while numbers:
            try:
                for batch in workers:
                    yield batch.to_tensors()
                    numbers = numbers[1:]
            except WorkersLost as lost:
                workers.close()
                suspects = numbers[: 1 if lost.cause == "out of memory" else loader.workers * PREFETCH]
                for number in suspects:
                    yield dataset.assemble(number, _load_one_by_one(dataset, number, loader.timeout))
                numbers = numbers[len(suspects) :]
                workers = _start_workers(dataset, loader, numbers, pin)
    finally:
        workers.close()


def _load_one_by_one(dataset: _Batches, number: int, timeout: float) -> Iterator[Views]:
    """Yield the images of a batch, loaded one at a time by a single worker, so that its loss has one possible cause.

    An image is `failed` when a second worker has died over it, as the first may have died for another reason, or when
    it takes longer than `timeout` seconds.
    """
    positions, images = dataset.positions(number), dataset.images
    position, deaths = positions.start, 0
    while position < positions.stop:
        worker = WorkerPool(images, range(position, positions.stop), 1, 1, timeout, images.counter)
        try:
            for loaded in worker:
                yield loaded
                position, deaths = position + 1, 0
        except WorkersLost as lost:
            deaths += 1
            if lost.cause == "timed out":
                yield Failure("failed", f"reading it took longer than the timeout of {timeout:g} seconds")
            elif deaths == 2:
                yield Failure("failed", "the worker process died while reading it")
            else:
                continue
            position, deaths = position + 1, 0
        finally:
            worker.close()

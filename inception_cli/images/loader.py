"""The list of paths → batches of uint8 views, by worker processes whose item i is batch i."""

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, get_worker_info

from inception_cli.images import decode
from inception_cli.images.preprocess import Pixels, shipped, views
from inception_cli.images.workers import Lost, Workers, progress

#: Batches that each worker makes ahead of being asked for.
AHEAD = 2
#: Bytes of files that may be on their way undecoded, in all batches; what is beyond is decoded here: pixels are fewer.
UNDECODED = 4 << 30


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
class Jpegs:
    """The files of a batch that are to be decoded elsewhere: their bytes behind one another, uint8."""

    data: torch.Tensor
    headers: tuple[tuple[int, int, int, int], ...]  # (offset in the batch, bytes, pixels, EXIF orientation)

    @classmethod
    def of(cls, files: Mapping[int, decode.Jpeg]) -> "Jpegs":
        """Files by their offset in the batch."""
        headers = tuple((offset, len(file.data), file.pixels, file.turn) for offset, file in files.items())
        return cls(torch.from_numpy(np.concatenate([file.data for file in files.values()])), headers)

    def files(self) -> dict[int, decode.Jpeg]:
        """The files by their offset in the batch; their bytes are part of `data`."""
        data, start, found = self.data.numpy(), 0, {}
        for offset, length, pixels, turn in self.headers:
            found[offset] = decode.Jpeg(data[start : start + length], pixels, turn)
            start += length
        return found


@dataclass(frozen=True)
class Batch:
    """Consecutive images of the list: uint8 (N, V, S, S, 3), mirrors left out; a failed image's slot is zeros.

    An image among `jpegs` has no slot.
    """

    first: int  # position of its first image in the list
    pixels: torch.Tensor
    failures: tuple[tuple[int, decode.Failure], ...]  # (offset in the batch, why)
    jpegs: Jpegs | None = None

    def __len__(self) -> int:
        return len(self.pixels) + (len(self.jpegs.headers) if self.jpegs else 0)

    def pin_memory(self) -> "Batch":
        """The same in memory that a GPU copies from by itself; called by DataLoader under this name."""
        return replace(self, pixels=torch.as_tensor(self.pixels).pin_memory())

    def sent(self) -> "Batch":
        """The same as a worker hands it over."""
        jpegs = self.jpegs and replace(self.jpegs, data=_sent(self.jpegs.data))
        return replace(self, pixels=_sent(self.pixels), jpegs=jpegs)

    def received(self) -> "Batch":
        """The same after it was handed over."""
        jpegs = self.jpegs and replace(self.jpegs, data=torch.as_tensor(self.jpegs.data))
        return replace(self, pixels=torch.as_tensor(self.pixels), jpegs=jpegs)


Views = NDArray[np.uint8] | decode.Failure | decode.Jpeg


class _Images(Dataset[Views]):
    """The views of each image of the list, or why there are none."""

    def __init__(self, paths: Sequence[decode.Source], pixels: Pixels) -> None:
        self.paths, self.pixels = paths, pixels
        self.moved = progress()

    def __getitem__(self, position: int) -> Views:
        return self.found(position)

    def found(self, position: int, room: bool = True) -> Views:
        """The views of an image, or the file itself if there is room for it and the GPU is to decode it."""
        found = self._found(self.paths[position], room)
        self.moved.value += 1
        return found

    def _found(self, source: decode.Source, room: bool) -> Views:
        if room and self.pixels.decode == "gpu" and (jpeg := decode.undecoded(source, self.pixels)):
            return jpeg
        image = decode.read(source, self.pixels)
        try:
            return image if isinstance(image, decode.Failure) else views(image, self.pixels)
        except MemoryError:
            return decode.Failure("too_large", "not enough memory for it (a lower --max-pixels passes it over)")


class _Batches(Dataset[Batch]):
    """The list cut into batches; small to pickle, so that any start method of processes will do."""

    def __init__(self, images: _Images, size: int, room: int) -> None:
        self.images, self.size = images, size
        self.room = room  # bytes of files that a batch may hold undecoded

    def __len__(self) -> int:
        return -(-len(self.images.paths) // self.size)

    def __getitem__(self, index: int) -> Batch:
        batch = self.assembled(index, self._found(index))
        return batch.sent() if get_worker_info() else batch

    def _found(self, index: int) -> Iterator[Views]:
        held = 0
        for position in self.positions(index):
            found = self.images.found(position, held < self.room)
            held += len(found.data) if isinstance(found, decode.Jpeg) else 0
            yield found

    def positions(self, index: int) -> range:
        """Of the images of a batch."""
        first = index * self.size
        return range(first, min(first + self.size, len(self.images.paths)))

    def assembled(self, index: int, found: Iterable[Views]) -> Batch:
        """The batch of what was found at its positions."""
        positions, pixels = self.positions(index), self.images.pixels
        side = pixels.preset.size
        slots = np.zeros((len(positions), shipped(pixels.crops), side, side, 3), np.uint8)
        failures, jpegs = [], {}
        for offset, each in enumerate(found):
            if isinstance(each, decode.Failure):
                failures.append((offset, each))
            elif isinstance(each, decode.Jpeg):
                jpegs[offset] = each
            else:
                slots[offset - len(jpegs)] = each
        slots = slots[: len(positions) - len(jpegs)]
        return Batch(positions.start, torch.from_numpy(slots), tuple(failures), Jpegs.of(jpegs) if jpegs else None)


def _sent(pixels: torch.Tensor) -> torch.Tensor:
    """Pixels as a worker hands them over: in shared memory, or where that is full through a pipe, as an array."""
    try:
        return pixels.share_memory_()  # type: ignore[no-any-return, no-untyped-call]
    except RuntimeError:
        return pixels.numpy()  # type: ignore[return-value]  # a tensor again when it is received


def crowded(pixels: Pixels, loading: Loading, memory: str = "/dev/shm") -> str | None:
    """One line for people when shared memory cannot hold the batches on their way (64 MB in a plain container)."""
    if not (loading.workers and Path(memory).is_dir()):
        return None
    side, images = pixels.preset.size, images_per_batch(loading.batch_size, pixels.crops)
    wanted = loading.workers * AHEAD * images * shipped(pixels.crops) * side * side * 3
    room = shutil.disk_usage(memory).free
    if room >= wanted:
        return None
    return (
        f"{memory} has room for {room / 1e6:.0f} MB, and photos on their way want {wanted / 1e6:.0f}: the rest "
        "comes by slower pipes (a container gets more by --shm-size=1g)"
    )


def images_per_batch(batch_size: int, views: int) -> int:
    """How many images of V views each make a batch of `batch_size` network images."""
    return max(1, batch_size // views)


def batches(
    paths: Sequence[decode.Source], pixels: Pixels, loading: Loading, start: int = 0, step: int = 1, pin: bool = False
) -> Iterator[Batch]:
    """The batches in order, from the image at position `start`, which begins a batch; of `step` batches the first.

    Workers start at once, before the first batch is asked for: a caller builds its network while they decode. Without
    workers the caller's own process reads, and a file that hangs it or brings it down is not survived. `pin`: in memory
    that a GPU copies from by itself.
    """
    size = images_per_batch(loading.batch_size, pixels.crops)
    if start % size:
        raise ValueError(f"start {start} is not a multiple of {size} images a batch")
    dataset = _Batches(_Images(paths, pixels), size, UNDECODED // max(1, loading.workers * AHEAD))
    indices = range(start // size, len(dataset), step)
    if not loading.workers:
        made = map(dataset.__getitem__, indices)
        return map(Batch.pin_memory, made) if pin else made
    return _by_workers(dataset, loading, indices, pin, _workers(dataset, loading, indices, pin))


def _workers(dataset: _Batches, loading: Loading, indices: range, pin: bool) -> Workers[Batch]:
    return Workers(dataset, indices, loading.workers, AHEAD, loading.timeout, dataset.images.moved, pin)


def _by_workers(
    dataset: _Batches, loading: Loading, indices: range, pin: bool, workers: Workers[Batch]
) -> Iterator[Batch]:
    """The batches at `indices`, whatever befalls the workers.

    When they are lost, nobody knows over which file: those of the batches in flight are read one at a time, then new
    workers start.
    """
    try:
        while indices:
            try:
                for batch in workers:
                    yield batch.received()
                    indices = indices[1:]
            except Lost:
                workers.close()
                suspects = indices[: loading.workers * AHEAD]
                for index in suspects:
                    yield dataset.assembled(index, _one_by_one(dataset, index, loading.timeout))
                indices = indices[len(suspects) :]
                workers = _workers(dataset, loading, indices, pin)
    finally:
        workers.close()


def _one_by_one(dataset: _Batches, index: int, timeout: float) -> Iterator[Views]:
    """The images of a batch, read one at a time by a process of their own, which none but they can bring down.

    `failed` is the second death over one file, as the first may have had another cause, and `timeout` seconds over it.
    """
    positions, images = dataset.positions(index), dataset.images
    position, deaths = positions.start, 0
    while position < positions.stop:
        reader = Workers(images, range(position, positions.stop), 1, 1, timeout, images.moved)
        try:
            for found in reader:
                yield found
                position, deaths = position + 1, 0
        except Lost as lost:
            deaths += 1
            if lost.silent or deaths == 2:
                why = f"took longer than {timeout:g} seconds (--timeout)" if lost.silent else "brought its process down"
                yield decode.Failure("failed", f"reading it {why}")
                position, deaths = position + 1, 0
        finally:
            reader.close()

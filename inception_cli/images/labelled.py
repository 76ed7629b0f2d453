"""Class folders → labelled photos, decoded once, and the share of them that judges."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from inception_cli.errors import InceptionError
from inception_cli.images import decode
from inception_cli.images.inputs import Inputs
from inception_cli.images.preprocess import FILTERS, Pixels, resized_size, views

Item = TypeVar("Item")
Result = TypeVar("Result")

#: Decoded photos are held in memory up to this many bytes; the others are read again each time they are drawn.
HELD_BYTES = 2 << 30
#: Bytes of an RGB pixel in Pillow's memory.
PIXEL_BYTES = 4

#: What some systems leave in every folder.
NOT_CLASSES = frozenset({"@eaDir", "__MACOSX"})


@dataclass(frozen=True)
class Photo:
    """A file, and the position of its class among the class names."""

    path: str
    label: int


def class_names(folder: Path) -> tuple[str, ...]:
    """The classes that `folder` teaches, by name. InceptionError unless there are two or more."""
    names = _folders(folder)
    if len(names) < 2:
        found = f"one class folder, {names[0]}," if names else "no class folder"
        raise InceptionError(
            f"{folder}: holds {found} and learning takes two or more: one folder a class, photos in it"
        )
    return names


def labelled(folder: Path, classes: Sequence[str]) -> list[Photo]:
    """The photos of each class folder, in order. InceptionError for a class without any."""
    photos: list[Photo] = []
    for label, name in enumerate(classes):
        found = [Photo(path, label) for path in Inputs([str(folder / name)])]
        if not found:
            raise no_photos(folder / name)
        photos += found
    return photos


def no_photos(folder: Path) -> InceptionError:
    """A class that cannot be learnt."""
    return InceptionError(f"{folder}: holds no photo that can be read: put some there, or remove the folder")


def require_same_classes(classes: Sequence[str], train_dir: Path, val_dir: Path) -> None:
    """InceptionError, with the folders by name, when validation has other classes."""
    there = _folders(val_dir)
    missing, unknown = sorted({*classes} - {*there}), sorted({*there} - {*classes})
    told = [f"lacks {', '.join(missing)}"] * bool(missing) + [f"has {', '.join(unknown)} besides"] * bool(unknown)
    if told:
        raise InceptionError(f"{val_dir}: {' and '.join(told)}: its folders must be those of {train_dir}")


def split(photos: Sequence[Photo], every: int, run: int) -> tuple[list[Photo], list[Photo]]:
    """The photos to learn from, and one in `every` of each class to judge by; the same ones each time.

    They are taken by runs of up to `run` neighbours in order: shots of a series are alike, and have neighbouring names.
    InceptionError for a class of one photo.
    """
    train: list[Photo] = []
    val: list[Photo] = []
    for _, group in groupby(photos, key=lambda photo: photo.label):
        of_class = [*group]
        if len(of_class) < 2:
            raise InceptionError(f"{of_class[0].path}: is its class's only photo: add some, or judge by a --val-dir")
        length = max(1, min(run, len(of_class) // every))
        chosen = min(every // 2, len(of_class) // length - 1)  # of the runs, counted round by round
        for position, photo in enumerate(of_class):
            (val if position // length % every == chosen else train).append(photo)
    return train, val


def _folders(folder: Path) -> tuple[str, ...]:
    """The names of the folders in `folder`, each of which is a class."""
    try:
        names = [each.name for each in os.scandir(folder) if each.is_dir()]
    except OSError as error:
        raise InceptionError(
            f"{folder}: {(error.strerror or str(error)).lower()}: name a folder of class folders"
        ) from error
    return tuple(sorted(name for name in names if not name.startswith(".") and name not in NOT_CLASSES))


class Photos:
    """The labelled photos that can be read, RGB, as `prepare` leaves them; `skipped` are the others, by path."""

    def __init__(
        self, listed: Sequence[Photo], pixels: Pixels, prepare: Callable[[Image.Image], Image.Image], workers: int
    ) -> None:
        """Reads each of them once, by `workers` threads."""
        self._pixels, self._prepare = pixels, prepare
        self.skipped: dict[str, decode.Failure] = {}
        readable: list[Photo] = []
        self._held: list[Image.Image | None] = []
        room = HELD_BYTES
        for photo, image in zip(listed, threaded(self._read, [each.path for each in listed], workers), strict=True):
            if isinstance(image, decode.Failure):
                self.skipped[photo.path] = image
                continue
            size = PIXEL_BYTES * image.width * image.height
            readable.append(photo)
            self._held.append(image if size <= room else None)
            room -= size if size <= room else 0
        self._paths = [photo.path for photo in readable]
        self.labels: NDArray[np.int64] = np.array([photo.label for photo in readable], np.int64)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, position: int) -> Image.Image:
        """The prepared picture; InceptionError when its file has gone since it was first read."""
        image = self._held[position] or self._read(self._paths[position])
        if isinstance(image, decode.Failure):
            raise InceptionError(
                f"{self._paths[position]}: could be read when training began, not now ({image.error}): "
                "put it back, and the same command goes on"
            )
        return image

    def _read(self, path: str) -> Image.Image | decode.Failure:
        image = decode.read(path, self._pixels)
        return image if isinstance(image, decode.Failure) else self._prepare(image)


def reduced(image: Image.Image, short: int) -> Image.Image:
    """The picture with its short side `short` pixels, or as it is where that is less."""
    if min(image.size) <= short:
        return image
    return image.resize(resized_size(*image.size, short), FILTERS["bilinear"])


def centre(image: Image.Image, pixels: Pixels) -> Image.Image:
    """What classifying sees of the picture, to the pixel."""
    return Image.fromarray(views(image, pixels)[0])


def threaded(work: Callable[[Item], Result], items: Sequence[Item], workers: int) -> Iterator[Result]:
    """`map` by threads (Pillow works outside Python's lock), in order, a few items ahead of its reader."""
    pending: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(max(1, workers)) as threads:
        try:
            for item in items:
                pending.append(threads.submit(work, item))
                if len(pending) > 2 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:  # the reader may have stopped early
            for each in pending:
                each.cancel()

"""Class folders → labelled images, decoded once and split into training and validation images."""

import hashlib
import os
import re
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from inception_cli.config import PixelConfig
from inception_cli.errors import InceptionError, os_errors
from inception_cli.files.file_kind import file_id
from inception_cli.images import decode
from inception_cli.images.discovery import SYSTEM_FOLDERS, Discovery
from inception_cli.images.failure import Failure
from inception_cli.images.preprocess import FILTERS, resized_size, views
from inception_cli.predictions.text import escape_bytes, shell_path

Item = TypeVar("Item")
Result = TypeVar("Result")

#: Decoded images are kept in memory up to this many bytes; the others are decoded again each time they are used.
CACHE_BYTES = 2 << 30
#: Training images whose accuracy is measured after each epoch: as many as for validation, within these bounds.
MEASURED = range(32, 1000)
#: Words in the names of the folders that data sets are split into: `seg_train`, `val2017`, `Testing`.
SPLITS = {
    "train": {"train", "training", "trainset", "trainingset", "trainval"},
    "validation": {"val", "valid", "validation", "validate", "valset", "validationset", "dev"},
    "test": {"test", "testing", "tests", "testset", "testingset", "eval", "evaluation", "holdout"},
}
#: Bytes of an RGB pixel in Pillow's memory.
BYTES_PER_PIXEL = 4


@dataclass(frozen=True)
class Sample:
    """An image file and its label: the position of its class among the class names."""

    path: str
    label: int


def find_classes(folder: Path) -> tuple[str, ...]:
    """Return the class names: the sorted names of the folders in `folder`.

    InceptionError for fewer than two, for a name that is not UTF-8, which the file of the weights could not hold, and
    for a data set whose class folders are one level below.
    """
    names = _class_folders(folder)
    for name in names:
        if escape_bytes(name) != name:
            raise InceptionError(f"{folder / name}: the name of a class has to be UTF-8; rename the folder")
    require_no_splits(folder, names)
    if len(names) < 2:
        count = f"only one class folder ({names[0]})" if names else "no class folders"
        raise InceptionError(
            f"{folder}: has {count}; training needs at least two, one folder per class with its images"
        )
    return names


def require_no_splits(folder: Path, names: Sequence[str]) -> None:
    """Raise InceptionError if some of the folders are not classes but splits of a data set: train/, valid/, test/.

    A split holds class folders; only the test images often come without. So train/ and bus/ are classes where train/
    holds images, and also where it holds folders of images but nothing is called like another split.
    """
    splits = {kind: [name for name in names if _is_split(name, kind)] for kind in SPLITS}
    classes = {name: {*_class_folders(folder / name)} for of_kind in splits.values() for name in of_kind}
    train, validation, test = ([name for name in splits[kind] if classes[name]] for kind in SPLITS)
    for name in train + validation + test:
        if repeated := classes[name] & {*names}:
            raise InceptionError(
                f"{folder / name}: a split of the data set, not a class, since it holds the classes "
                f"{', '.join(sorted(repeated)[:3])} again; move it out of {folder}"
            )
    start = train or validation
    if start and (len(names) == 1 or sum(map(bool, splits.values())) > 1):
        remedy = f"use inception train {shell_path(str(folder / start[0]))}"
        if train and validation:
            remedy += f" --val-dir {shell_path(str(folder / validation[0]))}"
        elif test:
            remedy += f", and measure with inception evaluate --val-dir {shell_path(str(folder / test[0]))}"
        raise InceptionError(
            f"{folder}: holds the splits of a data set ({', '.join(names[:3])}), not classes; {remedy}"
        )


def list_samples(folder: Path, classes: Sequence[str]) -> list[Sample]:
    """Return the images of each class folder, sorted.

    InceptionError for a class without any, and for a folder that cannot be read: its images would be left out.
    """
    samples: list[Sample] = []
    for label, name in enumerate(classes):
        discovery = Discovery([str(folder / name)])
        of_class = [Sample(path, label) for path in discovery]
        if discovery.unreadable.count:
            raise InceptionError(
                f"{discovery.unreadable}; change the permissions, or move such folders out of {folder}"
            )
        if not of_class:
            raise empty_class_error(folder / name)
        samples += of_class
    return samples


def empty_class_error(folder: Path, skipped: Mapping[str, Failure] = MappingProxyType({})) -> InceptionError:
    """Return the error for a class folder without a readable training image, with the first failure in it.

    `skipped` are failures by path, of other folders too.
    """
    failures = (
        f" ({path.removeprefix(f'{folder}/')}: {failure.status}, {failure.error})"
        for path, failure in skipped.items()
        if path.startswith(f"{folder}/")
    )
    return InceptionError(
        f"{folder}: no readable image in this class folder{next(failures, '')}; add some, or remove the class"
    )


def require_same_classes(classes: Sequence[str], train_dir: Path, val_dir: Path) -> None:
    """Raise InceptionError unless the validation folder has the classes of the training folder."""
    val_classes = _class_folders(val_dir)
    missing, unknown = sorted({*classes} - {*val_classes}), sorted({*val_classes} - {*classes})
    problems = [f"{', '.join(missing)} missing"] * bool(missing) + [f"{', '.join(unknown)} unknown"] * bool(unknown)
    if problems:
        raise InceptionError(f"{val_dir}: class folders differ ({'; '.join(problems)}); use those of {train_dir}")


def require_other_images(train: Iterable[Sample], val: Iterable[Sample]) -> None:
    """Raise InceptionError if a file is both a training and a validation image, also by a link."""
    validation: dict[tuple[int, int], str] = {}
    for sample in val:
        if identity := file_id(sample.path):
            validation[identity] = sample.path
    for sample in train:
        if (identity := file_id(sample.path)) and (path := validation.get(identity)):
            other_name = f" ({sample.path})" if sample.path != path else ""
            raise InceptionError(
                f"{path}: is a training image as well{other_name}; give --val-dir a folder of other images, or "
                "leave it out to validate with a share of the training images"
            )


def split_samples(samples: Sequence[Sample], every: int, run_length: int) -> tuple[list[Sample], list[Sample]]:
    """Return (training, validation) samples: one in `every` of each class is for validation; deterministic.

    Validation samples are taken in runs of up to `run_length` consecutive files: photos of one series look alike and
    have similar names, and a series in both parts would make the validation too easy. InceptionError for a class with
    a single image.
    """
    train: list[Sample] = []
    val: list[Sample] = []
    for _, group in groupby(samples, key=lambda sample: sample.label):
        of_class = [*group]
        if len(of_class) < 2:
            raise InceptionError(
                f"{of_class[0].path}: the only image of its class; add more, or give a separate validation folder"
            )
        length = max(1, min(run_length, len(of_class) // every))
        chosen = min(every // 2, len(of_class) // length - 1)  # which run of each `every` consecutive runs
        for position, sample in enumerate(of_class):
            (val if position // length % every == chosen else train).append(sample)
    return train, val


def sample_balanced(
    labels: NDArray[np.int64], count: int, balance: float, random: np.random.Generator
) -> NDArray[np.int64]:
    """Return `count` shuffled positions; a class of n images is sampled in proportion to n ** (1 - balance).

    Systematic sampling: each image occurs its expected number of times, rounded up or down.
    """
    order = random.permutation(len(labels))
    odds = np.bincount(labels)[labels[order]] ** -balance
    ends = np.floor(count * np.cumsum(odds) / odds.sum() + random.random())
    ends[-1] = count  # also if rounding makes it less
    times = np.diff(ends, prepend=0).astype(np.int64)
    return random.permutation(np.repeat(order, times))


def spread(images: int, wanted: int) -> NDArray[np.int64]:
    """Return the positions of about `wanted` images, within the bounds of MEASURED, evenly spread over all."""
    count = min(images, max(MEASURED.start, min(wanted, MEASURED.stop)))
    return np.linspace(0, images - 1, count).round().astype(np.int64)


def digest_samples(samples: Sequence[Sample]) -> str:
    """Return the number of samples and a digest of their labels, file names and sizes."""
    digest = hashlib.sha256()
    for sample in samples:
        file = Path(sample.path)
        try:
            size = file.stat().st_size  # of its target, if it is a link
        except OSError:
            size = -1
        digest.update(os.fsencode(f"{sample.label} {file.name} {size}\n"))
    return f"{len(samples)} ({digest.hexdigest()[:8]})"


class ImageDataset:
    """The readable images of some samples, RGB, after `prepare`; `skipped` has the failures of the others by path."""

    def __init__(
        self,
        samples: Sequence[Sample],
        pixels: PixelConfig,
        prepare: Callable[[Image.Image], Image.Image],
        workers: int,
    ) -> None:
        """Decode each image once in `workers` threads."""
        self._pixel_config, self._prepare, self._workers = pixels, prepare, workers
        self.samples: list[Sample] = []  # the readable ones
        self.skipped: dict[str, Failure] = {}
        self._cache: list[Image.Image | None] = []
        self._free = CACHE_BYTES
        self.add(samples)

    def add(self, samples: Sequence[Sample]) -> None:
        """Decode more images, and append those that are readable."""
        images = map_in_threads(self._read, [sample.path for sample in samples], self._workers)
        for sample, image in zip(samples, images, strict=True):
            if isinstance(image, Failure):
                self.skipped[sample.path] = image
                continue
            size = BYTES_PER_PIXEL * image.width * image.height
            self.samples.append(sample)
            self._cache.append(image if size <= self._free else None)
            self._free -= size if size <= self._free else 0

    def remove(self, labels: Collection[int]) -> list[Sample]:
        """Remove the images with these labels, and return their samples."""
        removed = [sample for sample in self.samples if sample.label in labels]
        kept = [position for position, sample in enumerate(self.samples) if sample.label not in labels]
        self.samples, self._cache = [self.samples[at] for at in kept], [self._cache[at] for at in kept]
        return removed

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths of the N images."""
        return tuple(sample.path for sample in self.samples)

    @property
    def labels(self) -> NDArray[np.int64]:
        """The labels (N,) of the images."""
        return np.array([sample.label for sample in self.samples], np.int64)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, position: int) -> Image.Image:
        """Return the prepared image; InceptionError if its file has become unreadable since it was first decoded."""
        path = self.samples[position].path
        image = self._cache[position] or self._read(path)
        if isinstance(image, Failure):
            raise InceptionError(
                f"{path}: became unreadable during the training ({image.error}); "
                "restore it and run the same command again to resume"
            )
        return image

    def _read(self, path: str) -> Image.Image | Failure:
        image = decode.read(path, self._pixel_config)
        return image if isinstance(image, Failure) else self._prepare(image)


def require_validation_images(val: ImageDataset, train_dir: Path, val_dir: Path | None) -> None:
    """Raise InceptionError if no validation image is readable; without `val_dir` they are a share of the others."""
    if not len(val) and val_dir:
        raise InceptionError(f"{val_dir}: no readable image; add some, or give another validation folder")
    if not len(val):
        raise InceptionError(
            f"{train_dir}: no readable image is left for validation, since each class needs one for "
            "training; add images, or give --val-dir"
        )


@dataclass(frozen=True)
class ImageCounts:
    """Number of images for each purpose."""

    training: int
    measured: int  # of the training images: those whose accuracy is measured
    validation: int
    val_per_class: list[int]  # of the validation images


def shrink(image: Image.Image, short_side: int) -> Image.Image:
    """Return the image resized to a short side of `short_side` pixels, or unchanged if it is no larger than that."""
    if min(image.size) <= short_side:
        return image
    return image.resize(resized_size(*image.size, short_side), FILTERS["bilinear"])


def centre_crop(image: Image.Image, pixels: PixelConfig) -> Image.Image:
    """Return the same pixels that classification sees of the image."""
    return Image.fromarray(views(image, pixels)[0])


def map_in_threads(function: Callable[[Item], Result], items: Sequence[Item], workers: int) -> Iterator[Result]:
    """Yield `function` of each item in order, computed a few items ahead in threads (Pillow releases Python's lock)."""
    pending: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(max(1, workers)) as threads:
        try:
            for item in items:
                pending.append(threads.submit(function, item))
                if len(pending) > 2 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:  # the consumer may have stopped early
            for future in pending:
                future.cancel()


def _is_split(name: str, kind: str) -> bool:
    """Return whether a folder is called after a kind of split."""
    return not SPLITS[kind].isdisjoint(re.findall("[a-z]+", name.casefold()))


def _class_folders(folder: Path) -> tuple[str, ...]:
    with os_errors(folder, "give a folder that contains one folder per class"):
        names = [entry.name for entry in os.scandir(folder) if entry.is_dir()]
    return tuple(sorted(name for name in names if not name.startswith(".") and name not in SYSTEM_FOLDERS))

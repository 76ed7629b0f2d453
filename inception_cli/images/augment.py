"""Photos to learn from: cut out, mirrored, coloured and mixed anew each time that they are drawn.

Every draw has its own generator, so that a crop depends on its seed and place alone, not on what ran before it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import log

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from inception_cli.images.labelled import Photos, threaded
from inception_cli.images.preprocess import FILTERS

#: The grey about which contrast turns.
MIDDLE = 128
#: Weights of red, green and blue in grey (ITU-R BT.601), as Pillow converts to "L".
GREY = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class Augmentation:
    """How far a training crop may be from its photo."""

    area: tuple[float, float] = (0.25, 1.0)  # of the photo
    aspect: float = 4 / 3  # width : height up to this, or its inverse
    brightness: float = 0.3  # factors are drawn from 1 ± this
    contrast: float = 0.3
    saturation: float = 0.3
    tint: float = 0.05  # each channel's own factor: lamps are of many colours
    mixed: float = (
        0.5  # share of the crops in which a window shows another photo (CutMix, Yun et al., arXiv:1905.04899)
    )


@dataclass(frozen=True)
class Draws:
    """Which photos an epoch shows, in order: a multiple of `batch`; `side` in pixels; `seed` is the epoch's own."""

    positions: NDArray[np.int64]
    batch: int
    side: int
    seed: tuple[int, ...]


@dataclass(frozen=True)
class Crops:
    """A batch to learn from.

    pixels: uint8 (N, S, S, 3); colours: float32 (N, 3, 4), see `recolour`; foreign: float32 (N,), the share of a
    crop's pixels that show the crop before it in the batch.
    """

    pixels: Tensor
    colours: Tensor
    foreign: Tensor


def crops(photos: Photos, draws: Draws, augmentation: Augmentation, workers: int) -> Iterator[Crops]:
    """The epoch's batches in order, made by `workers` threads while the network learns."""

    def make(first: int) -> Crops:
        randoms = [np.random.default_rng((*draws.seed, first + slot)) for slot in range(draws.batch)]
        pixels = np.empty((draws.batch, draws.side, draws.side, 3), np.uint8)
        for slot, random in enumerate(randoms):
            pixels[slot] = cut(photos[int(draws.positions[first + slot])], draws.side, augmentation, random)
        colours = np.stack([colour(augmentation, random) for random in randoms])
        foreign = mix(pixels, augmentation, randoms)
        return Crops(*map(torch.from_numpy, (pixels, colours, foreign)))

    return threaded(make, range(0, len(draws.positions), draws.batch), workers)


def plain(photos: Photos, batch: int, workers: int) -> Iterator[Crops]:
    """All photos in order, as they are, in batches of up to `batch`."""

    def make(first: int) -> Crops:
        pixels = np.stack([np.asarray(photos[at]) for at in range(first, min(first + batch, len(photos)))])
        return Crops(torch.from_numpy(pixels), torch.eye(3, 4).expand(len(pixels), 3, 4), torch.zeros(len(pixels)))

    return threaded(make, range(0, len(photos), batch), workers)


def cut(photo: Image.Image, side: int, augmentation: Augmentation, random: np.random.Generator) -> NDArray[np.uint8]:
    """A random part of the photo, mirrored half the time: uint8 (S, S, 3)."""
    area = photo.width * photo.height * random.uniform(*augmentation.area)
    aspect = np.exp(random.uniform(-log(augmentation.aspect), log(augmentation.aspect)))
    width, height = min(photo.width, (area * aspect) ** 0.5), min(photo.height, (area / aspect) ** 0.5)
    left, top = random.uniform(0, photo.width - width), random.uniform(0, photo.height - height)
    part = photo.resize((side, side), FILTERS["bilinear"], box=(left, top, left + width, top + height))
    pixels = np.asarray(part)
    return pixels[:, ::-1] if random.random() < 0.5 else pixels


def colour(augmentation: Augmentation, random: np.random.Generator) -> NDArray[np.float32]:
    """Brightness, tint, saturation and contrast as one map of RGB in 0…255: float32 (3, 4), a matrix and an offset."""
    brightness, saturation, contrast = (
        random.uniform(1 - reach, 1 + reach)
        for reach in (augmentation.brightness, augmentation.saturation, augmentation.contrast)
    )
    tint = random.uniform(1 - augmentation.tint, 1 + augmentation.tint, size=3)
    saturate = saturation * np.eye(3) + (1 - saturation) * GREY  # every row takes its share of grey
    matrix = contrast * saturate @ np.diag(brightness * tint)
    offset = np.full((3, 1), (1 - contrast) * MIDDLE)
    return np.hstack([matrix, offset]).astype(np.float32)


def mix(
    pixels: NDArray[np.uint8], augmentation: Augmentation, randoms: Sequence[np.random.Generator]
) -> NDArray[np.float32]:
    """Into some crops of (N, S, S, 3), in place, a window of the crop before; returns its share of each, (N,)."""
    originals, side = pixels.copy(), pixels.shape[1]
    foreign = np.zeros(len(pixels), np.float32)
    for slot, random in enumerate(randoms):
        if random.random() < augmentation.mixed:
            # The share is uniform on 0…1 as CutMix has it, less what falls outside the crop.
            half = side * random.random() ** 0.5 / 2
            y, x = random.uniform(0, side, size=2)
            rows, columns = (slice(max(0, round(at - half)), round(at + half)) for at in (y, x))
            pixels[slot, rows, columns] = originals[slot - 1, rows, columns]
            foreign[slot] = originals[slot, rows, columns, 0].size / side**2
    return foreign


def recolour(pixels: Tensor, colours: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Pixels uint8 (N, S, S, 3) → what the network learns from: float32 (N, 3, S, S) in channels-last order.

    colours (N, 3, 4); mean and std (3,), of pixels on 0…1. All is affine, so it is one product of matrices.
    """
    scale = 1 / (255 * std)
    matrix = colours[..., :3] * scale[:, None]  # (N, 3, 3)
    offset = colours[..., 3] * scale - mean / std  # (N, 3)
    flat = pixels.flatten(1, 2).float()  # (N, S · S, 3)
    return torch.baddbmm(offset[:, None], flat, matrix.mT).view(pixels.shape).permute(0, 3, 1, 2)

"""Data augmentation: random crops, mirroring, colour changes and CutMix, and the batches of an epoch.

Each crop has its own random generator, so it depends on the seed and on its position in the epoch alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import log

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from inception_cli.images.preprocess import FILTERS
from inception_cli.training.dataset import ImageDataset, map_in_threads

#: The grey level that a change of contrast leaves unchanged.
MID_GREY = 128
#: Weights of red, green and blue in grey (ITU-R BT.601), as in Pillow's conversion to "L".
GREY_WEIGHTS = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class Augmentation:
    """The ranges that the random changes are drawn from."""

    area: tuple[float, float] = (0.25, 1.0)  # of the crop, as a share of the image
    aspect: float = 4 / 3  # width : height of the crop is between 1 / aspect and aspect
    brightness: float = 0.3  # factors are between 1 - this and 1 + this
    contrast: float = 0.3
    saturation: float = 0.3
    tint: float = 0.05  # a factor for each channel: the colour of the light differs between photos
    cutmix: float = 0.5  # share of the crops in which CutMix (Yun et al., arXiv:1905.04899) pastes another crop


@dataclass(frozen=True)
class EpochPlan:
    """The images of an epoch in order (a multiple of `batch_size`), their size in pixels, and the epoch's seed."""

    positions: NDArray[np.int64]
    batch_size: int
    crop_size: int
    seed: tuple[int, ...]


@dataclass(frozen=True)
class CropBatch:
    """A batch of crops.

    pixels: uint8 (N, S, S, 3); colour_transforms: float32 (N, 3, 4), see `random_colour_transform`; pasted: float32
    (N,), the share of a crop's pixels that CutMix took from the previous crop of the batch.
    """

    pixels: Tensor
    colour_transforms: Tensor
    pasted: Tensor


def training_batches(
    dataset: ImageDataset, plan: EpochPlan, augmentation: Augmentation, workers: int
) -> Iterator[CropBatch]:
    """Yield the batches of an epoch in order; `workers` threads prepare them while the network trains."""

    def make_batch(first: int) -> CropBatch:
        generators = [np.random.default_rng((*plan.seed, first + slot)) for slot in range(plan.batch_size)]
        pixels = np.empty((plan.batch_size, plan.crop_size, plan.crop_size, 3), np.uint8)
        for slot, random in enumerate(generators):
            image = dataset[int(plan.positions[first + slot])]
            pixels[slot] = random_crop(image, plan.crop_size, augmentation, random)
        colour_transforms = np.stack([random_colour_transform(augmentation, random) for random in generators])
        pasted = cutmix(pixels, augmentation, generators)
        return CropBatch(*map(torch.from_numpy, (pixels, colour_transforms, pasted)))

    return map_in_threads(make_batch, range(0, len(plan.positions), plan.batch_size), workers)


def validation_batches(dataset: ImageDataset, batch_size: int, workers: int) -> Iterator[CropBatch]:
    """Yield all images in order and unchanged, in batches of up to `batch_size`."""

    def make_batch(first: int) -> CropBatch:
        positions = range(first, min(first + batch_size, len(dataset)))
        pixels = np.stack([np.asarray(dataset[position]) for position in positions])
        return CropBatch(torch.from_numpy(pixels), torch.eye(3, 4).expand(len(pixels), 3, 4), torch.zeros(len(pixels)))

    return map_in_threads(make_batch, range(0, len(dataset), batch_size), workers)


def random_crop(
    image: Image.Image, crop_size: int, augmentation: Augmentation, random: np.random.Generator
) -> NDArray[np.uint8]:
    """Return a random part of the image, resized and mirrored with probability 1/2: uint8 (S, S, 3)."""
    area = image.width * image.height * random.uniform(*augmentation.area)
    aspect = np.exp(random.uniform(-log(augmentation.aspect), log(augmentation.aspect)))
    width, height = min(image.width, (area * aspect) ** 0.5), min(image.height, (area / aspect) ** 0.5)
    left, top = random.uniform(0, image.width - width), random.uniform(0, image.height - height)
    box = (left, top, left + width, top + height)
    pixels = np.asarray(image.resize((crop_size, crop_size), FILTERS["bilinear"], box=box))
    return pixels[:, ::-1] if random.random() < 0.5 else pixels


def random_colour_transform(augmentation: Augmentation, random: np.random.Generator) -> NDArray[np.float32]:
    """Return random brightness, tint, saturation and contrast as one affine map of RGB in 0…255.

    float32 (3, 4): a 3x3 matrix and an offset.
    """
    brightness, saturation, contrast = (
        random.uniform(1 - reach, 1 + reach)
        for reach in (augmentation.brightness, augmentation.saturation, augmentation.contrast)
    )
    tint = random.uniform(1 - augmentation.tint, 1 + augmentation.tint, size=3)
    saturate = saturation * np.eye(3) + (1 - saturation) * GREY_WEIGHTS  # adds the same share of grey to each row
    matrix = contrast * saturate @ np.diag(brightness * tint)
    offset = np.full((3, 1), (1 - contrast) * MID_GREY)
    return np.hstack([matrix, offset]).astype(np.float32)


def cutmix(
    pixels: NDArray[np.uint8], augmentation: Augmentation, generators: Sequence[np.random.Generator]
) -> NDArray[np.float32]:
    """Paste a window of the previous crop into some crops (N, S, S, 3), in place; return the pasted shares, (N,)."""
    originals, size = pixels.copy(), pixels.shape[1]
    pasted = np.zeros(len(pixels), np.float32)
    for slot, random in enumerate(generators):
        if random.random() < augmentation.cutmix:
            # The share is uniform on 0…1 as in CutMix, less what falls outside the crop.
            half = size * random.random() ** 0.5 / 2
            y, x = random.uniform(0, size, size=2)
            rows, columns = (slice(max(0, round(at - half)), round(at + half)) for at in (y, x))
            pixels[slot, rows, columns] = originals[slot - 1, rows, columns]
            pasted[slot] = originals[slot, rows, columns, 0].size / size**2
    return pasted


def colour_and_normalise(pixels: Tensor, colour_transforms: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Return the network's input, float32 (N, 3, S, S) in channels-last order, for pixels uint8 (N, S, S, 3).

    colour_transforms (N, 3, 4); mean and std (3,), of pixels on [0, 1]. All steps are affine, so one matrix product
    does them.
    """
    scale = 1 / (255 * std)
    matrix = colour_transforms[..., :3] * scale[:, None]  # (N, 3, 3)
    offset = colour_transforms[..., 3] * scale - mean / std  # (N, 3)
    flat = pixels.flatten(1, 2).float()  # (N, S · S, 3)
    return torch.baddbmm(offset[:, None], flat, matrix.mT).view(pixels.shape).permute(0, 3, 1, 2)

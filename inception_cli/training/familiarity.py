"""Measure the middle features of the training photos with a trained network, for `classify --familiar`."""

from collections import defaultdict
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from inception_cli.config import PixelConfig, Plan
from inception_cli.errors import plural
from inception_cli.network.familiarity import MIN_PER_CLASS, Familiarity, fit, too_few_photos
from inception_cli.network.fusion import optimize
from inception_cli.network.model import InceptionV3, copy_modules
from inception_cli.training.augment import validation_batches
from inception_cli.training.dataset import ImageDataset, Sample, centre_crop
from inception_cli.training.settings import TrainConfig

#: Photos that are measured at most, unless there are too many classes: `fit` takes about 50 KB of memory for each.
MAX_PHOTOS = 100_000


def measure_familiarity(
    network: InceptionV3, samples: Sequence[Sample], classes: int, config: TrainConfig
) -> tuple[Familiarity | None, str]:
    """Return the statistics of training photos; None and the reason if they are too few.

    The middle features are computed as `classify` computes them. Photos that can no longer be read are left out.
    """
    if reason := too_few_photos(_labels(samples), classes):
        return None, reason
    preset, plan = config.preset, Plan(config.device, config.precision, threads=torch.get_num_threads())
    pixels, size = PixelConfig(preset), config.batch_size
    optimized = optimize(copy_modules(network).to("cpu"), preset.mean, preset.std, plan, middle_features=True)
    chosen = sample_classes(samples, max(MAX_PHOTOS, MIN_PER_CLASS * classes))
    prepare = partial(centre_crop, pixels=pixels)
    features: list[Tensor] = []
    measured: list[Sample] = []
    with torch.inference_mode():
        for first in range(0, len(chosen), size):
            images = ImageDataset(chosen[first : first + size], pixels, prepare, config.workers)
            measured += images.samples
            for batch in validation_batches(images, size, config.workers):
                _, of_batch = optimized(batch.pixels.to(plan.device).permute(0, 3, 1, 2))
                features.append(of_batch.cpu().clone())
    labels = _labels(measured)
    if reason := too_few_photos(labels, classes):
        lost = plural(len(chosen) - len(measured), "photo")
        return None, f"{lost} could no longer be read after the last epoch; {reason}"
    return fit(torch.cat(features), labels, classes), ""


def sample_classes(samples: Sequence[Sample], count: int) -> list[Sample]:
    """Return at most `count` samples in order: the same number of each class, evenly spread over its files.

    A class that has fewer is taken whole, and leaves more for the others.
    """
    by_class: dict[int, list[int]] = defaultdict(list)
    for position, sample in enumerate(samples):
        by_class[sample.label].append(position)
    chosen: list[int] = []
    for number, of_class in enumerate(sorted(by_class.values(), key=len)):
        share = min(len(of_class), (count - len(chosen)) // (len(by_class) - number))
        chosen += [of_class[at] for at in np.linspace(0, len(of_class) - 1, share).round().astype(int)]
    return [samples[position] for position in sorted(chosen)]


def _labels(samples: Sequence[Sample]) -> Tensor:
    """Return the labels (N,) of samples."""
    return torch.tensor([sample.label for sample in samples], dtype=torch.int64)

"""Measure the middle features of the training photos with a trained network, for `classify --familiar`."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from inception_cli.config import PixelConfig, Plan
from inception_cli.network.familiarity import Familiarity, fit
from inception_cli.network.fusion import optimize
from inception_cli.network.model import InceptionV3, copy_modules
from inception_cli.training.augment import validation_batches
from inception_cli.training.dataset import ImageDataset, Sample, centre_crop
from inception_cli.training.settings import TrainConfig


def measure_familiarity(
    network: InceptionV3, samples: Sequence[Sample], classes: int, config: TrainConfig
) -> Familiarity:
    """Return the statistics of training photos, whose middle features are computed as `classify` computes them.

    Photos that cannot be read are left out.
    """
    preset, plan = config.preset, Plan(config.device, config.precision, threads=torch.get_num_threads())
    pixels = PixelConfig(preset)
    dataset = ImageDataset(samples, pixels, partial(centre_crop, pixels=pixels), config.workers)
    optimized = optimize(copy_modules(network).to("cpu"), preset.mean, preset.std, plan, middle_features=True)
    features: list[Tensor] = []
    with torch.inference_mode():
        for batch in validation_batches(dataset, config.batch_size, config.workers):
            _, of_batch = optimized(batch.pixels.to(plan.device).permute(0, 3, 1, 2))
            features.append(of_batch.cpu().clone())
    return fit(torch.cat(features), torch.from_numpy(dataset.labels), classes)

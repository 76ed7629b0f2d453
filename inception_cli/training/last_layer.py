"""Fit the last layer again after the last epoch: linear discriminant analysis of the features of training images.

The trained layer has seen crops with changed colours and pasted parts, in which an object is often small or cut off.
The fitted one sees crops much as they are classified, and takes from all classes together how features vary within a
class. In cross-validation it was right for more photos after 20 epochs, and for no more after 80, where it was not
kept; see the model card of `demo`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from inception_cli.training.augment import EpochPlan


class FitError(Exception):
    """The last layer cannot be fitted."""


@dataclass(frozen=True)
class LastLayerFit:
    """How the last layer is fitted."""

    crops: int = 3  # of each training image
    shrinkage: float = 0.01  # share of the covariance that is replaced by the same variance in all directions

    def plan(self, images: int, batch_size: int, crop_size: int, seed: tuple[int, ...]) -> EpochPlan:
        """Return the crops of that many images; some have more, to fill the last batch."""
        batches = -(-self.crops * images // batch_size)
        return EpochPlan(np.resize(np.arange(images), batches * batch_size), batch_size, crop_size, seed)


def fit_last_layer(
    crops: Iterable[tuple[Tensor, Tensor]],
    validation: Iterable[tuple[Tensor, Tensor]],
    classes: int,
    shrinkage: float,
    label_smoothing: float,
) -> tuple[Tensor, Tensor]:
    """Return the weight (C, D) and the bias (C,) of a last layer, in fp64.

    `crops` and `validation` are batches of features (N, D) and labels (N,): those of the training images, which the
    layer is fitted on, and those that its logits are scaled for. Raises FitError as `discriminant` does.
    """
    statistics = ClassStatistics(classes)
    for features, labels in crops:
        statistics.add(features, labels)
    weight, bias = statistics.discriminant(shrinkage)
    held_out = [
        (features.to(weight.device).double() @ weight.T + bias, labels.to(weight.device))
        for features, labels in validation
    ]
    logits, labels = (torch.cat(values) for values in zip(*held_out, strict=True))
    scale = best_scale(logits, labels, label_smoothing)
    return scale * weight, scale * bias


class ClassStatistics:
    """Sums over the features (N, D) of crops of C classes, from which the classes' means and the covariance follow.

    They take as much memory for any number of crops.
    """

    def __init__(self, classes: int) -> None:
        self.counts = torch.zeros(classes, dtype=torch.float64)  # crops of each class
        self.sums = torch.zeros(())  # (C, D): the sum of the features of each class
        self.products = torch.zeros(())  # (D, D): the sum of the outer products of all features

    @torch.inference_mode()
    def add(self, features: Tensor, labels: Tensor) -> None:
        """Add the features (N, D) of crops with these labels (N,)."""
        device = "cpu" if features.device.type == "mps" else features.device  # Apple's GPUs have no fp64
        features = features.to(device).double()
        of_class = F.one_hot(labels.to(device), len(self.counts)).double()
        self.counts = self.counts.to(device) + of_class.sum(0)
        self.sums = self.sums.to(device) + of_class.T @ features
        self.products = self.products.to(device) + features.T @ features

    @torch.inference_mode()
    def discriminant(self, shrinkage: float) -> tuple[Tensor, Tensor]:
        """Return the weight (C, D) and the bias (C,) of linear discriminant analysis with equally likely classes.

        All classes share the covariance of the features around the mean of their class. A share `shrinkage` of it is
        replaced by the mean variance in every direction (Ledoit and Wolf, 2004). The logits have a mean of 0 over the
        classes, which changes no score. Raises FitError if the features do not vary within the classes, or are not
        finite.
        """
        means = self.sums / self.counts[:, None]
        covariance = (self.products - self.sums.T @ means) / self.counts.sum()
        variance = covariance.diagonal().mean()
        if not 0 < variance < inf:
            raise FitError(f"the variance of the features within the classes is {variance:.3g}")
        covariance = (1 - shrinkage) * covariance
        covariance.diagonal().add_(shrinkage * variance)
        weight = torch.linalg.solve(covariance, means.T).T
        bias = -(means * weight).sum(1) / 2
        return weight - weight.mean(0), bias - bias.mean()


def best_scale(logits: Tensor, labels: Tensor, label_smoothing: float) -> float:
    """Return the factor of logits (N, C) with the lowest cross entropy for labels (N,), within 1 %.

    This is temperature scaling (Guo et al., arXiv:1706.04599). With the label smoothing of the training, scores are
    about as high as the trained layer's, and a few images that are all right do not give scores of 100 %. Raises
    FitError if logits are not finite.
    """
    if not torch.isfinite(logits).all():
        raise FitError("features of validation images are not finite")

    def best(factors: NDArray[np.float64]) -> float:
        scaled = (each * logits for each in factors.tolist())
        losses = [F.cross_entropy(each, labels, label_smoothing=label_smoothing).item() for each in scaled]
        return float(factors[int(np.argmin(losses))])

    coarse = best(np.geomspace(1e-4, 1e4, 81) / max(logits.std(correction=0).item(), 1e-30))  # 26 % apart
    return best(coarse * np.geomspace(1 / 1.3, 1.3, 54))  # 1 % apart

"""Tell photos that are unlike the training photos, by the distance of their features from the nearest class.

The features are the middle ones: the mean and the standard deviation of each channel of a 17x17 grid in the middle of
the network (see `fusion.WithFeatures`). The last features have been trained to tell the classes apart, and lose what
else is in a photo; of photos of other things, layers in the middle tell more (Lee et al., 2018, arXiv:1807.03888).

The distance is the squared Mahalanobis distance with one covariance for all classes (Lee et al.), of features that are
scaled to length 1 (Mueller and Hein, 2025, arXiv:2505.18032). The covariance is reduced to its directions of largest
variance; in all other directions it is their mean variance (Tipping and Bishop, 1999, "Probabilistic principal
component analysis").

How far training photos are is measured on photos that were held out from the statistics, in five folds. The network has
seen them in training, so new photos of the same classes are somewhat farther away. Photos of one series look alike and
have similar names; so that they are held out together, a fold is a run of consecutive files of each class.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

#: Directions of the reduced covariance: at most this many, and at most one for this many photos.
MAX_DIRECTIONS, PHOTOS_PER_DIRECTION = 256, 4
FOLDS = 5
#: With fewer photos, in all or of a class, the distances of held-out photos say little.
MIN_PHOTOS, MIN_PER_CLASS = 100, 5
#: Held-out distances are kept as quantiles, from the lowest to the highest.
QUANTILES = 1001
#: Variances below this are rounding errors of features of length 1.
MIN_VARIANCE = 1e-10


@dataclass(frozen=True, eq=False)
class Familiarity:
    """Statistics of the features (D numbers each) of training photos of C classes; ValueError for invalid ones."""

    means: Tensor  # (C, D), of features of length 1
    directions: Tensor  # (R, D), orthonormal
    variances: Tensor  # (R,), along the directions
    rest: Tensor  # (), the variance along any direction at right angles to these
    quantiles: Tensor  # (QUANTILES,) of the distances of held-out training photos
    photos: Tensor  # (C,) int64: training photos of each class

    def __post_init__(self) -> None:
        classes, size = self.means.shape if self.means.ndim == 2 else (0, 0)
        rank = len(self.directions) if self.directions.ndim == 2 else 0
        shapes = {"directions": (rank, size), "variances": (rank,), "rest": (), "quantiles": (QUANTILES,)}
        for name, shape in ({"means": (classes, size)} | shapes | {"photos": (classes,)}).items():
            tensor: Tensor = getattr(self, name)
            if tuple(tensor.shape) != shape or 0 in shape:
                raise ValueError(f"{name} has the shape {tuple(tensor.shape)}")
            if not tensor.isfinite().all():
                raise ValueError(f"{name} has values that are not finite")
        if min(self.variances.min(), self.rest) <= 0 or (self.quantiles.diff() < 0).any():
            raise ValueError("a variance is not above 0, or the quantiles do not rise")

    def to(self, device: str) -> Self:
        """Return the statistics in fp32 on a device; directions that fp16 has rounded are orthonormal again."""
        found = {field.name: getattr(self, field.name).float().to(device) for field in fields(self)}
        directions = torch.linalg.qr(self.directions.double().T).Q.T
        return type(self)(**found | {"directions": directions.float().contiguous().to(device)})

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors by name as they are stored: the directions, most of their bytes, in fp16."""
        stored = {field.name: getattr(self, field.name) for field in fields(self)}
        return stored | {"directions": self.directions.half()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        """Return the statistics with these tensors; ValueError if one is missing or invalid."""
        names = [field.name for field in fields(cls)]
        if missing := [name for name in names if name not in tensors]:
            raise ValueError(f"{missing[0]} is missing")
        return cls(**{name: tensors[name] for name in names})

    def distances(self, features: Tensor) -> Tensor:
        """Return the squared distance (N,) of features (N, D) from the mean of the nearest class."""
        features = F.normalize(features) - self._centre
        means, means_along, spread = self._centred_means
        along = features @ self.directions.T
        outside = torch.cdist(features, means).square() - torch.cdist(along, means_along).square()
        inside = torch.cdist(along / spread, means_along / spread).square()
        return (inside + outside.clamp_min(0) / self.rest).amin(1)

    @cached_property
    def _centre(self) -> Tensor:
        """The mean of the classes (D,), from which numbers are small: less is lost to rounding."""
        return self.means.mean(0)

    @cached_property
    def _centred_means(self) -> tuple[Tensor, Tensor, Tensor]:
        """The means (C, D) from the centre, along the directions (C, R), and the standard deviations (R,)."""
        means = self.means - self._centre
        return means, means @ self.directions.T, self.variances.sqrt()

    def threshold(self, share: float) -> float:
        """Return the distance below which this share of the held-out training photos is."""
        quantiles = self.quantiles.double().cpu().numpy()
        return float(np.interp(share, np.linspace(0, 1, QUANTILES), quantiles))


def fit(features: Tensor, labels: Tensor, classes: int) -> Familiarity:
    """Return the statistics of the features (N, D) of training photos in the order of their files, with labels (N,)."""
    features = F.normalize(features.double())
    rank = max(1, min(MAX_DIRECTIONS, len(features) // PHOTOS_PER_DIRECTION, features.shape[1] - 1))
    held_out, folds = torch.empty(len(features), dtype=torch.float64), folds_of(labels)
    for fold in range(FOLDS):
        inside = folds != fold
        statistics = statistics_of(features[inside], labels[inside], classes, rank)
        held_out[~inside] = statistics.distances(features[~inside])
    quantiles = torch.from_numpy(np.quantile(held_out.numpy(), np.linspace(0, 1, QUANTILES)))
    whole = statistics_of(features, labels, classes, rank)
    return Familiarity(
        means=whole.means.float(),
        directions=whole.directions.float(),
        variances=whole.variances.float(),
        rest=whole.rest.float(),
        quantiles=quantiles.float(),
        photos=whole.photos,
    )


def too_few_photos(labels: Tensor, classes: int) -> str:
    """Return why photos with these labels are too few for statistics, "" if they are not."""
    counts = torch.bincount(labels, minlength=classes)
    if len(labels) >= MIN_PHOTOS and counts.min() >= MIN_PER_CLASS:
        return ""
    return (
        f"there are {len(labels)} training photos, and {counts.min()} in the smallest class; "
        f"it needs at least {MIN_PHOTOS}, and {MIN_PER_CLASS} in each class"
    )


def statistics_of(features: Tensor, labels: Tensor, classes: int, rank: int) -> Familiarity:
    """Return the statistics of features of length 1, without the distances of held-out photos."""
    photos = torch.bincount(labels, minlength=classes)
    sums = torch.zeros(classes, features.shape[1], dtype=features.dtype).index_add_(0, labels, features)
    means = sums / photos[:, None]
    centred = features - means[labels]
    variances, directions = _largest_variances(centred, rank)
    rest = (centred.square().sum() / len(centred) - variances.sum()) / (features.shape[1] - rank)
    return Familiarity(
        means=means,
        directions=directions,
        variances=variances.clamp_min(MIN_VARIANCE),
        rest=rest.clamp_min(MIN_VARIANCE),
        quantiles=torch.zeros(QUANTILES),
        photos=photos,
    )


def _largest_variances(centred: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return the largest variances (R,) of centred features (N, D), and their directions (R, D), the largest first."""
    n, size = centred.shape
    if n < size:  # the smaller matrix of inner products has the same eigenvalues
        variances, vectors = torch.linalg.eigh(centred @ centred.T / n)
        directions = F.normalize(vectors[:, n - rank :].T @ centred)
    else:
        variances, vectors = torch.linalg.eigh(centred.T @ centred / n)
        directions = vectors[:, size - rank :].T
    return variances[-rank:].flip(0), directions.flip(0).contiguous()


def folds_of(labels: Tensor) -> Tensor:
    """Return the fold (N,) of each photo: of each class FOLDS runs of consecutive files."""
    folds = torch.empty_like(labels)
    for label in range(int(labels.max()) + 1):
        positions = (labels == label).nonzero().flatten()
        folds[positions] = torch.arange(len(positions)) * FOLDS // len(positions)
    return folds

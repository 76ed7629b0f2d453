"""The predictions of an epoch for the validation images, and the choice of the best epoch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class ValidationPredictions:
    """The class of each validation image, and the class that an epoch's averaged weights predict for it."""

    paths: tuple[str, ...]  # of the N images
    labels: NDArray[np.int64]  # (N,) positions among the class names
    predicted: NDArray[np.int64]  # (N,)
    scores: NDArray[np.float32]  # (N,) softmax of the predicted class, from 0 to 1

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def right(self) -> int:
        """Number of images whose predicted class is theirs."""
        return int((self.predicted == self.labels).sum())

    @property
    def top1(self) -> float:
        """Accuracy over all images in percent."""
        return 100 * self.right / len(self)

    @property
    def class_average(self) -> float:
        """Mean of the accuracies within the classes that have images, in percent."""
        correct = self.predicted == self.labels
        return 100 * float(np.mean([correct[self.labels == label].mean() for label in np.unique(self.labels)]))

    def per_class(self, classes: int) -> dict[str, list[int]]:
        """Return three counts for each of the classes.

        n: its images; right: those of them that are predicted as this class; predicted: all images predicted as it.
        """
        right = self.labels[self.predicted == self.labels]
        counted = {"n": self.labels, "right": right, "predicted": self.predicted}
        return {name: np.bincount(values, minlength=classes).tolist() for name, values in counted.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return the fields as `torch.load(weights_only=True)` can read them again."""
        arrays = {"labels": self.labels, "predicted": self.predicted, "scores": self.scores}
        return {"paths": [*self.paths]} | {name: torch.from_numpy(values) for name, values in arrays.items()}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> "ValidationPredictions":
        """Return what `state_dict` was called on."""
        labels, predicted, scores = (state[name].numpy() for name in ("labels", "predicted", "scores"))
        return cls(tuple(state["paths"]), labels, predicted, scores)


def is_best(top1: float, earlier: Sequence[float], val_images: int) -> bool:
    """Return whether an epoch replaces the earlier ones: it is not worse than the best by over one standard error.

    top1 in percent; the one-standard-error rule is from Breiman et al., 1984. Later epochs have smaller learning rates
    and mostly better weights, while the highest accuracy on few validation images is often chance.
    """
    highest = max([top1, *earlier])
    return top1 >= highest - sqrt(highest * (100 - highest) / val_images)

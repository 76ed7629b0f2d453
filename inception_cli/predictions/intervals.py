"""95 % confidence intervals of accuracies, in percent."""

from collections.abc import Sequence
from math import hypot, sqrt
from statistics import NormalDist

Z = 1.959963984540054  # the 97.5th percentile of the normal distribution


def wilson(right: float, n: float, z: float = Z) -> tuple[float, float]:
    """Return the 95 % Wilson interval of an accuracy in percent; it also holds for few images and near 0 and 100 %.

    `z` is the percentile of the normal distribution for another confidence.
    """
    share = right / n
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return max(0.0, 100 * (middle - half)), min(100.0, 100 * (middle + half))


def least_difference(right: int, n: int, other_right: int, other_n: int) -> float:
    """Return the lower end of the 95 % interval of an accuracy minus another one, on other images, in points.

    Method 10 of Newcombe, "Interval estimation for the difference between independent proportions", 1998.
    """
    accuracy, other = 100 * right / n, 100 * other_right / other_n
    return accuracy - other - hypot(accuracy - wilson(right, n)[0], wilson(other_right, other_n)[1] - other)


def best_of(k: int) -> float:
    """Return the `z` of an interval for the best of `k` accuracies, which is likely to be too high (Bonferroni)."""
    return NormalDist().inv_cdf(1 - 0.025 / k)


def class_average_interval(right: Sequence[int], n: Sequence[int], z: float = Z) -> tuple[float, float]:
    """Return the 95 % interval of the mean accuracy of the classes that have images, in percent.

    The Wilson interval for as many images as give a single accuracy the variance of this mean: fewer than there are,
    unless all classes have the same number.
    """
    shares = [of_class / count for of_class, count in zip(right, n, strict=True) if count]
    images = len(shares) ** 2 / sum(1 / count for count in n if count)
    return wilson(sum(shares) / len(shares) * images, images, z)

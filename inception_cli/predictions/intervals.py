"""Accuracies in percent: as text, their 95 % confidence intervals, and the probability of one by chance."""

from collections.abc import Sequence
from math import exp, fsum, hypot, lgamma, log, log1p, sqrt

Z = 1.959963984540054  # the 97.5th percentile of the normal distribution


def percent(value: float, digits: int = 1) -> str:
    """Return a share in percent as text: "100.0" only for all and "0.0" only for none, else "> 99.9" and "< 0.1"."""
    text, step = f"{value:.{digits}f}", 10**-digits
    if value > 0 and float(text) == 0:
        return f"< {step:.{digits}f}"
    if value < 100 and float(text) == 100:
        return f"> {100 - step:.{digits}f}"
    return text


def wilson(right: int, n: int) -> tuple[float, float]:
    """Return the 95 % Wilson interval of an accuracy in percent; it also holds for few images and near 0 and 100 %."""
    share = right / n
    middle = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    return max(0.0, 100 * (middle - half)), min(100.0, 100 * (middle + half))


def least_difference(right: int, n: int, other_right: int, other_n: int) -> float:
    """Return the lower end of the 95 % interval of an accuracy minus another one, on other images, in points.

    Method 10 of Newcombe, "Interval estimation for the difference between independent proportions", 1998.
    """
    accuracy, other = 100 * right / n, 100 * other_right / other_n
    return accuracy - other - hypot(accuracy - wilson(right, n)[0], wilson(other_right, other_n)[1] - other)


def binomial_tail(right: int, n: int, share: float) -> float:
    """Return the probability that at least `right` of `n` images are right if each is with the probability `share`."""
    if right <= 0 or share >= 1:
        return 1.0
    return fsum(
        exp(lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1) + k * log(share) + (n - k) * log1p(-share))
        for k in range(right, n + 1)
    )


def images_of_class_average(n: Sequence[int]) -> float:
    """Return how many images give a single accuracy the variance of the mean accuracy of the classes that have images.

    There are fewer than all images, unless all classes have the same number `n`.
    """
    images = sum(count > 0 for count in n) ** 2 / sum(1 / count for count in n if count)
    return round(images, 6)  # 3 classes of 10 images: 30, not 29.999999999999996

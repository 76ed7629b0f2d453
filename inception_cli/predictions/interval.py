"""The confidence interval of an accuracy."""

from math import sqrt

Z = 1.959963984540054  # the 97.5th percentile of the normal distribution, for 95 % intervals


def wilson(right: int, n: int) -> tuple[float, float]:
    """Return the 95 % Wilson interval of an accuracy in percent; it also holds for few images and near 0 and 100 %."""
    share = right / n
    middle = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    return max(0.0, 100 * (middle - half)), min(100.0, 100 * (middle + half))

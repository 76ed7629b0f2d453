"""Compute the plots of a report: rectangles and texts, which the page's template draws as SVG."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

from inception_cli.errors import plural
from inception_cli.predictions.intervals import percent

if TYPE_CHECKING:  # imports numpy and pandas
    from inception_cli.evaluation.decisions import DecisionMetrics
    from inception_cli.evaluation.metrics import Bin


WIDTH, HEIGHT = 460, 240  # of a plot, in its own units
LEFT, RIGHT, TOP, BOTTOM = 46, WIDTH - 8, 12, HEIGHT - 40  # edges of the area within the axes


@dataclass(frozen=True)
class Rect:
    """A rectangle; `kind` is its CSS class."""

    kind: str
    x: float
    y: float
    width: float
    height: float
    tooltip: str = ""


@dataclass
class Plot:
    """A bar plot over the confidence, or over a threshold, from 0 to 1."""

    description: str  # for screen readers
    y_ticks: list[tuple[float, str]]  # position and text
    diagonal: bool = False
    x_axis: str = "confidence"
    columns: Sequence[str] = ()  # headings of `values`
    rects: list[Rect] = field(default_factory=list)
    values: list[Sequence[str]] = field(default_factory=list)  # of each bin, for the table below the plot

    def add_bin(
        self, low: float, high: float, bars: Sequence[tuple[str, float]], tooltip: str, values: Sequence[str]
    ) -> None:
        """Add the stacked bars of a bin, each with its CSS class and upper end (0 to 1), a tooltip, and its values."""
        x, width, bottom = _x(low) + 1, _x(high) - _x(low) - 2, 0.0
        for kind, top in bars:
            if top > bottom:
                self.rects.append(Rect(kind, x, _y(top), width, _y(bottom) - _y(top)))
            bottom = top
        self.rects.append(Rect("hover", x, TOP, width, BOTTOM - TOP, tooltip))
        self.values.append(values)


def confidence(correct: Sequence[int], wrong: Sequence[int]) -> Plot:
    """Return the number of photos by confidence, in bins of equal width; wrong predictions on top of the others."""
    bins, totals = len(correct), [good + bad for good, bad in zip(correct, wrong, strict=True)]
    ticks = whole_ticks(max(1, *totals))
    top = ticks[-1]
    plot = Plot(
        f"Photos by confidence: {sum(totals[: bins // 2]):,} of {sum(totals):,} below 50 %.",
        [(_y(tick / top), _short(tick)) for tick in ticks],
        columns=("Confidence (%)", "Photos", "Wrong") if any(wrong) else ("Confidence (%)", "Photos"),
    )
    for place, (total, bad) in enumerate(zip(totals, wrong, strict=True)):
        low, high = place / bins, (place + 1) / bins
        tooltip = f"{100 * low:.0f} to {100 * high:.0f} %: {plural(total, 'photo')}" + (
            f", {bad:,} of them wrong" if bad else ""
        )
        values = (f"{100 * low:.0f} to {100 * high:.0f}", f"{total:,}", f"{bad:,}")[: len(plot.columns)]
        plot.add_bin(low, high, [("bar", (total - bad) / top), ("wrong", total / top)], tooltip, values)
    return plot


def calibration(bins: "Sequence[Bin]") -> Plot:
    """Return the accuracy of the photos in each bin of confidence, compared with their mean confidence."""
    plot = Plot(
        "Accuracy by confidence; on the diagonal the two are equal.",
        [(_y(share), f"{100 * share:.0f} %") for share in (0, 0.25, 0.5, 0.75, 1)],
        diagonal=True,
        columns=("Confidence (%)", "Photos", "Mean confidence (%)", "Accuracy (%)"),
    )
    for each in bins:
        if each.accuracy is None or each.confidence is None:
            continue
        lower, upper = sorted((each.accuracy / 100, each.confidence / 100))
        gap = "more" if each.accuracy > each.confidence else "less"
        tooltip = (
            f"{plural(each.n, 'photo')}, mean confidence {each.confidence:.1f} %, accuracy {percent(each.accuracy)} %"
        )
        span = f"{100 * each.low:.1f} to {100 * each.high:.1f}"
        values = (span, f"{each.n:,}", f"{each.confidence:.1f}", percent(each.accuracy))
        plot.add_bin(each.low, each.high, [("bar", lower), (gap, upper)], tooltip, values)
    return plot


def decisions(metrics: "DecisionMetrics") -> Plot:
    """Return the share of photos that get a label by --min-score; wrong labels on top of the right ones."""
    plot = Plot(
        "Photos that get a label, by threshold: right and wrong.",
        [(_y(share), f"{100 * share:.0f} %") for share in (0, 0.25, 0.5, 0.75, 1)],
        x_axis="--min-score",
        columns=("--min-score", "Photos that get a label (%)", "Right, of these (%)"),
    )
    for place, each in enumerate(metrics.curve):
        low, high = each.min_score, (place + 1) / len(metrics.curve)
        values = (f"{low:g}", percent(each.coverage), "–" if each.accuracy is None else percent(each.accuracy))
        right = f", {values[2]} % of them right" if each.accuracy is not None else ""
        tooltip = f"--min-score {low:g}: {values[1]} % of the photos get a label{right}"
        bars = [("bar", each.right / metrics.photos), ("wrong", each.n / metrics.photos)]
        plot.add_bin(low, high, bars, tooltip, values)
    return plot


def whole_ticks(most: int) -> list[int]:
    """Return at most five whole numbers from 0 on, evenly spaced, of which the last is at least `most`."""
    steps = (factor * 10**power for power in count() for factor in (1, 2, 5))
    step = next(step for step in steps if 4 * step >= most)
    return [*range(0, most + step, step)]


def _short(number: int) -> str:
    """Return a number for which there is room beside the axis."""
    if number >= 1_000_000:
        return f"{number / 1e6:g} M"
    return f"{number / 1e3:g} k" if number >= 10_000 else f"{number:,}"


def _x(share: float) -> float:
    return LEFT + share * (RIGHT - LEFT)


def _y(share: float) -> float:
    return BOTTOM - share * (BOTTOM - TOP)

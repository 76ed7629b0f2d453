"""Compute the learning curves of a training: lines over the epochs, which the page's template draws as SVG."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from math import ceil

from inception_cli.predictions.intervals import percent
from inception_cli.report.plots import BOTTOM, LEFT, RIGHT, TOP, Rect
from inception_cli.weights.training_record import EpochResult

#: Numbers of epochs on the axis at most.
MAX_EPOCHS_SHOWN = 8


@dataclass(frozen=True)
class Line:
    """A line; `kind` is its CSS class."""

    kind: str
    name: str
    points: tuple[tuple[float, float], ...]


@dataclass
class Curves:
    """Lines over the epochs."""

    description: str  # for screen readers
    x_ticks: list[tuple[float, int]]  # position and epoch
    y_ticks: list[tuple[float, str]]  # position and text
    best: float  # position of the epoch whose weights are kept
    lines: list[Line] = field(default_factory=list)
    level: float | None = None  # position of a horizontal line
    hovers: list[Rect] = field(default_factory=list)


def loss_curve(history: Sequence[EpochResult], best_epoch: int) -> Curves:
    """Return the training loss of each epoch."""
    losses = [each.loss for each in history]
    ticks = _ticks(max(losses))
    top = ticks[-1]
    curves = Curves(
        f"Training loss by epoch: from {losses[0]:.3f} to {losses[-1]:.3f}.",
        _epoch_ticks(len(history)),
        [(_y(tick / top), f"{tick:g}") for tick in ticks],
        _x(best_epoch, len(history)),
    )
    curves.lines.append(_line("train", "training loss", [loss / top for loss in losses]))
    curves.hovers = _hovers([f"epoch {each.number}: loss {each.loss:.3f}" for each in history])
    return curves


def accuracy_curves(history: Sequence[EpochResult], best_epoch: int, level: float | None) -> Curves:
    """Return the accuracy on training and on validation images of each epoch; `level` is that of chance in percent."""
    best = history[best_epoch - 1]
    curves = Curves(
        f"Accuracy by epoch; in epoch {best_epoch}, which is kept, {percent(best.train_top1)} % of the training images "
        f"and {percent(best.top1)} % of the validation images are right.",
        _epoch_ticks(len(history)),
        [(_y(share), f"{100 * share:.0f} %") for share in (0, 0.25, 0.5, 0.75, 1)],
        _x(best_epoch, len(history)),
        level=None if level is None else _y(level / 100),
    )
    curves.lines.append(_line("train", "training images", [each.train_top1 / 100 for each in history]))
    curves.lines.append(_line("val", "validation images", [each.top1 / 100 for each in history]))
    curves.hovers = _hovers(
        [
            f"epoch {each.number}: training {percent(each.train_top1)} %, validation {percent(each.top1)} %"
            for each in history
        ]
    )
    return curves


def _line(kind: str, name: str, shares: Sequence[float]) -> Line:
    points = [(_x(number, len(shares)), _y(share)) for number, share in enumerate(shares, 1)]
    return Line(kind, name, tuple(points))


def _hovers(tooltips: Sequence[str]) -> list[Rect]:
    """Return the area of each epoch, with its tooltip."""
    width = (RIGHT - LEFT) / len(tooltips)
    return [
        Rect("hover", LEFT + place * width, TOP, width, BOTTOM - TOP, tooltip) for place, tooltip in enumerate(tooltips)
    ]


def _epoch_ticks(epochs: int) -> list[tuple[float, int]]:
    """Return at most MAX_EPOCHS_SHOWN epochs, evenly spaced, and their positions."""
    step = ceil(epochs / MAX_EPOCHS_SHOWN)
    return [(_x(number, epochs), number) for number in range(step, epochs + 1, step)]


def _ticks(most: float) -> list[float]:
    """Return at most six numbers from 0 on, evenly spaced, of which the last is at least `most`."""
    steps = (factor * 10**power / 1000 for power in count() for factor in (1, 2, 5))
    step = next(step for step in steps if 5 * step >= most)
    return [number * step for number in range(max(1, ceil(most / step)) + 1)]


def _x(epoch: int, epochs: int) -> float:
    """Return the position of an epoch, counted from 1: the middle of its share of the axis."""
    return LEFT + (epoch - 0.5) / epochs * (RIGHT - LEFT)


def _y(share: float) -> float:
    return BOTTOM - share * (BOTTOM - TOP)

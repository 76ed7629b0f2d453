"""Counts → plots, as SVG that stands in the page itself: no picture files, sharp in print, readable by a screen reader.

Colours come from the page's style by class: bar, wrong, more, less, ideal, axis, grid.
"""

from collections.abc import Sequence

from inception_cli.results.scores import Bin

WIDTH, HEIGHT = 460, 240  # of a plot, in its own units
LEFT, RIGHT, TOP, BOTTOM = 46, 8, 12, 40  # margins for the axes


def bar(share: float) -> str:
    """One bar of a list, `share` of the width of its place (0 to 1)."""
    return f'<svg class="bar" aria-hidden="true"><rect width="{100 * share:.2f}%" height="100%"/></svg>'


def confidence(right: Sequence[int], wrong: Sequence[int]) -> str:
    """Photos by confidence, in bins of equal width from 0 to 1; those that are wrong on top of the others."""
    bins, most = len(right), max(1, *(one + other for one, other in zip(right, wrong, strict=True)))
    parts = [_grid([(share, f"{round(share * most):,}") for share in (0, 0.5, 1)]), _axis("confidence")]
    for at, (good, bad) in enumerate(zip(right, wrong, strict=True)):
        x, width = _x(at / bins) + 1, _x((at + 1) / bins) - _x(at / bins) - 2
        parts.append(_rect("bar", x, _y(good / most), width, _y(0)))
        parts.append(_rect("wrong", x, _y((good + bad) / most), width, _y(good / most)))
        told = f"{100 * at / bins:.0f} to {100 * (at + 1) / bins:.0f} %: {good + bad:,} photos"
        parts.append(_hover(x, width, told + (f", {bad:,} of them wrong" if bad else "")))
    low = sum(one + other for one, other in zip(right[: bins // 2], wrong[: bins // 2], strict=True))
    return _svg(f"Photos by confidence: {low:,} of {sum(right) + sum(wrong):,} below 50 %.", parts)


def reliability(bins: Sequence[Bin]) -> str:
    """How often predictions are right, beside how sure they are: a bar for each bin."""
    parts = [_grid([(share, f"{100 * share:.0f} %") for share in (0, 0.25, 0.5, 0.75, 1)]), _axis("confidence")]
    for each in bins:
        if each.accuracy is None or each.confidence is None:
            continue
        x, width = _x(each.low) + 1, _x(each.high) - _x(each.low) - 2
        right, sure = each.accuracy / 100, each.confidence / 100
        parts.append(_rect("bar", x, _y(min(right, sure)), width, _y(0)))
        parts.append(_rect("more" if right > sure else "less", x, _y(max(right, sure)), width, _y(min(right, sure))))
        told = f"{each.n:,} photos, {each.confidence:.1f} % sure, {each.accuracy:.1f} % right"
        parts.append(_hover(x, width, told))
    parts.append(f'<path class="ideal" d="M{_x(0):.1f} {_y(0):.1f}L{_x(1):.1f} {_y(1):.1f}"/>')
    return _svg("Accuracy by confidence; on the diagonal scores are as sure as they are right.", parts)


def _x(share: float) -> float:
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def _y(share: float) -> float:
    return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def _rect(kind: str, x: float, top: float, width: float, bottom: float) -> str:
    if bottom - top <= 0:
        return ""
    return f'<rect class="{kind}" x="{x:.1f}" y="{top:.1f}" width="{width:.1f}" height="{bottom - top:.1f}"/>'


def _hover(x: float, width: float, told: str) -> str:
    """What a pointer over the whole height of a bin is told."""
    high = HEIGHT - TOP - BOTTOM
    area = f'x="{x:.1f}" y="{TOP}" width="{width:.1f}" height="{high}"'
    return f'<rect class="hover" {area}><title>{told}</title></rect>'


def _grid(lines: Sequence[tuple[float, str]]) -> str:
    """Horizontal lines, each at a share of the height with its text."""
    return "".join(
        f'<path class="grid" d="M{LEFT} {_y(share):.1f}H{WIDTH - RIGHT}"/>'
        f'<text x="{LEFT - 7}" y="{_y(share) + 4:.1f}" text-anchor="end">{text}</text>'
        for share, text in lines
    )


def _axis(name: str) -> str:
    """The horizontal axis, 0 to 100 %."""
    ticks = "".join(
        f'<text x="{_x(tick / 100):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{tick} %</text>'
        for tick in (0, 25, 50, 75)
    )
    last = f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - BOTTOM + 16}" text-anchor="end">100 %</text>'
    named = f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{name}</text>'
    return f'<path class="axis" d="M{LEFT} {_y(0):.1f}H{WIDTH - RIGHT}"/>{ticks}{last}{named}'


def _svg(told: str, parts: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{told}">{"".join(parts)}</svg>'

"""The heat maps of a report: which photos have one, and how a map is stored in the page, which the browser draws."""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

import numpy as np
from numpy.typing import NDArray

from inception_cli.images.colour_map import VIRIDIS
from inception_cli.predictions.prediction import Prediction
from inception_cli.report.samples import Sample, Samples

MAX_PHOTOS = 500
#: Cells of a map each way at most; the 8 of 299 pixels are kept as they are, and larger maps are averaged.
MAX_CELLS = 8

Box = tuple[float, float, float, float]  # left, top, right, bottom, as shares of the sides


@dataclass(frozen=True)
class HeatMap:
    """The map of one photo: a byte for each cell, row by row, from 0 for `low` to 255 for `high`."""

    cells: bytes
    low: float  # the lowest and the highest contribution to the logit
    high: float
    visible: Box  # the part of the photo that the network sees


@dataclass(frozen=True)
class HeatMaps:
    """The maps of some photos, each of the photo's top-1 class; None for a photo without one."""

    maps: Sequence[HeatMap | None]
    edges: tuple[float, float] = (0, 1)  # between which the cells are, as shares of the visible part
    changed: int = 0  # photos that now have another score than in the run
    upright: bool = True  # False: the photos are shown as the network saw them, without their EXIF orientation


#: Returns the maps of the predictions.
Explain = Callable[[Sequence[Prediction]], HeatMaps]


def quantise(values: NDArray[np.floating], visible: Box) -> HeatMap:
    """Return the map of contributions (n, n) as the page holds it."""
    if len(values) > MAX_CELLS:
        weights = _shares(len(values), MAX_CELLS)
        values = weights @ values @ weights.T
    low, high = float(values.min()), float(values.max())
    cells = ((values - low) * (255 / (high - low or 1))).round().astype(np.uint8)
    return HeatMap(cells.tobytes(), low, high, visible)


def choose_photos(samples: Samples) -> list[Sample]:
    """Return the photos that get a map, at most MAX_PHOTOS, each once: the lists, then some of each group in turn."""
    confused = chain.from_iterable(samples.confused.values())
    gallery = chain.from_iterable(zip_longest(*samples.gallery.values()))
    found: dict[int, Sample] = {}
    for sample in chain(samples.mistakes, confused, samples.least_confident, gallery):
        if sample and len(found) < MAX_PHOTOS:
            found.setdefault(sample.number, sample)
    return [*found.values()]


def page_data(numbers: Sequence[int], heat_maps: HeatMaps) -> Mapping[str, object]:
    """Return the maps as the page's script reads them, by row number."""
    photos = {
        number: (
            base64.b64encode(each.cells).decode(),
            float(f"{each.low:.3g}"),
            float(f"{each.high:.3g}"),
            [round(share, 4) for share in each.visible],
        )
        for number, each in zip(numbers, heat_maps.maps, strict=True)
        if each
    }
    return {"edges": [round(edge, 4) for edge in heat_maps.edges], "colours": VIRIDIS, "photos": photos}


def _shares(source: int, target: int) -> NDArray[np.float64]:
    """Return the weights (target, source) that average a line of cells to fewer ones."""
    width = source / target
    starts, cells = np.arange(target)[:, None] * width, np.arange(source)
    overlap: NDArray[np.float64] = np.minimum(starts + width, cells + 1) - np.maximum(starts, cells)
    return overlap.clip(0) / width

"""A perceptually uniform colour map: equal steps of a value look equal, also in grey and to the colour-blind."""

import numpy as np
from numpy.typing import NDArray

#: Viridis at 0, 1/8, … 1 (Stéfan van der Walt and Nathaniel Smith, 2015, public domain by CC0).
VIRIDIS = ("#440154", "#472d7b", "#3b528b", "#2c728e", "#21908c", "#27ad81", "#5dc863", "#aadc32", "#fde725")


def colours(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Return the colours, uint8 (…, 3), of values from 0 to 1 (…)."""
    stops = np.array([list(bytes.fromhex(colour[1:])) for colour in VIRIDIS], np.float64)
    places = np.linspace(0, 1, len(stops))
    return np.stack([np.interp(values, places, channel) for channel in stops.T], -1).round().astype(np.uint8)

"""Class activation maps: how much each place of a photo contributes to the logit of a class.

Inception V3 ends with an average over the last grid and one matrix, so the order of the two can be exchanged: the row
of the matrix that belongs to a class, times the features at each cell of the grid, is a map whose average plus the bias
is the logit. Zhou et al., 2016, arXiv:1512.04150.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from inception_cli.network.fusion import cast, fold_all
from inception_cli.network.model import InceptionV3, require_min_side

#: Where cells of the last grid are in the input: the centre of the first one in pixels from the left or top edge, and
#: the distance between two. The convolutions without padding leave out half a kernel at each edge.
FIRST_CENTRE, CELL = 37.5, 32


def network_for_maps(network: InceptionV3, mean: Sequence[float], std: Sequence[float], device: str) -> InceptionV3:
    """Return a network in fp32 on a device that takes pixels 0…255 (N, 3, S, S); `mean` and `std` are the preset's."""
    torch.backends.cudnn.allow_tf32 = False  # on by default: convolutions would round fp32 to 10 bits
    return cast(fold_all(network, mean, std), device, torch.float32)


@torch.inference_mode()
def last_grid(network: InceptionV3, pixels: Tensor) -> Tensor:
    """Return the features (N, 2048, H, W) of the pixels (N, 3, S, S) before the last average."""
    require_min_side(pixels)
    features = pixels.to(network.fc.weight.dtype, memory_format=torch.channels_last)
    for _, stage in network.stages():
        features = stage(features)
    return features


@torch.inference_mode()
def class_maps(network: InceptionV3, features: Tensor, classes: Tensor) -> Tensor:
    """Return the map (N, H, W) of one class for each photo, from its features (N, 2048, H, W); `classes` are (N,).

    The average of a map plus the bias of its class is its logit. There are 8 x 8 cells for 299 pixels, and other
    numbers for other sides; `cell_edges` returns where they are.
    """
    return torch.einsum("nc,nchw->nhw", network.fc.weight[classes], features)


def cell_edges(cells: int, side: int) -> tuple[float, float]:
    """Return where the cells of a map begin and end, as shares of the side of the input in pixels.

    For 299 pixels the 8 cells cover the middle 256: beyond them the network still looks, but no cell has its centre.
    """
    first = FIRST_CENTRE - CELL / 2
    return first / side, (first + cells * CELL) / side

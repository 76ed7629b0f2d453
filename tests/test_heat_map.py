"""Class activation maps: equal to torchvision's network, in the right place, and exact at any input size."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from lively import lively, lively_state_dict, pictures, scaled
from PIL import Image
from torch import Tensor, nn

from inception_cli.config import PRESETS, PixelConfig
from inception_cli.images.decode import Failure, read
from inception_cli.images.preprocess import views, visible_box
from inception_cli.network.heat_map import CELL, FIRST_CENTRE, cell_edges, class_maps, last_grid, network_for_maps
from inception_cli.network.model import InceptionV3, network_without_values

HALF = (0.5, 0.5, 0.5)
SIDES = {75: 1, 176: 4, 299: 8, 331: 9}  # cells of the map by the side of the input


@pytest.fixture(scope="module")
def network() -> InceptionV3:
    return network_for_maps(lively(), HALF, HALF, "cpu")


@pytest.fixture(scope="module")
def theirs() -> nn.Module:
    """Return torchvision's network with the same weights."""
    network: nn.Module = torchvision.models.inception_v3(
        weights=None, aux_logits=False, init_weights=False, transform_input=False
    )
    network.load_state_dict(lively_state_dict())
    return network.eval()


def require_equal(network: InceptionV3, theirs: nn.Module, pixels: Tensor) -> int:
    """Assert that map and logits are torchvision's, and that the map's average plus the bias is the logit.

    Returns the best class of the pixels (1, 3, S, S), which the map is of.
    """
    grids = list[Tensor]()
    hook = theirs.get_submodule("avgpool").register_forward_pre_hook(lambda module, inputs: grids.append(inputs[0]))
    with torch.inference_mode():
        logits = theirs(scaled(pixels))
        best = logits.argmax(1)
        weight = theirs.get_parameter("fc.weight")[best]
        expected = (weight[:, :, None, None] * grids[0]).sum(1)
        features = last_grid(network, pixels)
        actual, ours = class_maps(network, features, best), network.forward_head(features)
        added = actual.mean((1, 2)) + network.fc.bias[best]
    hook.remove()

    cells = SIDES[pixels.shape[-1]]
    assert actual.shape == (1, cells, cells)
    assert actual.sub(expected).abs().max() < 1e-3
    assert ours.sub(logits).abs().max() < 1e-4
    assert added.sub(logits[0, best]).abs().max() < 1e-4
    return int(best)


def test_the_average_of_a_map_and_the_bias_are_the_logit_of_torchvision(
    network: InceptionV3, theirs: nn.Module
) -> None:
    photos = [pictures(1, seed, side) for seed, side in enumerate(SIDES)]

    best = [require_equal(network, theirs, pixels) for pixels in photos]

    assert len(set(best)) >= len(photos) / 3


@pytest.mark.parametrize("name", ["fc.weight", "Mixed_7c.branch1x1.bn.bias", "Conv2d_1a_3x3.conv.weight"])
def test_one_changed_weight_makes_another_map(network: InceptionV3, theirs: nn.Module, name: str) -> None:
    pixels = pictures(1, 0, 75)
    best = require_equal(network, theirs, pixels)
    strongest = int(last_grid(network, pixels)[0, :320].sum((1, 2)).argmax())  # feature of branch1x1
    place = {"fc.weight": (best, strongest), "Mixed_7c.branch1x1.bn.bias": (strongest,)}
    tensors = lively_state_dict()
    tensors[name][place.get(name, (0, 0, 0, 0))] += 0.5
    other = network_without_values(1000)
    other.load_state_dict(tensors, assign=True)

    with pytest.raises(AssertionError, match="abs"):
        require_equal(network_for_maps(other, HALF, HALF, "cpu"), theirs, pixels)


def test_cells_are_where_the_layers_put_them() -> None:
    """Follow the centre of the first output through every layer that has a stride or no padding."""
    layers = network_without_values(10)
    names = [f"{name}.conv" for name in ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3")]
    names += ["maxpool1", "Conv2d_3b_1x1.conv", "Conv2d_4a_3x3.conv", "maxpool2"]
    names += ["Mixed_6a.branch_pool", "Mixed_7a.branch_pool"]
    centre, distance = 0.5, 1
    for name in names:
        layer = layers.get_submodule(name)
        kernel, stride, padding = (np.max(getattr(layer, each)) for each in ("kernel_size", "stride", "padding"))
        centre += distance * ((kernel - 1) / 2 - padding)
        distance *= stride

    assert (centre, distance) == (FIRST_CENTRE, CELL) == (37.5, 32)
    assert cell_edges(8, 299) == pytest.approx((21.5 / 299, 1 - 21.5 / 299))


def test_a_spot_changes_the_cell_that_is_said_to_be_there() -> None:
    """Every layer averages here: what a cell sees is symmetric around its centre."""
    averages = network_without_values(10).to_empty(device="cpu")
    for name, tensor in averages.state_dict().items():
        channels = tensor[0].numel() if tensor.dim() else 1
        tensor.fill_(1 / channels if "conv" in name else float(name.endswith(("bn.weight", "var"))))
    cells = [(1, 2), (3, 1)]  # at the edge the zeros of the padding weaken what a cell sees
    pixels = torch.zeros(len(cells), 3, 203, 203)  # 5 cells each way
    for image, (row, column) in zip(pixels, cells, strict=True):
        y, x = (int(FIRST_CENTRE) + CELL * place for place in (row, column))
        image[:, y - 12 : y + 13, x - 12 : x + 13] = 1

    highest = last_grid(averages, pixels).sum(1).flatten(1).argmax(1)

    assert [divmod(place, 5) for place in highest.tolist()] == cells


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("shape", [(640, 480), (300, 1100), (97, 80), (1400, 900)])
def test_the_visible_box_is_what_the_view_shows(name: str, shape: tuple[int, int], tmp_path: Path) -> None:
    """Colours that are coordinates: red is the place from left to right, green that from top to bottom."""
    preset, (width, height) = PRESETS[name], shape
    across, down = np.meshgrid(np.linspace(0, 250, width), np.linspace(0, 250, height))
    file = tmp_path / "ramp.jpg"
    Image.fromarray(np.stack([across, down, 0 * down], -1).astype(np.uint8)).save(file, quality=98, subsampling=0)
    config = PixelConfig(preset, decode="fast")
    image = read(str(file), config)
    assert not isinstance(image, Failure)

    left, top, right, bottom = visible_box(image, preset)

    view = views(image, config)[0].astype(float)
    middle = preset.size // 2
    seen = [view[middle, 2, 0], view[2, middle, 1], view[middle, -3, 0], view[-3, middle, 1]]
    inset_x, inset_y = 2.5 / preset.size * (right - left), 2.5 / preset.size * (bottom - top)
    expected = [left + inset_x, top + inset_y, right - inset_x, bottom - inset_y]
    assert seen == pytest.approx([250 * share for share in expected], abs=3)

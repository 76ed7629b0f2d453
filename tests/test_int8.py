"""The network in int8: integers worked out by hand, ranges, and the number of convolutions that are quantised."""

import pytest
import torch
import torch.nn.functional as F
from lively import lively, pictures, scaled
from torch import Tensor, nn

from inception_cli.config import Plan
from inception_cli.errors import InceptionError, UsageError
from inception_cli.network import fusion, int8
from inception_cli.network.fusion import StemInGroups, fold_all, optimize, require_precision
from inception_cli.network.int8 import Int8Conv, RescaledMaxPool, find_ranges, layer_names, quantize
from inception_cli.network.model import InceptionV3

HALF = (0.5,) * 3
needs_int8 = pytest.mark.skipif(not int8.available(), reason="this processor multiplies no uint8 by int8")


def integers(*shape: int, seed: int = 0) -> Tensor:
    values = torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed))
    return values.to(torch.uint8).to(memory_format=torch.channels_last)


@pytest.fixture(scope="module")
def network() -> InceptionV3:
    return lively()


@pytest.fixture(scope="module")
def pixels() -> Tensor:
    """Drawn pictures, uint8 (24, 3, 160, 160)."""
    return pictures(24, seed=3, side=160)


@pytest.fixture(scope="module")
def ranges(network: InceptionV3) -> dict[str, float]:
    return find_ranges(fold_all(network, HALF, HALF), [pictures(8, seed=4, side=160)])


@needs_int8
@pytest.mark.parametrize(("channels", "stride"), [(16, 1), (16, 2), (320, 2)])
def test_a_convolution_computes_what_its_integers_say(channels: int, stride: int) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(8, channels, 3, stride, padding=1)
    quantised, x = Int8Conv(conv, x_scale=0.02, y_scale=0.01), integers(2, 8, 9, 9)

    with torch.inference_mode():
        actual = quantised(x)

    weight = quantised.weight.double() * quantised.scales.double().view(-1, 1, 1, 1)
    assert quantised.weight.abs().max() == 127
    assert (weight - conv.weight).abs().max() <= 0.51 * quantised.scales.max()
    assert conv.bias is not None
    exact = F.conv2d(x.double() * 0.02, weight, conv.bias.double(), stride, padding=1).relu() / 0.01
    expected = exact.round().clamp(max=255)
    assert actual.dtype == torch.uint8
    assert len(set(expected.flatten().tolist())) > 100
    assert (actual.double() - expected).abs().max() <= 1  # halves may round either way
    assert (actual.double() == expected).double().mean() > 0.99


@needs_int8
def test_a_convolution_is_complete_for_a_thread_that_calls_it_while_another_packs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    conv, x = Int8Conv(nn.Conv2d(8, 320, 3, 2), 0.02, 0.01), integers(1, 8, 9, 9)
    pack = torch.ops.onednn.qconv_prepack
    shapes: list[torch.Size] = []

    def pack_and_call(*arguments: object) -> Tensor:
        monkeypatch.setattr(torch.ops.onednn, "qconv_prepack", pack if shapes else pack_and_call)
        shapes.append(arguments[0].shape)  # type: ignore[attr-defined]
        if len(shapes) == 2:
            shapes.append(conv(x).shape)  # as another thread would, when the first part of two is packed
        return pack(*arguments)  # type: ignore[no-any-return]

    monkeypatch.setattr(torch.ops.onednn, "qconv_prepack", pack_and_call)
    with torch.inference_mode():
        conv(x)

    assert shapes == [(160, 8, 3, 3), (160, 8, 3, 3), (1, 320, 4, 4)]


@needs_int8
def test_average_pooling_is_that_of_the_published_network() -> None:
    x = integers(2, 16, 7, 7)

    actual = int8._average(16, 0.5, 0.5)(x)

    expected = F.avg_pool2d(x.float(), 3, stride=1, padding=1)
    assert (actual.float() - expected).abs().max() <= 0.51


def test_max_pooling_rescales_its_result() -> None:
    x = integers(2, 16, 9, 9)

    actual = RescaledMaxPool(0.4)(x)

    assert torch.equal(actual, (F.max_pool2d(x.float(), 3, 2) * 0.4).round().to(torch.uint8))


@needs_int8
def test_every_convolution_is_quantised(network: InceptionV3, ranges: dict[str, float]) -> None:
    layers = [*quantize(fold_all(network, HALF, HALF), ranges).modules()]

    assert sum(isinstance(layer, Int8Conv) for layer in layers) == 94 + 9  # the paper's, and the average poolings
    assert not any(isinstance(layer, nn.Conv2d | nn.AvgPool2d | nn.MaxPool2d) for layer in layers)
    assert set(ranges) == set(layer_names())


@needs_int8
def test_int8_predicts_the_classes_of_fp32(network: InceptionV3, pixels: Tensor, ranges: dict[str, float]) -> None:
    with torch.inference_mode():
        expected = network(scaled(pixels))
        actual = optimize(network, HALF, HALF, Plan(precision="int8"), ranges)(pixels)
        wrong_preset = optimize(network, (0.485, 0.456, 0.406), HALF, Plan(precision="int8"), ranges)(pixels)

    assert len(set(expected.argmax(1).tolist())) >= len(pixels) / 3
    error = (actual - expected).norm() / expected.norm()
    assert error < 0.2  # random weights have many features that nearly cancel; trained ones have a tenth of it
    assert (actual.argmax(1) == expected.argmax(1)).float().mean() >= 0.7
    assert (wrong_preset.argmax(1) == expected.argmax(1)).float().mean() < 0.5
    assert (wrong_preset - expected).norm() / expected.norm() > 2 * error


@needs_int8
def test_int8_has_the_features_of_fp32(network: InceptionV3, pixels: Tensor, ranges: dict[str, float]) -> None:
    outputs: list[Tensor] = []
    layers = (network.Mixed_6a, network.avgpool)
    hooks = [layer.register_forward_hook(lambda layer, inputs, output: outputs.append(output)) for layer in layers]
    with torch.inference_mode():
        network(scaled(pixels[:4]))
    for hook in hooks:
        hook.remove()
    with torch.inference_mode():
        _, *found = optimize(network, HALF, HALF, Plan(precision="int8"), ranges, True, True)(pixels[:4])

    grid, pooled = outputs
    statistics = torch.cat([grid.mean((2, 3)), grid.std((2, 3), correction=0)], 1)
    for actual, expected in zip(found, (pooled.flatten(1), statistics), strict=True):
        assert actual.dtype == torch.float32
        assert (actual - expected).norm() / expected.norm() < 0.1


@needs_int8
def test_the_input_is_not_changed(network: InceptionV3, ranges: dict[str, float]) -> None:
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    optimize(network, HALF, HALF, Plan(precision="int8"), ranges)(pictures(1, side=75))

    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_a_range_is_not_widened_by_a_single_photo(network: InceptionV3) -> None:
    folded = fold_all(network, HALF, HALF).requires_grad_(False)
    photos = torch.zeros(3, 3, 75, 75)
    photos[1], photos[2] = 100, 10_000  # the last one as no photo is

    ranges = find_ranges(folded, [photos[:2], photos[2:]])

    first = F.relu(folded.Conv2d_1a_3x3.conv(photos)).flatten(1).amax(1)
    assert ranges["Conv2d_1a_3x3"] == pytest.approx(1.5 * float(first.median()))
    assert float(first.max()) > 20 * float(first.median())


@pytest.mark.parametrize("precision", ["fp32", pytest.param("int8", marks=needs_int8)])
def test_the_stem_in_groups_gives_equal_logits(
    precision: str, network: InceptionV3, pixels: Tensor, ranges: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    def logits(group: int) -> Tensor:
        monkeypatch.setattr(StemInGroups, "GROUP", group)
        optimized = optimize(network, HALF, HALF, Plan(precision=precision), ranges)  # type: ignore[arg-type]
        assert isinstance(optimized, StemInGroups)
        with torch.inference_mode():
            return optimized(pixels[:5])  # type: ignore[no-any-return]

    in_groups, whole = logits(2), logits(5)

    assert (in_groups - whole).norm() <= 1e-5 * whole.norm()


@pytest.mark.parametrize(
    ("plan", "error", "message"),
    [
        (Plan("cuda:0", "int8"), UsageError, "not on cuda:0; use the device cpu"),
        (Plan("cpu", "int8", compile=True), UsageError, "is not compiled; leave it out"),
    ],
)
def test_int8_is_for_processors_and_not_compiled(plan: Plan, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        require_precision(plan)


def test_a_processor_without_int8_instructions_is_refused(
    network: InceptionV3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8, "int8_instructions", lambda: "")
    int8.available.cache_clear()
    try:
        with pytest.raises(InceptionError, match="neither VNNI nor AMX instructions; use bf16 or fp32"):
            require_precision(Plan(precision="int8"))
        with pytest.raises(InceptionError, match="neither VNNI nor AMX"):  # in an actor of a cluster of other machines
            optimize(network, HALF, HALF, Plan(precision="int8"), dict.fromkeys(layer_names(), 1.0))
    finally:
        int8.available.cache_clear()


@needs_int8
def test_int8_without_ranges_is_refused(network: InceptionV3) -> None:
    with pytest.raises(UsageError, match="must be calibrated first"):
        fusion.optimize(network, HALF, HALF, Plan(precision="int8"))

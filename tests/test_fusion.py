"""Every rewriting of the network, alone and together: equal logits, and an unchanged input."""

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torchvision
from lively import lively, lively_state_dict, pictures, scaled
from torch import Tensor, nn

from inception_cli.config import Plan, Precision
from inception_cli.errors import InceptionError, UsageError
from inception_cli.network import onednn
from inception_cli.network.fusion import (
    AvgPoolThenBias,
    WithFeatures,
    cast,
    channel_statistics,
    drop_auxiliary,
    fold_batch_norm,
    fold_scaling,
    merge_1x1_convs,
    optimize,
    pool_after_conv,
    require_precision,
)
from inception_cli.network.model import InceptionV3

#: A preset whose channels differ, so that a mix-up of channels changes the logits.
MEAN, STD = (0.5, 0.45, 0.55), (0.5, 0.55, 0.45)
HALF = (0.5,) * 3, (0.5,) * 3


def distance(actual: Tensor, expected: Tensor) -> float:
    return float((actual - expected).norm() / expected.norm())


def count_layers(network: nn.Module, kind: type[nn.Module]) -> int:
    return sum(isinstance(layer, kind) for layer in network.modules())


@pytest.fixture(scope="module")
def network() -> InceptionV3:
    return lively(aux=True)


@pytest.fixture(scope="module")
def pixels() -> Tensor:
    """Three drawn pictures and one of noise, uint8 (4, 3, 171, 171)."""
    noise = torch.randint(0, 256, (1, 3, 171, 171), generator=torch.Generator().manual_seed(0))
    return torch.cat([pictures(3, seed=3, side=171), noise.to(torch.uint8)])


@pytest.fixture(scope="module")
def expected(network: InceptionV3, pixels: Tensor) -> Tensor:
    """The logits of the network before any rewriting; varied, or no test here could fail."""
    with torch.inference_mode():
        logits: Tensor = network(scaled(pixels, MEAN, STD))
    assert len(set(logits.argmax(1).tolist())) >= len(pixels) / 3
    return logits


def merge_then_pool_last(network: InceptionV3) -> InceptionV3:
    return pool_after_conv(merge_1x1_convs(network))


def pool_last_then_merge(network: InceptionV3) -> InceptionV3:
    return merge_1x1_convs(pool_after_conv(network))


def channels_last(network: InceptionV3) -> InceptionV3:
    return cast(network, "cpu", torch.float32)


def bf16(network: InceptionV3) -> InceptionV3:
    return cast(network, "cpu", torch.bfloat16)


def optimize_in_bf16(network: InceptionV3) -> nn.Module:
    return optimize(network, MEAN, STD, Plan(precision="bf16"))


Rewriting = Callable[[InceptionV3], nn.Module]
SINGLE = [drop_auxiliary, fold_batch_norm, pool_after_conv, merge_1x1_convs, channels_last]


@pytest.mark.parametrize("rewrite", [*SINGLE, merge_then_pool_last, pool_last_then_merge])
def test_each_rewriting_leaves_the_logits_equal(
    rewrite: Rewriting, network: InceptionV3, pixels: Tensor, expected: Tensor
) -> None:
    with torch.inference_mode():
        actual = rewrite(network)(scaled(pixels, MEAN, STD))

    assert distance(actual, expected) <= 1e-5


def test_folding_the_scaling_leaves_the_logits_equal(network: InceptionV3, pixels: Tensor, expected: Tensor) -> None:
    with torch.inference_mode():
        actual = fold_scaling(network, MEAN, STD)(pixels.float())

    assert distance(actual, expected) <= 1e-5


@pytest.fixture(params=["with the oneDNN operators of this processor", "without oneDNN operators"])
def onednn_operators(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a test with the operators that this processor has, and with none."""
    if request.param.startswith("without"):
        monkeypatch.setattr(onednn, "available", lambda dtype=torch.float32: False)


@pytest.mark.usefixtures("onednn_operators")
@pytest.mark.parametrize(
    ("precision", "bound"), [("fp32", 1e-5), pytest.param("fp16", 0.02, marks=pytest.mark.slow), ("bf16", 0.1)]
)
def test_all_rewritings_together_leave_the_logits_equal(
    precision: Precision, bound: float, network: InceptionV3, pixels: Tensor, expected: Tensor
) -> None:
    with torch.inference_mode():
        actual = optimize(network, MEAN, STD, Plan(precision=precision))(pixels)

    assert actual.dtype == torch.float32
    assert distance(actual, expected) <= bound


def test_wrong_preset_changes_the_classes(network: InceptionV3, pixels: Tensor, expected: Tensor) -> None:
    imagenet_scaling = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

    with torch.inference_mode():
        wrong_preset = optimize(network, *imagenet_scaling, Plan())(pixels)

    assert (wrong_preset.argmax(1) != expected.argmax(1)).sum() >= len(pixels) / 3


def test_every_rewriting_changes_the_layers(network: InceptionV3) -> None:
    assert count_layers(fold_batch_norm(network), nn.BatchNorm2d) == 0
    assert count_layers(pool_after_conv(network), AvgPoolThenBias) == 9

    # Of the 94 convolutions, three become one in each block of type A, C and E, and two become one in that of type D.
    assert count_layers(merge_1x1_convs(drop_auxiliary(network)), nn.Conv2d) == 94 - 9 * 2 - 1

    fast = optimize(network, MEAN, STD, Plan(precision="bf16"))

    convolutions = [layer for layer in fast.modules() if isinstance(layer, nn.Conv2d | onednn.FusedConv)]
    assert len(convolutions) == 94 - 9 * 2 - 1
    assert {layer.weight.dtype for layer in convolutions} == {torch.bfloat16}


@pytest.mark.skipif(not onednn.available(), reason="oneDNN's operators need an x86 processor")
def test_onednn_replaces_every_convolution_and_max_pooling(network: InceptionV3) -> None:
    fast = optimize(network, MEAN, STD, Plan())

    assert count_layers(fast, nn.Conv2d) == 0
    assert count_layers(fast, nn.ReLU) == 9  # of the pool branches, which average before their ReLU
    assert count_layers(fast, onednn.MaxPool) == 4


@pytest.mark.skipif(not onednn.available(), reason="oneDNN's operators need an x86 processor")
def test_packed_weights_do_not_depend_on_the_size_of_the_first_batch(network: InceptionV3, pixels: Tensor) -> None:
    """A resumed run may start with the last batch, which is short."""
    first, second = (optimize(network, MEAN, STD, Plan()) for _ in range(2))

    with torch.inference_mode():
        first(pixels[:1])
        assert torch.equal(first(pixels), second(pixels))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("side", [17, 35, 36])
def test_max_pooling_as_integers_equals_max_pooling_as_floats(side: int, dtype: torch.dtype) -> None:
    x = torch.randn(2, 8, side, side, generator=torch.Generator().manual_seed(side)).relu().to(dtype)
    x[0, 0, 0, 0] = torch.inf
    x = x.to(memory_format=torch.channels_last)

    assert torch.equal(onednn.MaxPool()(x), nn.MaxPool2d(3, stride=2)(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_operators_that_fail_in_a_precision_are_not_available(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> Tensor:
        raise RuntimeError(f"{dtype} path needs the cpu support avx_ne_convert or avx512_fp16")

    monkeypatch.setattr(torch.ops.mkldnn, "_reorder_convolution_weight", refuse)
    onednn.available.cache_clear()

    assert not onednn.available(dtype)
    monkeypatch.undo()
    onednn.available.cache_clear()


def test_processor_without_a_precision_raises_one_line_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Tensor:
        raise RuntimeError("\"slow_conv2d_cpu\" not implemented for 'Half'")

    monkeypatch.setattr(nn.Conv2d, "forward", refuse)

    with pytest.raises(InceptionError, match=r"^precision fp16: .*; use bf16 or fp32$"):
        require_precision(Plan(precision="fp16"))


@pytest.mark.parametrize("rewrite", [*SINGLE, bf16, optimize_in_bf16])
def test_rewriting_does_not_change_its_input(rewrite: Rewriting, network: InceptionV3) -> None:
    network = copy.deepcopy(network).train()
    before = copy.deepcopy(network)

    rewrite(network)

    assert str(before) == str(network)
    assert before.training == network.training
    for old, new in zip(before.state_dict().values(), network.state_dict().values(), strict=True):
        assert torch.equal(old, new)
        assert old.stride() == new.stride()


def test_shift_of_the_folded_scaling_cancels_the_rounded_weights(network: InceptionV3) -> None:
    """An image of the preset's mean is scaled to zeros, so the convolution returns its bias, however it is rounded."""
    image = (255 * torch.tensor(MEAN)).view(1, 3, 1, 1).expand(1, 3, 3, 3)
    expected = fold_batch_norm(network).Conv2d_1a_3x3.conv.bias
    conv = fold_scaling(network, MEAN, STD, torch.bfloat16).Conv2d_1a_3x3.conv

    with torch.inference_mode():
        actual = conv(image).flatten()

    assert torch.equal(conv.weight, conv.weight.bfloat16().float())
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-4, check_stride=False)


def test_equal_pixels_of_any_dtype_and_layout_give_identical_logits(network: InceptionV3, pixels: Tensor) -> None:
    fast, pixels = optimize(network, MEAN, STD, Plan()), pixels[:2]
    channels_last = pixels.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)

    with torch.inference_mode():
        first, *others = (fast(variant) for variant in (pixels, pixels, channels_last, pixels.float()))

    assert all(torch.equal(first, other) for other in others)


@pytest.mark.parametrize(("plan", "choices"), [({"precision": "int4"}, "bf16"), ({"device": "toaster"}, "cuda:N")])
def test_invalid_plan_raises_with_the_valid_choices(plan: dict[str, str], choices: str) -> None:
    with pytest.raises(UsageError, match=choices):
        Plan(**plan)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # warnings of torch's compiler
def test_compiled_network_has_equal_logits(network: InceptionV3, pixels: Tensor, expected: Tensor) -> None:
    with torch.inference_mode():
        actual = optimize(network, MEAN, STD, Plan(compile=True))(pixels)

    assert distance(actual, expected) <= 1e-5


@pytest.mark.gpu
def test_gpu_has_equal_logits(network: InceptionV3, pixels: Tensor, expected: Tensor) -> None:
    with torch.inference_mode():
        actual = optimize(network, MEAN, STD, Plan(device="cuda"))(pixels.cuda())

    assert distance(actual.cpu(), expected) <= 1e-5


def torchvision_features(pixels: Tensor) -> tuple[Tensor, ...]:
    """Return features of torchvision's own network, for pixels 0…255 (N, 3, S, S).

    They are the pooled ones (N, 2048), and the mean and standard deviation (N, 1536) of the channels of the outputs of
    Mixed_6a and Mixed_6b, by numpy.
    """
    network = torchvision.models.inception_v3(weights=None, init_weights=False, aux_logits=False).eval()
    network.load_state_dict(lively_state_dict())
    outputs: list[Tensor] = []
    for layer in (network.avgpool, network.Mixed_6a, network.Mixed_6b):
        layer.register_forward_hook(lambda layer, inputs, output: outputs.append(output))
    with torch.inference_mode():
        network(scaled(pixels))
    *grids, pooled = (each.double().numpy() for each in outputs)  # in the order in which they are computed
    statistics = [np.concatenate([grid.mean((2, 3)), grid.std((2, 3))], 1) for grid in grids]
    return tuple(torch.from_numpy(each).float() for each in (pooled[:, :, 0, 0], *statistics))


def relative_difference(actual: Tensor, expected: Tensor) -> float:
    """Return the largest distance between two feature vectors, as a share of their length."""
    return float(((actual - expected).norm(dim=1) / expected.norm(dim=1)).max())


@pytest.mark.usefixtures("onednn_operators")
def test_features_of_both_kinds_equal_those_of_torchvision() -> None:
    pixels = pictures(2, side=107)

    with torch.inference_mode():
        logits = optimize(lively(), *HALF, Plan())(pixels)
        actual, *features = optimize(lively(), *HALF, Plan(), features=True, middle_features=True)(pixels)

    assert torch.equal(actual, logits)
    *expected, of_next_stage = torchvision_features(pixels)
    assert [each.shape for each in features] == [(2, 2048), (2, 1536)]
    for found, right in zip(features, expected, strict=True):
        assert found.dtype == torch.float32
        assert relative_difference(found, right) < 1e-5
        assert relative_difference(right[:1], right[1:]) > 1e-2  # another picture has others
    assert relative_difference(features[1], of_next_stage) > 0.1


@pytest.mark.parametrize("wanted", [(True, False), (False, True)])
def test_features_of_one_kind_are_returned_alone(wanted: tuple[bool, bool]) -> None:
    pixels = pictures(1, side=75)

    with torch.inference_mode():
        both = optimize(lively(), *HALF, Plan(), None, True, True)(pixels)
        logits, *features = optimize(lively(), *HALF, Plan(), None, *wanted)(pixels)

    expected = [each for each, is_wanted in zip(both[1:], wanted, strict=True) if is_wanted]
    for actual, same in zip([logits, *features], [both[0], *expected], strict=True):
        assert torch.equal(actual, same)


def test_middle_features_in_bf16_are_computed_in_fp32() -> None:
    pixels = pictures(2, side=107)

    with torch.inference_mode():
        _, found = optimize(lively(), *HALF, Plan(precision="bf16"), middle_features=True)(pixels)

    _, expected, _ = torchvision_features(pixels)
    assert found.dtype == torch.float32
    assert relative_difference(found, expected) < 0.03
    assert not torch.equal(found, found.bfloat16().float())


def test_channel_statistics_equal_those_worked_out_by_hand() -> None:
    x = torch.tensor([[[[0.0, 2], [4, 6]], [[300, 300], [300, 300]]]])  # mean 3, variance (9 + 1 + 1 + 9) / 4

    for dtype in (torch.float32, torch.bfloat16):
        assert channel_statistics(x.to(dtype)).tolist() == [[3, 300, pytest.approx(5**0.5), 0]]


def test_images_that_are_too_small_are_refused_with_features_too() -> None:
    with pytest.raises(ValueError, match="at least 75 pixels"):
        WithFeatures(lively(), True, True, 1)(torch.zeros(1, 3, 74, 75))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # warnings of torch's compiler
@pytest.mark.parametrize("plan", [Plan(), Plan(compile=True)], ids=["onednn", "compiled"])
def test_features_of_every_network_that_runs_equal_those_of_torchvision(plan: Plan) -> None:
    pixels = pictures(4)

    with torch.inference_mode():
        _, *features = optimize(lively(), *HALF, plan, features=True, middle_features=True)(pixels)

    for found, expected in zip(features, torchvision_features(pixels)[:2], strict=True):
        assert relative_difference(found, expected) < 1e-5

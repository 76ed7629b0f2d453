"""Counts of parameters and MACs: the published ones, and those of torch's own counter."""

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from inception_cli.network.counting import Counts, Stage, count, output_shape
from inception_cli.network.model import InceptionV3

# fmt: off
STAGES = (
    Stage("Conv2d_1a_3x3", (32, 149, 149),       928,  19_181_664),
    Stage("Conv2d_2a_3x3", (32, 147, 147),     9_280, 199_148_544),
    Stage("Conv2d_2b_3x3", (64, 147, 147),    18_560, 398_297_088),
    Stage("maxpool1",      (64, 73, 73),           0,           0),
    Stage("Conv2d_3b_1x1", (80, 73, 73),       5_280,  27_284_480),
    Stage("Conv2d_4a_3x3", (192, 71, 71),    138_624, 696_867_840),
    Stage("maxpool2",      (192, 35, 35),          0,           0),
    Stage("Mixed_5b",      (256, 35, 35),    255_904, 312_345_600),
    Stage("Mixed_5c",      (288, 35, 35),    277_472, 338_688_000),
    Stage("Mixed_5d",      (288, 35, 35),    285_152, 348_096_000),
    Stage("Mixed_6a",      (768, 17, 17),  1_153_280, 401_937_408),
    Stage("Mixed_6b",      (768, 17, 17),  1_297_408, 374_063_104),
    Stage("Mixed_6c",      (768, 17, 17),  1_691_008, 487_702_528),
    Stage("Mixed_6d",      (768, 17, 17),  1_691_008, 487_702_528),
    Stage("Mixed_6e",      (768, 17, 17),  2_141_952, 617_914_368),
    Stage("Mixed_7a",      (1280, 8, 8),   1_698_304, 291_004_416),
    Stage("Mixed_7b",      (2048, 8, 8),   5_044_608, 322_437_120),
    Stage("Mixed_7c",      (2048, 8, 8),   6_076_800, 388_497_408),
    Stage("avgpool",       (2048, 1, 1),           0,           0),
    Stage("fc",            (1000,),        2_049_000,   2_048_000),
)
# fmt: on


@pytest.fixture(scope="module")
def counts() -> Counts:
    return count()


def test_stages_equal_those_of_the_published_network(counts: Counts) -> None:
    assert counts.stages == STAGES


def test_totals_equal_the_published_ones(counts: Counts) -> None:
    assert counts.params == 23_834_568
    assert counts.params_aux == 27_161_264
    assert counts.macs == 5_713_216_096
    assert counts.flops == 11_426_432_192
    assert counts.mmpretrain_count == 5_745_177_632


def test_stages_sum_to_the_totals(counts: Counts) -> None:
    assert sum(stage.params for stage in counts.stages) == counts.params
    assert sum(stage.macs for stage in counts.stages) == counts.macs


def test_flops_of_each_stage_equal_those_of_torchs_flop_counter(counts: Counts) -> None:
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        InceptionV3().eval()(torch.zeros(1, 3, 299, 299))
    flops = {name: sum(by_operator.values()) for name, by_operator in counter.get_flop_counts().items()}

    assert counter.get_total_flops() == counts.flops
    assert [flops.get(f"InceptionV3.{stage.name}", 0) for stage in counts.stages] == [
        2 * stage.macs for stage in counts.stages
    ]


@pytest.mark.parametrize(
    ("side", "macs"), [(75, 203_525_728), (224, 2_837_921_120), (342, 7_283_565_952), (512, 17_521_856_864)]
)
def test_macs_depend_on_the_input_resolution(side: int, macs: int) -> None:
    assert count(side=side).macs == macs


def test_only_the_classifier_depends_on_the_number_of_classes(counts: Counts) -> None:
    ten = count(num_classes=10)

    assert ten.stages[-1] == Stage("fc", (10,), 20_490, 20_480)
    assert counts.stages[:-1] == ten.stages[:-1]


@pytest.mark.parametrize("side", [75, 142])
def test_shapes_of_all_layers_equal_those_of_a_forward_pass(side: int) -> None:
    network, shapes = InceptionV3(3).eval(), {}

    def compare(layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        shapes[layer] = output_shape(layer, inputs[0].shape), tuple(output.shape)

    for layer in network.modules():
        if not any(layer.children()):
            layer.register_forward_hook(compare)
    with torch.inference_mode():
        network(torch.zeros(1, 3, side, side))

    assert len(shapes) == 94 * 3 + 4 + 9 + 3  # ConvBNs; max and average poolings; avgpool, dropout and fc
    assert all(actual == expected for actual, expected in shapes.values())


def test_nothing_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nn.functional, "conv2d", None)

    assert count.__wrapped__(7, 299).macs == 5_713_216_096 - 993 * 2048

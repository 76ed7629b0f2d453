"""Parameters, multiply-accumulates (MACs) and output shapes of Inception V3, read off the network itself."""

from collections import Counter
from dataclasses import dataclass
from functools import cache, partial

import torch
from torch import Tensor, nn

from inception_cli.network.model import TRUNK, InceptionV3


@dataclass(frozen=True)
class Stage:
    """One line of the network's table; `shape` is that of its output for one image, without N."""

    name: str
    shape: tuple[int, ...]
    params: int
    macs: int


@dataclass(frozen=True)
class Counts:
    """The network's table and its totals, for one image; only `params_aux` includes the auxiliary classifier."""

    stages: tuple[Stage, ...]
    params: int
    params_aux: int
    macs: int
    flops: int
    mmpretrain_count: int


@cache
def count(num_classes: int = 1000, side: int = 299) -> Counts:
    """Run one black image of `side` pixels through a network of zeros, and count what each layer does."""
    with torch.device("meta"):
        network = InceptionV3(num_classes, aux=True).eval()
    # A run on "meta" would do, but for that torch imports its compiler: 1.7 s instead of 0.2 s.
    zeros = {name: torch.zeros(tensor.shape) for name, tensor in network.state_dict().items()}
    network.load_state_dict(zeros, assign=True)
    shapes: dict[str, tuple[int, ...]] = {}
    macs: Counter[str] = Counter()
    mmpretrain: Counter[str] = Counter()

    def record(name: str, layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        stage = name.split(".")[0]
        shapes[name] = tuple(output.shape[1:])
        macs[stage] += macs_of(layer, output)
        mmpretrain[stage] += mmpretrain_count_of(layer, inputs[0], output)

    for name, layer in network.named_modules():
        if name:
            layer.register_forward_hook(partial(record, name))
    with torch.inference_mode():
        network(torch.zeros(1, 3, side, side))
    stages = tuple(
        Stage(name, shapes[name], params_of(network.get_submodule(name)), macs[name])
        for name in (*TRUNK, "avgpool", "fc")
    )
    return Counts(
        stages=stages,
        params=sum(stage.params for stage in stages),
        params_aux=params_of(network),
        macs=macs.total(),
        flops=2 * macs.total(),
        mmpretrain_count=mmpretrain.total(),
    )


def params_of(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def macs_of(layer: nn.Module, output: Tensor) -> int:
    """The multiply-accumulates of one layer: those of convolutions and of the classifier, biases left out."""
    if isinstance(layer, nn.Conv2d | nn.Linear):
        return output.numel() * layer.weight[0].numel()
    return 0


def mmpretrain_count_of(layer: nn.Module, x: Tensor, output: Tensor) -> int:
    """What mmpretrain's table counts for one layer: MACs, and elements where there are none (mmcv 1.x, ptflops)."""
    match layer:
        case nn.BatchNorm2d():
            return 2 * x.numel()
        case nn.ReLU():
            return output.numel()
        case nn.MaxPool2d() | nn.AvgPool2d() | nn.AdaptiveAvgPool2d():
            return x.numel()
        case _:
            return macs_of(layer, output)

"""Count the parameters and multiply-accumulates (MACs) of Inception V3, stage by stage, from its layers' shapes."""

from collections import Counter
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from inception_cli.network.model import TRUNK, network_without_values


@dataclass(frozen=True)
class Stage:
    """One stage of the network; `shape` is its output shape for one image, without N."""

    name: str
    shape: tuple[int, ...]
    params: int
    macs: int


@dataclass(frozen=True)
class Counts:
    """The stages and totals of the network for one image; only `params_aux` includes the auxiliary classifier."""

    stages: tuple[Stage, ...]
    params: int
    params_aux: int
    macs: int
    flops: int
    mmpretrain_count: int


@cache
def count(num_classes: int = 1000, side: int = 299) -> Counts:
    """Return the counts for an image of `side` x `side` pixels; no layer computes anything."""
    network = network_without_values(num_classes, aux=True)
    shapes: dict[str, tuple[int, ...]] = {}
    macs: Counter[str] = Counter()
    mmpretrain: Counter[str] = Counter()

    def record(name: str, layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        stage = name.split(".")[0]
        shapes[name] = tuple(output.shape[1:])
        macs[stage] += count_macs(layer, output)
        mmpretrain[stage] += count_as_mmpretrain(layer, inputs[0], output)

    for name, layer in network.named_modules():
        if name:
            layer.register_forward_hook(partial(record, name))
        if not any(layer.children()):
            # Running on "meta" instead would make torch import its compiler, which takes a second.
            setattr(layer, "forward", partial(skip_computing, layer))  # noqa: B010 - mypy refuses the assignment
    with torch.inference_mode():
        network(torch.zeros(1, 3, side, side))
    stages = tuple(
        Stage(name, shapes[name], count_params(network.get_submodule(name)), macs[name])
        for name in (*TRUNK, "avgpool", "fc")
    )
    return Counts(
        stages=stages,
        params=sum(stage.params for stage in stages),
        params_aux=count_params(network),
        macs=macs.total(),
        flops=2 * macs.total(),
        mmpretrain_count=mmpretrain.total(),
    )


def skip_computing(layer: nn.Module, x: Tensor) -> Tensor:
    """Return a tensor of the shape that a layer without sublayers returns for `x`; its values take no memory."""
    return x.new_empty(1).expand(output_shape(layer, x.shape))


def output_shape(layer: nn.Module, shape: torch.Size) -> tuple[int, ...]:
    """Return the shape that a layer without sublayers returns for an input of this shape."""
    n, channels, *sides = shape
    match layer:
        case nn.Conv2d() | nn.MaxPool2d() | nn.AvgPool2d():
            geometry = zip(sides, _pair(layer.kernel_size), _pair(layer.stride), _pair(layer.padding), strict=True)
            sides = [(side + 2 * padding - kernel) // stride + 1 for side, kernel, stride, padding in geometry]
            return n, getattr(layer, "out_channels", channels), *sides
        case nn.AdaptiveAvgPool2d():
            return n, channels, 1, 1
        case nn.Linear():
            return n, layer.out_features
        case _:  # batch norm, ReLU and dropout
            return tuple(shape)


def _pair(value: Any) -> tuple[int, int]:
    """Return the height and width that a layer has as one number or as two."""
    return value if isinstance(value, tuple) else (value, value)


def count_params(module: nn.Module) -> int:
    """Return the number of parameters of a module."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_macs(layer: nn.Module, output: Tensor) -> int:
    """Return the multiply-accumulates of a convolution or linear layer without its bias, and 0 for other layers."""
    if isinstance(layer, nn.Conv2d | nn.Linear):
        return output.numel() * layer.weight[0].numel()
    return 0


def count_as_mmpretrain(layer: nn.Module, x: Tensor, output: Tensor) -> int:
    """Return mmpretrain's count for one layer: MACs, or elements where there are none (as mmcv 1.x and ptflops do)."""
    match layer:
        case nn.BatchNorm2d():
            return 2 * x.numel()
        case nn.ReLU():
            return output.numel()
        case nn.MaxPool2d() | nn.AvgPool2d() | nn.AdaptiveAvgPool2d():
            return x.numel()
        case _:
            return count_macs(layer, output)

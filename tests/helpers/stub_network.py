"""A small network in place of Inception V3, for tests in which the logits do not matter: a run takes no second.

The weights `stub` have ten classes and 75 × 75 pixels. Different photos get different classes.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from records import run_config
from torch import Tensor, nn

from inception_cli.config import Classes, Plan, Weights
from inception_cli.inference import multi_gpu, predictor, resolve, runner
from inception_cli.network import counting, fusion
from inception_cli.network.counting import Counts
from inception_cli.network.model import InceptionV3
from inception_cli.weights import load

NAME = "stub"
#: Modules that a fork server imports once, for all its processes. Before Python 3.13.1 it finds no helpers of tests.
PRELOAD = [
    *("pytest", "inception_cli.inference.runner", "inception_cli.cli.commands", "inception_cli.cli.console"),
    "inception_cli.storage.file_store",
]
WEIGHTS = replace(run_config().weights[0], name=NAME, file=NAME, source=NAME)

_serve = multi_gpu._serve


class StubNetwork(nn.Module):
    """Ten logits from the colours of 16 tiles."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(4)
        weight = torch.randn(10, 48, generator=torch.Generator().manual_seed(1)) / 40
        self.weight = nn.Parameter(weight - weight.mean(1, keepdim=True))  # the brightness does not matter

    def forward(self, pixels: Tensor) -> Tensor:
        tiles: Tensor = self.pool(pixels.float()).flatten(1)
        return (tiles - tiles.mean(1, keepdim=True)) @ self.weight.T


def find_weights(name: str, preset: str | None, classes: Classes | None, *arguments: Any) -> Weights:
    if name != NAME:
        return load.find_weights(name, preset, classes, *arguments)
    return replace(WEIGHTS, classes=classes) if classes else WEIGHTS


def load_network(weights: Weights) -> nn.Module:
    return StubNetwork().eval() if weights.name == NAME else load.load_network(weights)


def optimize(network: nn.Module, mean: Sequence[float], std: Sequence[float], plan: Plan) -> nn.Module:
    return fusion.optimize(network, mean, std, plan) if isinstance(network, InceptionV3) else network.to(plan.device)


def count(num_classes: int, side: int) -> Counts:
    stub = (num_classes, side) == (len(WEIGHTS.classes), WEIGHTS.preset.size)
    return Counts((), 480, 480, 480, 960, 480) if stub else counting.count(num_classes, side)


def install(patch: pytest.MonkeyPatch) -> None:
    """Let `-w stub` name the stub in this process, and in the processes of several GPUs."""
    patch.setattr(resolve, "find_weights", find_weights)
    patch.setattr(predictor, "load_network", load_network)
    patch.setattr(predictor, "optimize", optimize)
    patch.setattr(runner, "count", count)
    patch.setattr(multi_gpu, "_serve", serve)


def serve(*arguments: Any) -> None:
    """Serve batches as `multi_gpu` does, with the stub, in a new process."""
    install(pytest.MonkeyPatch())
    _serve(*arguments)

"""A small network in place of Inception V3, for tests in which the logits do not matter: a run takes no second.

The weights `stub` have ten classes and 75 × 75 pixels, `stub-imagenet` those of torchvision's weights: 1000 classes
and 299 × 299 pixels. Different photos get different classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from records import run_config
from torch import Tensor, nn

from inception_cli.config import FEATURES, MIDDLE_FEATURES, PRESETS, Classes, Plan, Weights
from inception_cli.inference import explain, multi_gpu, predictor, resolve, runner
from inception_cli.network import counting, fusion, heat_map
from inception_cli.network.counting import Counts
from inception_cli.network.familiarity import Familiarity, fit
from inception_cli.network.model import InceptionV3
from inception_cli.predictions.classes import imagenet
from inception_cli.weights import load

NAME, IMAGENET = "stub", "stub-imagenet"
#: Modules that a fork server imports once, for all its processes. Before Python 3.13.1 it finds no helpers of tests.
PRELOAD = [
    *("pytest", "inception_cli.inference.runner", "inception_cli.cli.commands", "inception_cli.cli.console"),
    *("inception_cli.storage.file_store", "pyarrow.parquet"),
]
WEIGHTS = replace(run_config().weights[0], name=NAME, file=NAME, source=NAME)
STUBS = {
    NAME: WEIGHTS,
    IMAGENET: replace(WEIGHTS, name=IMAGENET, file=IMAGENET, preset=PRESETS["torchvision"], classes=imagenet()),
}

_serve = multi_gpu._serve


class StubNetwork(nn.Module):
    """Logits from the colours of 16 tiles; beside them features of the kinds asked for, which the colours are too."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(4)
        self.returns = (False, False)  # the features, the middle features
        weight = torch.randn(classes, 48, generator=torch.Generator().manual_seed(1)) / 40
        self.weight = nn.Parameter(weight - weight.mean(1, keepdim=True))  # the brightness does not matter

    def forward(self, pixels: Tensor) -> Tensor | tuple[Tensor, ...]:
        tiles: Tensor = self.pool(pixels.float()).flatten(1)
        logits = (tiles - tiles.mean(1, keepdim=True)) @ self.weight.T
        features = zip((self.features, self.middle_features), self.returns, strict=True)
        return (logits, *(each(pixels) for each, wanted in features if wanted)) if any(self.returns) else logits

    def features(self, pixels: Tensor) -> Tensor:
        """Return the colours of the tiles and zeros behind them (N, 2048)."""
        return F.pad(self.pool(pixels.float()).flatten(1), (0, FEATURES - 48))

    def middle_features(self, pixels: Tensor) -> Tensor:
        """Return the colours of the tiles in the negative, and zeros behind them (N, 1536)."""
        return F.pad(255 - self.pool(pixels.float()).flatten(1), (0, MIDDLE_FEATURES - 48))


def find_weights(
    name: str, preset: str | None = None, classes: Classes | None = None, *arguments: Any, **named: Any
) -> Weights:
    if name not in STUBS:
        return load.find_weights(name, preset, classes, *arguments, **named)
    weights = replace(STUBS[name], classes=classes) if classes else STUBS[name]
    return replace(weights, preset=PRESETS[preset]) if preset else weights


def load_network(weights: Weights) -> nn.Module:
    return StubNetwork(len(weights.classes)).eval() if weights.name in STUBS else load.load_network(weights)


class StubForMaps(nn.Module):
    """The stub as Inception V3 ends: a 4 × 4 grid of features, whose average is what the stub's logits are made of."""

    def __init__(self, stub: StubNetwork) -> None:
        super().__init__()
        self.fc = nn.Linear(48, len(stub.weight))
        self.fc.weight, self.fc.bias = stub.weight, nn.Parameter(torch.zeros(len(stub.weight)))

    def stages(self) -> list[tuple[str, nn.Module]]:
        return [("tiles", nn.AdaptiveAvgPool2d(4)), ("features", _Spread())]

    def forward_head(self, features: Tensor) -> Tensor:
        logits: Tensor = self.fc(features.mean((2, 3)))
        return logits


class _Spread(nn.Module):
    """Tiles (N, 3, 4, 4) → features (N, 48, 4, 4): each is at its own tile alone."""

    def forward(self, tiles: Tensor) -> Tensor:
        colours = tiles.flatten(2) - tiles.flatten(1).mean(1)[:, None, None]
        return 16 * torch.diag_embed(colours).reshape(len(tiles), 48, 4, 4)


def network_for_maps(network: nn.Module, mean: Sequence[float], std: Sequence[float], device: str) -> nn.Module:
    if isinstance(network, InceptionV3):
        return heat_map.network_for_maps(network, mean, std, device)
    assert isinstance(network, StubNetwork)
    return StubForMaps(network).to(device)


class StubFamiliarity(Familiarity):
    """Statistics of the colours, without the zeros behind them."""

    def distances(self, features: Tensor) -> Tensor:
        return super().distances(features[:, : self.means.shape[1]])


@cache
def familiarity(weights: Weights) -> Familiarity:
    """Return the statistics of made-up training photos: random colours."""
    if weights.name not in STUBS:
        return load.load_familiarity(weights)
    colours = 255 * torch.rand(200, 48, generator=torch.Generator().manual_seed(2))
    return StubFamiliarity(**vars(fit(colours, torch.arange(200) // 20, len(weights.classes))))


def optimize(
    network: nn.Module,
    mean: Sequence[float],
    std: Sequence[float],
    plan: Plan,
    ranges: Mapping[str, float] | None = None,
    features: bool = False,
    middle_features: bool = False,
) -> nn.Module:
    if isinstance(network, InceptionV3):
        return fusion.optimize(network, mean, std, plan, ranges, features, middle_features)
    if isinstance(network, StubNetwork):
        network.returns = features, middle_features
    return network.to(plan.device)


def count(num_classes: int, side: int) -> Counts:
    stub = (num_classes, side) == (len(WEIGHTS.classes), WEIGHTS.preset.size)
    return Counts((), 480, 480, 480, 960, 480) if stub else counting.count(num_classes, side)


def install(patch: pytest.MonkeyPatch) -> None:
    """Let `-w stub` name the stub in this process, and in the processes of several GPUs."""
    patch.setattr(resolve, "find_weights", find_weights)
    patch.setattr(predictor, "load_network", load_network)
    patch.setattr(predictor, "optimize", optimize)
    patch.setattr(predictor, "load_familiarity", familiarity)
    patch.setattr(resolve, "load_familiarity", familiarity)
    patch.setattr(runner, "count", count)
    patch.setattr(explain, "find_weights", find_weights)
    patch.setattr(explain, "load_network", load_network)
    patch.setattr(explain, "network_for_maps", network_for_maps)
    patch.setattr(multi_gpu, "_serve", serve)


def serve(*arguments: Any) -> None:
    """Serve batches as `multi_gpu` does, with the stub, in a new process."""
    install(pytest.MonkeyPatch())
    _serve(*arguments)

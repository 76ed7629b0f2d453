"""A made-up checkpoint that is lively: different pictures get different classes.

Freshly initialised weights give every picture the same class, and then no test of equality can fail. Here batch norm
has the statistics of a few pictures, and the weights of the classifier are scaled so that the classes differ.
"""

from functools import cache

import torch
from torch import Tensor, nn

from inception_cli.network.model import InceptionV3, network_without_values


def lively(num_classes: int = 1000, aux: bool = False, seed: int = 0) -> InceptionV3:
    """Return a lively network in eval mode, for pixels scaled to [-1, 1]."""
    network = network_without_values(num_classes, aux)
    network.load_state_dict(lively_state_dict(num_classes, aux, seed), assign=True)
    return network.eval()


def lively_state_dict(num_classes: int = 1000, aux: bool = False, seed: int = 0) -> dict[str, Tensor]:
    """Return the tensors of a lively network, copied for the caller."""
    calibrated, features = calibrate(seed)
    tensors = {name: tensor.clone() for name, tensor in calibrated.items() if aux or not name.startswith("AuxLogits")}
    generator = torch.Generator().manual_seed(seed)
    for name in ("fc", "AuxLogits.fc") if aux else ("fc",):
        x = features[name]
        weight = 2 * torch.randn(num_classes, x.shape[1], generator=generator) / x.shape[1] ** 0.5 / x.std(0).mean()
        tensors |= {f"{name}.weight": weight, f"{name}.bias": -weight @ x.mean(0)}
    return tensors


@cache
def calibrate(seed: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return tensors with batch norm statistics of 12 pictures, and the inputs (12, features) of each classifier."""
    network = InceptionV3(aux=True, dropout=0.0).initialise(seed)
    generator = torch.Generator().manual_seed(seed)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None  # the running statistics become those of the single batch below
            # Shifts above 0 keep most ReLUs positive; otherwise a random network amplifies rounding errors.
            nn.init.uniform_(layer.weight, 0.5, 1.5, generator)
            nn.init.uniform_(layer.bias, 0.5, 1.5, generator)
    features: dict[str, Tensor] = {}

    def record(layer: nn.Module, inputs: tuple[Tensor]) -> None:
        features["fc" if layer is network.fc else "AuxLogits.fc"] = inputs[0]

    for classifier in (network.fc, network.get_submodule("AuxLogits.fc")):
        classifier.register_forward_pre_hook(record)
    with torch.no_grad():
        network.forward_train(scaled(pictures(12, seed, side=160)))
    return network.state_dict(), features


def scaled(
    pixels: Tensor, mean: tuple[float, ...] = (0.5, 0.5, 0.5), std: tuple[float, ...] = (0.5, 0.5, 0.5)
) -> Tensor:
    """Return pixels 0…255 (N, 3, S, S) scaled for a network."""
    return (pixels / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


def pictures(n: int, seed: int = 0, side: int = 299) -> Tensor:
    """Return varied pictures, uint8 (N, 3, S, S)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([picture(generator, side) for _ in range(n)])


def picture(generator: torch.Generator, side: int) -> Tensor:
    """Return coloured waves, a disc and noise, uint8 (3, S, S)."""

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    x = torch.linspace(-1, 1, side)
    y = x[:, None]
    frequency, angle, phase = 2 ** (7 * rand(10, 1, 1)), 6.28 * rand(10, 1, 1), 6.28 * rand(10, 1, 1)
    waves = torch.cos(frequency * (angle.cos() * x + angle.sin() * y) + phase) / frequency ** (0.3 + rand(1))
    image = rand(3, 1, 1) + 2 * rand(1) * torch.einsum("kc,kyx->cyx", rand(10, 3) - 0.5, waves)
    left, top, radius = rand(3)
    disc = (x - 2 * left + 1) ** 2 + (y - 2 * top + 1) ** 2 < radius**2
    image = torch.where(disc, rand(3, 1, 1) + 0.3 * (image - 0.5), image)
    noise = rand(1) ** 2 * torch.randn(3, side, side, generator=generator)
    return (255 * image + 128 * noise).clamp(0, 255).to(torch.uint8)

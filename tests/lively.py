"""A made-up checkpoint that is lively: other pixels, another class.

Fresh weights give every picture the same class, and then no test of equality can fail. Here batch norm has seen a few
pictures, and the classifier is stretched to tell them apart.
"""

from functools import cache

import torch
from torch import Tensor, nn

from inception_cli.network.model import InceptionV3


def lively(num_classes: int = 1000, aux: bool = False, seed: int = 0) -> InceptionV3:
    """A lively network in eval mode, for pixels scaled to [-1, 1]."""
    with torch.device("meta"):
        network = InceptionV3(num_classes, aux)
    network.load_state_dict(lively_state_dict(num_classes, aux, seed), assign=True)
    return network.eval()


def lively_state_dict(num_classes: int = 1000, aux: bool = False, seed: int = 0) -> dict[str, Tensor]:
    """The tensors of a lively network; the caller may change them."""
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
    """Tensors whose batch norm has seen 12 pictures, and what each classifier reads of those, (12, features)."""
    network = InceptionV3(aux=True, dropout=0.0).initialise(seed)
    generator = torch.Generator().manual_seed(seed)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None  # what the one batch below leaves behind is then its own statistics
            # Shifts above 0 keep most ReLUs open: others make a random network chaotic, and rounding errors grow.
            nn.init.uniform_(layer.weight, 0.5, 1.5, generator)
            nn.init.uniform_(layer.bias, 0.5, 1.5, generator)
    features: dict[str, Tensor] = {}

    def keep(layer: nn.Module, inputs: tuple[Tensor]) -> None:
        features["fc" if layer is network.fc else "AuxLogits.fc"] = inputs[0]

    for classifier in (network.fc, network.get_submodule("AuxLogits.fc")):
        classifier.register_forward_pre_hook(keep)
    with torch.no_grad():
        network.forward_train(scaled(pictures(12, seed, side=224)))
    return network.state_dict(), features


def scaled(
    pixels: Tensor, mean: tuple[float, ...] = (0.5, 0.5, 0.5), std: tuple[float, ...] = (0.5, 0.5, 0.5)
) -> Tensor:
    """Pixels 0…255 (N, 3, S, S) as a network eats them."""
    return (pixels / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


def pictures(n: int, seed: int = 0, side: int = 299) -> Tensor:
    """Varied pictures, uint8 (N, 3, S, S)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([picture(generator, side) for _ in range(n)])


def picture(generator: torch.Generator, side: int) -> Tensor:
    """Coloured waves of any length, a disc and grain, uint8 (3, S, S)."""

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    x = torch.linspace(-1, 1, side)
    y = x[:, None]
    pitch, turn, phase = 2 ** (7 * rand(10, 1, 1)), 6.28 * rand(10, 1, 1), 6.28 * rand(10, 1, 1)
    waves = torch.cos(pitch * (turn.cos() * x + turn.sin() * y) + phase) / pitch ** (0.3 + rand(1))
    image = rand(3, 1, 1) + 2 * rand(1) * torch.einsum("kc,kyx->cyx", rand(10, 3) - 0.5, waves)
    left, top, radius = rand(3)
    disc = (x - 2 * left + 1) ** 2 + (y - 2 * top + 1) ** 2 < radius**2
    image = torch.where(disc, rand(3, 1, 1) + 0.3 * (image - 0.5), image)
    grain = rand(1) ** 2 * torch.randn(3, side, side, generator=generator)
    return (255 * image + 128 * grain).clamp(0, 255).to(torch.uint8)

"""Inception V3 (Szegedy et al., 2015, arXiv:1512.00567).

The layers have torchvision's names, so torchvision's state dict loads unchanged. As in every public implementation, the
layers between the first two poolings differ from table 1 of the paper. Shapes are for images of 299 x 299 pixels.
"""

from collections.abc import Callable
from functools import cache
from typing import ClassVar, Self, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inception_cli.config import MIN_SIDE

M = TypeVar("M", bound=nn.Module)

# fmt: off
#: Names of the stages from pixels to features, in order.
TRUNK = (
    "Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "maxpool1",
    "Conv2d_3b_1x1", "Conv2d_4a_3x3", "maxpool2",
    "Mixed_5b", "Mixed_5c", "Mixed_5d",
    "Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e",
    "Mixed_7a", "Mixed_7b", "Mixed_7c",
)
# fmt: on
#: The stage whose output the middle features describe.
MIDDLE = "Mixed_6a"


class ConvBN(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: int | tuple[int, int],
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride, padding, bias=False)
        self.bn: nn.Module = nn.BatchNorm2d(c_out, eps=1e-3)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.relu(self.bn(self.conv(x)))
        return y


class PoolConvBN(ConvBN):
    """3x3 average pooling, then a 1x1 ConvBN."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__(c_in, c_out, 1)
        self.pool = nn.AvgPool2d(3, stride=1, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.pool(x))


class Mixed(nn.Module):
    """Parallel branches, concatenated along the channels.

    The first layer of each branch runs apart from the rest, so that `fusion` can merge first layers that are 1x1.
    """

    #: Name of the first layer of each branch.
    first_layers: ClassVar[tuple[str, ...]]
    branch_pool: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        return self.finish_branches([getattr(self, name)(x) for name in self.first_layers])

    def finish_branches(self, branches: list[Tensor]) -> Tensor:
        """Run the remaining layers of each branch on the output of its first layer, and concatenate the results."""
        raise NotImplementedError


class InceptionA(Mixed):
    """35x35 grid, figure 5: 1x1 | 5x5 | two 3x3 | average pool."""

    first_layers = ("branch1x1", "branch5x5_1", "branch3x3dbl_1", "branch_pool")

    def __init__(self, c_in: int, pool: int) -> None:
        super().__init__()
        self.branch1x1 = ConvBN(c_in, 64, 1)
        self.branch5x5_1 = ConvBN(c_in, 48, 1)
        self.branch5x5_2 = ConvBN(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = ConvBN(c_in, 64, 1)
        self.branch3x3dbl_2 = ConvBN(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = ConvBN(96, 96, 3, padding=1)
        self.branch_pool = PoolConvBN(c_in, pool)

    def finish_branches(self, branches: list[Tensor]) -> Tensor:
        one, five, three, pool = branches
        five = self.branch5x5_2(five)
        three = self.branch3x3dbl_3(self.branch3x3dbl_2(three))
        return torch.cat([one, five, three, pool], 1)


class InceptionB(Mixed):
    """35x35 to 17x17, figure 10: 3x3 | two 3x3 | max pool, each branch with stride 2."""

    first_layers = ("branch3x3", "branch3x3dbl_1", "branch_pool")

    def __init__(self, c_in: int) -> None:
        super().__init__()
        self.branch3x3 = ConvBN(c_in, 384, 3, stride=2)
        self.branch3x3dbl_1 = ConvBN(c_in, 64, 1)
        self.branch3x3dbl_2 = ConvBN(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = ConvBN(96, 96, 3, stride=2)
        self.branch_pool = nn.MaxPool2d(3, stride=2)

    def finish_branches(self, branches: list[Tensor]) -> Tensor:
        single, double, pool = branches
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(double))
        return torch.cat([single, double, pool], 1)


class InceptionC(Mixed):
    """17x17 grid, figure 6 with n = 7: 1x1 | 7x7 | two 7x7 | average pool; a 7x7 is a 1x7 and a 7x1."""

    first_layers = ("branch1x1", "branch7x7_1", "branch7x7dbl_1", "branch_pool")

    def __init__(self, c_in: int, c7: int) -> None:
        super().__init__()
        self.branch1x1 = ConvBN(c_in, 192, 1)
        self.branch7x7_1 = ConvBN(c_in, c7, 1)
        self.branch7x7_2 = ConvBN(c7, c7, (1, 7), padding=(0, 3))
        self.branch7x7_3 = ConvBN(c7, 192, (7, 1), padding=(3, 0))
        self.branch7x7dbl_1 = ConvBN(c_in, c7, 1)
        self.branch7x7dbl_2 = ConvBN(c7, c7, (7, 1), padding=(3, 0))
        self.branch7x7dbl_3 = ConvBN(c7, c7, (1, 7), padding=(0, 3))
        self.branch7x7dbl_4 = ConvBN(c7, c7, (7, 1), padding=(3, 0))
        self.branch7x7dbl_5 = ConvBN(c7, 192, (1, 7), padding=(0, 3))
        self.branch_pool = PoolConvBN(c_in, 192)

    def finish_branches(self, branches: list[Tensor]) -> Tensor:
        one, single, double, pool = branches
        single = self.branch7x7_3(self.branch7x7_2(single))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(double))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([one, single, double, pool], 1)


class InceptionD(Mixed):
    """17x17 to 8x8: 3x3 | 7x7 and 3x3 | max pool, each branch with stride 2."""

    first_layers = ("branch3x3_1", "branch7x7x3_1", "branch_pool")

    def __init__(self, c_in: int) -> None:
        super().__init__()
        self.branch3x3_1 = ConvBN(c_in, 192, 1)
        self.branch3x3_2 = ConvBN(192, 320, 3, stride=2)
        self.branch7x7x3_1 = ConvBN(c_in, 192, 1)
        self.branch7x7x3_2 = ConvBN(192, 192, (1, 7), padding=(0, 3))
        self.branch7x7x3_3 = ConvBN(192, 192, (7, 1), padding=(3, 0))
        self.branch7x7x3_4 = ConvBN(192, 192, 3, stride=2)
        self.branch_pool = nn.MaxPool2d(3, stride=2)

    def finish_branches(self, branches: list[Tensor]) -> Tensor:
        three, seven, pool = branches
        three = self.branch3x3_2(three)
        seven = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(seven)))
        return torch.cat([three, seven, pool], 1)


class InceptionE(Mixed):
    """8x8 grid, figure 7: 1x1 | 3x3 | two 3x3 | average pool; the last 3x3 is a 1x3 beside a 3x1."""

    first_layers = ("branch1x1", "branch3x3_1", "branch3x3dbl_1", "branch_pool")

    def __init__(self, c_in: int) -> None:
        super().__init__()
        self.branch1x1 = ConvBN(c_in, 320, 1)
        self.branch3x3_1 = ConvBN(c_in, 384, 1)
        self.branch3x3_2a = ConvBN(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3_2b = ConvBN(384, 384, (3, 1), padding=(1, 0))
        self.branch3x3dbl_1 = ConvBN(c_in, 448, 1)
        self.branch3x3dbl_2 = ConvBN(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = ConvBN(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3dbl_3b = ConvBN(384, 384, (3, 1), padding=(1, 0))
        self.branch_pool = PoolConvBN(c_in, 192)

    def finish_branches(self, branches: list[Tensor]) -> Tensor:
        one, single, double, pool = branches
        double = self.branch3x3dbl_2(double)
        single_outputs = [self.branch3x3_2a(single), self.branch3x3_2b(single)]
        double_outputs = [self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double)]
        return torch.cat([one, *single_outputs, *double_outputs, pool], 1)


class AuxiliaryClassifier(nn.Module):
    """The auxiliary classifier on the last 17x17 grid, used in training only; figure 8."""

    def __init__(self, c_in: int, num_classes: int) -> None:
        super().__init__()
        self.conv0 = ConvBN(c_in, 128, 1)
        self.conv1 = ConvBN(128, 768, 5)
        self.fc = nn.Linear(768, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        # On a grid smaller than 17x17 the published pooling would leave less than the 5x5 that conv1 needs.
        x = F.adaptive_avg_pool2d(x, 5) if min(x.shape[-2:]) < 17 else F.avg_pool2d(x, 5, stride=3)  # (N, 768, 5, 5)
        x = self.conv1(self.conv0(x))  # (N, 768, 1, 1)
        logits: Tensor = self.fc(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))
        return logits


class InceptionV3(nn.Module):
    """Inception V3: pixels (N, 3, S, S), scaled by the mean and std of the weights' preset → logits (N, C)."""

    # fmt: off
    def __init__(self, num_classes: int = 1000, aux: bool = False, dropout: float = 0.5) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = ConvBN(3, 32, 3, stride=2)                          # (N,   32, 149, 149)
        self.Conv2d_2a_3x3 = ConvBN(32, 32, 3)                                   # (N,   32, 147, 147)
        self.Conv2d_2b_3x3 = ConvBN(32, 64, 3, padding=1)                        # (N,   64, 147, 147)
        self.maxpool1 = nn.MaxPool2d(3, stride=2)                                # (N,   64,  73,  73)
        self.Conv2d_3b_1x1 = ConvBN(64, 80, 1)                                   # (N,   80,  73,  73)
        self.Conv2d_4a_3x3 = ConvBN(80, 192, 3)                                  # (N,  192,  71,  71)
        self.maxpool2 = nn.MaxPool2d(3, stride=2)                                # (N,  192,  35,  35)
        self.Mixed_5b = InceptionA(192, pool=32)                                 # (N,  256,  35,  35)
        self.Mixed_5c = InceptionA(256, pool=64)                                 # (N,  288,  35,  35)
        self.Mixed_5d = InceptionA(288, pool=64)                                 # (N,  288,  35,  35)
        self.Mixed_6a = InceptionB(288)                                          # (N,  768,  17,  17)
        self.Mixed_6b = InceptionC(768, c7=128)                                  # (N,  768,  17,  17)
        self.Mixed_6c = InceptionC(768, c7=160)                                  # (N,  768,  17,  17)
        self.Mixed_6d = InceptionC(768, c7=160)                                  # (N,  768,  17,  17)
        self.Mixed_6e = InceptionC(768, c7=192)                                  # (N,  768,  17,  17)
        self.AuxLogits = AuxiliaryClassifier(768, num_classes) if aux else None  # (N,    C)
        self.Mixed_7a = InceptionD(768)                                          # (N, 1280,   8,   8)
        self.Mixed_7b = InceptionE(1280)                                         # (N, 2048,   8,   8)
        self.Mixed_7c = InceptionE(2048)                                         # (N, 2048,   8,   8)
        self.avgpool = nn.AdaptiveAvgPool2d(1)                                   # (N, 2048,   1,   1)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(2048, num_classes)                                   # (N,    C)
    # fmt: on

    def stages(self) -> list[tuple[str, nn.Module]]:
        """Return the stages from pixels to features, by name and in order."""
        return [(name, getattr(self, name)) for name in TRUNK]

    def forward(self, x: Tensor) -> Tensor:
        require_min_side(x)
        return self.forward_from(0, x)

    def forward_from(self, position: int, x: Tensor) -> Tensor:
        """Return the logits (N, C) of the input of the stage at this position in TRUNK."""
        for _, stage in self.stages()[position:]:
            x = stage(x)
        return self.forward_head(x)

    def forward_train(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits and the auxiliary logits of a training batch, both (N, C)."""
        if self.AuxLogits is None:
            raise ValueError("there is no auxiliary classifier: build the network with aux=True")
        require_min_side(x)
        for name, stage in self.stages():
            x = stage(x)
            if name == "Mixed_6e":
                aux_logits: Tensor = self.AuxLogits(x)
        return self.forward_head(x), aux_logits

    def forward_head(self, x: Tensor) -> Tensor:
        """Return the logits (N, C) of features (N, 2048, H, W)."""
        logits: Tensor = self.fc(self.dropout(self.pool(x)))
        return logits

    def pool(self, x: Tensor) -> Tensor:
        """Return the features (N, 2048) that the classifier reads: the average of x (N, 2048, H, W) over its grid."""
        return torch.flatten(self.avgpool(x), 1)

    def initialise(self, seed: int) -> Self:
        """Initialise the weights for training: He et al.'s for convolutions, std 0.01 for classifiers; return self."""
        generator = torch.Generator().manual_seed(seed)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu", generator=generator)
            elif isinstance(layer, nn.BatchNorm2d):
                layer.reset_parameters()
            elif isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.01, generator=generator)
                nn.init.zeros_(layer.bias)
        return self


def network_without_values(num_classes: int, aux: bool = False) -> InceptionV3:
    """Return a network in eval mode that has shapes only, for `load_state_dict(…, assign=True)`."""
    network = copy_modules(_modules_without_values())
    with torch.device("meta"):
        network.fc = nn.Linear(2048, num_classes)
        network.AuxLogits = AuxiliaryClassifier(768, num_classes) if aux else None
    return network.eval()


@cache
def _modules_without_values() -> InceptionV3:
    """Return the network that `network_without_values` copies: making its modules takes five times as long."""
    with torch.device("meta"), torch.inference_mode(False):  # else no later network could be trained
        return InceptionV3(aux=True)


def copy_modules(module: M) -> M:
    """Return a copy of a module and its submodules, whose parameters and buffers share the values of the original's.

    Replacing or converting a tensor of the copy leaves the original as it is. Thirty times as fast as `copy.deepcopy`.
    """
    copied = object.__new__(type(module))
    for name, value in vars(module).items():
        vars(copied)[name] = value.copy() if isinstance(value, dict) else value  # dicts of hooks, submodules, ...
    for name, parameter in copied._parameters.items():
        if parameter is not None:
            copied._parameters[name] = nn.Parameter(parameter.detach(), parameter.requires_grad)
    for name, child in copied._modules.items():
        if child is not None:
            copied._modules[name] = copy_modules(child)
    return copied


def replace_layers(network: M, replacement: Callable[[nn.Module], nn.Module]) -> M:
    """Return a copy of a network in which `replacement(layer)` stands for each of its layers, at any depth."""
    network = copy_modules(network)
    for module in [*network.modules()]:
        for name, layer in [*module.named_children()]:
            setattr(module, name, replacement(layer))
    return network


def require_min_side(x: Tensor) -> None:
    """Raise ValueError when images (N, 3, H, W) have fewer than MIN_SIDE pixels on a side."""
    if min(x.shape[-2:]) < MIN_SIDE:
        raise ValueError(f"Inception V3 needs at least {MIN_SIDE} pixels on each side, not {x.shape[-2]}x{x.shape[-1]}")

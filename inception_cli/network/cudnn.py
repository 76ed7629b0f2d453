"""Run the optimised network with cuDNN's fused operator on Nvidia GPUs: convolution, bias and ReLU in one pass.

torch.compile would write the output of each convolution to memory, and read it again for bias and ReLU.
"""

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor, nn

from inception_cli.network.model import ConvBN, M, replace_layers
from inception_cli.network.onednn import works


@cache
def available(device: str, dtype: torch.dtype) -> bool:
    """Return whether the operator works on this GPU in this precision, by running it once on a tiny input.

    It is not documented by torch, and a build for AMD's GPUs lacks it.
    """
    x = torch.ones(1, 8, 5, 5, dtype=dtype, device=device)
    return works(lambda x: FusedConv(nn.Conv2d(8, 8, 1, dtype=dtype, device=device))(x), x)


def fuse(network: M) -> M:
    """Replace the convolutions with ReLU of a network with folded batch norms by FusedConv."""

    def fused(layer: nn.Module) -> nn.Module:
        return FusedConv(layer.conv) if type(layer) is ConvBN and isinstance(layer.bn, nn.Identity) else layer

    return replace_layers(network, fused)


class FusedConv(nn.Module):
    """A convolution with bias and ReLU."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        assert conv.bias is not None
        self.weight, self.bias = conv.weight, conv.bias
        self._stride, self._padding = list(conv.stride), [int(each) for each in conv.padding]

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = _conv_relu(x, self.weight, self.bias, self._stride, self._padding)
        return y


@torch.library.custom_op("inception::conv_relu", mutates_args=())
def _conv_relu(x: Tensor, weight: Tensor, bias: Tensor, stride: Sequence[int], padding: Sequence[int]) -> Tensor:
    """An operator of our own, since torch.compile does not know the shape that torch's returns."""
    return torch.cudnn_convolution_relu(x, weight, bias, stride, padding, (1, 1), 1)


@_conv_relu.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor, stride: Sequence[int], padding: Sequence[int]) -> Tensor:
    return torch.conv2d(x, weight, bias, stride, padding)

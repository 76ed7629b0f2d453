"""Run the optimised network with oneDNN's fused operators on x86 processors: equal results with less memory traffic.

After the rewritings of `fusion.optimize` three costs are left, measured on two cores with AMX in bf16: the ReLU after
each convolution (a quarter of the time), max pooling (a seventh), and fresh memory pages for each activation (a sixth).
torch.compile's inductor calls the same operators; calling them directly needs no compiler and no minute of compiling.
"""

import ctypes
import platform
from collections.abc import Callable
from contextlib import suppress
from functools import cache

import torch
from torch import Tensor, nn

from inception_cli.network.model import ConvBN, M, replace_layers

#: oneDNN chooses the layout of the weights by the input's shape: assume this batch size, whatever the first batch has.
LAYOUT_BATCH = 32
#: Integer types as wide as a float type; for floats that are not negative their order is the same.
INTEGER_TYPES = {
    torch.float32: torch.int32,
    torch.bfloat16: torch.int16,
    torch.float16: torch.int16,
    torch.uint8: torch.uint8,
}
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # parameters of glibc's mallopt


@cache
def available(dtype: torch.dtype = torch.float32) -> bool:
    """Return whether the operators work on this processor in this precision, by running each once on a tiny input.

    They are not public API of torch, and some refuse a precision that the processor lacks: fp16 needs AVX-NE-CONVERT or
    AVX512-FP16.
    """
    built = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if platform.machine() not in ("x86_64", "AMD64") or not built:
        return False
    x = torch.ones(1, 8, 5, 5, dtype=dtype)
    return works(lambda x: MaxPool()(FusedConv(nn.Conv2d(8, 8, 1, dtype=dtype))(x).abs()), x)


def works(operation: Callable[[Tensor], object], x: Tensor) -> bool:
    """Return whether an operation that is not public API of torch exists, and runs on a tiny input (N, C, H, W)."""
    try:
        with torch.inference_mode():
            operation(x.to(memory_format=torch.channels_last))
    except (RuntimeError, AttributeError, NotImplementedError):
        return False
    return True


def fuse(network: M) -> M:
    """Replace the convolutions and max poolings of a network with folded batch norms by the layers of this module."""

    def fused(layer: nn.Module) -> nn.Module:
        if type(layer) is ConvBN and isinstance(layer.bn, nn.Identity):
            return FusedConv(layer.conv)
        if isinstance(layer, ConvBN):  # a pool branch, which averages between its convolution and its ReLU
            setattr(layer, "conv", FusedConv(layer.conv, relu=False))  # noqa: B010 - of another type
        return MaxPool() if type(layer) is nn.MaxPool2d else layer

    return replace_layers(network, fused)


class FusedConv(nn.Module):
    """A convolution with bias and, optionally, ReLU in one pass; its weights are packed on the first call."""

    layout_batch = LAYOUT_BATCH

    def __init__(self, conv: nn.Conv2d, relu: bool = True) -> None:
        super().__init__()
        self.weight, self.bias, self.relu = conv.weight, conv.bias, relu
        self._geometry = [list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups]
        self._packed: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self._packed is None:
            plain = self.weight.detach().contiguous(memory_format=torch.channels_last)
            shape = [self.layout_batch, *x.shape[1:]]
            self._packed = torch.ops.mkldnn._reorder_convolution_weight(plain, *self._geometry, shape)
        activation = "relu" if self.relu else "none"
        y: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, self._packed, self.bias, *self._geometry, activation, [], ""
        )
        return y


class MaxPool(nn.Module):
    """3x3 max pooling with stride 2 of values that are not negative: rows, then columns, compared as integers."""

    def forward(self, x: Tensor) -> Tensor:
        dtype = x.dtype
        x = x.view(INTEGER_TYPES[dtype])
        rows = torch.maximum(x[:, :, 0:-2:2], x[:, :, 1:-1:2])
        torch.maximum(rows, x[:, :, 2::2], out=rows)
        best = torch.maximum(rows[..., 0:-2:2], rows[..., 1:-1:2])
        return torch.maximum(best, rows[..., 2::2], out=best).view(dtype)


def keep_memory() -> None:
    """Let glibc keep freed memory for the next activations; returned to the system, its pages would be zeroed anew."""
    with suppress(OSError, AttributeError):  # another C library
        malloc = ctypes.CDLL(None)
        malloc.mallopt(M_MMAP_THRESHOLD, 1 << 30)
        malloc.mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)

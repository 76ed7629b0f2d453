"""The optimised network in oneDNN's own terms, for x86 processors: the same answers with less traffic to memory.

Three costs are left after the rewritings of `optimize`, measured on two cores with AMX in bf16: the ReLU after each
convolution (a quarter of the time), max pooling (a seventh), and fresh pages for each activation (a sixth). The
operators are those that torch.compile's inductor calls; to call them ourselves needs no compiler and no minute of
compiling.
"""

import copy
import ctypes
import platform
from contextlib import suppress
from functools import cache

import torch
from torch import Tensor, nn

from inception_cli.network.model import ConvBN, InceptionV3

#: oneDNN chooses the layout of weights by the shape of the input; by this many images, whatever comes first.
IMAGES = 32
#: The integers as wide as a float, whose order is that of floats that are not negative.
INTEGERS = {torch.float32: torch.int32, torch.bfloat16: torch.int16, torch.float16: torch.int16}
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's mallopt


@cache
def available(dtype: torch.dtype = torch.float32) -> bool:
    """Return whether the operators work on this processor in this precision, by running each once on a tiny input.

    They are not public API of torch, and some refuse a precision that the processor lacks: fp16 needs AVX-NE-CONVERT or
    AVX512-FP16.
    """
    built = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if platform.machine() not in ("x86_64", "AMD64") or not built:
        return False
    x = torch.ones(1, 8, 5, 5, dtype=dtype).to(memory_format=torch.channels_last)
    try:
        with torch.inference_mode():
            MaxPool()(Convolution(nn.Conv2d(8, 8, 1, device="meta").to_empty(device="cpu").to(dtype))(x).abs())
    except (RuntimeError, AttributeError, NotImplementedError):
        return False
    return True


class Convolution(nn.Module):
    """A convolution, its bias and a ReLU in one pass, with weights that are packed once, when first called."""

    def __init__(self, conv: nn.Conv2d, relu: bool = True) -> None:
        super().__init__()
        self.weight, self.bias, self.relu = conv.weight, conv.bias, relu
        self._how = [list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups]
        self._packed: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self._packed is None:
            plain = self.weight.detach().contiguous(memory_format=torch.channels_last)
            self._packed = torch.ops.mkldnn._reorder_convolution_weight(plain, *self._how, [IMAGES, *x.shape[1:]])
        after = "relu" if self.relu else "none"
        y: Tensor = torch.ops.mkldnn._convolution_pointwise(x, self._packed, self.bias, *self._how, after, [], "")
        return y


class MaxPool(nn.Module):
    """3x3 of stride 2 over what a ReLU gave: rows, then columns, compared as integers."""

    def forward(self, x: Tensor) -> Tensor:
        dtype = x.dtype
        x = x.view(INTEGERS[dtype])
        rows = torch.maximum(x[:, :, 0:-2:2], x[:, :, 1:-1:2])
        torch.maximum(rows, x[:, :, 2::2], out=rows)
        best = torch.maximum(rows[..., 0:-2:2], rows[..., 1:-1:2])
        return torch.maximum(best, rows[..., 2::2], out=best).view(dtype)


def fuse(network: InceptionV3) -> InceptionV3:
    """Replace the convolutions and max poolings of a network, batch norms folded, by those above."""
    network = copy.deepcopy(network)
    for module in [*network.modules()]:
        for name, child in [*module.named_children()]:
            if type(child) is ConvBN and isinstance(child.bn, nn.Identity):
                setattr(module, name, Convolution(child.conv))
            elif isinstance(child, ConvBN):  # a pool branch: it averages before its ReLU
                setattr(child, "conv", Convolution(child.conv, relu=False))  # noqa: B010 - of another type
            elif type(child) is nn.MaxPool2d:
                setattr(module, name, MaxPool())
    return network


def keep_memory() -> None:
    """Let glibc keep what activations leave: else each of them is given back and its pages are zeroed anew."""
    with suppress(OSError, AttributeError):  # another C library
        malloc = ctypes.CDLL(None)
        malloc.mallopt(M_MMAP_THRESHOLD, 1 << 30)
        malloc.mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)

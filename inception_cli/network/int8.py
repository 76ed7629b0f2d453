"""Run the network in int8 on x86 processors with VNNI or AMX: oneDNN's quantised convolutions, called directly.

An activation is uint8 with zero point 0 and one scale, as it comes from a ReLU; pixels 0…255 are the first one, with
scale 1. The branches of a block share the scale of its output, so concatenating them converts nothing. Weights are int8
with a scale for each output channel. The last average pooling and the classifier are fp32.

torch.compile's inductor calls the same operators. They are not public API of torch, so they are tried before a run.
"""

from collections.abc import Iterable, Mapping
from functools import cache

import torch
from torch import Tensor, nn

from inception_cli.machine import int8_instructions
from inception_cli.network import onednn
from inception_cli.network.model import ConvBN, InceptionV3, Mixed, PoolConvBN, copy_modules, network_without_values

#: The largest activation, and the largest weight of each output channel, have these values.
MAX_ACTIVATION, MAX_WEIGHT = 255, 127
#: Upper end of a range, as a multiple of the median of the photos' largest outputs.
RANGE_OF_MEDIAN = 1.5
#: Output channels at which a convolution of stride 2 is split: oneDNN's kernel for more is a quarter as fast.
MAX_STRIDED_CHANNELS = 192


@cache
def available() -> bool:
    """Return whether this processor multiplies uint8 by int8 without saturation, and the operators work here."""
    if not int8_instructions():
        return False
    x = torch.ones(1, 8, 5, 5, dtype=torch.uint8)
    return onednn.works(lambda x: onednn.MaxPool()(Int8Conv(nn.Conv2d(8, 8, 1), 1.0, 1.0)(x)), x)


@torch.inference_mode()
def find_ranges(network: InceptionV3, batches: Iterable[Tensor]) -> dict[str, float]:
    """Return the upper end of the range of each layer's output, by the layer's name, for photos like these.

    `network` is as for `quantize`; `batches` are pixels 0…255 (N, 3, S, S). The end is RANGE_OF_MEDIAN times the median
    of the photos' largest outputs: a single photo may have outputs a hundred times as large as those of all others, and
    a range up to these would leave the others a few steps.
    """
    largest: dict[str, list[Tensor]] = {}

    def keep(name: str, y: Tensor) -> None:
        largest.setdefault(name, []).append(y.flatten(1).amax(1))

    hooks = [
        layer.register_forward_hook(lambda _, x, y, name=name: keep(name, y))
        for name, layer in network.named_modules()
        if has_range(layer)
    ]
    for pixels in batches:
        network(pixels.float())
    for hook in hooks:
        hook.remove()
    return {name: RANGE_OF_MEDIAN * torch.cat(each).median().item() for name, each in largest.items()}


@cache
def layer_names() -> tuple[str, ...]:
    """Return the names of the layers that have a range."""
    return tuple(name for name, layer in network_without_values(1).named_modules() if has_range(layer))


def has_range(layer: nn.Module) -> bool:
    """Return whether the range of a layer's output is needed."""
    return isinstance(layer, ConvBN | nn.AvgPool2d)


def quantize(network: InceptionV3, ranges: Mapping[str, float]) -> InceptionV3:
    """Return a network in int8: pixels 0…255 (N, 3, S, S) uint8, channels last → fp32 logits (N, C).

    Batch norms and the scaling of pixels must be folded into the convolutions of `network`. `ranges` has the upper end
    of the range of each layer's output; see `find_ranges`. Outputs beyond it become the upper end.
    """
    network, scale = copy_modules(network), 1.0
    for name, stage in network.stages():
        if isinstance(stage, Mixed):
            scale = _quantize_block(stage, name, ranges, scale)
        elif isinstance(stage, ConvBN):
            y_scale = _scale(ranges[name])
            setattr(network, name, Int8Conv(stage.conv, scale, y_scale))
            scale = y_scale
        else:
            setattr(network, name, onednn.MaxPool())
    network.avgpool = AvgPoolFromInt8(scale)
    return network


def _quantize_block(block: Mixed, name: str, ranges: Mapping[str, float], x_scale: float) -> float:
    """Replace the layers of a block, whose input has the scale `x_scale`; return the scale of its output."""
    layers = dict(block.named_children())
    sources = {layer: _source(layer) for layer in layers}
    ends = [layer for layer in layers if layer not in sources.values()]
    y_scale = max(x_scale if isinstance(layers[end], nn.MaxPool2d) else _scale(ranges[f"{name}.{end}"]) for end in ends)
    scales = {"": x_scale} | dict.fromkeys(ends, y_scale)
    for layer_name, layer in layers.items():
        if isinstance(layer, nn.MaxPool2d):
            setattr(block, layer_name, RescaledMaxPool(x_scale / y_scale))
        elif isinstance(layer, PoolConvBN):
            pooled = _scale(ranges[f"{name}.{layer_name}.pool"])
            pool = _average(layer.conv.in_channels, x_scale, pooled)
            setattr(block, layer_name, nn.Sequential(pool, Int8Conv(layer.conv, pooled, y_scale)))
        elif isinstance(layer, ConvBN):
            scale = scales.setdefault(layer_name, _scale(ranges[f"{name}.{layer_name}"]))
            setattr(block, layer_name, Int8Conv(layer.conv, scales[sources[layer_name]], scale))
    return y_scale


def scale_of(stage: nn.Module) -> float:
    """Return the scale of the output of a stage of a network in int8: its last convolutions share it."""
    *_, last = (layer for layer in stage.modules() if isinstance(layer, Int8Conv))
    return last.y_scale


def _source(layer: str) -> str:
    """Return the layer of the same block that feeds this one, or "" for the block's input.

    `branch3x3dbl_3a` and `branch3x3dbl_3b` are fed by `branch3x3dbl_2`.
    """
    branch, _, number = layer.rstrip("ab").rpartition("_")
    return f"{branch}_{int(number) - 1}" if number.isdigit() and int(number) > 1 else ""


def _scale(largest: float) -> float:
    """Return the step of the integers that represent numbers from 0 to `largest`."""
    return max(largest, 1e-6) / MAX_ACTIVATION


def _average(channels: int, x_scale: float, y_scale: float) -> "Int8Conv":
    """Return 3x3 average pooling with padding, as a convolution of each channel by itself."""
    conv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False, device="meta")
    conv.weight = nn.Parameter(torch.full((channels, 1, 3, 3), 1 / 9))
    return Int8Conv(conv, x_scale, y_scale)


class Int8Conv(nn.Module):
    """A convolution with bias and ReLU: uint8 in and out, `x_scale` and `y_scale` being a step of the integers."""

    layout_batch = onednn.LAYOUT_BATCH

    def __init__(self, conv: nn.Conv2d, x_scale: float, y_scale: float) -> None:
        super().__init__()
        weight = conv.weight.detach()
        self.scales = (weight.abs().amax((1, 2, 3)) / MAX_WEIGHT).clamp(min=1e-12)  # (C_out,)
        self.weight = (weight / self.scales.view(-1, 1, 1, 1)).round().to(torch.int8)
        self.bias = torch.zeros(len(weight)) if conv.bias is None else conv.bias.detach()
        self._geometry = [list(conv.stride), list(conv.padding), list(conv.dilation), conv.groups]
        self.x_scale, self.y_scale = x_scale, y_scale
        strided = conv.stride[0] > 1 and len(weight) > MAX_STRIDED_CHANNELS
        self._width = len(weight) // 2 if strided else len(weight)
        self._packed: list[tuple[Tensor, ...]] = []  # packed weights, their scales and zero points, bias

    def forward(self, x: Tensor) -> Tensor:
        parts = [
            torch.ops.onednn.qconv2d_pointwise(
                *(x, self.x_scale, 0), *packed, *self._geometry, *(self.y_scale, 0, torch.uint8, "relu", [], "")
            )
            for packed in self._packed or self._pack(x)
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)

    def _pack(self, x: Tensor) -> list[tuple[Tensor, ...]]:
        """Return the weights in the layout that oneDNN prefers for inputs like `x`."""
        shape = [self.layout_batch, *x.shape[1:]]
        each = (torch.split(tensor, self._width) for tensor in (self.weight, self.scales, self.bias))
        parts: list[tuple[Tensor, ...]] = []
        for weight, scales, bias in zip(*each, strict=True):
            packed = torch.ops.onednn.qconv_prepack(weight, scales, self.x_scale, 0, *self._geometry, shape)
            parts.append((packed, scales.clone(), torch.zeros(len(scales), dtype=torch.int32), bias.clone()))
        self._packed = parts  # at once: another thread may call this layer meanwhile
        return parts


class RescaledMaxPool(onednn.MaxPool):
    """3x3 max pooling with stride 2, whose result is multiplied by `ratio` ≤ 1: a step of its input over one of it."""

    def __init__(self, ratio: float) -> None:
        super().__init__()
        self.ratio = ratio

    def forward(self, x: Tensor) -> Tensor:
        best = super().forward(x)
        return best if self.ratio == 1 else (best.float() * self.ratio).round_().to(torch.uint8)


class AvgPoolFromInt8(nn.AdaptiveAvgPool2d):
    """The last pooling: uint8 with the scale `x_scale` → fp32."""

    def __init__(self, x_scale: float) -> None:
        super().__init__(1)
        self.x_scale = x_scale

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.float()) * self.x_scale

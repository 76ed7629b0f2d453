"""Rewrite a network so that it runs faster: each function returns a new network with equal logits in fp32.

The network passed in is not changed; the new one shares the values of the tensors that are not replaced.
"""

import warnings
from collections.abc import Mapping, Sequence
from itertools import takewhile

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from inception_cli.config import Plan
from inception_cli.errors import InceptionError, UsageError
from inception_cli.network import cudnn, int8, onednn
from inception_cli.network.model import (
    MIDDLE,
    TRUNK,
    ConvBN,
    InceptionV3,
    Mixed,
    PoolConvBN,
    copy_modules,
    require_min_side,
)

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "int8": torch.uint8}


def require_precision(plan: Plan) -> None:
    """Raise InceptionError when the processor cannot compute in the plan's precision."""
    if plan.precision == "int8":
        _require_int8(plan)
        return
    if plan.device != "cpu" or plan.precision == "fp32":
        return
    dtype = DTYPES[plan.precision]
    try:
        with torch.inference_mode():
            make_conv(torch.ones(8, 8, 1, 1), torch.ones(8)).to(dtype)(torch.ones(1, 8, 5, 5, dtype=dtype))
    except RuntimeError as error:
        others = " or ".join(name for name in ("bf16", "fp32") if name != plan.precision)
        raise InceptionError(
            f"precision {plan.precision}: this processor cannot compute in {plan.precision}; use {others}"
        ) from error


def _require_int8(plan: Plan) -> None:
    if plan.device != "cpu":
        raise UsageError(f"precision int8: it runs on processors, not on {plan.device}; use the device cpu")
    if plan.compile:
        raise UsageError("compile on: a network in int8 is not compiled; leave it out")
    if not int8.available():
        raise InceptionError("precision int8: this processor has neither VNNI nor AMX instructions; use bf16 or fp32")


def optimize(
    network: InceptionV3,
    mean: Sequence[float],
    std: Sequence[float],
    plan: Plan,
    ranges: Mapping[str, float] | None = None,
    features: bool = False,
    middle_features: bool = False,
) -> nn.Module:
    """Return a network for inference that takes pixels 0…255 (N, 3, S, S) of any dtype and returns fp32 logits (N, C).

    `mean` and `std` are the preset's, for RGB in [0, 1]; `ranges` are those of int8 (see `int8.find_ranges`). Pixels
    and logits are on the plan's device. With `features` or `middle_features` it returns a tuple: the logits, and what
    was asked for, in this order; see `WithFeatures`.
    """
    dtype = DTYPES[plan.precision]
    if plan.precision == "int8":
        _require_int8(plan)  # a machine of a cluster may be another one than the plan was made on
        if ranges is None:
            raise UsageError("precision int8: the network must be calibrated first")
        network = int8.quantize(fold_all(network, mean, std), ranges)
        scale = int8.scale_of(getattr(network, MIDDLE))
        return StemInGroups(return_features(network, features, middle_features, scale), dtype)
    network = fold_all(network, mean, std, dtype)
    network = pool_after_conv(network)
    cudnn_fuses = plan.device.startswith("cuda") and cudnn.available(plan.device, dtype)
    if not cudnn_fuses:  # cuDNN would copy each part of a merged output before it reads it
        network = merge_1x1_convs(network)
    network = cast(network, plan.device, dtype)
    trunk = return_features(network, features, middle_features)
    if cudnn_fuses:
        trunk = cudnn.fuse(trunk)
    warnings.filterwarnings("ignore", "TensorFloat32 tensor cores")  # torch.compile's advice to round fp32
    if plan.precision == "fp32":
        torch.backends.cudnn.allow_tf32 = False  # on by default: convolutions would round fp32 to 10 bits
    if plan.compile and plan.device == "cpu":
        trunk.compile(options={"freezing": True})  # packs the weights into the processor's preferred layout
    elif plan.device == "cpu" and onednn.available(dtype):
        trunk = onednn.fuse(trunk)
        if plan.precision == "fp32":
            return StemInGroups(trunk, dtype)
    whole = CastInput(trunk, dtype)
    if plan.compile and plan.device != "cpu":
        # One CUDA graph for each shape; its input is bytes. Without autotuning of kernels, so that two runs are equal.
        whole.compile(mode="reduce-overhead" if plan.device.startswith("cuda") else None, dynamic=False)
    return whole


def return_features(
    network: InceptionV3, features: bool, middle_features: bool, middle_scale: float = 1
) -> "InceptionV3 | WithFeatures":
    """Return a network that returns features beside the logits, or the network itself if none are asked for."""
    if not (features or middle_features):
        return network
    return WithFeatures(network, features, middle_features, middle_scale)


class WithFeatures(nn.Module):
    """A network that returns a tuple: the logits (N, C), and features of two kinds, where they are asked for, in fp32.

    The features (N, 2048) are what its classifier reads. The middle features (N, 1536) are the `channel_statistics` of
    the output of the stage MIDDLE, which is in steps of `middle_scale`: 1, except in int8.
    """

    def __init__(self, network: InceptionV3, features: bool, middle_features: bool, middle_scale: float) -> None:
        super().__init__()
        self.network = network
        self.features, self.middle_features, self.middle_scale = features, middle_features, middle_scale

    def stages(self) -> list[tuple[str, nn.Module]]:
        """Return the stages of the network, by name and in order."""
        return self.network.stages()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        require_min_side(x)
        return self.forward_from(0, x)

    def forward_from(self, position: int, x: Tensor) -> tuple[Tensor, ...]:
        """Return the results for x, the input of the stage at this position in TRUNK, which is not after MIDDLE."""
        middle = []
        for name, stage in self.stages()[position:]:
            x = stage(x)
            if name == MIDDLE and self.middle_features:
                middle = [channel_statistics(x) * self.middle_scale]
        features = self.network.pool(x)
        return self.network.fc(features), *([features] if self.features else []), *middle


def channel_statistics(x: Tensor) -> Tensor:
    """Return the mean and the standard deviation of each channel of x (N, C, H, W) over its grid, in fp32 (N, 2C).

    The standard deviation is that of the grid itself, divided by H · W. For channels-last on a processor this is four
    times as fast as `torch.std_mean`.
    """
    x = x.float().permute(0, 2, 3, 1).flatten(1, 2)  # (N, H · W, C)
    mean = x.mean(1, keepdim=True)
    std = (x - mean).square_().mean(1).sqrt()
    return torch.cat([mean.squeeze(1), std], 1)


class CastInput(nn.Module):
    """Convert pixels of any dtype to the dtype and memory layout of an optimised network, and run it."""

    def __init__(self, network: InceptionV3 | WithFeatures, dtype: torch.dtype) -> None:
        super().__init__()
        self.network = network
        self.dtype = dtype

    def forward(self, pixels: Tensor) -> Tensor | tuple[Tensor, ...]:
        output: Tensor | tuple[Tensor, ...] = self.network(pixels.to(self.dtype, memory_format=torch.channels_last))
        return output


class StemInGroups(CastInput):
    """Run the stages up to the second pooling on GROUP images at a time: their activations then stay in the caches.

    With AVX-512 VNNI on two cores of a Cascade Lake Xeon this makes fp32 1.18 times as fast and int8 1.3 to 1.6 times;
    with Zen 4, which has larger caches, it makes no difference. Logits are equal.
    """

    GROUP = 2
    STAGES = TRUNK.index("maxpool2") + 1

    def __init__(self, network: InceptionV3 | WithFeatures, dtype: torch.dtype) -> None:
        super().__init__(network, dtype)
        self.stem = nn.Sequential(*(stage for _, stage in network.stages()[: self.STAGES]))
        for layer in self.stem.modules():
            if isinstance(layer, onednn.FusedConv | int8.Int8Conv):
                layer.layout_batch = self.GROUP

    def forward(self, pixels: Tensor) -> Tensor | tuple[Tensor, ...]:
        groups = torch.split(pixels, self.GROUP)
        stem = [self.stem(group.to(self.dtype, memory_format=torch.channels_last)) for group in groups]
        return self.network.forward_from(self.STAGES, torch.cat(stem))


def fold_all(
    network: InceptionV3, mean: Sequence[float], std: Sequence[float], dtype: torch.dtype = torch.float32
) -> InceptionV3:
    """Return the network without the auxiliary classifier, batch norms and scaling being folded into convolutions."""
    return fold_scaling(fold_batch_norm(drop_auxiliary(network)), mean, std, dtype)


def drop_auxiliary(network: InceptionV3) -> InceptionV3:
    """Remove the auxiliary classifier, which only training uses."""
    network = copy_modules(network).eval()
    network.AuxLogits = None
    return network


def fold_batch_norm(network: InceptionV3) -> InceptionV3:
    """Fold each batch norm into the convolution before it."""
    network = copy_modules(network).eval()
    for layer in network.modules():
        if isinstance(layer, ConvBN) and isinstance(layer.bn, nn.BatchNorm2d):
            conv, bn = layer.conv, layer.bn
            assert bn.running_mean is not None
            assert bn.running_var is not None
            conv.weight, conv.bias = fuse_conv_bn_weights(
                conv.weight, conv.bias, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias
            )
            layer.bn = nn.Identity()
    return network


def fold_scaling(
    network: InceptionV3, mean: Sequence[float], std: Sequence[float], dtype: torch.dtype = torch.float32
) -> InceptionV3:
    """Fold the scaling (p / 255 - mean) / std of pixels into the first convolution; exact, since that has no padding.

    The shift is computed from the weights as rounded to `dtype`, because the rounded weights are what it must cancel.
    """
    network = fold_batch_norm(network)
    conv = network.Conv2d_1a_3x3.conv
    means, stds = (255 * torch.tensor(values).view(3, 1, 1) for values in (mean, std))
    weight = (conv.weight / stds).to(dtype).float()
    shift = (weight * means).sum((1, 2, 3))
    network.Conv2d_1a_3x3.conv = make_conv(weight, bias_or_zeros(conv) - shift, stride=2)
    return network


def pool_after_conv(network: InceptionV3) -> InceptionV3:
    """Move the average pooling of each pool branch behind its 1x1 convolution: over 32…192 channels, not 192…2048."""
    network = fold_batch_norm(network)
    for _, block in network.stages():
        if isinstance(block, Mixed) and isinstance(block.branch_pool, PoolConvBN):
            conv = block.branch_pool.conv
            with torch.device("meta"):
                pooled_last = ConvBN(conv.in_channels, conv.out_channels, 1)
            pooled_last.conv.weight = conv.weight
            pooled_last.bn = AvgPoolThenBias(bias_or_zeros(conv))
            block.branch_pool = pooled_last
    return network


class AvgPoolThenBias(nn.Module):
    """3x3 average pooling, then the bias: added before the pooling, it would be averaged with the zeros of padding."""

    def __init__(self, bias: Tensor) -> None:
        super().__init__()
        self.bias = nn.Parameter(bias.view(-1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 3, stride=1, padding=1) + self.bias


def merge_1x1_convs(network: InceptionV3) -> InceptionV3:
    """Merge the 1x1 convolutions that read the input of a block into a single one, which reads it once.

    The pool branch of `pool_after_conv` stays apart: its pooling lies between its convolution and its ReLU, so a merged
    convolution could not be fused with the ReLU of the others.
    """
    network = fold_batch_norm(network)
    for name, block in network.stages():
        if isinstance(block, Mixed):
            layers = [getattr(block, layer) for layer in block.first_layers]
            mergeable = list(takewhile(is_plain_1x1, layers))
            if len(mergeable) > 1:
                setattr(network, name, MergedMixed(block, mergeable))
    return network


def is_plain_1x1(layer: nn.Module) -> bool:
    """Return whether a layer is a 1x1 convolution with ReLU and nothing else, its batch norm folded."""
    return type(layer) is ConvBN and layer.conv.kernel_size == (1, 1) and isinstance(layer.bn, nn.Identity)


class MergedMixed(nn.Module):
    """A Mixed block in which `layers`, its leading first layers, are merged into one 1x1 convolution."""

    def __init__(self, block: Mixed, layers: list[ConvBN]) -> None:
        super().__init__()
        convs = [layer.conv for layer in layers]
        self.widths = [conv.out_channels for conv in convs]
        with torch.device("meta"):
            self.merged = ConvBN(convs[0].in_channels, sum(self.widths), 1)
        weight, bias = torch.cat([conv.weight for conv in convs]), torch.cat([bias_or_zeros(conv) for conv in convs])
        self.merged.conv, self.merged.bn = make_conv(weight, bias), nn.Identity()
        self.others = block.first_layers[len(layers) :]
        self.block = block
        for name in block.first_layers[: len(layers)]:
            delattr(block, name)

    def forward(self, x: Tensor) -> Tensor:
        merged = self.merged(x).split(self.widths, dim=1)
        others = [getattr(self.block, name)(x) for name in self.others]
        return self.block.finish_branches([*merged, *others])


def bias_or_zeros(conv: nn.Conv2d) -> Tensor:
    """Return the bias of a convolution, or zeros when it has none."""
    return torch.zeros(conv.out_channels) if conv.bias is None else conv.bias


def make_conv(weight: Tensor, bias: Tensor, stride: int = 1) -> nn.Conv2d:
    """Return a convolution without padding that has these tensors."""
    c_out, c_in, height, width = weight.shape
    conv = nn.Conv2d(c_in, c_out, (height, width), stride, device="meta")
    conv.weight, conv.bias = nn.Parameter(weight), nn.Parameter(bias)
    return conv


def cast(network: InceptionV3, device: str, dtype: torch.dtype) -> InceptionV3:
    """Move a network to a device in channels-last layout, and its stages to `dtype`.

    The classifier stays fp32: it is 0.04 % of the work, and with the 8 bits of bf16 logits would tie.
    """
    network = copy_modules(network)
    for _, stage in network.stages():
        stage.to(device, dtype).to(memory_format=torch.channels_last)
    network.to(device)
    network.avgpool = AvgPoolToFp32(1)
    return network


class AvgPoolToFp32(nn.AdaptiveAvgPool2d):
    """The last pooling, which converts its input to fp32."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.float())

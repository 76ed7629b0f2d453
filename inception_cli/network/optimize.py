"""The same answers, faster: each rewriting takes a network and returns another one, with equal logits in fp32.

A rewriting leaves the network that it is given as it was, and shares with it the tensors that it does not replace.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from inception_cli.errors import InceptionError, UsageError
from inception_cli.network import onednn
from inception_cli.network.model import ConvBN, InceptionV3, Mixed, PoolConvBN

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Plan:
    """Where and how a network runs."""

    device: str = "cpu"
    precision: str = "fp32"
    compile: bool = False

    def __post_init__(self) -> None:
        if self.precision not in DTYPES:
            raise UsageError(f"precision {self.precision!r}: choose one of {', '.join(DTYPES)}")
        try:
            torch.device(self.device)
        except RuntimeError:
            raise UsageError(f"device {self.device!r}: choose one of cpu, cuda, cuda:N, mps") from None


def require_precision(plan: Plan) -> None:
    """Raise InceptionError when the processor cannot compute in the plan's precision at all."""
    if plan.device != "cpu" or plan.precision == "fp32":
        return
    try:
        with torch.inference_mode():
            conv_with(torch.ones(8, 8, 1, 1), torch.ones(8)).to(DTYPES[plan.precision])(
                torch.ones(1, 8, 5, 5, dtype=DTYPES[plan.precision])
            )
    except RuntimeError as error:
        others = " or ".join(name for name in ("bf16", "fp32") if name != plan.precision)
        raise InceptionError(
            f"--precision {plan.precision}: this processor cannot compute in {plan.precision}; use {others}"
        ) from error


def optimize(network: InceptionV3, mean: Sequence[float], std: Sequence[float], plan: Plan) -> nn.Module:
    """Rewrite a network to eat pixels 0…255 (N, 3, S, S) of any dtype, and to give logits (N, C) in fp32.

    `mean` and `std` are the preset's, for RGB in [0, 1]; pixels and logits are on the plan's device.
    """
    dtype = DTYPES[plan.precision]
    network = drop_auxiliary(network)
    network = fold_batch_norm(network)
    network = fold_scaling(network, mean, std, dtype)
    network = pool_last(network)
    network = merge_entries(network)
    network = cast(network, plan.device, dtype)
    if plan.precision == "fp32":
        torch.backends.cudnn.allow_tf32 = False  # on by default: convolutions would round fp32 to 10 bits
    if plan.compile and plan.device == "cpu":
        network.compile(options={"freezing": True})  # weights are packed into the layout that the processor likes best
    elif plan.device == "cpu" and onednn.available(dtype):
        network = onednn.fuse(network)
    whole = FromPixels(network, dtype)
    if plan.compile and plan.device != "cpu":
        # A CUDA graph a shape; pixels go into it as bytes. No search for the fastest kernels: two runs would differ.
        whole.compile(mode="reduce-overhead" if plan.device.startswith("cuda") else None, dynamic=False)
    return whole


class FromPixels(nn.Module):
    """An optimised network, fed with pixels of any dtype."""

    def __init__(self, network: InceptionV3, dtype: torch.dtype) -> None:
        super().__init__()
        self.network = network
        self.dtype = dtype

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.network(pixels.to(self.dtype, memory_format=torch.channels_last))
        return logits


def copy_of(network: InceptionV3) -> InceptionV3:
    """The same modules anew, in eval mode, around the same tensors."""
    tensors = (*network.parameters(), *network.buffers())
    return copy.deepcopy(network, {id(tensor): tensor for tensor in tensors}).eval()


def drop_auxiliary(network: InceptionV3) -> InceptionV3:
    """Leave out the classifier that only training reads."""
    network = copy_of(network)
    network.AuxLogits = None
    return network


def fold_batch_norm(network: InceptionV3) -> InceptionV3:
    """Fold each batch norm into the convolution before it."""
    network = copy_of(network)
    for layer in network.modules():
        if isinstance(layer, ConvBN) and isinstance(layer.bn, nn.BatchNorm2d):
            layer.conv = fuse_conv_bn_eval(layer.conv, layer.bn)
            layer.bn = nn.Identity()
    return network


def fold_scaling(
    network: InceptionV3, mean: Sequence[float], std: Sequence[float], dtype: torch.dtype = torch.float32
) -> InceptionV3:
    """Fold the preset's scaling (p / 255 - mean) / std into the first convolution; exact, as that has no padding.

    The shift is computed from weights already rounded to `dtype`: it must cancel what they will really do.
    """
    network = fold_batch_norm(network)
    conv = network.Conv2d_1a_3x3.conv
    means, stds = (255 * torch.tensor(values).view(3, 1, 1) for values in (mean, std))
    weight = (conv.weight / stds).to(dtype).float()
    shift = (weight * means).sum((1, 2, 3))
    network.Conv2d_1a_3x3.conv = conv_with(weight, bias_of(conv) - shift, stride=2)
    return network


def pool_last(network: InceptionV3) -> InceptionV3:
    """Average after the 1x1 convolution of a pool branch, not before: over 32…192 channels instead of 192…2048."""
    network = fold_batch_norm(network)
    for _, block in network.stages():
        if isinstance(block, Mixed) and isinstance(block.branch_pool, PoolConvBN):
            conv = block.branch_pool.conv
            last = ConvBN(conv.in_channels, conv.out_channels, 1)
            last.conv.weight = conv.weight
            last.bn = AverageThenBias(bias_of(conv))
            block.branch_pool = last
    return network


class AverageThenBias(nn.Module):
    """The second half of a pool branch: the zeros that pad the average must not thin the bias, so it comes after."""

    def __init__(self, bias: Tensor) -> None:
        super().__init__()
        self.bias = nn.Parameter(bias.view(-1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 3, stride=1, padding=1) + self.bias


def merge_entries(network: InceptionV3) -> InceptionV3:
    """Merge the 1x1 convolutions that read the input of a block into one, which reads it once.

    That of `pool_last` is left out: between it and its ReLU lies the average, so it would cost the others theirs.
    """
    network = fold_batch_norm(network)
    for name, block in network.stages():
        if isinstance(block, Mixed):
            layers = [getattr(block, entry) for entry in block.entry]
            mergeable = list(takewhile(is_plain_1x1, layers))
            if len(mergeable) > 1:
                setattr(network, name, Merged(block, mergeable))
    return network


def is_plain_1x1(layer: nn.Module) -> bool:
    return type(layer) is ConvBN and layer.conv.kernel_size == (1, 1) and isinstance(layer.bn, nn.Identity)


class Merged(nn.Module):
    """A block whose first so many layers of `entry`, all 1x1 convolutions, are one."""

    def __init__(self, block: Mixed, layers: list[ConvBN]) -> None:
        super().__init__()
        convs = [layer.conv for layer in layers]
        self.widths = [conv.out_channels for conv in convs]
        self.merged = ConvBN(convs[0].in_channels, sum(self.widths), 1)
        weight, bias = torch.cat([conv.weight for conv in convs]), torch.cat([bias_of(conv) for conv in convs])
        self.merged.conv, self.merged.bn = conv_with(weight, bias), nn.Identity()
        self.others = block.entry[len(layers) :]
        self.block = block
        for name in block.entry[: len(layers)]:
            delattr(block, name)

    def forward(self, x: Tensor) -> Tensor:
        merged = self.merged(x).split(self.widths, dim=1)
        others = [getattr(self.block, name)(x) for name in self.others]
        return self.block.leave([*merged, *others])


def bias_of(conv: nn.Conv2d) -> Tensor:
    return torch.zeros(conv.out_channels) if conv.bias is None else conv.bias


def conv_with(weight: Tensor, bias: Tensor, stride: int = 1) -> nn.Conv2d:
    """A convolution without padding, of these tensors."""
    c_out, c_in, height, width = weight.shape
    conv = nn.Conv2d(c_in, c_out, (height, width), stride, device="meta")
    conv.weight, conv.bias = nn.Parameter(weight), nn.Parameter(bias)
    return conv


def cast(network: InceptionV3, device: str, dtype: torch.dtype) -> InceptionV3:
    """Move a network to its device, channels last, and its trunk to its dtype.

    The classifier stays fp32: it is 0.04 % of the work, and logits of bf16's 8 bits would tie.
    """
    network = copy.deepcopy(network).to(memory_format=torch.channels_last).to(device)
    for _, stage in network.stages():
        stage.to(dtype)
    network.avgpool = AverageInFp32(1)
    return network


class AverageInFp32(nn.AdaptiveAvgPool2d):
    """The last pooling, fp32 from there on."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.float())

"""Convert state dicts of other libraries to this project's names, and refuse those that would give wrong predictions.

Supported are (a) the names of torchvision and timm, with or without AuxLogits; (b) the wrappers and prefixes with which
training scripts save them, in any nesting: `{"model_ema": {"module.Conv2d_1a_3x3.conv.weight": …}}`; mmpretrain's is
`backbone.`; (c) 1001 classes with the background class first, as in TensorFlow.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from inception_cli.config import FEATURES, MAX_CLASSES
from inception_cli.network.model import InceptionV3, network_without_values

#: Names under which training scripts save a state dict. Where there are several, the averaged weights come first: they
#: are the ones that scripts evaluate (torchvision's references, timm).
WRAPPERS = ("model_ema", "state_dict_ema", "state_dict", "model", "model_state_dict", "net")
#: A tensor name that only one kind of network has, and the name of that network. The first match wins.
OTHER_NETWORKS = (
    ("layer1.0.conv1.weight", "a ResNet"),
    ("features.denseblock1.denselayer1.conv1.weight", "a DenseNet"),
    ("features.0.0.weight", "a MobileNet, EfficientNet or ConvNeXt of torchvision"),
    ("features.0.weight", "a VGG, AlexNet or SqueezeNet"),
    ("inception3a.branch1.conv.weight", "GoogLeNet (Inception V1)"),
    ("conv2d_1a.conv.weight", "Inception-ResNet V2"),
    ("features.0.conv.weight", "Inception V4"),
    ("cls_token", "a vision transformer"),
    ("class_token", "a vision transformer"),
    ("stages.0.blocks.0.conv_dw.weight", "a ConvNeXt"),
    ("conv_stem.weight", "an EfficientNet of timm"),
    ("fc._packed_params._packed_params", "a network quantised by torch"),
)

#: Number of classes of the Inception of the Fréchet distance, whose pooling and classes are not ImageNet's.
FID_CLASSES = 1008
#: Number of ImageNet's classes with a background class in front (in TF-slim and TF-Hub: label = index + 1).
TF_CLASSES = 1001
#: More tensors are refused before anything is built: no network that people train has as many.
MAX_TENSORS = 10_000
#: Suffix of the name of a tensor that holds the scales of an int8 tensor.
SCALE_SUFFIX = ".int8_scale"
FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)

#: What wrappers put before the names: DataParallel, torch.compile, Lightning, mmpretrain.
_PREFIXES = re.compile(r"^((module|_orig_mod|model|backbone)\.)+")
_FIRST = "Conv2d_1a_3x3.conv.weight"
_REMEDY = "use an Inception V3 of torchvision, timm, mmpretrain or `inception train`"
_HEAD_REMEDY = "the classifier must be one linear layer with the tensors fc.weight and fc.bias"


class CheckpointError(ValueError):
    """A checkpoint that cannot be used: the reason, and the remedy."""

    def __init__(self, reason: str, remedy: str = _REMEDY) -> None:
        super().__init__(f"{reason}; {remedy}")
        self.reason, self.remedy = reason, remedy


@dataclass(frozen=True)
class Checkpoint:
    """A complete state dict with this project's names, as stored, and notes for the user on how it was converted."""

    tensors: Mapping[str, Tensor]
    notes: tuple[str, ...] = ()
    stored_classes: int = 0  # of the classifier as stored, TensorFlow's background class included

    @property
    def num_classes(self) -> int:
        """The number of classes of the classifier."""
        return self.tensors["fc.weight"].shape[0]

    def build_network(self) -> InceptionV3:
        """Return the network with these tensors in fp32, in eval mode and without gradients."""
        network = network_without_values(self.num_classes)
        tensors = decompress(self.tensors)
        network.load_state_dict(
            {name: tensors[name].to(like.dtype) for name, like in network.state_dict().items()}, assign=True
        )
        return network.requires_grad_(False)


def compress(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert the weights of convolutions and classifier to int8, with an fp32 scale for each output channel."""
    compressed = dict(tensors)
    for name, value in tensors.items():
        if value.dim() > 1:
            scale = value.flatten(1).abs().amax(1).clamp(min=torch.finfo(torch.float32).tiny) / 127
            compressed[name] = (value / _per_channel(scale, value)).round().to(torch.int8)
            compressed[name + SCALE_SUFFIX] = scale
    return compressed


def decompress(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors that `compress` stored as int8 in fp32, and all others unchanged."""
    decompressed = {name: value for name, value in tensors.items() if not name.endswith(SCALE_SUFFIX)}
    for name in decompressed:
        if (scale := tensors.get(name + SCALE_SUFFIX)) is not None:
            decompressed[name] = (
                decompressed[name].to(torch.float32, copy=True).mul_(_per_channel(scale, decompressed[name]))
            )
    return decompressed


def _per_channel(scale: Tensor, like: Tensor) -> Tensor:
    return scale.view(-1, *[1] * (like.dim() - 1))


def unwrap(loaded: object) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return the state dict in an object that `torch.load` returned, and notes; CheckpointError when there is none."""
    found = _find_state_dicts(loaded, set())
    if not found:
        raise CheckpointError("contains no state dict", "save the network's state_dict()")
    chosen, *others = found
    notes = (f"the file contains several state dicts: {chosen} is used, not {', '.join(others)}",) if others else ()
    return {str(name): value for name, value in found[chosen].items() if isinstance(value, Tensor)}, notes


def _find_state_dicts(loaded: object, visited: set[int]) -> dict[str, Mapping[object, object]]:
    """Return the state dicts by the wrappers around them (`model.state_dict`), the one to use first."""
    if not isinstance(loaded, Mapping) or id(loaded) in visited:  # a hostile file may contain itself
        return {}
    visited.add(id(loaded))
    wrapped = {
        f"{wrapper}.{inner}".rstrip("."): state_dict
        for wrapper in WRAPPERS
        for inner, state_dict in _find_state_dicts(loaded.get(wrapper), visited).items()
    }
    if wrapped or not any(isinstance(value, Tensor) for value in loaded.values()):
        return wrapped
    return {"": loaded}


def convert(tensors: Mapping[str, Tensor], num_names: int | None = None) -> Checkpoint:
    """Convert a state dict to this project's names; CheckpointError names the tensor or the network that does not fit.

    With as many class names (`num_names`) as classes, 1001 or 1008 classes are kept as they are. The tensors stay as
    they are stored, so that checking a checkpoint takes no memory.
    """
    if len(tensors) > MAX_TENSORS:
        raise CheckpointError(f"has {len(tensors):,} tensors; an Inception V3 has {len(_expected(1000))}")
    prefix = _find_prefix(tensors)
    network = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    network = {name: value for name, value in network.items() if not name.startswith("AuxLogits.")}
    others = {name: value for name, value in tensors.items() if not name.startswith(prefix)}
    others = {name: value for name, value in others.items() if not name.endswith("n_averaged")}  # of AveragedModel
    for name, value in network.items():
        _require_plain(name, value)
    _require_head(network, others)
    notes = []
    if others:
        notes.append(f"left out, since they are not part of {prefix.rstrip('.')}: {_some(list(others))}")
    num_classes = network["fc.weight"].shape[0]
    if num_classes == FID_CLASSES != num_names:
        raise CheckpointError(
            "is the Inception of the Fréchet distance (FID, 1008 classes), which does not classify ImageNet"
        )
    _require_all(network, num_classes)
    _require_finite(network)
    if num_classes == TF_CLASSES != num_names:
        for name in {"fc.weight", "fc.bias", f"fc.weight{SCALE_SUFFIX}"} & network.keys():
            network[name] = network[name][1:]
        notes.append("1001 classes: assumed to be TensorFlow's, whose background class is removed")
    if num_classes == 1:
        notes.append("the network has a single class, which every photo gets with the score 1")
    return Checkpoint(_with_counters(network), tuple(notes), num_classes)


def _find_prefix(tensors: Mapping[str, Tensor]) -> str:
    """Return what precedes the names of an Inception V3's tensors, such as `module.`; CheckpointError if there is none.

    Whatever a wrapper is called, the network in it is complete, or it is refused.
    """
    prefixes = [name.removesuffix(_FIRST) for name in tensors if name == _FIRST or name.endswith(f".{_FIRST}")]
    if not prefixes:
        raise CheckpointError(f"is not Inception V3; it seems to be {_guess_network(tensors)}")
    if len(prefixes) > 1:
        raise CheckpointError(
            f"contains {len(prefixes)} networks ({_some(prefixes)})", "save the state_dict() of one of them"
        )
    return prefixes[0]


def _require_plain(name: str, value: Tensor) -> None:
    """Raise CheckpointError unless a tensor is dense, on the CPU, of real numbers, and all of them are in the file."""
    if type(value) not in (Tensor, nn.Parameter) or value.is_nested:
        kind = "a tensor of a special class"
    elif value.is_quantized:
        kind = "quantised"
    elif value.layout != torch.strided:
        kind = "sparse"
    elif value.device.type != "cpu":
        kind = f"on the device {value.device.type}, without values"
    elif value.dtype.is_complex:
        kind = f"complex ({_dtype(value)}), and its imaginary part would be lost"
    elif value.numel() * value.element_size() > value.untyped_storage().nbytes():
        stored = value.untyped_storage().nbytes()
        kind = f"larger ({_shape(value)} values) than its data in the file ({stored:,} bytes)"
    else:
        return
    raise CheckpointError(f"{_short(name)} is {kind}", "save dense tensors of float32, as the network's state_dict()")


def _require_head(network: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError unless the classifier is the linear layer `fc`, and there is none outside the network."""
    trunk = _expected(1)
    inside = {name: value for name, value in network.items() if name not in trunk and value.dim() > 1}
    outside = {name: value for name, value in others.items() if name.endswith(".weight") and value.dim() == 2}
    heads = [f"{_short(name)} ({_shape(value)})" for name, value in (inside | outside).items()]
    if "fc.weight" not in network:
        instead = f"another classifier than fc: {', '.join(heads[:3])}" if heads else "no classifier, fc.weight"
        raise CheckpointError(f"is an Inception V3 with {instead}", _HEAD_REMEDY)
    if outside:
        raise CheckpointError(f"has another layer after the network: {', '.join(heads[-3:])}", _HEAD_REMEDY)
    weight = network["fc.weight"]
    if weight.dim() != 2 or weight.shape[1] != FEATURES:
        raise CheckpointError(f"fc.weight is {_shape(weight)}, not classes × {FEATURES}", _HEAD_REMEDY)
    if not 1 <= weight.shape[0] <= MAX_CLASSES:
        raise CheckpointError(f"fc.weight has {weight.shape[0]:,} classes, not 1 to {MAX_CLASSES:,}", _HEAD_REMEDY)


def _require_all(tensors: Mapping[str, Tensor], num_classes: int) -> None:
    """Raise CheckpointError that names tensors that are missing, unexpected, or of another shape or data type."""
    expected = _expected(num_classes)
    weights = {name: value for name, value in tensors.items() if name in expected and not _is_counter(name)}
    scales = {name + SCALE_SUFFIX: name for name, value in weights.items() if value.dtype == torch.int8}
    missing = [name for name in (*expected, *scales) if name not in tensors and not _is_counter(name)]
    unexpected = [name for name in tensors if name not in expected and name not in scales]
    if missing or unexpected:
        raise CheckpointError(
            f"does not fit Inception V3: {_listed('missing', missing)}; {_listed('unexpected', unexpected)}"
        )
    for name, value in tensors.items():
        shape = expected[scales[name]][:1] if name in scales else expected[name]
        if value.shape != shape:
            raise CheckpointError(f"does not fit Inception V3: {name} is {_shape(value)}, not {_shape_text(shape)}")
        if value.dtype not in FLOATS and not _is_counter(name) and name + SCALE_SUFFIX not in scales:
            raise CheckpointError(f"{name} is {_dtype(value)}", "save the tensors as float32")


def _require_finite(tensors: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError for a tensor whose values would make predictions NaN, in fp32 and after decompression."""
    largest = torch.finfo(torch.float32).max
    for name, value in tensors.items():
        if value.dtype not in FLOATS:
            continue
        low, high = (float(bound) for bound in value.aminmax())  # NaN if any value is
        # An int8 tensor times its scale must be finite, too.
        bound = largest / 128 if name.endswith(SCALE_SUFFIX) else largest
        if not max(-low, high) <= bound or math.isnan(low):
            reason = f"{name} contains values that are not finite (NaN, or infinite in float32)"
            raise CheckpointError(reason, "use an earlier checkpoint of the training, or train with a lower rate")
        if name.endswith(".running_var") and low < 0:
            raise CheckpointError(f"{name} contains negative values, but is a variance", "use another checkpoint")


def _with_counters(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Add the batch counters that torch before 0.4.1 did not save, and that only training uses."""
    return {name: torch.zeros((), dtype=torch.long) for name in _expected(1) if _is_counter(name)} | tensors


@cache
def _expected(num_classes: int) -> dict[str, torch.Size]:
    """Return the shapes of the tensors of an Inception V3, by name."""
    return {name: value.shape for name, value in network_without_values(num_classes).state_dict().items()}


def _is_counter(name: str) -> bool:
    return name.endswith(".num_batches_tracked")


def _guess_network(tensors: Iterable[str]) -> str:
    names = {_PREFIXES.sub("", name) for name in tensors}
    for name, network in OTHER_NETWORKS:
        if name in names:
            return network
    return f"a network with the tensors {_some(sorted(names))}"


def _listed(word: str, names: list[str]) -> str:
    return f"{len(names)} {word} ({_some(names)})" if names else f"nothing {word}"


def _some(names: list[str]) -> str:
    """Return the first names, and an ellipsis if there are more."""
    return ", ".join(map(_short, names[:2])) + ", …" * (len(names) > 2)


def _short(name: str, limit: int = 50) -> str:
    return name if len(name) <= limit else f"{name[:limit]}…"


def _shape(tensor: Tensor) -> str:
    return _shape_text(tensor.shape)


def _shape_text(shape: Iterable[int]) -> str:
    return " × ".join(f"{side:,}" for side in shape) or "a number"


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")

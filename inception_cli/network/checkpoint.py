"""Checkpoints in every dialect of Inception V3, translated once, at the door, to this project's names.

(a) torchvision's and timm's names, with or without AuxLogits, a `state_dict` wrapper or a `module.` prefix;
(b) mmpretrain's, behind `backbone.`;
(c) 1001 classes, background first, as TensorFlow counts them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from inception_cli.network.model import InceptionV3

#: Some name of each network's state dict → what to call it. First match wins.
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
    ("fc._packed_params._packed_params", "a network that torch has quantised"),
)

#: Classes of the Inception of the Fréchet distance, whose pooling differs, and whose classes are not ImageNet's.
FID_CLASSES = 1008
#: What is put after a tensor's name for its scales.
SCALE = ".int8_scale"
#: ImageNet's classes behind a background class (FACTS of TF-slim and TF-Hub: label = index + 1).
TF_CLASSES = 1001


@dataclass(frozen=True)
class Checkpoint:
    """A state dict in this project's names, in fp32, and what had to be done to it (for the user to read)."""

    tensors: Mapping[str, Tensor]
    notes: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int:
        return self.tensors["fc.weight"].shape[0]

    def network(self) -> InceptionV3:
        """The network with these tensors, ready to classify."""
        with torch.device("meta"):
            network = InceptionV3(self.num_classes)
        network.load_state_dict(dict(self.tensors), assign=True)
        return network.eval().requires_grad_(False)


def compress(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convolutions and classifier as int8, each output channel with a scale in fp32: a quarter of the size."""
    compressed = dict(tensors)
    for name, value in tensors.items():
        if value.dim() > 1:
            scale = value.flatten(1).abs().amax(1).clamp(min=torch.finfo(torch.float32).tiny) / 127
            compressed[name] = (value / _per_channel(scale, value)).round().to(torch.int8)
            compressed[name + SCALE] = scale
    return compressed


def expand(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `compress` made, in fp32 again; anything else as it is."""
    expanded = {name: value for name, value in tensors.items() if not name.endswith(SCALE)}
    for name in expanded:
        if (scale := tensors.get(name + SCALE)) is not None:
            expanded[name] = expanded[name].float() * _per_channel(scale, expanded[name])
    return expanded


def shapes(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of the same names and shapes that take no memory, to look at a checkpoint without expanding it."""
    zero = torch.zeros(())
    return {name: zero.expand(value.shape) for name, value in tensors.items() if not name.endswith(SCALE)}


def _per_channel(scale: Tensor, like: Tensor) -> Tensor:
    return scale.view(-1, *[1] * (like.dim() - 1))


def unwrap(loaded: object) -> dict[str, Tensor]:
    """What `torch.load` gave → names and tensors; ValueError when there are none."""
    for wrapper in ("state_dict", "model"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(wrapper), Mapping):
            loaded = loaded[wrapper]
    if not isinstance(loaded, Mapping) or not any(isinstance(value, Tensor) for value in loaded.values()):
        raise ValueError("holds no state dict: save the network's state_dict()")
    return {str(name): value for name, value in loaded.items() if isinstance(value, Tensor)}


def translate(tensors: Mapping[str, Tensor], names: int | None = None) -> Checkpoint:
    """A state dict in any of the dialects → ours; ValueError that says what another network's seems to be.

    `names`: how many class names are known for it; 1001 or 1008 of them are classes like any others.
    """
    tensors = expand(_without_prefixes(tensors))
    tensors = {name: value for name, value in tensors.items() if not name.startswith("AuxLogits.")}
    if "Conv2d_1a_3x3.conv.weight" not in tensors or "fc.weight" not in tensors:
        raise ValueError(f"is not Inception V3; it seems to be {_seems(tensors)}")
    rows = tensors["fc.weight"].shape[0]
    if rows == FID_CLASSES != names:
        raise ValueError(
            "is the Inception of the Fréchet distance (FID, 1008 classes), which does not classify ImageNet"
        )
    notes = []
    if rows == TF_CLASSES != names:
        tensors["fc.weight"], tensors["fc.bias"] = tensors["fc.weight"][1:], tensors["fc.bias"][1:]
        notes.append("1001 classes are taken for TensorFlow's: the background class is left out")
    return Checkpoint(_strict(tensors), tuple(notes))


def _without_prefixes(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names without the prefixes that wrappers put before all of them (`module.`) or the network's (`backbone.`)."""
    for prefix in ("module.", "backbone."):
        if any(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return dict(tensors)


def _strict(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that the network has, in fp32; ValueError that names what is missing, left over or misshapen."""
    with torch.device("meta"):
        expected = InceptionV3(tensors["fc.weight"].shape[0]).state_dict()
    counters = {name for name in expected if name.endswith(".num_batches_tracked")}  # older than torch 0.4.1: none
    tensors = {name: torch.zeros((), dtype=torch.long) for name in counters} | tensors
    missing = [name for name in expected if name not in tensors]
    unexpected = [name for name in tensors if name not in expected]
    if missing or unexpected:
        raise ValueError(f"does not fit Inception V3: {_some('missing', missing)}; {_some('unexpected', unexpected)}")
    for name, like in expected.items():
        if tensors[name].shape != like.shape:
            raise ValueError(f"does not fit Inception V3: {name} is {_by(tensors[name])}, not {_by(like)}")
    return {name: tensors[name].to(like.dtype) for name, like in expected.items()}


def _seems(names: Iterable[str]) -> str:
    names = set(names)
    for name, network in OTHER_NETWORKS:
        if name in names:
            return network
    return f"something with {', '.join(sorted(names)[:3])}, …"


def _some(word: str, names: list[str]) -> str:
    if not names:
        return f"nothing {word}"
    return f"{len(names)} {word} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"


def _by(tensor: Tensor) -> str:
    return " × ".join(map(str, tensor.shape)) or "a number"

"""timm's `config.json`: the class names and the preset of a network, read and written.

The fields are those of timm's `PretrainedCfg` (timm/models/_pretrained.py), and what they do to an image is in
`transforms_imagenet_eval` (timm/data/transforms_factory.py). A field that is absent or null has timm's default.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import msgspec

from inception_cli.config import FEATURES, MAX_CLASSES, PRESETS, Classes, Filter, Preset
from inception_cli.errors import InceptionError, UsageError, excerpt, one_line, os_errors, plural, require
from inception_cli.weights.read import Metadata, require_readable, require_usable

CONFIG, CARD = "config.json", "README.md"
#: timm's names of this architecture, those of its versions before 0.9 included.
ARCHITECTURES = ("inception_v3", "tf_inception_v3", "adv_inception_v3", "gluon_inception_v3")
#: The weights' files in the order in which timm looks for them.
WEIGHTS_FILES = ("model.safetensors", "pytorch_model.bin")
MAX_BYTES = 16 << 20  # that of ImageNet-21k with descriptions has 2 MB

#: Arguments of timm's network that do not change what it predicts, and those that must have one value.
_WITHOUT_EFFECT = ("drop_rate", "aux_logits")
_FIXED_ARGUMENTS = {
    "in_chans": 3,
    "global_pool": "avg",
    "norm_layer": "batchnorm2d",
    "norm_eps": 0.001,
    "act_layer": "relu",
}
_CROP_PCT, _CROP_DIGITS = 0.875, 17  # timm's default; digits of a float
_REMEDY = "correct it, or give the file of the weights itself"
_NAMES_REMEDY = "correct it, give others with --classes FILE (not for train), or give the file of the weights itself"


@dataclass(frozen=True)
class _Pretrained:
    """The fields of `pretrained_cfg` that predictions depend on."""

    input_size: tuple[int, int, int] | None = None
    test_input_size: tuple[int, int, int] | None = None
    crop_pct: float | None = None
    test_crop_pct: float | None = None
    crop_mode: str | None = None
    interpolation: str | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    num_classes: int | None = None
    label_offset: int | None = None
    label_names: list[str] | dict[str, str] | None = None
    hf_hub_filename: str | None = None
    custom_load: bool | str | None = None
    global_pool: str | None = None  # only before timm 0.9
    model_args: dict[str, Any] | None = field(default_factory=dict)


@dataclass(frozen=True)
class ModelConfig:
    """What a `config.json` says about the weights beside it."""

    preset: Preset
    num_classes: int
    classes: tuple[str, ...] | None  # None: without names
    label_offset: int = 0  # classes in front that the weights have, and predictions do not
    notes: tuple[str, ...] = ()


def read_config(file: Path, with_names: bool = True) -> ModelConfig:
    """Return what a `config.json` says; InceptionError names a field that is wrong, or that cannot be reproduced.

    Without `with_names` the class names, for which the user has given others, are neither read nor checked.
    """
    require_readable(file, "give a folder with timm's config.json")
    with os_errors(file, "give another folder"):
        data = file.read_bytes() if file.stat().st_size <= MAX_BYTES else b""
    try:
        require(bool(data), f"it is empty, or has over {MAX_BYTES >> 20} MB")
        fields = _flat(file, data)
        return _model_config(fields if with_names else fields | {"label_names": None})
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        reason = one_line(error).replace(" - at `$.", " - at `").replace(" - at `", ": at `")
        remedy = _NAMES_REMEDY if "label_names" in reason else _REMEDY
        raise InceptionError(f"{file}: {reason.rstrip('.')}; {remedy}") from error


def _flat(file: Path, data: bytes) -> dict[str, Any]:
    """Return the fields of `pretrained_cfg`, with those beside it that replace them.

    Before timm 0.9 all fields were beside one another, and the class names were called `labels`. Raises InceptionError
    for another architecture, and ValueError for what is no configuration.
    """
    fields: dict[str, Any] = msgspec.json.decode(data)
    require(isinstance(fields, dict), "it is not a JSON object")
    architecture = str(fields.get("architecture") or "")
    require(bool(architecture), "it names no architecture, so it is not timm's layout")
    if architecture.partition(".")[0] not in ARCHITECTURES:
        raise InceptionError(
            f"{file}: the architecture is {excerpt(repr(architecture))}; give weights of {ARCHITECTURES[0]}"
        )
    if "pretrained_cfg" not in fields:
        return {"label_names": fields.get("labels")} | fields
    pretrained: dict[str, Any] = fields["pretrained_cfg"]
    require(isinstance(pretrained, dict), "pretrained_cfg is not a JSON object")
    replacing = ("num_classes", "label_names", "model_args")
    return pretrained | {name: fields[name] for name in replacing if name in fields}


def _model_config(fields: Mapping[str, Any]) -> ModelConfig:
    """Return the configuration; ValueError names the field that is wrong."""
    timm = msgspec.convert(fields, _Pretrained)
    num_classes = 1000 if timm.num_classes is None else timm.num_classes
    require(0 < num_classes <= MAX_CLASSES, f"num_classes is {num_classes}, not 1 to {MAX_CLASSES:,}")
    offset = timm.label_offset or 0
    require(
        offset == 0 or (offset, num_classes) == (1, 1000),
        f"label_offset is {offset}: only 0 is supported, and 1 before ImageNet's 1000 classes",
    )
    filename = timm.hf_hub_filename
    require(filename in (None, *WEIGHTS_FILES), f"hf_hub_filename {excerpt(repr(filename))} is not supported")
    require(not timm.custom_load, f"custom_load is {excerpt(repr(timm.custom_load))}: the weights are not timm's")
    require(timm.global_pool in (None, "avg"), f"global_pool {excerpt(repr(timm.global_pool))} is not supported")
    _require_arguments(timm.model_args or {}, num_classes)
    preset = _preset(timm)
    tested = (timm.test_input_size or timm.input_size, timm.test_crop_pct or timm.crop_pct)
    notes = ("test_input_size and test_crop_pct are not used, as by default in timm",)
    return ModelConfig(
        preset=preset,
        num_classes=num_classes,
        classes=_class_names(timm.label_names, num_classes),
        label_offset=offset,
        notes=() if tested == (timm.input_size, timm.crop_pct) else notes,
    )


def _require_arguments(arguments: Mapping[str, Any], num_classes: int) -> None:
    """Raise UsageError unless timm would make our network of the arguments."""
    for name, value in arguments.items():
        fixed = (_FIXED_ARGUMENTS | {"num_classes": num_classes}).get(name)
        require(
            name in _WITHOUT_EFFECT or value is None or (fixed is not None and value == fixed),
            f"model_args: {excerpt(name)} is {excerpt(repr(value))}, "
            + (f"not {fixed!r}" if fixed is not None else "which is not supported"),
        )


def _preset(timm: _Pretrained) -> Preset:
    """Return the preset that prepares images as timm's transform for evaluation does; UsageError if none can."""
    channels, height, width = timm.input_size or (3, 224, 224)
    require(channels == 3, f"input_size has {channels} channels, not the 3 of RGB")
    require(height == width, f"input_size is {height} × {width}: only squares are supported")
    crop_mode = timm.crop_mode or "center"
    require(crop_mode == "center", f"crop_mode {excerpt(repr(crop_mode))} is not supported, only 'center' is")
    interpolation = timm.interpolation or "bicubic"
    require(
        interpolation in get_args(Filter),
        f"interpolation {excerpt(repr(interpolation))} is not supported, only {' and '.join(get_args(Filter))} are",
    )
    share = timm.crop_pct or _CROP_PCT
    require(0 < share <= 1, f"crop_pct is {share:g}, not above 0 and at most 1")
    preset = Preset(
        name=CONFIG,
        size=height,
        resize=math.floor(min(height / share, 1e9)),
        filter=interpolation,  # type: ignore[arg-type]
        antialias=True,
        mean=timm.mean or PRESETS["timm-gluon"].mean,
        std=timm.std or PRESETS["timm-gluon"].std,
        exif=False,
    )
    require_usable(preset)
    return next((known for known in PRESETS.values() if replace(preset, name=known.name) == known), preset)


def _class_names(names: list[str] | dict[str, str] | None, num_classes: int) -> tuple[str, ...] | None:
    """Return the class names by index; None if there are none. A mapping has the index as key, in decimal."""
    if not names:
        return None
    if isinstance(names, dict):
        missing = [index for index in range(num_classes) if str(index) not in names]
        require(not missing, f"label_names has no name for class {(missing or [0])[0]}")
        unknown = set(names) - set(map(str, range(num_classes)))
        require(not unknown, f"label_names: {excerpt(repr(min(unknown, default='')))} is no class")
        names = [names[str(index)] for index in range(num_classes)]
    require(
        len(names) == num_classes,
        f"label_names has {plural(len(names), 'name')} for {plural(num_classes, 'class', 'classes')}",
    )
    try:
        return Classes(tuple(names)).names
    except UsageError as error:
        raise UsageError(f"label_names: {error}") from error


def merge(config: ModelConfig, metadata: Metadata) -> Metadata:
    """Return the metadata of weights with the class names and the preset of the `config.json` beside them.

    The weights' own preset is kept if it prepares images in the same way: only it can say to apply the EXIF
    orientation.
    """
    own, preset = metadata.preset, config.preset
    if own and replace(own, name=preset.name, exif=preset.exif) == preset:
        preset = own
    return replace(metadata, classes=config.classes or metadata.classes, preset=preset)


def require_stored_classes(file: Path, config: ModelConfig, stored: int) -> None:
    """Raise InceptionError unless the weights beside a `config.json` have as many classes as it says."""
    if stored != config.num_classes + config.label_offset:
        offset = f" with label_offset {config.label_offset}" if config.label_offset else ""
        raise InceptionError(
            f"{file}: num_classes is {config.num_classes}{offset}, but the weights have "
            f"{plural(stored, 'class', 'classes')}; {_REMEDY}"
        )


def config_fields(preset: Preset, classes: Sequence[str]) -> dict[str, Any]:
    """Return the fields of a `config.json` with which timm prepares images as the preset does, but for EXIF."""
    return {
        "architecture": ARCHITECTURES[0],
        "num_classes": len(classes),
        "num_features": FEATURES,
        "global_pool": "avg",
        "label_names": list(classes),
        "pretrained_cfg": {
            "custom_load": False,
            "input_size": [3, preset.size, preset.size],
            "fixed_input_size": False,
            "interpolation": preset.filter,
            "crop_pct": crop_pct(preset.size, preset.resize),
            "crop_mode": "center",
            "mean": list(preset.mean),
            "std": list(preset.std),
            "num_classes": len(classes),
            "first_conv": "Conv2d_1a_3x3.conv",
            "classifier": "fc",
        },
    }


def crop_pct(size: int, resize: int) -> float:
    """Return a short decimal number c with floor(size / c) = resize, which is timm's rule for the short side."""
    middle = size / (resize + 0.5)
    candidates = (_CROP_PCT, *(round(middle, digits) for digits in range(1, _CROP_DIGITS + 1)))
    return next(each for each in candidates if 0 < each <= 1 and math.floor(size / each) == resize)

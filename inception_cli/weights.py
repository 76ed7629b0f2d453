"""A name or a file → network, preset and class names.

Weights own their preset, class names and published figures: a checkpoint never gets pixels that it was not trained on
by default. Nothing in a file is ever run: safetensors, or `torch.load` with `weights_only=True`.
"""

import difflib
import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from inception_cli.errors import InceptionError, UsageError
from inception_cli.images.preprocess import PRESETS, Preset
from inception_cli.network import checkpoint
from inception_cli.network.checkpoint import Checkpoint
from inception_cli.network.model import InceptionV3
from inception_cli.published import DEMO, PUBLISHED, Published, Report, demo, fetch, sha256
from inception_cli.results.classes import Classes, imagenet

SUFFIXES = (".pth", ".pt", ".safetensors")
DEFAULT = "torchvision"
#: The one entry of a safetensors header in which this tool keeps classes, preset and how it was trained.
METADATA = "inception"


@dataclass(frozen=True)
class Weights:
    """A checkpoint on this machine, with all that makes its numbers right. Holds no tensors: see `load`."""

    name: str
    file: str
    source: str
    sha256: str
    preset: Preset
    classes: Classes
    top1: float | None = None  # percent, as published
    top5: float | None = None
    licence: str = ""
    notes: tuple[str, ...] = ()  # what was taken for granted; told to the user

    def __post_init__(self) -> None:
        if not isinstance(self.notes, tuple):
            object.__setattr__(self, "notes", tuple(self.notes))

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Weights":
        classes = Classes(tuple(data["classes"]["names"]))
        return cls(**{**data, "preset": preset_from(data["preset"]), "classes": classes})


def find(
    name: str,
    preset: str | None = None,
    classes: Classes | None = None,
    offline: bool = False,
    report: Report = lambda name, done, total: None,
) -> Weights:
    """The weights of that name, fetched if need be, or in that file, with everything that is known of them.

    `preset` and `classes` win over the weights' own. UsageError for an unknown name, InceptionError for a file that is
    not there or holds anything else.
    """
    published = PUBLISHED.get(name)
    if published is None and name != DEMO and not _is_file(name):
        raise UsageError(unknown(name, [*PUBLISHED, DEMO], "weights") + f" (a file ends in {', '.join(SUFFIXES)})")
    file = fetch(published, offline, report) if published else demo() if name == DEMO else Path(name)
    tensors, metadata = read(file)
    names = classes.names if classes else metadata.get("classes")
    found = _translate(file, checkpoint.shapes(tensors), len(names) if names else None)
    own_preset = _own_preset(published, metadata)
    notes = [*found.notes]
    if own_preset is None and preset is None:
        notes.append("it names no preset: torchvision's is taken (--preset says otherwise)")
    elif own_preset and preset and own_preset.name != preset:
        notes.append(f"preset {preset} is taken in place of its own, {own_preset.name}")
    return Weights(
        name=name,
        file=str(file),
        source=published.source if published else str(file),
        sha256=_hash(file),
        preset=named_preset(preset) if preset else own_preset or PRESETS["torchvision"],
        classes=_classes(name, found.num_classes, classes, metadata, notes),
        top1=published.top1 if published else None,
        top5=published.top5 if published else None,
        licence=published.licence if published else metadata.get("licence", ""),
        notes=tuple(notes),
    )


def load(weights: Weights) -> InceptionV3:
    """The network of these weights: fp32, on the CPU, ready to classify; the file must still be the one found."""
    file = Path(weights.file)
    if _hash(file) != weights.sha256:
        raise InceptionError(
            f"{file}: changed since the run began: put the old file back, or start again with --restart"
        )
    tensors, _ = read(file)
    return _translate(file, tensors, len(weights.classes.names)).network()


def save(
    file: Path,
    network: InceptionV3,
    classes: tuple[str, ...],
    preset: Preset,
    trained: Mapping[str, Any],
    compress: bool = False,
) -> None:
    """Write `file` (safetensors, fp32), with class names, preset and how it was trained in the metadata; atomic.

    `compress`: int8 with a scale for each output channel, a quarter of the size, for weights that travel.
    """
    metadata = {"classes": list(classes), "preset": asdict(preset), "trained": dict(trained)}
    tensors = {
        name: value.detach().to("cpu").contiguous()
        for name, value in network.state_dict().items()
        if not name.startswith("AuxLogits.")
    }
    temporary = file.with_name(file.name + ".tmp")
    try:
        save_file(
            checkpoint.compress(tensors) if compress else tensors,
            temporary,
            metadata={METADATA: json.dumps(metadata, ensure_ascii=False)},
        )
        temporary.replace(file)
    except (OSError, SafetensorError) as error:
        temporary.unlink(missing_ok=True)
        raise InceptionError(f"{file}: cannot be written ({error}); choose another place") from error


def read(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Names and tensors of a checkpoint, and this tool's metadata when it wrote it; nothing in the file is run."""
    try:
        if file.suffix.lower() == ".safetensors":
            return _read_safetensors(file)
        # Only the zip format can be mapped into memory; torch before 1.6 wrote another.
        loaded = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
        return checkpoint.unwrap(loaded), {}
    except OSError as error:
        raise _unreadable(file, error) from error
    except ValueError as error:
        raise InceptionError(f"{file}: {error}") from error
    except Exception as error:  # torch and pickle raise many kinds; each means that this is no plain state dict
        raise InceptionError(
            f"{file}: not a checkpoint of tensors alone, and nothing else is opened: save the network's state_dict()"
        ) from error


def named_preset(name: str) -> Preset:
    """The preset of that name; UsageError that offers the nearest."""
    if name not in PRESETS:
        raise UsageError(unknown(name, [*PRESETS], "preset"))
    return PRESETS[name]


def preset_from(data: Mapping[str, Any]) -> Preset:
    """A preset as it was written to JSON."""
    return Preset(**{**data, "mean": tuple(data["mean"]), "std": tuple(data["std"])})


def unknown(word: str, known: list[str], what: str) -> str:
    """One line for a mistyped name: the nearest known one, or all of them."""
    nearest = difflib.get_close_matches(word, known, n=1)
    return f"no {what} {word!r}: " + (f"did you mean {nearest[0]}?" if nearest else f"choose from {', '.join(known)}")


def _hash(file: Path) -> str:
    try:
        return sha256(file)
    except OSError as error:
        raise _unreadable(file, error) from error


def _is_file(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) or "/" in name or Path(name).is_file()


def _read_safetensors(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    with file.open("rb"):  # safetensors' own error for a missing file names no file
        pass
    try:
        with safe_open(file, framework="pt") as stream:
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 - no mapping
            metadata = json.loads((stream.metadata() or {}).get(METADATA, "{}"))
    except (SafetensorError, json.JSONDecodeError) as error:
        raise ValueError(f"damaged safetensors file ({error}): fetch it again") from error
    return tensors, metadata


def _translate(file: Path, tensors: Mapping[str, Tensor], names: int | None) -> Checkpoint:
    try:
        return checkpoint.translate(tensors, names)
    except ValueError as error:
        cure = "--weights takes an Inception V3 of torchvision, timm, mmpretrain, or one that `inception train` made"
        raise InceptionError(f"{file}: {error}; {cure}") from error


def _own_preset(published: Published | None, metadata: Mapping[str, Any]) -> Preset | None:
    if published:
        return PRESETS[published.preset]
    return preset_from(metadata["preset"]) if "preset" in metadata else None


def _classes(name: str, count: int, given: Classes | None, metadata: Mapping[str, Any], notes: list[str]) -> Classes:
    """Class names in the model's order: those given, else the weights' own, else ImageNet's for 1000, else numbers."""
    if given is not None:
        if len(given.names) != count:
            raise UsageError(
                f"--classes names {len(given.names)} classes, but {name} has {count}; give a name for each"
            )
        return given
    if "classes" in metadata:
        return Classes(tuple(metadata["classes"]))
    if count == 1000:
        if name not in PUBLISHED:
            notes.append("1000 classes without names are taken for ImageNet's (--classes FILE says otherwise)")
        return imagenet()
    notes.append(f"{count} classes without names are called by their numbers (--classes FILE names them)")
    return Classes(tuple(map(str, range(count))))


def _unreadable(file: Path, error: OSError) -> InceptionError:
    reason = "no such file" if isinstance(error, FileNotFoundError) else (error.strerror or str(error)).lower()
    return InceptionError(f"{file}: {reason}; --weights takes a file ending in {', '.join(SUFFIXES)} or a name")

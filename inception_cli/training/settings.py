"""Records of a training: what was requested (`TrainSettings`) and what is done (`TrainConfig`)."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from inception_cli.config import MIN_SIDE, PRESETS, Auto, Precision, Preset, TrainPrecisionChoice, Weights
from inception_cli.errors import require, require_range
from inception_cli.weights.registry import FOLDER_PREFIX, HUB_PREFIX

#: The start that means random weights.
SCRATCH = "scratch"
DEFAULT_BATCH_SIZE = 32  # the learning rate is proportional to the batch size
#: File systems allow 255; the part file, while it is written, has 19 more: `.NAME.part.0a1b2c3d.tmp`.
MAX_NAME_BYTES = 236
#: torch takes seeds of 64 bits, and integers with a sign in tensors and checkpoints.
MAX_SEED = 2**63 - 1


@dataclass(frozen=True)
class TrainSettings:
    """What was requested for a training; "auto" is resolved by `training.resolve.resolve`."""

    train_dir: str
    out: str
    val_dir: str | None = None  # None: a share of the training images
    start: str = "torchvision"  # weights, or "scratch"
    size: int | Auto = "auto"  # pixels
    epochs: int = 30
    seed: int = 0
    batch_size: int | Auto = "auto"
    workers: int | Auto = "auto"
    device: str = "auto"
    precision: TrainPrecisionChoice = "auto"
    offline: bool = False


def is_folder(out: str) -> bool:
    """Return whether trained weights are to be written as a folder in timm's layout, rather than as a file."""
    return out.endswith("/") or Path(out).is_dir()


def real_folder(out: str) -> Path:
    """Return the path of a folder; that of its target for a symbolic link, which no folder can replace."""
    return Path(os.path.realpath(out)) if Path(out).is_symlink() else Path(out)


@dataclass(frozen=True)
class TrainConfig:
    """What a training does, to the last value."""

    train_dir: Path
    out: Path
    val_dir: Path | None = None  # None: a share of the training images
    start: Weights | None = None  # None: from scratch
    size: int = 176  # pixels: the input resolution of the trained network
    epochs: int = 30
    seed: int = 0
    batch_size: int = DEFAULT_BATCH_SIZE
    workers: int = 1  # threads that decode and crop
    device: str = "cpu"
    precision: Precision = "fp32"
    folder: bool = False  # `out` is a folder in timm's layout, not a .safetensors file

    def __post_init__(self) -> None:
        require(self.size >= MIN_SIDE, f"size {self.size}: Inception V3 needs at least {MIN_SIDE} pixels")
        require_range("epochs", self.epochs, 1)
        require_range("batch_size (for batch norm)", self.batch_size, 2)
        require_range("workers", self.workers, 0)
        require_range("seed", self.seed, 0, MAX_SEED)
        require(self.precision in ("fp32", "bf16"), f"precision {self.precision}: training runs in fp32 or bf16")
        length = len(os.fsencode(self.out.name))
        require(
            length <= MAX_NAME_BYTES, f"{self.out}: the name has {length} bytes; give one of at most {MAX_NAME_BYTES}"
        )
        if self.folder:
            self._require_folder()
        else:
            require(self.out.suffix == ".safetensors", f"{self.out}: trained weights are a .safetensors file")

    def _require_folder(self) -> None:
        """Raise UsageError unless `out` can be a folder in timm's layout."""
        require(self.out.name not in ("", ".."), f"{self.out}: give the name of a new folder, such as mine/")
        for images in filter(None, (self.train_dir, self.val_dir)):
            # Unlike Path.resolve, realpath accepts a link to itself.
            inside = Path(os.path.realpath(self.out)).is_relative_to(images.resolve())
            require(not inside, f"{self.out}: is in {images}, where it would be a class; choose another output folder")
        require(
            self.preset.antialias,
            f"{self.out}: timm cannot resize as the preset {self.preset.name} does, without antialias; give a "
            ".safetensors file as output, or start from other weights",
        )

    @property
    def preset(self) -> Preset:
        """The start's preset, else torchvision's, at the training's input resolution."""
        base = self.start.preset if self.start else PRESETS["torchvision"]
        resize = round(self.size * base.resize / base.size)
        name = re.sub(r"(-\d+)+$", "", base.name)  # without the input resolutions of earlier trainings
        return replace(base, name=f"{name}-{self.size}", size=self.size, resize=resize, exif=True)

    def keeps_classifier(self, classes: Sequence[str]) -> bool:
        """Return whether the start has these classes, in any order, so that its classifier is trained further."""
        return self.start is not None and sorted(self.start.classes.names) == sorted(classes)

    @property
    def start_name(self) -> str:
        """The name of the weights that training starts from, without folders of this machine; "scratch" if none."""
        if not self.start:
            return SCRATCH
        name = self.start.name.removeprefix(FOLDER_PREFIX)
        return name if name.startswith(HUB_PREFIX) else Path(name).name

    @property
    def part(self) -> Path:
        """The checkpoint of an unfinished training."""
        return self.out.with_name(self.out.name + ".part")

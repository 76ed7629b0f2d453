"""Records of a training: what was requested (`TrainSettings`) and what is done (`TrainConfig`)."""

from dataclasses import dataclass, replace
from pathlib import Path

from inception_cli.config import MIN_SIDE, PRESETS, Auto, Precision, Preset, TrainPrecisionChoice, Weights
from inception_cli.errors import require, require_range


@dataclass(frozen=True)
class TrainSettings:
    """What was requested for a training; "auto" is resolved by `training.train.resolve`."""

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
    batch_size: int = 32
    workers: int = 1  # threads that decode and crop
    device: str = "cpu"
    precision: Precision = "fp32"

    def __post_init__(self) -> None:
        require(self.size >= MIN_SIDE, f"size {self.size}: Inception V3 needs at least {MIN_SIDE} pixels")
        require_range("epochs", self.epochs, 1)
        require_range("batch_size (for batch norm)", self.batch_size, 2)
        require_range("workers", self.workers, 0)
        require_range("seed", self.seed, 0)
        require(self.precision in ("fp32", "bf16"), f"precision {self.precision}: training runs in fp32 or bf16")
        require(self.out.suffix == ".safetensors", f"{self.out}: trained weights are a .safetensors file")

    @property
    def preset(self) -> Preset:
        """The start's preset, else torchvision's, at the training's input resolution."""
        base = self.start.preset if self.start else PRESETS["torchvision"]
        resize = round(self.size * base.resize / base.size)
        return replace(base, name=f"{base.name}-{self.size}", size=self.size, resize=resize, exif=True)

    @property
    def part(self) -> Path:
        """The checkpoint of an unfinished training."""
        return self.out.with_name(self.out.name + ".part")

"""What a run was asked (`Settings`), and what it does (`Run`): every `auto` made a value before the first row."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from inception_cli import weights
from inception_cli.errors import InceptionError, UsageError
from inception_cli.images.loader import Loading
from inception_cli.images.preprocess import PRESETS, Pixels, Preset
from inception_cli.network import onednn, saturation
from inception_cli.network.model import MIN_SIDE
from inception_cli.network.optimize import DTYPES, Plan, require_precision
from inception_cli.published import Report
from inception_cli.results.classes import read_classes
from inception_cli.results.labels import only_classes
from inception_cli.weights import Weights

#: Pictures over this many pixels are not decoded: 2 GB in Pillow, four bytes a pixel.
MAX_PIXELS = 500_000_000
DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
COMPILE = ("auto", "on", "off")
#: From so many images on, what torch.compile saves is more than the minute that it takes.
WORTH_COMPILING = 10_000
#: From so many images on, a GPU's best batch is more than the seconds that it takes to measure.
WORTH_MEASURING = 10_000
SCRATCH = "scratch"  # what `--from` calls a network that has learnt nothing
DEFAULT_SIZE = 176  # pixels, of weights from scratch
DEFAULT_BATCH_SIZE = 32  # the recipe's; the learning rate is in proportion


@dataclass(frozen=True)
class Settings:
    """What was asked, as it was asked; None is `auto`."""

    weights: tuple[str, ...] = (weights.DEFAULT,)
    preset: str | None = None
    classes: str | None = None  # a file of class names
    top_k: int = 5
    batch_size: int | None = None  # images
    workers: int | None = None
    device: str = "auto"
    precision: str = "auto"
    crops: int = 1
    only_classes: str | None = None  # a, r or a file
    decode: str = "exact"
    exif: bool | None = None  # as the preset's publisher does
    compile: str = "auto"
    timeout: float = 60.0  # seconds
    max_pixels: int | None = None
    offline: bool = False

    def __post_init__(self) -> None:
        if self.top_k < 1 or (self.batch_size or 1) < 1 or (self.workers or 0) < 0:
            raise UsageError("--top-k and --batch-size start at 1, --workers at 0")
        if self.precision not in PRECISIONS:
            raise UsageError(weights.unknown(self.precision, [*PRECISIONS], "precision"))
        if self.compile not in COMPILE:
            raise UsageError(weights.unknown(self.compile, [*COMPILE], "--compile"))


@dataclass(frozen=True)
class Run:
    """What is done, to the last setting. Holds no tensors: it pickles, and goes into the manifest as it is."""

    pixels: Pixels
    loading: Loading
    plan: Plan
    top_k: int
    weights: tuple[Weights, ...]
    threads: int
    only: tuple[int, ...] = ()  # the classes that may be answered, by index; none: all

    def __post_init__(self) -> None:
        first = self.weights[0]
        for other in self.weights[1:]:
            if other.classes != first.classes or _geometry(other) != _geometry(first):
                raise UsageError(
                    f"{first.name} and {other.name} have other classes or another geometry, so they are no ensemble; "
                    "classify with one after the other"
                )

    def to_json(self) -> dict[str, Any]:
        """The run in JSON's own types."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Run":
        """The run that `to_json` wrote."""
        pixels = {**data["pixels"], "preset": weights.preset_from(data["pixels"]["preset"])}
        return cls(
            pixels=Pixels(**pixels),
            loading=Loading(**data["loading"]),
            plan=Plan(**data["plan"]),
            top_k=data["top_k"],
            weights=tuple(Weights.from_json(each) for each in data["weights"]),
            threads=data["threads"],
            only=tuple(data["only"]),
        )

    def rows_depend_on(self) -> dict[str, Any]:
        """All that the bytes of the rows depend on: workers and patience are not in it."""
        data = self.to_json()
        del data["loading"]["workers"], data["loading"]["timeout"]
        for each in data["weights"]:
            for told in ("file", "source", "notes", "licence", "top1", "top5"):
                del each[told]
        return data


def resolve(
    settings: Settings,
    earlier: Run | None = None,
    report: Report = lambda name, done, total: None,
    images: int = 0,
    plan: Plan | None = None,
) -> Run:
    """Every `auto` of `settings` made a value: that of the `earlier`, interrupted run, else this machine's.

    `images` is how many there are to classify, by which compiling pays or does not; `plan` is that of the machine which
    runs the network, where it is another one.
    UsageError or InceptionError for what cannot be had.
    """
    classes = read_classes(Path(settings.classes)) if settings.classes else None
    found = tuple(weights.find(name, settings.preset, classes, settings.offline, report) for name in settings.weights)
    preset = found[0].preset
    plan = plan or resolve_plan(settings, earlier, images)
    if settings.decode == "gpu" and not plan.device.startswith("cuda"):
        raise UsageError(f"--decode gpu: the network runs on {plan.device}, not on a CUDA GPU; leave it out")
    only = only_classes(settings.only_classes, found[0].classes) if settings.only_classes else ()
    batch_size = settings.batch_size or (earlier.loading.batch_size if earlier else _batch_size(plan, found[0], images))
    pixels = Pixels(
        preset=preset,
        crops=settings.crops,
        decode=settings.decode,
        exif=preset.exif if settings.exif is None else settings.exif,
        max_pixels=settings.max_pixels or (earlier.pixels.max_pixels if earlier else _max_pixels()),
    )
    if pixels.decode == "fast" and not pixels.fast:
        pixels = replace(pixels, decode="exact")
    return Run(
        pixels=pixels,
        loading=Loading(
            batch_size=batch_size,
            workers=_workers(settings.decode) if settings.workers is None else settings.workers,
            timeout=settings.timeout,
        ),
        plan=plan,
        top_k=min(settings.top_k, len(only or found[0].classes)),
        weights=found,
        threads=earlier.threads if earlier else cores(),
        only=only,
    )


def cores() -> int:
    """Processor cores allotted to this process: its affinity, or its container's quota where that is less."""
    allotted = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(allotted, int(quota) // int(period)))
    except (OSError, ValueError):  # no cgroup v2, or "max": no quota
        return allotted


def resolve_plan(settings: Settings, earlier: Run | None = None, images: int = 0) -> Plan:
    """Where the network runs, and in which precision."""
    device = earlier.plan.device if earlier and settings.device == "auto" else _device(settings.device)
    if settings.precision != "auto":
        precision = settings.precision
    else:
        precision = earlier.plan.precision if earlier else fastest_precision(device)
    if settings.compile != "auto":
        compiled = settings.compile == "on"
    elif earlier:
        compiled = earlier.plan.compile
    else:
        compiled = images >= WORTH_COMPILING and compiling_pays(device)
    plan = Plan(device=device, precision=precision, compile=compiled)
    require_precision(plan)
    return plan


def _device(asked: str) -> str:
    """The device asked for, checked; for `auto` CUDA, else Apple's Metal, else the processor."""
    if asked == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    kind, _, number = asked.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (number and not number.isdigit()):
        raise UsageError(weights.unknown(asked, [*DEVICES], "device"))
    here = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}[kind]
    if not here:
        raise InceptionError(f"--device {asked}: torch {torch.__version__} sees none here; use --device cpu")
    if kind == "cuda" and number and int(number) >= torch.cuda.device_count():
        raise InceptionError(
            f"--device {asked}: there are {torch.cuda.device_count()} CUDA devices, counted from 0; use --device cuda:0"
        )
    return asked


def compiling_pays(device: str) -> bool:
    """Whether torch.compile makes a network faster than it is by oneDNN's operators, and can: it needs a compiler."""
    if device == "cpu" and onednn.available(DTYPES[fastest_precision(device)]):
        return False
    return device != "mps" and shutil.which("c++") is not None


def fastest_precision(device: str) -> str:
    """The fastest precision that the hardware has natively."""
    if device.startswith("cuda"):
        major, _ = torch.cuda.get_device_capability(device)
        return "bf16" if major >= 8 else "fp16" if major >= 7 else "fp32"
    if device == "cpu":
        has = torch.cpu.get_capabilities()
        return "bf16" if has.get("avx512_bf16") or has.get("amx_bf16") else "fp32"
    return "fp32"


def _max_pixels() -> int:
    """The bound on a picture: a sixteenth of the memory in bytes where that is less (four bytes a pixel, with room)."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(MAX_PIXELS, memory // 16)


def _batch_size(plan: Plan, weights: Weights, images: int) -> int:
    """Views that fill the device: of a GPU measured, unless the images are classified sooner than that is done."""
    if plan.device.startswith("cuda") and images >= WORTH_MEASURING:
        return saturation.batch_size(plan, weights.preset.size, len(weights.classes.names))
    return 32 if plan.device == "cpu" else 128


def _workers(decode: str) -> int:
    """One a core: beside a network on the same processor they stand back, and have every core while it waits.

    A few where they only read.
    """
    return min(4 if decode == "gpu" else 16, cores())


def _geometry(one: Weights) -> tuple[object, ...]:
    preset = one.preset
    return preset.size, preset.resize, preset.filter, preset.antialias


@dataclass(frozen=True)
class TrainSettings:
    """What a training was asked; every `auto` is a value by now."""

    train_dir: Path
    out: Path
    val_dir: Path | None = None  # None: a share of the photos judges
    start: Weights | None = None  # None: from scratch
    size: int = 176  # pixels, of the preset
    epochs: int = 100
    seed: int = 0
    batch_size: int = 32
    workers: int = 1  # threads that decode and crop
    device: str = "cpu"
    precision: str = "fp32"

    def __post_init__(self) -> None:
        if self.size < MIN_SIDE:
            raise UsageError(f"--size {self.size}: Inception V3 sees nothing below; choose {MIN_SIDE} pixels or more")
        if self.epochs < 1 or self.batch_size < 2 or self.workers < 0 or self.seed < 0:
            raise UsageError("--epochs starts at 1, --batch-size at 2 (batch norm), --workers and --seed at 0")
        if self.precision not in ("fp32", "bf16"):
            raise UsageError(f"--precision {self.precision}: training is in fp32 or bf16; choose one of them, or auto")
        if self.out.suffix != ".safetensors":
            raise UsageError(f"--out {self.out}: trained weights are a .safetensors file; name one")

    @property
    def preset(self) -> Preset:
        """The start's preset, else torchvision's, at the size asked for."""
        base = self.start.preset if self.start else PRESETS["torchvision"]
        resize = round(self.size * base.resize / base.size)
        return replace(base, name=f"{base.name}-{self.size}", size=self.size, resize=resize, exif=True)

    @property
    def part(self) -> Path:
        """The checkpoint of a training under way."""
        return self.out.with_name(self.out.name + ".part")


def resolve_training(
    folder: str,
    out: str,
    *,
    start: str,
    val_dir: str | None,
    size: int | None,
    epochs: int,
    seed: int,
    batch_size: int | None,
    workers: int | None,
    device: str,
    precision: str,
    offline: bool,
    report: Report,
) -> TrainSettings:
    """The settings of a training, every `auto` made a value; published weights that it starts from are fetched."""
    begin = None if start == SCRATCH else weights.find(start, offline=offline, report=report)
    plan = resolve_plan(Settings(device=device, precision=precision))
    learnable = {"fp16": "fp32"} if precision == "auto" else {}  # fp16 would need its losses scaled
    return TrainSettings(
        train_dir=Path(folder),
        out=Path(out),
        val_dir=Path(val_dir) if val_dir else None,
        start=begin,
        size=size or (begin.preset.size if begin else DEFAULT_SIZE),
        epochs=epochs,
        seed=seed,
        batch_size=batch_size or DEFAULT_BATCH_SIZE,
        workers=max(1, cores() // 2) if workers is None else workers,
        device=plan.device,
        precision=learnable.get(plan.precision, plan.precision),
    )

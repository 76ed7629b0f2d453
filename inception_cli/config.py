"""Records of a run: what was requested (`Settings`) and what is done (`RunConfig`), with the closed sets of values.

The records are frozen and validated when they are built: UsageError names the field and the values that it takes.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal, get_args

from inception_cli.errors import (
    MAX_TEXT,
    UsageError,
    excerpt,
    require,
    require_choice,
    require_range,
    require_sha256,
    require_text,
    require_timeout,
)

Auto = Literal["auto"]
Precision = Literal["fp32", "bf16", "fp16", "int8"]
PrecisionChoice = Literal["auto", "fp32", "bf16", "fp16", "int8"]
Int8Instructions = Literal["AMX", "AVX-512 VNNI", "AVX-VNNI"]  # that multiply uint8 by int8
TrainPrecisionChoice = Literal["auto", "fp32", "bf16"]
Decode = Literal["fast", "exact", "gpu"]
CompileChoice = Literal["auto", "on", "off"]
Engine = Literal["local", "ray"]
PresetName = Literal["torchvision", "mmpretrain", "timm", "timm-gluon"]
Filter = Literal["bilinear", "bicubic"]
Crops = Literal[1, 10, 12, 144]
ArrayName = Literal["features", "scores"]
ArrayType = Literal["float32", "float16"]

#: Features of a photo: the input of the classifier; mean and standard deviation of 768 channels in the middle.
FEATURES, MIDDLE_FEATURES = 2048, 2 * 768
#: Smallest input side of Inception V3 in pixels; below it the last grid would be empty.
MIN_SIDE = 75
#: Largest side of a resized image in pixels; more classes than any model of this kind has.
MAX_SIDE, MAX_CLASSES = 100_000, 100_000
MAX_RANGE = 1e6  # largest end of a range of outputs; those of fp16 end below
MAX_DEPTH = 100  # levels of a tree of classes at most
#: Limits far beyond what helps: larger numbers are typing errors, or come from a damaged manifest.
MAX_BATCH_SIZE, MAX_PROCESSES = 1_000_000, 4096
#: Names of devices: `cuda` is every visible GPU, `cuda:N` a single one.
DEVICE = re.compile(r"cpu|mps|cuda(:\d{1,4})?")

#: Suffix of a file with an array, NumPy's format.
ARRAY_SUFFIX = ".npy"

_HALF = (0.5, 0.5, 0.5)
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def require_device(value: str, choices: str) -> None:
    """Raise UsageError unless `value` is the name of a device."""
    require(bool(DEVICE.fullmatch(value)), f"device {excerpt(repr(value))}: choose {choices}")


@dataclass(frozen=True)
class Preset:
    """How a publisher prepares an image: short side to `resize`, centre `size`², mean and std of RGB on [0, 1].

    `antialias=False` is OpenCV's bilinear resize. `exif`: whether the publisher applies the EXIF orientation.
    """

    name: str
    size: int
    resize: int
    filter: Filter
    antialias: bool
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    exif: bool

    def __post_init__(self) -> None:
        require_text("preset.name", self.name)
        label = f"preset {excerpt(self.name)}"
        require(0 < self.size <= self.resize, f"{label}: need 0 < size <= resize, not {self.size} and {self.resize}")
        require_range(f"{label}: resize", self.resize, 1, MAX_SIDE)
        require_choice(f"{label}: filter", self.filter, get_args(Filter))
        require(self.antialias or self.filter == "bilinear", f"{label}: only bilinear works without antialias")
        require(
            len(self.mean) == len(self.std) == 3
            and all(abs(value) <= 1000 for value in self.mean)
            and all(0 < value <= 1000 for value in self.std),
            f"{label}: mean is three numbers from -1000 to 1000, std three numbers above 0 and at most 1000",
        )


#: The publishers' presets by name.
PRESETS: Mapping[str, Preset] = {
    preset.name: preset
    for preset in (
        # torchvision normalises by ImageNet's mean and std, and its network (transform_input=True) turns that into
        # (x - 0.5) / 0.5. Ours has no transform_input: the preset says what the convolutions see.
        Preset("torchvision", 299, 342, "bilinear", antialias=True, mean=_HALF, std=_HALF, exif=False),
        # mmpretrain reads with cv2, which applies EXIF and resizes without antialias, and has no transform_input.
        Preset("mmpretrain", 299, 342, "bilinear", antialias=False, mean=_IMAGENET_MEAN, std=_IMAGENET_STD, exif=True),
        Preset("timm", 299, 341, "bicubic", antialias=True, mean=_HALF, std=_HALF, exif=False),
        Preset("timm-gluon", 299, 341, "bicubic", antialias=True, mean=_IMAGENET_MEAN, std=_IMAGENET_STD, exif=False),
    )
}


@dataclass(frozen=True)
class Classes:
    """The class names of a model, unique and not empty; the position is the model's index."""

    names: tuple[str, ...]
    parents: tuple[tuple[str, str], ...] = ()  # an own tree: (class or node, its parent); ImageNet's is in `data`

    def __post_init__(self) -> None:
        require(bool(self.names), "there are no classes: names is empty")
        require(len(self.names) <= MAX_CLASSES, f"there are {len(self.names):,} classes, more than {MAX_CLASSES:,}")
        for index, name in enumerate(self.names):
            require(bool(name.strip()), f"class {index} has no name")
            require(len(name) <= MAX_TEXT, f"the name of class {index} has more than {MAX_TEXT:,} characters")
        if len(self.index) < len(self.names):
            # Some ImageNet lists have two cranes: a lookup by name would lose a class.
            duplicate = next(name for index, name in enumerate(self.names) if self.index[name] != index)
            raise UsageError(f"the class {excerpt(repr(duplicate))} occurs twice")
        if self.parents:
            _require_tree(self.parents, self.index)

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def index(self) -> dict[str, int]:
        """Model index by name."""
        return {name: index for index, name in enumerate(self.names)}


def _require_tree(pairs: Sequence[tuple[str, str]], classes: Mapping[str, int]) -> None:
    """Raise UsageError unless each name has one parent, which is no class, and the paths from classes upwards end."""
    parents: dict[str, str] = {}
    for name, parent in pairs:
        require(name not in parents, f"{excerpt(repr(name))} has two parents in the tree")
        parents[name] = parent
    nodes = set(parents.values())
    for name in {*classes, *parents, *nodes}:
        require(bool(name.strip()) and len(name) <= MAX_TEXT, "a node of the tree has no name, or a very long one")
        require(">" not in name, f"{excerpt(repr(name))}: a name in a tree must not contain >")
    for start, parent in parents.items():
        require(start in classes or start in nodes, f"{excerpt(repr(start))} is in the tree, but is no class")
        require(parent not in classes, f"{excerpt(repr(parent))} is a class, and the parent of {excerpt(repr(start))}")
        name, below = start, set[str]()
        while name in parents:
            require(name not in below, f"{excerpt(repr(name))} is above itself in the tree")
            require(len(below) < MAX_DEPTH, f"{excerpt(repr(start))} has more than {MAX_DEPTH} nodes above it")
            below.add(name)
            name = parents[name]


@dataclass(frozen=True)
class Weights:
    """A checkpoint on this machine with its preset, class names and published accuracy. Holds no tensors."""

    name: str
    file: str
    source: str
    sha256: str
    preset: Preset
    classes: Classes
    top1: float | None = None  # percent, as published
    top5: float | None = None
    licence: str = ""
    notes: tuple[str, ...] = ()  # assumptions that the user should know about

    def __post_init__(self) -> None:
        for name in ("name", "file", "source"):
            require_text(name, getattr(self, name))
        require_sha256("sha256", self.sha256)
        for name in ("top1", "top5"):
            if (percent := getattr(self, name)) is not None:
                require_range(name, percent, 0, 100)
        for name, text in (("licence", self.licence), *(("notes", note) for note in self.notes)):
            require(len(text) <= MAX_TEXT, f"{name} has more than {MAX_TEXT:,} characters")


@dataclass(frozen=True)
class PixelConfig:
    """How files become views: everything that decoding and preprocessing depend on."""

    preset: Preset
    crops: int = 1
    decode: Decode = "exact"
    exif: bool = True
    max_pixels: int = 500_000_000

    def __post_init__(self) -> None:
        require_choice("crops", self.crops, get_args(Crops))
        require_choice("decode", self.decode, get_args(Decode))
        require_range("max_pixels", self.max_pixels, 1)

    @property
    def fast(self) -> bool:
        """Whether JPEGs are decoded at a reduced scale and only the visible window is resized.

        Never without antialias: that resize reads single pixels, and a reduced image has others.
        """
        return self.decode == "fast" and self.preset.antialias


@dataclass(frozen=True)
class LoaderConfig:
    """How batches are loaded: views a batch, worker processes (0: none), seconds that one file may take."""

    batch_size: int
    workers: int = 0
    timeout: float = 60.0

    def __post_init__(self) -> None:
        require_range("batch_size", self.batch_size, 1, MAX_BATCH_SIZE)
        require_range("workers", self.workers, 0, MAX_PROCESSES)
        require_timeout(self.timeout)


@dataclass(frozen=True)
class Plan:
    """Where and how a network runs; `threads` are the CPU threads of each network."""

    device: str = "cpu"
    precision: Precision = "fp32"
    compile: bool = False
    threads: int = 1

    def __post_init__(self) -> None:
        require_choice("precision", self.precision, get_args(Precision))
        require_device(self.device, "cpu, cuda, cuda:N or mps")
        require_range("threads", self.threads, 1, MAX_PROCESSES)


@dataclass(frozen=True)
class Thresholds:
    """From which score on a label is given (predictions/decision.py); None: not requested."""

    min_score: float | None = None
    rollup: float | None = None  # the sum that a node of the tree must reach
    familiar: float | None = None  # the share of held-out training photos that are familiar (network/familiarity.py)

    def __post_init__(self) -> None:
        if self.min_score is not None:
            require_range("min_score", self.min_score, 0, 1)
        if self.rollup is not None:
            require(0.5 < self.rollup <= 1, f"rollup must be above 0.5 and at most 1, not {self.rollup:g}")
        if self.familiar is not None:
            require(0 < self.familiar < 1, f"familiar must be a share above 0 and below 1, not {self.familiar:g}")

    def __bool__(self) -> bool:
        return (self.min_score, self.rollup, self.familiar) != (None, None, None)

    def __str__(self) -> str:
        options = {"--familiar": self.familiar, "--rollup": self.rollup, "--min-score": self.min_score}
        return " ".join(f"{option} {value:g}" for option, value in options.items() if value is not None)


NO_THRESHOLDS = Thresholds()  # no label is asked for


@dataclass(frozen=True)
class Settings:
    """What was requested for a run; "auto" is resolved by `inference.resolve`."""

    weights: tuple[str, ...] = ("torchvision",)
    preset: PresetName | None = None  # None: the weights' own
    classes: str | None = None  # a file of class names
    only_classes: str | None = None  # a, r, a file, or nodes of the tree of classes
    min_score: float | None = None
    rollup: float | None = None
    familiar: float | None = None
    top_k: int = 5
    arrays: tuple[ArrayName, ...] = ()  # kept besides the predictions, for every image
    array_type: ArrayType = "float32"
    crops: int = 1
    decode: Decode = "exact"
    exif: bool | None = None  # None: as the preset's publisher does
    max_pixels: int | Auto = "auto"
    batch_size: int | Auto = "auto"  # views
    workers: int | Auto = "auto"
    timeout: float = 60.0  # seconds
    device: str = "auto"
    precision: PrecisionChoice = "auto"
    compile: CompileChoice = "auto"
    engine: Engine = "local"
    ray_address: str | None = None
    actors: int | Auto = "auto"
    offline: bool = False

    def __post_init__(self) -> None:
        require(bool(self.weights), "weights: give at least one name or file")
        if self.preset is not None:
            require_choice("preset", self.preset, get_args(PresetName))
        closed = {"crops": Crops, "decode": Decode, "precision": PrecisionChoice, "compile": CompileChoice}
        for name, choices in (closed | {"engine": Engine, "array_type": ArrayType}).items():
            require_choice(name, getattr(self, name), get_args(choices))
        if self.device != "auto":
            require_device(self.device, "auto, cpu, cuda, cuda:N or mps")
        require_timeout(self.timeout)
        require_range("top_k", self.top_k, 1)
        for name, least in (("batch_size", 1), ("workers", 0), ("actors", 1), ("max_pixels", 1)):
            most = {"batch_size": MAX_BATCH_SIZE, "workers": MAX_PROCESSES}.get(name, math.inf)
            if (value := getattr(self, name)) != "auto":
                require_range(name, value, least, most)
        cluster = self.ray_address is not None or self.actors != "auto"
        require(self.engine == "ray" or not cluster, "ray_address and actors need engine ray")
        require(self.engine == "local" or self.workers == "auto", "workers: engine ray sets their number; leave it out")
        arrays = " and ".join(self.arrays)
        require(bool(arrays) or self.array_type == "float32", "array_type needs features or scores; give one of them")
        require(self.engine == "local" or not arrays, f"{arrays}: engine ray keeps no arrays; leave one of them out")
        require(
            "features" not in self.arrays or len(self.weights) == 1,
            "features: they are of one network, not of an ensemble; give one set of weights",
        )
        require(
            self.only_classes is None or isinstance(self.only_classes, str),
            f"only_classes: give names with commas between them in one text, not {excerpt(self.only_classes)}",
        )
        _ = self.thresholds  # checks them

    @property
    def thresholds(self) -> Thresholds:
        """From which score on a label is given."""
        return Thresholds(self.min_score, self.rollup, self.familiar)


@dataclass(frozen=True)
class RunConfig:
    """What a run does, to the last value. JSON-serialisable; it goes into the manifest as it is."""

    pixels: PixelConfig
    loader: LoaderConfig
    plan: Plan
    top_k: int
    weights: tuple[Weights, ...]  # several are an ensemble
    only_classes: tuple[int, ...] = ()  # model indices that may be predicted; none: all
    int8_ranges: tuple[dict[str, float], ...] = ()  # of each network: the upper end of each layer's outputs
    thresholds: Thresholds = NO_THRESHOLDS
    arrays: tuple[ArrayName, ...] = ()  # kept besides the predictions, for every image
    array_type: ArrayType = "float32"

    def __post_init__(self) -> None:
        require(bool(self.weights), "weights: there are none")
        require(len(self.int8_ranges) in (0, len(self.weights)), "int8_ranges: one is needed for each of the weights")
        for number, ranges in enumerate(self.int8_ranges):
            require(bool(ranges), f"int8_ranges.{number} is empty")
            for layer, end in ranges.items():
                require_range(f"int8_ranges.{number}.{excerpt(layer)}", end, 0, MAX_RANGE)
        first = self.weights[0]
        for other in self.weights[1:]:
            require(
                other.classes == first.classes and _geometry(other.preset) == _geometry(first.preset),
                f"{first.name} and {other.name} cannot be an ensemble: their classes or input sizes differ; "
                "classify with one after the other",
            )
        require(self.pixels.preset == first.preset, "pixels.preset and the preset of weights differ")
        classes = len(first.classes)
        ascending = all(index < other for index, other in pairwise((-1, *self.only_classes, classes)))
        require(ascending, f"only_classes must be ascending indices of the {classes} classes")
        require_range("top_k", self.top_k, 1, len(self.only_classes) or classes)

    @property
    def classes(self) -> Classes:
        """The classes that all networks of the run share."""
        return self.weights[0].classes

    @property
    def images_per_batch(self) -> int:
        """Images in a batch: with V views each, max(1, B // V)."""
        return images_per_batch(self.loader.batch_size, self.pixels.crops)

    def batch_numbers(self, positions: range) -> range:
        """Return the numbers of the batches that hold these positions; batch i begins at i · images_per_batch."""
        size = self.images_per_batch
        return range(positions.start // size, -(-positions.stop // size))

    def rows_depend_on(self) -> dict[str, Any]:
        """Return every value that the bytes of the rows depend on; workers and the timeout are left out."""
        values = asdict(self)
        del values["loader"]["workers"], values["loader"]["timeout"]
        for weights in values["weights"]:
            for name in ("file", "source", "notes", "licence", "top1", "top5"):
                del weights[name]
        return values


def images_per_batch(batch_size: int, views: int) -> int:
    """Return how many images of V views each make a batch of `batch_size` views."""
    return max(1, batch_size // views)


def _geometry(preset: Preset) -> tuple[object, ...]:
    return preset.size, preset.resize, preset.filter, preset.antialias

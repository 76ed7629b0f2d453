"""Turn `Settings` into a `RunConfig`: every "auto" becomes a value before the first row."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from inception_cli import machine
from inception_cli.config import LoaderConfig, PixelConfig, Plan, RunConfig, Settings, Weights
from inception_cli.errors import InceptionError, UsageError
from inception_cli.network import batch_size, int8, onednn
from inception_cli.network.fusion import DTYPES, require_precision
from inception_cli.predictions.classes import read_classes
from inception_cli.predictions.tree import find_classes, require_tree
from inception_cli.weights.download import DownloadProgress, ignore_progress
from inception_cli.weights.load import find_weights, load_familiarity

#: From this many views on, torch.compile saves more time than the minute that it takes: on a CPU, on a GPU.
WORTH_COMPILING, WORTH_COMPILING_ON_GPU = 10_000, 2_000_000
#: From this many images on, a GPU's best batch size saves more time than measuring it takes.
WORTH_MEASURING = 10_000


def resolve(
    settings: Settings,
    plan: Plan,
    earlier: RunConfig | None = None,
    images: int = 0,
    progress: DownloadProgress = ignore_progress,
) -> RunConfig:
    """Return the configuration of a run of `images` images on the machine that `plan` was made for.

    "auto" takes the value of the `earlier`, interrupted run, else this machine's. Published weights are downloaded.
    Raises UsageError or InceptionError for what is not available.
    """
    classes = read_classes(Path(settings.classes)) if settings.classes else None
    weights = tuple(
        find_weights(name, settings.preset, classes, settings.offline, progress) for name in settings.weights
    )
    if settings.decode == "gpu" and not plan.device.startswith("cuda"):
        raise UsageError(f"decode gpu: the network runs on {plan.device}, not on a CUDA GPU; leave it out")
    require_tree(weights[0].classes, settings.thresholds)
    _require_familiarity(weights, settings)
    only = find_classes(settings.only_classes, weights[0].classes) if settings.only_classes else ()
    return RunConfig(
        pixels=_pixels(settings, weights[0], earlier),
        loader=LoaderConfig(
            batch_size=_batch_size(settings, plan, weights[0], earlier, images),
            workers=_workers(settings),
            timeout=settings.timeout,
        ),
        plan=plan,
        top_k=min(settings.top_k, len(only or weights[0].classes)),
        weights=weights,
        only_classes=only,
        int8_ranges=_int8_ranges(earlier) if plan.precision == "int8" else (),
        thresholds=settings.thresholds,
        arrays=settings.arrays,
        array_type=settings.array_type,
    )


def _int8_ranges(earlier: RunConfig | None) -> tuple[dict[str, float], ...]:
    """Return the ranges of the earlier run in int8; none for a new run, which is calibrated before its first row."""
    ranges = earlier.int8_ranges if earlier else ()
    for each in ranges:
        if differing := set(each) ^ set(int8.layer_names()):
            raise InceptionError(f"int8_ranges: layer {min(differing)} of the interrupted run is wrong; use --restart")
    return ranges


def _require_familiarity(weights: Sequence[Weights], settings: Settings) -> None:
    """Raise an InceptionError unless the weights can tell which photos are familiar, if that was requested."""
    if settings.familiar is None:
        return
    if len(weights) > 1:
        raise UsageError("familiar is for single weights, not for an ensemble; leave it out, or give one --weights")
    load_familiarity(weights[0])


def resolve_plan(settings: Settings, earlier: RunConfig | None = None, images: int = 0) -> Plan:
    """Return where and how the network runs on this machine."""
    device = earlier.plan.device if earlier and settings.device == "auto" else machine.find_device(settings.device)
    if settings.precision != "auto":
        precision = settings.precision
    else:
        precision = earlier.plan.precision if earlier else machine.fastest_precision(device)
    if settings.compile != "auto":
        compiled = settings.compile == "on"
    elif earlier:
        compiled = earlier.plan.compile
    else:
        enough = WORTH_COMPILING_ON_GPU if device.startswith("cuda") else WORTH_COMPILING
        compiled = precision != "int8" and images * settings.crops >= enough and compiling_pays(device)
    plan = Plan(device, precision, compiled, threads=earlier.plan.threads if earlier else machine.cores())
    require_precision(plan)
    return plan


def compiling_pays(device: str) -> bool:
    """Return whether torch.compile is faster than oneDNN's operators here, and there is a C++ compiler for it."""
    if device == "cpu" and onednn.available(DTYPES[machine.fastest_precision(device)]):
        return False
    return device != "mps" and shutil.which("c++") is not None


def _pixels(settings: Settings, weights: Weights, earlier: RunConfig | None) -> PixelConfig:
    if settings.max_pixels != "auto":
        max_pixels = settings.max_pixels
    else:
        max_pixels = earlier.pixels.max_pixels if earlier else machine.max_pixels()
    pixels = PixelConfig(
        preset=weights.preset,
        crops=settings.crops,
        decode=settings.decode,
        exif=weights.preset.exif if settings.exif is None else settings.exif,
        max_pixels=max_pixels,
    )
    if pixels.decode == "fast" and not pixels.fast:  # a preset without antialias is always decoded exactly
        return replace(pixels, decode="exact")
    return pixels


def _batch_size(settings: Settings, plan: Plan, weights: Weights, earlier: RunConfig | None, images: int) -> int:
    """Return the number of views that fill the device; a GPU's is measured where the run is long enough."""
    if settings.batch_size != "auto":
        return settings.batch_size
    if earlier:
        return earlier.loader.batch_size
    if plan.device.startswith("cuda") and images >= WORTH_MEASURING:
        return batch_size.find_batch_size(plan, weights.preset.size, len(weights.classes))
    return 32 if plan.device == "cpu" else 128


def _workers(settings: Settings) -> int:
    """Return one worker a core: at the lowest priority they use what the network leaves. With a GPU decoder a few."""
    if settings.workers != "auto":
        return settings.workers
    return min(8 if settings.decode == "gpu" else 16, machine.cores())

"""Every "auto" of a training becomes a value, and what cannot be trained or saved is refused before it begins."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from inception_cli.config import MAX_CLASSES, Weights
from inception_cli.errors import InceptionError, UsageError, require
from inception_cli.machine import cores, fastest_precision, find_device
from inception_cli.training.dataset import find_classes
from inception_cli.training.settings import (
    DEFAULT_BATCH_SIZE,
    SCRATCH,
    TrainConfig,
    TrainSettings,
    is_folder,
    real_folder,
)
from inception_cli.weights.download import DownloadProgress, ignore_progress
from inception_cli.weights.load import find_weights, is_saved_folder
from inception_cli.weights.read import Metadata
from inception_cli.weights.registry import FOLDER_PREFIX

DEFAULT_SIZE = 176  # pixels: input resolution of a network trained from scratch


def resolve(settings: TrainSettings, progress: DownloadProgress = ignore_progress) -> TrainConfig:
    """Return the configuration of a training, every "auto" made a value; published weights are downloaded.

    Raises InceptionError for a folder without class folders, and for an output file that cannot be written, before the
    download.
    """
    classes = find_classes(Path(settings.train_dir))
    require_storable_names(Path(settings.train_dir), classes)
    device = find_device(settings.device)
    precision = fastest_precision(device) if settings.precision == "auto" else settings.precision
    if precision == "fp16" and settings.precision == "auto":
        precision = "fp32"  # fp16 would need loss scaling
    config = TrainConfig(
        train_dir=Path(settings.train_dir),
        out=real_folder(settings.out) if is_folder(settings.out) else Path(settings.out),
        folder=is_folder(settings.out),
        val_dir=Path(settings.val_dir) if settings.val_dir else None,
        size=DEFAULT_SIZE if settings.size == "auto" else settings.size,
        epochs=settings.epochs,
        seed=settings.seed,
        batch_size=DEFAULT_BATCH_SIZE if settings.batch_size == "auto" else settings.batch_size,
        workers=max(1, cores() // 2) if settings.workers == "auto" else settings.workers,
        device=device,
        precision=precision,
    )
    require_writable(config)
    if settings.start == SCRATCH:
        require_storable_preset(config)
        return config
    start = _find_start(settings, progress)
    config = replace(config, start=start, size=start.preset.size if settings.size == "auto" else config.size)
    require_storable_preset(config)
    return config


def _find_start(settings: TrainSettings, progress: DownloadProgress) -> Weights:
    """Return the weights that training starts from; an error names the option."""
    try:
        return find_weights(settings.start, offline=settings.offline, progress=progress, can_choose=False)
    except InceptionError as error:
        raise type(error)(f"--from: {error}, or --from {SCRATCH}") from error


def require_storable_names(train_dir: Path, classes: Sequence[str]) -> None:
    """Raise InceptionError if the metadata of weights cannot hold the names of the class folders."""
    for name in classes:
        try:
            Metadata((name,))
        except UsageError as error:
            raise InceptionError(
                f"{train_dir}: the class folder {name!r} has a name that weights cannot hold; rename it"
            ) from error
    require(len(classes) <= MAX_CLASSES, f"{train_dir}: {len(classes):,} class folders; {MAX_CLASSES:,} at most")


def require_storable_preset(config: TrainConfig) -> None:
    """Raise UsageError if the metadata of weights cannot hold the preset of this input resolution."""
    try:
        Metadata(preset=config.preset)
    except UsageError as error:
        raise UsageError(f"--size {config.size}: {error}; choose another input resolution") from error


def require_writable(config: TrainConfig) -> None:
    """Raise InceptionError if the output exists, or cannot be written, before time is spent on training."""
    out, folder = config.out, config.out.parent
    exists = out.exists() or _is_loop(config)
    if exists and not _is_empty_or_has_part(config):
        raise InceptionError(_already_exists(config))
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise InceptionError(f"{folder}: not a writable folder; create it, or choose another output file")


def _is_loop(config: TrainConfig) -> bool:
    """Return whether the output folder is a link to itself; the target of any other link is `config.out`."""
    return config.folder and config.out.is_symlink()


def _is_empty_or_has_part(config: TrainConfig) -> bool:
    """Return whether the existing output is an empty folder, or is weights with a part file beside them.

    A training that is killed after it has written its output leaves the part file. Of a file only that is checked; a
    folder must also have the files that training writes, and no others.
    """
    if config.folder and config.out.is_dir() and not any(config.out.iterdir()):
        return True
    return config.part.exists() and (not config.folder or is_saved_folder(config.out))


def _already_exists(config: TrainConfig) -> str:
    """Return the message for an output that exists; where it can be weights, with the way to train them further."""
    out, kind = config.out, "folder" if config.folder else "file"
    message = f"{out}: already exists; move it away, or choose another output {kind}"
    if _is_loop(config) or out.is_dir() != config.folder:
        return message
    weights = f"{FOLDER_PREFIX}{out}" if config.folder else out
    return f"{message}, with --from {weights} to train it further"

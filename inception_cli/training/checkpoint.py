"""The part file: the checkpoint of an unfinished training."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from inception_cli.errors import InceptionError, is_out_of_memory, os_errors, require
from inception_cli.files.atomic import replacing
from inception_cli.machine import library_versions, major_minor
from inception_cli.storage.store import differences
from inception_cli.training.dataset import Sample, digest_samples
from inception_cli.training.learner import Hyperparameters, scheduled_rate
from inception_cli.training.recipe import Recipe
from inception_cli.training.settings import SCRATCH, TrainConfig
from inception_cli.weights.training_record import EpochResult

#: Version of the content of part files; those of another version are not resumed.
VERSION = 4


def run_configuration(
    config: TrainConfig,
    recipe: Recipe,
    classes: Sequence[str],
    train_samples: Sequence[Sample],
    val_samples: Sequence[Sample],
) -> dict[str, Any]:
    """Return every value that the losses depend on; a training resumes only if all are unchanged."""
    return {
        "classes": ", ".join(classes),
        "training images": digest_samples(train_samples),
        "validation images": digest_samples(val_samples),
        "initial weights": f"{config.start_name} ({config.start.sha256[:8]})" if config.start else SCRATCH,
        "input resolution": config.size,
        "random seed": config.seed,
        "batch size": config.batch_size,
        "device": config.device,
        "precision": config.precision,
        "versions": major_minor(library_versions()),
        "recipe": json.loads(json.dumps(asdict(recipe))),
    }


def read_part(part: Path, configuration: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what `write_part` saved, None if there is no file.

    Raises InceptionError if the file is damaged or cannot be read, or if its training was started with another
    configuration.
    """
    remedy = f"remove {part} to start over"
    with os_errors(part, "move it away, or make it readable, and run the same command again"):
        if not part.exists():
            return None
        try:
            with part.open("rb") as stream:
                saved: dict[str, Any] = torch.load(stream, map_location="cpu", weights_only=True)
            saved_configuration = saved["configuration"]
            if saved["version"] != VERSION:
                raise ValueError(f"version {saved['version']}")
        except Exception as error:  # torch and pickle raise many types
            if isinstance(error, OSError) or is_out_of_memory(error):
                raise
            raise InceptionError(
                f"{part}: damaged, or not a training checkpoint of this version of the program; {remedy}"
            ) from error
    if saved_configuration != configuration:
        changes = "; ".join(differences(saved_configuration, dict(configuration)))
        raise InceptionError(
            f"{part}: the training was started with other settings ({changes}); use those, or {remedy}"
        )
    return saved


def require_readable(part: Path, before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Raise InceptionError if other files are readable than when the training began: the batches would differ.

    `before` and `now` are the numbers of readable images and digests of them, for training and for validation.
    """
    if changes := "; ".join(differences(dict(before), dict(now))):
        raise InceptionError(
            f"{part}: other images are readable than when the training began ({changes}); restore the files or "
            f"programs of then, or remove {part} to start over"
        )


def require_epochs(config: TrainConfig, done: int) -> None:
    """Raise UsageError if the part file has more epochs than are requested."""
    require(
        done <= config.epochs,
        f"--epochs {config.epochs}: {config.part} has {done} epochs already; give --epochs {done} to save the best of "
        "them, or more to train on",
    )


def not_finite_error(config: TrainConfig, epoch: int, loss: float) -> InceptionError:
    """Return the error for an epoch, counted from 0, whose mean loss is NaN or infinite, with the way to start over."""
    remedy = "--precision fp32" if config.precision == "bf16" else "other start weights or a smaller --batch-size"
    problem = f"epoch {epoch + 1} of {config.epochs}: the loss is not finite ({loss})"
    if epoch:  # the part file is resumed only with the same settings
        return InceptionError(
            f"{problem}; remove {config.part} and train with {remedy}, or keep the best epoch so far with "
            f"--epochs {epoch}"
        )
    return InceptionError(f"{problem}; train with {remedy}")


def describe_resuming(
    history: Sequence[EpochResult], epochs: int, steps_per_epoch: int, hyperparameters: Hyperparameters
) -> str:
    """Return in a line how a training goes on to `epochs` after those in its part file."""
    done, planned = len(history), history[-1].planned
    line = f"resuming after epoch {done} of {planned}"
    if epochs in (planned, done):
        return line if epochs == planned else f"{line}: --epochs {epochs} ends the training here"
    old, new = (
        scheduled_rate(hyperparameters, done * steps_per_epoch, total * steps_per_epoch) for total in (planned, epochs)
    )
    return (
        f"{line}: from here on learning rate and crop size follow the schedule of {epochs} epochs "
        f"(next learning rate {new:.2g} instead of {old:.2g})"
    )


def write_part(part: Path, configuration: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Write the checkpoint of an unfinished training."""
    with replacing(part, "make it writable and run the same command again to resume") as stream:
        try:
            torch.save({"version": VERSION, "configuration": dict(configuration), **state}, stream)
        except RuntimeError as error:
            # After a failed write torch complains about positions in the file; the context is the OSError.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise

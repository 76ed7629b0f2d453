"""The command `train`: connect a training with its progress, log and report, and print what it does."""

import json as jsonlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inception_cli.cli.console import MAX_NAMES, print_line
from inception_cli.cli.outputs import LOG_MARKER, REPORT_MARKER, OutputFile, check_outputs
from inception_cli.cli.progress import TrainingProgress
from inception_cli.errors import UsageError, plural
from inception_cli.files.atomic import OTHER_OUTPUT, locked
from inception_cli.files.remote import is_remote
from inception_cli.predictions.text import shell_path
from inception_cli.training.settings import TrainSettings, is_folder
from inception_cli.weights.registry import FOLDER_PREFIX

if TYPE_CHECKING:
    from inception_cli.images.failure import Failure
    from inception_cli.training.train import Trainer
    from inception_cli.weights.training_record import EpochResult


@dataclass(frozen=True)
class TrainOutput:
    """What `train` writes and prints besides the weights."""

    report: str | None
    log: str | None
    json: bool
    quiet: bool

    def check(self, out: str, inputs: Sequence[str | None]) -> None:
        """Raise an error if one of the files is an input or another output, or cannot be written."""
        outputs = [
            OutputFile("--out", out),
            OutputFile("--report", self.report, REPORT_MARKER),
            OutputFile("--log", self.log, LOG_MARKER),
        ]
        if out == "-" or is_remote(out):
            raise UsageError(f"--out {out}: give a file on this machine")
        for output in outputs[1:]:
            if output.path and is_folder(out) and _is_in(output.path, out):
                raise UsageError(
                    f"{output.option} {output.path}: is in {out}, which has to be empty; give another folder"
                )
        check_outputs(outputs, [*inputs, f"{out.rstrip('/')}.part"], can_force=False)


def train(settings: TrainSettings, output: TrainOutput) -> bool:
    """Train, or resume a training; write the weights, the log and the report.

    Return whether images were left out, as they could not be read.
    """
    with TrainingProgress(output.quiet) as progress:
        progress.loading([] if settings.start == "scratch" else [settings.start])
        from inception_cli.training.log import write_log
        from inception_cli.training.resolve import resolve
        from inception_cli.training.train import Trainer

        config = resolve(settings, progress.downloading)
        # A second training with the same output would overwrite the checkpoint of the first one.
        with locked(config.part.with_name(f".{config.part.name}.lock"), OTHER_OUTPUT):
            trainer = Trainer(config)
            write_epochs = partial(write_log, Path(output.log)) if output.log else _write_nothing
            write_epochs(trainer.history)
            by_class = has_unequal_classes(trainer.images.val_per_class)
            progress.erase()
            if not output.quiet:
                print_skipped_images(trainer.skipped)
                print_beginning(trainer, by_class)
            progress.training(trainer)
            for epoch in trainer.epochs(progress.crops):
                write_epochs(trainer.history)
                progress.epoch(epoch, trainer.config.size, by_class)
                progress.training(trainer)
            progress.fitting()
            trainer.fit_last_layer(progress.crops)
            progress.working("saving the weights")
            metadata = trainer.save(partial(_write_report, trainer, output))
    if not output.quiet:
        print_trained(metadata, trainer.classes, settings.out, output.report)
    if output.json:
        print(jsonlib.dumps(metadata))
    return bool(trainer.skipped)


def _is_in(file: str, folder: str) -> bool:
    return Path(os.path.realpath(file)).is_relative_to(os.path.realpath(folder))


def _write_nothing(history: "Sequence[EpochResult]") -> None:
    pass


def has_unequal_classes(counts: Sequence[int]) -> bool:
    """Return whether classes differ in their number of images: else the mean of their accuracies is the accuracy."""
    return len({*counts} - {0}) > 1


def _write_report(trainer: "Trainer", output: TrainOutput, metadata: Mapping[str, Any]) -> None:
    """Write the report of a training, if it is wanted."""
    if not output.report:
        return
    from inception_cli.config import Classes
    from inception_cli.images.thumbnail import thumbnail
    from inception_cli.predictions.prediction import Prediction
    from inception_cli.report.training import Training, write_training_report
    from inception_cli.weights.training_record import TrainingRecord

    validation, classes, config = trainer.best_validation, trainer.classes, trainer.config
    rows = zip(validation.paths, validation.predicted.tolist(), validation.scores.tolist(), strict=True)
    predictions = [Prediction(path, "ok", (index,), (classes[index],), (score,)) for path, index, score in rows]
    training = Training(
        name=config.out.name,
        train_dir=str(config.train_dir),
        val_dir=str(config.val_dir) if config.val_dir else None,
        classes=Classes(classes),
        record=TrainingRecord.of(metadata),
        labels=validation.labels.tolist(),
        predictions=predictions,
    )
    write_training_report(Path(output.report), training, thumbnail)


def print_skipped_images(skipped: "Mapping[str, Failure]") -> None:
    """Print the images that could not be read."""
    if not skipped:
        return
    images = plural(len(skipped), "image is unreadable and left out", "images are unreadable and left out")
    print_line(f"{images}:", "yellow")
    for path, failure in [*skipped.items()][:MAX_NAMES]:
        print_line(f"  {path}: {failure.status}, {failure.error}", "yellow")


def print_beginning(trainer: "Trainer", by_class: bool) -> None:
    """Print the data, the start weights' notes, the checkpoint file, and what the figures of an epoch mean."""
    images, part = trainer.images, trainer.config.part
    print_line(
        f"{plural(images.training, 'image')} of {len(trainer.classes)} classes for training, "
        f"{images.validation:,} others for validation"
    )
    print_unvalidated(trainer.classes, images.val_per_class)
    for note in trainer.config.start.notes if trainer.config.start else ():
        print_line(f"{trainer.config.start_name}: {note}", "dim")
    if trainer.config.keeps_classifier(trainer.classes):
        print_line(f"{trainer.config.start_name} has the same classes: its classifier is trained further")
    least, most = (f"{size / 1e6:,.0f} MB" for size in trainer.part_bytes)
    print_line(f"checkpoint {part}: {least} after each epoch, {most} while an earlier epoch is the best", "dim")
    if trainer.resumed:
        print_line(trainer.resumed)
    if trainer.finished:
        return
    measured = f"train, val: accuracy on {images.measured:,} of the training images and on the validation images"
    for line in (
        "loss: mean over the crops, which are random parts of the images; crop: their side, of the input resolution",
        f"{measured}; by class: mean of the classes' accuracies" if by_class else measured,
        "*: the best epoch so far, which is kept; of epochs within one standard error the last",
    ):
        print_line(f"  {line}", "dim")


def print_unvalidated(classes: Sequence[str], val_per_class: Sequence[int]) -> None:
    """Print the classes without a validation image."""
    names = [name for name, count in zip(classes, val_per_class, strict=True) if not count]
    if names:
        more = f" and {len(names) - MAX_NAMES:,} more" if len(names) > MAX_NAMES else ""
        have = plural(len(names), "class has", "classes have")
        print_line(f"{have} no validation image: {', '.join(names[:MAX_NAMES])}{more}", "yellow")


def print_trained(metadata: Mapping[str, Any], classes: Sequence[str], out: str, report: str | None) -> None:
    """Print the result of a training, what it says, and how to use the weights."""
    from inception_cli.evaluation import training
    from inception_cli.weights.training_record import TrainingRecord

    record = TrainingRecord.of(metadata)
    print_line(f"written to {out}: epoch {record.best_epoch} of {record.epochs}, the last with *")
    if record.stopped_early:
        without = plural(record.epochs - record.best_epoch, "epoch")
        print_line(f"stopped before epoch {record.epochs + 1}: {without} without a better one", "dim")
    if record.last_layer:
        print_line(f"last layer {record.last_layer}", "dim")
    print_line(training.describe_accuracy(record), "bold")
    if gap := training.describe_gap(record):
        print_line(gap, "yellow")
    if record.familiarity:
        print_line(f"no statistics for --familiar: {record.familiarity}", "yellow")
    if report:
        print_line(f"report written to {report}; open it in a browser")
    if chance := training.describe_chance(record, classes):
        print_line(chance, "yellow")
    else:
        weights = f"{FOLDER_PREFIX}{out}" if is_folder(out) else out
        print_line(f"to use them: inception classify PHOTOS --weights {shell_path(weights)} --out preds.csv", "dim")

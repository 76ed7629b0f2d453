"""The log of a training: a CSV file with a line for each epoch."""

from collections.abc import Sequence
from pathlib import Path

from inception_cli.errors import InceptionError, os_errors
from inception_cli.files.atomic import replacing
from inception_cli.weights.training_record import EpochResult

#: The columns, and the fields of an EpochResult in them; accuracies are in percent.
COLUMNS = {
    "epoch": "number",
    "learning_rate": "learning_rate",
    "crop_size": "crop_size",
    "loss": "loss",
    "train_top1": "train_top1",
    "val_top1": "top1",
    "val_class_average": "class_average",
    "best": "best",
    "images_per_s": "images_per_s",
    "seconds": "seconds",
}
REMEDY = "give another name to --log"


def write_log(file: Path, history: Sequence[EpochResult]) -> None:
    """Write the log of the epochs, replacing the file atomically, so that it always has each epoch once.

    InceptionError if the file is not the log of an earlier state of this training: nothing else is overwritten.
    """
    lines = [",".join(COLUMNS), *(_line(result) for result in history)]
    new = "".join(f"{line}\n" for line in lines).encode()
    if file.exists():
        with os_errors(file, REMEDY):
            old = file.read_bytes()
        if not new.startswith(old):
            raise InceptionError(f"{file}: not the log of this training; move it away, or {REMEDY}")
    with replacing(file, REMEDY) as stream:
        stream.write(new)


def _line(result: EpochResult) -> str:
    """Return the values of an epoch, numbers with at most 6 significant digits."""
    values = [getattr(result, name) for name in COLUMNS.values()]
    return ",".join(f"{value:.6g}" if isinstance(value, float) else str(value) for value in values)

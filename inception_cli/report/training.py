"""Build the report of a training: learning curves, the confusion matrix and mistakes of the validation images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import Markup

from inception_cli import __version__
from inception_cli.config import Classes
from inception_cli.errors import plural
from inception_cli.evaluation import training as findings
from inception_cli.files.atomic import replacing
from inception_cli.predictions.intervals import wilson
from inception_cli.predictions.prediction import Prediction
from inception_cli.predictions.text import escape_bytes
from inception_cli.report import plots
from inception_cli.report.build import encoded_thumbnails, file_link
from inception_cli.report.curves import accuracy_curves, loss_curve
from inception_cli.report.matrix import matrix_table
from inception_cli.report.template import environment, read
from inception_cli.weights.training_record import TrainingRecord, recipe_facts

if TYPE_CHECKING:  # imports numpy and pandas
    from inception_cli.evaluation.metrics import Metrics

MISTAKES = 48  # images at most


@dataclass(frozen=True)
class Training:
    """A finished training, and its best epoch's predictions for the validation images."""

    name: str  # of the weights' file
    train_dir: str  # the folder of the training images
    classes: Classes
    record: TrainingRecord
    labels: Sequence[int]  # the class of each prediction's image
    predictions: Sequence[Prediction]
    val_dir: str | None = None  # the folder of the validation images; None: they are a share of the other one

    def mistakes(self) -> list[int]:
        """Return the positions of the wrong predictions, the highest score first."""
        wrong = [row for row, label in enumerate(self.labels) if self.predictions[row].classes[0] != label]
        return sorted(wrong, key=lambda row: -self.predictions[row].scores[0])


@dataclass(frozen=True)
class ClassRow:
    """The validation images of a class."""

    name: str
    n: int
    predicted: int
    right: int
    recall: float | None  # percent of the n; None: there are none
    interval: tuple[float, float] | None  # 95 %
    precision: float | None  # percent of the images that are predicted as this class


def write_training_report(file: Path, training: Training, thumbnail: Callable[[str], bytes]) -> None:
    """Write the report of a training; an older `file` is replaced when the new one is complete.

    `thumbnail` returns the JPEG of a path, b"" if it cannot be read; it is called from several threads.
    """
    page = training_page(training, thumbnail, partial(file_link, folder=file.absolute().parent))
    with replacing(file) as new:
        new.write(page)


def training_page(training: Training, thumbnail: Callable[[str], bytes], link: Callable[[str], str]) -> bytes:
    """Return the page of a training; `link` returns the URL of a path, "" for none."""
    from inception_cli.evaluation.confusion_matrix import ConfusionMatrix
    from inception_cli.evaluation.labels import Labels
    from inception_cli.evaluation.metrics import compute_metrics, confusion_matrix
    from inception_cli.predictions.table import to_frame

    record, names = training.record, training.classes.names
    labels = Labels.from_sets(
        training.classes, training.val_dir or training.train_dir, "name", [(label,) for label in training.labels]
    )
    table = to_frame((replace(each, path=escape_bytes(each.path)) for each in training.predictions), 1)
    mistakes = training.mistakes()
    shown = mistakes[:MISTAKES]
    matrix: ConfusionMatrix = confusion_matrix(table, labels)
    history, level = record.history, findings.chance_level(record)
    return (
        environment()
        .get_template("training.html.j2")
        .render(
            training=training,
            record=record,
            interval_of_top1=findings.accuracy_interval(record),
            findings=list(filter(None, (findings.describe_chance(record, names), findings.describe_gap(record)))),
            accuracy=findings.describe_accuracy(record),
            level=level,
            loss=loss_curve(history, record.best_epoch),
            accuracies=accuracy_curves(history, record.best_epoch, level),
            classes=_class_rows(compute_metrics(table, labels)),
            matrix=matrix_table(matrix),
            mistakes=len(mistakes),
            cards=[_card(training, row, link) for row in shown],
            thumbnails=[*encoded_thumbnails([training.predictions[row].path for row in shown], thumbnail)],
            facts=_facts(training),
            contents=_contents(bool(mistakes)),
            plots=plots,
            style=Markup(read("page.css") + read("training.css")),
            version=__version__,
            date=date.today().isoformat(),
        )
        .encode()
    )


def _contents(mistakes: bool) -> dict[str, str]:
    """Return the sections of the page in order: the name of each by its anchor."""
    sections = {"curves": "Learning curves", "per-class": "Per class", "confusion-matrix": "Matrix"}
    return sections | ({"mistakes": "Mistakes"} if mistakes else {}) | {"epochs": "Epochs", "about": "About"}


def _class_rows(metrics: "Metrics") -> list[ClassRow]:
    return [
        ClassRow(
            each.label,
            each.support,
            each.predicted,
            each.right,
            each.recall,
            wilson(each.right, each.support) if each.support else None,
            each.precision,
        )
        for each in metrics.per_class
    ]


def _card(training: Training, row: int, link: Callable[[str], str]) -> dict[str, object]:
    """Return what the page shows of an image."""
    prediction, names = training.predictions[row], training.classes.names
    return {
        "path": prediction.path,
        "file": Path(prediction.path).name,
        "url": link(prediction.path),
        "predicted": prediction.labels[0],
        "score": prediction.scores[0],
        "label": names[training.labels[row]],
    }


def _facts(training: Training) -> dict[str, str]:
    """Return how the network was trained: facts by name."""
    record = training.record
    start = "nothing (random weights)" if record.start == "scratch" else f"the weights {record.start}"
    skipped = f"; {plural(record.skipped, 'unreadable image')} left out" if record.skipped else ""
    then = f"; {training.val_dir}: " if training.val_dir else ", "
    return {
        "Weights": training.name,
        "Data": f"{training.train_dir}: {plural(record.photos, 'training image')} of {len(training.classes)} classes"
        f"{then}{plural(record.val_photos, 'validation image')}{skipped}",
        "Start": start,
        "Epochs": f"{record.epochs} done, the weights of epoch {record.best_epoch} kept; schedule: {record.schedule}"
        f"{', stopped early: no better epoch' if record.stopped_early else ''}",
        **({"Last layer": record.last_layer} if record.last_layer else {}),
        "Batches": f"{plural(record.batch_size, 'image')} each; random seed {record.seed}",
        "Machine": f"{record.device}: {record.machine}, training in {record.precision}",
        "Time": f"{record.seconds:,.0f} seconds with validation; finished {record.finished}",
        "Versions": ", ".join(f"{name} {version}" for name, version in record.versions.items()),
        "Recipe": ", ".join(f"{name} {value}" for name, value in recipe_facts(record.recipe)),
    }

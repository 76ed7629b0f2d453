"""How weights were trained, in lines for `info`."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from inception_cli.errors import InceptionError, plural
from inception_cli.evaluation.training import describe_accuracy, describe_chance, describe_gap
from inception_cli.predictions.intervals import percent
from inception_cli.weights.training_record import TrainingRecord, recipe_facts

#: Classes whose validation images are listed before "…".
MAX_CLASSES = 12


def training_lines(metadata: Mapping[str, Any], classes: Sequence[str]) -> Iterator[str]:
    """Yield the record of a training that is stored in a file of weights; nothing where there is none."""
    try:
        record = TrainingRecord.of(metadata)
    except InceptionError:
        return
    when, on = f" ({record.finished})" if record.finished else "", f", {record.machine}" if record.machine else ""
    start = "from scratch" if record.start == "scratch" else f"from {record.start}"
    kept = f"epoch {record.best_epoch} of {record.epochs} kept"
    schedule = f", schedule of {record.schedule}" if record.schedule else ""
    schedule += ", stopped early as none was better" if record.stopped_early else ""
    yield f"trained {start} on {plural(record.photos, 'image')}{when}: {kept}{schedule}"
    yield (
        f"seed {record.seed}, batches of {record.batch_size}, {record.precision} on {record.device}{on}, "
        f"{record.seconds:,.0f} s"
    )
    if record.last_layer:
        yield f"last layer {record.last_layer}"
    yield describe_accuracy(record)
    if record.train_top1 is not None:
        yield f"top-1 {percent(record.train_top1)} % on {plural(record.train_photos_measured, 'training image')}"
    yield from filter(None, (describe_chance(record, classes), describe_gap(record)))
    yield from _classes(record, classes)
    if facts := recipe_facts(record.recipe):
        yield f"recipe: {', '.join(f'{name} {value}' for name, value in facts)}"


def _classes(record: TrainingRecord, classes: Sequence[str]) -> Iterator[str]:
    counts = record.val_per_class
    if len(counts.n) == len(classes):
        rows = list(zip(classes, counts.right, counts.n, strict=True))
        listed = ", ".join(f"{name} {right} of {n}" for name, right, n in rows[:MAX_CLASSES])
        yield f"right by class: {listed}{', …' if len(rows) > MAX_CLASSES else ''}"

"""A made-up training with its validation images: hostile names, and known mistakes."""

from dataclasses import replace

from reported import CLASSES, HOSTILE

from inception_cli.predictions.prediction import Prediction
from inception_cli.report.training import Training
from inception_cli.weights.training_record import ClassCounts, EpochResult, TrainingRecord

#: Epochs in which the training accuracy rises to 100 %, and the validation accuracy to 75 %.
HISTORY = tuple(
    EpochResult(number, 6, 75, 0.04 / number, 2.4 / number, train, val, val, number < 6, 50.0, 9.0)
    for number, (train, val) in enumerate([(35, 33), (50, 42), (70, 50), (90, 67), (100, 75), (100, 58)], 1)
)


def training(**fields: object) -> Training:
    """Return a training with twelve validation images, of which three are mistakes; hostile names."""
    labels = [row % 3 for row in range(12)]
    mistaken = {1: (0, 0.6), 2: (1, 0.99), 9: (2, 0.7)}  # row: predicted class and score
    top = [mistaken.get(row, (label, 0.9)) for row, label in enumerate(labels)]
    names = [*HOSTILE, "10.jpg", "11.jpg", "12.jpg"]
    predictions = [
        Prediction(f"val/{name}", "ok", (index,), (CLASSES.names[index],), (score,))
        for name, (index, score) in zip(names, top, strict=True)
    ]
    record = TrainingRecord(
        start="scratch",
        photos=108,
        val_photos=12,
        val_top1=75.0,
        val_class_average=75.0,
        epochs=6,
        best_epoch=5,
        seed=7,
        batch_size=32,
        device="cpu",
        precision="bf16",
        seconds=54.0,
        recipe='{"hyperparameters": {"momentum": 0.9}, "area": [0.25, 1.0], "balance": 0.5}',
        skipped=2,
        val_per_class=ClassCounts([4, 4, 4], [3, 3, 3], [4, 4, 4]),
        train_top1=100.0,
        train_photos_measured=32,
        machine="A <b>processor</b>, 2 cores",
        versions={"inception": "0.3", "torch": "2.15"},
        finished="2026-11-27T04:00:00+00:00",
        history=HISTORY,
    )
    made = Training("mine & yours.safetensors", "photos <1>", CLASSES, record, labels, predictions)
    return replace(made, **fields)  # type: ignore[arg-type]

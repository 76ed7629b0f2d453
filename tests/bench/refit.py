"""Do the last steps of `inception train` again for trained weights: batch-norm statistics, and the last layer.

    python tests/bench/refit.py FOLDER --weights TRAINED.safetensors --out FITTED.safetensors [--only-statistics]

FOLDER has the pictures that the weights were trained on, one folder per class; one in ten of them is for validation, as
in the training. All other tensors and facts of the file stay as they are, but the statistics of `--familiar` are left
out, as they describe the features before. The last line is JSON.
"""

import argparse
import json
import os
from dataclasses import asdict, replace
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from inception_cli.machine import cores, fastest_precision
from inception_cli.training.settings import TrainConfig
from inception_cli.training.train import Trainer
from inception_cli.weights.checkpoint import SCALE_SUFFIX, compress
from inception_cli.weights.load import find_weights
from inception_cli.weights.read import FAMILIARITY, METADATA_KEY
from inception_cli.weights.training_record import ClassCounts, TrainingRecord


class Refit(Trainer):
    """A training that has ended with the weights it started from, except for their batch-norm statistics."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__(config)
        self._measure_statistics()
        self._best_weights = self.learner.averaged_weights()
        self._best_validation = self._evaluate(self._val)

    def updated(self, record: TrainingRecord) -> TrainingRecord:
        """Return the record of the training with what the fit has changed."""
        validation = self.best_validation
        steps = asdict(self.recipe)
        recipe = json.loads(record.recipe) | {
            name: steps[name] for name in ("plain_crops", "statistics_crops", "statistics_batch", "last_layer")
        }
        return replace(
            record,
            last_layer=self._last_layer or record.last_layer,
            last_layer_compared=self._last_layer_compared or record.last_layer_compared,
            val_top1=validation.top1,
            val_class_average=validation.class_average,
            val_per_class=ClassCounts(**validation.per_class(len(self.classes))),
            train_top1=self._evaluate(self._measured).top1,
            train_photos_measured=len(self._measured),
            recipe=json.dumps(recipe),
        )


def refit(folder: Path, weights: Path, out: Path, only_statistics: bool = False) -> TrainingRecord:
    """Write `weights` to `out` after these steps, and return the record of their training."""
    start = find_weights(os.fspath(weights))
    config = TrainConfig(
        train_dir=folder,
        out=out,
        start=start,
        size=start.preset.size,
        workers=max(1, cores() // 2),
        precision="bf16" if fastest_precision("cpu") == "bf16" else "fp32",
    )
    if not config.keeps_classifier(start.classes.names):
        raise SystemExit(f"{weights}: has other classes than {folder}")
    with safe_open(start.file, framework="pt") as stream:
        names = [name for name in stream.keys() if not name.startswith(FAMILIARITY)]  # noqa: SIM118
        tensors = {name: stream.get_tensor(name) for name in names}
        metadata = json.loads(stream.metadata()[METADATA_KEY])
    trained = TrainingRecord.of(metadata["trained"])
    trainer = Refit(config)
    counts, expected = (trainer.images.training, trainer.images.validation), (trained.photos, trained.val_photos)
    if counts != expected:
        raise SystemExit(f"{weights}: training and validation had {expected} images, {folder} has {counts}")
    if not only_statistics:
        trainer.fit_last_layer()
    order = [trainer.classes.index(name) for name in start.classes.names]
    changed = {
        name: value.contiguous()
        for name, value in trainer._best_weights.items()
        if name.endswith((".running_mean", ".running_var"))
    }
    layer = {name: trainer._best_weights[name][order].contiguous() for name in ("fc.weight", "fc.bias")}
    tensors |= changed | (compress(layer) if f"fc.weight{SCALE_SUFFIX}" in tensors else layer)
    record = trainer.updated(trained)
    metadata["trained"] |= asdict(record)
    save_file(tensors, out, {METADATA_KEY: json.dumps(metadata, ensure_ascii=False)})
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only-statistics", action="store_true", help="leave the last layer as it is")
    args = parser.parse_args()
    torch.set_num_threads(cores())
    record = refit(args.folder, args.weights, args.out, args.only_statistics)
    print(
        f"{args.out}: {record.val_top1:.1f} % of the validation images; last layer {record.last_layer or 'unchanged'}"
    )
    print(json.dumps({"bench": "refit", "val_top1": record.val_top1, "last_layer": record.last_layer}))


if __name__ == "__main__":
    main()

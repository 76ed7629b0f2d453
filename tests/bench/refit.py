"""Fit the last layer of trained weights again, as `inception train` does after its last epoch.

    python tests/bench/refit.py FOLDER --weights TRAINED.safetensors --out FITTED.safetensors

FOLDER has the pictures that the weights were trained on, one folder per class; one in ten of them is for validation, as
in the training. All other tensors and facts of the file stay as they are. The last line is JSON.
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
from inception_cli.weights.read import METADATA_KEY
from inception_cli.weights.training_record import ClassCounts, TrainingRecord


class Refit(Trainer):
    """A training that has ended with the weights it started from."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__(config)
        self._best_weights = self.learner.averaged_weights()
        self._best_validation = self._evaluate(self._val)

    def updated(self, record: TrainingRecord) -> TrainingRecord:
        """Return the record of the training with what the fit has changed."""
        validation = self.best_validation
        recipe = json.loads(record.recipe) | {"last_layer": asdict(self.recipe.last_layer)}
        return replace(
            record,
            last_layer=self._last_layer,
            val_top1=validation.top1,
            val_class_average=validation.class_average,
            val_per_class=ClassCounts(**validation.per_class(len(self.classes))),
            train_top1=self._evaluate(self._measured).top1,
            train_photos_measured=len(self._measured),
            recipe=json.dumps(recipe),
        )


def refit(folder: Path, weights: Path, out: Path) -> TrainingRecord:
    """Write `weights` to `out` with a last layer that was fitted again, and return the record of their training."""
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
    trainer = Refit(config)
    trainer.fit_last_layer()
    with safe_open(start.file, framework="pt") as stream:
        tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
        metadata = json.loads(stream.metadata()[METADATA_KEY])
    order = [trainer.classes.index(name) for name in start.classes.names]
    layer = {name: trainer._best_weights[name][order].contiguous() for name in ("fc.weight", "fc.bias")}
    tensors |= compress(layer) if f"fc.weight{SCALE_SUFFIX}" in tensors else layer
    record = trainer.updated(TrainingRecord.of(metadata["trained"]))
    metadata["trained"] |= asdict(record)
    save_file(tensors, out, {METADATA_KEY: json.dumps(metadata, ensure_ascii=False)})
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(cores())
    record = refit(args.folder, args.weights, args.out)
    print(f"{args.out}: last layer {record.last_layer}")
    print(json.dumps({"bench": "refit", "last_layer": record.last_layer, "val_photos": record.val_photos}))


if __name__ == "__main__":
    main()

"""The Python API: classify photos as the command does."""

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from inception_cli.config import Auto, Decode, PrecisionChoice, PresetName, Settings
from inception_cli.images.dataset import load_batches
from inception_cli.images.discovery import Discovery
from inception_cli.inference.calibration import calibrate
from inception_cli.inference.predictor import BatchResult, DevicePredictor
from inception_cli.inference.resolve import resolve, resolve_plan
from inception_cli.predictions.prediction import Prediction
from inception_cli.storage.input_list import InputList

if TYPE_CHECKING:
    import pandas as pd

#: Fewer images than this are decoded in this process: starting workers would take longer.
FEW_IMAGES = 32

Path = str | os.PathLike[str]


class Classifier:
    """Loaded weights that turn images into predictions.

    The arguments are options of `inception classify`, with its defaults; there are none for output files and their
    resumption, --compile, --timeout, --max-pixels, Ray and heat maps.
    `weights` is a name, a file, `local-dir:DIR`, `hf-hub:USER/MODEL`, or several of them: an ensemble.
    With `features`, here a bool, each prediction has the network's features (2048,) in fp32: the input of the last
    layer, mean over the crops.
    `calibration`, which is no option, are photos for the precision int8, like those that will be classified: 64 are
    enough.
    Raises UsageError (a ValueError) for invalid arguments, InceptionError for files that are not available.
    """

    def __init__(
        self,
        weights: str | Sequence[str] = "torchvision",
        *,
        top_k: int = 5,
        features: bool = False,
        preset: PresetName | None = None,
        classes: str | None = None,
        only_classes: str | None = None,
        min_score: float | None = None,
        rollup: float | None = None,
        familiar: float | None = None,
        crops: int = 1,
        decode: Decode = "fast",
        exif: bool = True,
        batch_size: int | Auto = "auto",
        workers: int | Auto = "auto",
        device: str = "auto",
        precision: PrecisionChoice = "auto",
        calibration: Path | Iterable[Path] = (),
        offline: bool = False,
    ) -> None:
        settings = Settings(
            weights=(weights,) if isinstance(weights, str) else tuple(weights),
            top_k=top_k,
            arrays=("features",) if features else (),
            preset=preset,
            classes=classes,
            only_classes=only_classes,
            min_score=min_score,
            rollup=rollup,
            familiar=familiar,
            crops=crops,
            decode=decode,
            exif=exif,
            batch_size=batch_size,
            workers=workers,
            device=device,
            precision=precision,
            offline=offline,
        )
        self.run = resolve(settings, resolve_plan(settings))
        if self.run.plan.precision == "int8":
            self.run = calibrate(self.run, _list_images(calibration))
        self._predictor = DevicePredictor(self.run).load()

    @property
    def labels(self) -> tuple[str, ...]:
        """All class names, in the order of the model's outputs."""
        return self.run.classes.names

    def __call__(self, inputs: Path | Iterable[Path]) -> list[Prediction]:
        """Return a prediction for each image of the inputs, in order: files, folders (recursively) and globs.

        A file that does not exist has a prediction with the status `missing`.
        """
        return list(self.stream(inputs))

    def stream(self, inputs: Path | Iterable[Path]) -> Iterator[Prediction]:
        """Yield the predictions batch by batch, for more images than a list should hold."""
        paths = _list_images(inputs)
        loader = replace(self.run.loader, workers=0) if len(paths) < FEW_IMAGES else self.run.loader
        for batch in self._predictor.decode_on_device(load_batches(paths, self.run.pixels, loader)):
            result = self._predictor.predict_batch(paths, batch)
            yield from result.predictions if not result.arrays else _with_features(result)

    def to_frame(self, inputs: Path | Iterable[Path]) -> "pd.DataFrame":
        """Return the predictions as a table with the columns of the CSV file."""
        from inception_cli.predictions.table import to_frame

        return to_frame(self.stream(inputs), self.run.top_k, bool(self.run.thresholds))


def _with_features(result: BatchResult) -> Iterator[Prediction]:
    """Yield the predictions of a batch with their features."""
    (features,) = result.arrays
    for prediction, row in zip(result.predictions, features, strict=True):
        yield replace(prediction, features=row.copy()) if prediction.status == "ok" else prediction


def _list_images(inputs: Path | Iterable[Path]) -> InputList:
    """Return the images in files, folders and globs, and missing files; warn about folders that cannot be read."""
    listed = [inputs] if isinstance(inputs, str | os.PathLike) else inputs
    discovery = Discovery([os.fspath(path) for path in listed])
    paths = InputList.of(discovery.paths())
    if discovery.unreadable.count:
        warnings.warn(str(discovery.unreadable), stacklevel=4)
    return paths

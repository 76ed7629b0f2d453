"""Batches of images → predictions, on one device."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Protocol, Self

import numpy as np
import torch
from torch import Tensor, nn

from inception_cli.config import RunConfig
from inception_cli.errors import InceptionError, is_out_of_memory
from inception_cli.images.dataset import Batch, load_batches
from inception_cli.images.gpu_decode import GpuDecoder
from inception_cli.images.preprocess import MIRRORED, central_view
from inception_cli.network.cuda_pipeline import (
    HostToDevice,
    PendingResult,
    copy_to_host,
    deadline,
    keep_in_flight,
    map_ahead,
    pad_batch,
    set_current_device,
)
from inception_cli.network.familiarity import Familiarity
from inception_cli.network.fusion import optimize
from inception_cli.network.onednn import keep_memory
from inception_cli.predictions.decision import TreePath
from inception_cli.predictions.prediction import Prediction, with_decision
from inception_cli.predictions.tree import tree_of
from inception_cli.storage.input_list import LocatedPaths
from inception_cli.weights.load import load_familiarity, load_network

#: Threads that decode batches on a GPU: while nvJPEG decodes one, another is resized.
DECODING_THREADS = 2
#: Types of the arrays that are kept.
ARRAY_DTYPES = {"float32": torch.float32, "float16": torch.float16}
#: The error of a row whose scores are NaN.
NOT_NUMBERS = "the scores are no numbers: the weights overflow; --precision fp32 may help"


@dataclass(frozen=True)
class BatchResult:
    """The predictions of consecutive inputs from position `first` of the list on."""

    first: int
    predictions: list[Prediction]
    reduced_batch: int | None = None  # images that fit into memory at once, where that is less than a batch
    arrays: tuple[np.ndarray, ...] = field(default=(), compare=False)  # (N, …) of `run.arrays`; NaN: no prediction


class Predictor(Protocol):
    """Predicts the classes of the inputs of a run: on one device, on several GPUs, or on a Ray cluster."""

    def predict(self, paths: Sequence[str], pending: Sequence[range]) -> Iterator[BatchResult]:
        """Yield the predictions of the inputs at the `pending` positions (ranges of whole batches), batch by batch."""


class DevicePredictor:
    """The networks of a run on one device: uint8 views in, the best classes and their scores out."""

    def __init__(self, run: RunConfig, directory: str = "") -> None:
        self.run = run
        self.directory = directory  # that relative paths belong to; "": the working directory
        self.reduced_batch: int | None = None  # images at once, after a batch did not fit into memory
        cuda = run.plan.device.startswith("cuda")
        self._in_flight = 1 if cuda else 0  # batches that a GPU computes while the rows of the one before are made
        self._graph_size = run.images_per_batch if cuda and run.plan.compile else 0  # a CUDA graph has one shape
        self._networks: list[nn.Module] = []
        self._tree = tree_of(run.classes) if run.thresholds else None
        self._familiarity: Familiarity | None = None  # where the run asks for it: it has one network then
        self._features = "features" in run.arrays, run.thresholds.familiar is not None  # the last ones, middle ones

    def load(self) -> Self:
        """Load the networks onto the device, unless they are loaded already."""
        if self._networks:
            return self
        run = self.run
        torch.set_num_threads(run.plan.threads)
        if run.plan.device == "cpu":
            keep_memory()
        self._to_device = HostToDevice(run.plan.device)
        self._decoder = GpuDecoder(run.pixels, run.plan.device) if run.pixels.decode == "gpu" else None
        if run.thresholds.familiar is not None:
            self._familiarity = load_familiarity(run.weights[0]).to(run.plan.device)
        self._networks = [
            optimize(load_network(each), each.preset.mean, each.preset.std, run.plan, ranges, *self._features)
            for each, ranges in zip_longest(run.weights, run.int8_ranges)
        ]
        return self

    def predict(self, paths: Sequence[str], pending: Sequence[range]) -> Iterator[BatchResult]:
        """Yield the predictions of the inputs at the `pending` positions in order, a batch at a time."""
        for positions in pending:
            yield from self.predict_batches(paths, self.run.batch_numbers(positions))

    def predict_batches(self, paths: Sequence[str], numbers: range) -> Iterator[BatchResult]:
        """Yield the predictions of the batches with these numbers; batch i begins at position i · images_per_batch."""
        set_current_device(self.run.plan.device)
        pin = self.run.plan.device.startswith("cuda")
        files = LocatedPaths(paths, self.directory) if self.directory else paths
        batches = load_batches(files, self.run.pixels, self.run.loader, numbers, pin)  # workers start at once
        self.load()
        started = ((batch, self._start(batch.pixels)) for batch in self.decode_on_device(batches))
        for batch, pending in keep_in_flight(started, self._in_flight):
            yield self._result(paths, batch, pending)

    def predict_batch(self, paths: Sequence[str], batch: Batch) -> BatchResult:
        """Return the predictions of one batch, whose images are decoded."""
        return self._result(paths, batch, self._start(batch.pixels))

    def decode_on_device(self, batches: Iterable[Batch]) -> Iterable[Batch]:
        """Return the batches with all images decoded: with `decode="gpu"` workers leave JPEGs to the device."""
        self.load()
        return map_ahead(batches, self._decode, DECODING_THREADS) if self._decoder else batches

    def _decode(self, batch: Batch) -> Batch:
        assert self._decoder
        with deadline(self.run.plan.device, self.run.loader.timeout):
            return self._decoder(batch)

    def __call__(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels (N, V, S, S, 3) uint8 → classes (N, K) int64 and scores (N, K) fp32, best first, on the CPU.

        Scores are softmax in fp32, averaged over the views, then over the networks. If a protocol has mirrored views,
        `pixels` holds one of each pair; the mirror images are made here.
        """
        classes, scores, *_ = self._start(pixels)()
        return classes, scores

    def _result(self, paths: Sequence[str], batch: Batch, pending: PendingResult) -> BatchResult:
        """Wait for the result of a batch; the rows of its arrays are NaN where an image has no prediction."""
        with deadline(self.run.plan.device, self.run.loader.timeout):
            classes, scores, *others = pending()
        unfamiliar = self._are_unfamiliar(others.pop()) if self._familiarity else [False] * len(batch.pixels)
        arrays = [tensor.numpy() for tensor in others]
        tree_paths = self._tree.paths(arrays.pop()) if self._tree else [()] * len(batch.pixels)
        predictions = self._predictions(paths, batch, classes.tolist(), scores.tolist(), tree_paths, unfamiliar)
        for array in arrays:
            array[[row.status != "ok" for row in predictions]] = np.nan
        return BatchResult(batch.first, predictions, self.reduced_batch, tuple(arrays))

    def _are_unfamiliar(self, distances: Tensor) -> list[bool]:
        """Return whether each image is unlike the training photos, by its distance from them."""
        familiar = self.run.thresholds.familiar
        assert self._familiarity
        assert familiar is not None
        unfamiliar: list[bool] = (distances > self._familiarity.threshold(familiar)).tolist()
        return unfamiliar

    def _predictions(
        self,
        paths: Sequence[str],
        batch: Batch,
        classes: list[list[int]],
        scores: list[list[float]],
        tree_paths: Sequence[TreePath],
        unfamiliar: Sequence[bool],
    ) -> list[Prediction]:
        """Return a prediction for each image of the batch, in order, failures in their places."""
        failures, names = dict(batch.failures), self.run.classes.names
        predictions = []
        for offset in range(len(batch.pixels)):
            path = paths[batch.first + offset]
            if failure := failures.get(offset):
                predictions.append(Prediction(path, failure.status, error=failure.error))
            elif any(score != score for score in scores[offset]):
                predictions.append(Prediction(path, "failed", error=NOT_NUMBERS))
            else:
                labels = tuple(names[index] for index in classes[offset])
                row = Prediction(path, "ok", tuple(classes[offset]), labels, tuple(scores[offset]))
                if thresholds := self.run.thresholds:
                    row = with_decision(row, tree_paths[offset], thresholds, self._tree, unfamiliar[offset])
                predictions.append(row)
        return predictions

    def _start(self, pixels: Tensor) -> PendingResult:
        """Start computing on the device; calling the result waits for it and returns what `_best_classes` documents.

        A batch that does not fit into memory is halved until it does, and the number of images that fitted is kept in
        `reduced_batch`; InceptionError when not even one image fits.
        """
        self.load()
        parts: list[PendingResult] = []
        first, step = 0, self.reduced_batch or len(pixels)
        while first < len(pixels):
            part = pixels[first : first + step]
            try:
                parts.append(copy_to_host(*self._best_classes(part)))
                first += len(part)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if len(part) == 1:
                    other = "fewer --workers" if self.run.plan.device == "cpu" else "--device cpu with --restart"
                    raise InceptionError(
                        f"{self.run.plan.device}: not enough memory for one image; stop other programs that use it, "
                        f"or choose {other}"
                    ) from error
                self.reduced_batch = step = len(part) // 2
                self._graph_size = min(self._graph_size, step)

        def results() -> tuple[Tensor, ...]:
            return tuple(map(torch.cat, zip(*(part() for part in parts), strict=True)))

        return results

    @torch.inference_mode()
    def _best_classes(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Return on the device what `__call__` documents, the arrays (N, …) of `run.arrays`, and what decisions need.

        For a tree that is the scores (N, C) of all classes, and with `familiar` the distances (N,) from the training
        photos. Features are averaged over the views. The distances are those of the centre, whatever the number of
        crops: the thresholds come from single centre crops, and averaged features have smaller distances.
        """
        on_device = pad_batch(self._to_device(pixels), self._graph_size)
        n, views = on_device.shape[:2]
        images = on_device.flatten(0, 1).permute(0, 3, 1, 2)
        mirrored = self.run.pixels.crops in MIRRORED
        if mirrored:
            images = torch.stack([images, images.flip(3)], 1).flatten(0, 1)  # (N · V, 3, S, S)
            views *= 2
        outputs, features = [network(images) for network in self._networks], list[Tensor]()
        if any(self._features):  # of a single network
            ((logits, *features),) = outputs
            outputs, features = [logits], [each.view(n, views, -1) for each in features]  # (N, V, D)
        scores = torch.stack([softmax(logits, self.run.only_classes) for logits in outputs])  # (networks, N · V, C)
        scores = scores.view(len(outputs), n, views, -1).mean(2).mean(0)  # (N, C)
        best = scores.topk(self.run.top_k)
        results = [best.indices, best.values]
        for name in self.run.arrays:
            array = scores if name == "scores" else features[0].mean(1)
            results.append(array.to(ARRAY_DTYPES[self.run.array_type]))
        if self._tree:
            results.append(scores)
        if self._familiarity:
            centre = central_view(self.run.pixels) * (2 if mirrored else 1)  # each view is before its mirror image
            results.append(self._familiarity.distances(features[-1][:, centre]))
        return tuple(result[: len(pixels)] for result in results)


def softmax(logits: Tensor, only_classes: Sequence[int]) -> Tensor:
    """Return scores (N, C) in fp32; 0 for classes that are not allowed, as the authors of ImageNet-A and -R do it.

    Without `only_classes` all are allowed.
    """
    logits = logits.float()
    if only_classes:
        mask = torch.full_like(logits[0], -torch.inf)
        mask[list(only_classes)] = 0
        logits = logits + mask
    return logits.softmax(1)

"""Batches → rows."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from inception_cli import weights
from inception_cli.errors import InceptionError
from inception_cli.images.loader import Batch, batches, images_per_batch
from inception_cli.images.nvjpeg import Decoder
from inception_cli.images.preprocess import MIRRORED
from inception_cli.network.onednn import keep_memory
from inception_cli.network.optimize import optimize
from inception_cli.network.pipeline import Answer, Feed, ahead, behind, choose, fetch, padded
from inception_cli.results.rows import Prediction
from inception_cli.settings import Run


class Networks:
    """The networks of a run, loaded and ready: uint8 views in, the best classes and their scores out."""

    in_flight = 0  # batches that a GPU is at while rows are made of the one before
    decoder: Decoder | None = None  # of files that workers leave as they are
    fixed = 0  # images that a CUDA graph is made for: a batch of fewer is filled up; 0: any number

    def __init__(self, run: Run) -> None:
        torch.set_num_threads(run.threads)
        if run.plan.device == "cpu":
            keep_memory()
        self.run = run
        self.labels = run.weights[0].classes.names
        self.at_once: int | None = None  # images that memory has room for, once it had too little for a batch
        if run.plan.device.startswith("cuda"):
            self.in_flight = 1
            self.fixed = images_per_batch(run.loading.batch_size, run.pixels.crops) if run.plan.compile else 0
        self.feed = Feed(run.plan.device)
        if run.pixels.decode == "gpu":
            self.decoder = Decoder(run.pixels, run.plan.device)
        self.networks = [
            optimize(weights.load(each), each.preset.mean, each.preset.std, run.plan) for each in run.weights
        ]

    def __call__(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels (N, V, S, S, 3) uint8 → classes (N, K) int64 and scores (N, K) fp32, best first, on the CPU.

        Scores are softmax in fp32, averaged over the views, then over the networks. Where a
        protocol has mirrored views only one of each pair comes; mirrors are made here.
        """
        return self.begin(pixels)()

    def begin(self, pixels: Tensor) -> Answer:
        """Have the device begin with the pixels; the answer's call waits for it, and gives what `__call__` says.

        What memory has no room for is halved until it has, and the number that fitted is kept in `at_once`;
        InceptionError when that is no image at all.
        """
        found: list[Answer] = []
        first, step = 0, self.at_once or len(pixels)
        while first < len(pixels):
            some = pixels[first : first + step]
            try:
                found.append(fetch(*self._best(some)))
                first += len(some)
            except RuntimeError as error:
                if not _out_of_memory(error):
                    raise
                if len(some) == 1:
                    raise InceptionError(
                        f"{self.run.plan.device}: not enough memory for one image; end other programs there, "
                        "or choose a smaller --batch-size, or --device cpu, with --restart"
                    ) from error
                self.at_once = step = len(some) // 2
                self.fixed = min(self.fixed, step)

        def answer() -> tuple[Tensor, Tensor]:
            classes, scores = zip(*(each() for each in found), strict=True)
            return torch.cat(classes), torch.cat(scores)

        return answer

    @torch.inference_mode()
    def _best(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """What `__call__` says, of as many images as fit, on the device."""
        there = padded(self.feed(pixels), self.fixed)
        n, views = there.shape[:2]
        images = there.flatten(0, 1).permute(0, 3, 1, 2)
        if self.run.pixels.crops in MIRRORED:
            images = torch.stack([images, images.flip(3)], 1).flatten(0, 1)  # (N · V, 3, S, S)
            views *= 2
        scores = torch.stack([self._softmax(network(images)) for network in self.networks])  # (networks, N · V, C)
        best = scores.view(len(self.networks), n, views, -1).mean(2).mean(0).topk(self.run.top_k)
        return best.indices[: len(pixels)], best.values[: len(pixels)]

    def _softmax(self, logits: Tensor) -> Tensor:
        """Scores in fp32; classes that may not be answered have none, as the authors of ImageNet-A and -R do it."""
        logits = logits.float()
        if self.run.only:
            kept = torch.full_like(logits[0], -torch.inf)
            kept[list(self.run.only)] = 0
            logits = logits + kept
        return logits.softmax(1)

    def decoded(self, stream: Iterable[Batch]) -> Iterable[Batch]:
        """The batches with a slot for each image: what workers left as it is in the file is decoded by the device."""
        return ahead(stream, self.decoder) if self.decoder else stream

    def rows(self, paths: Sequence[str], batch: Batch, answer: Answer | None = None) -> list[Prediction]:
        """One row for each image of the batch, in order, failures in their places; `answer` if it has begun."""
        classes, scores = (each.tolist() for each in (answer or self.begin(batch.pixels))())
        failures = dict(batch.failures)
        rows = []
        for offset in range(len(batch.pixels)):
            path = paths[batch.first + offset]
            if offset in failures:
                rows.append(Prediction(path, failures[offset].status, error=failures[offset].error))
            else:
                labels = tuple(self.labels[index] for index in classes[offset])
                rows.append(Prediction(path, "ok", tuple(classes[offset]), labels, tuple(scores[offset])))
        return rows


def classify(
    paths: Sequence[str],
    run: Run,
    start: int = 0,
    split: Callable[[int], None] = lambda at_once: None,
    step: int = 1,
) -> Iterator[list[Prediction]]:
    """The rows of `paths` from position `start` on, a batch at a time, in order; of `step` batches the first.

    `split` is told how many images go through the network at once where memory has no room for a batch; from then on
    the last digits of scores may differ from those of a run with more memory.
    """
    choose(run.plan.device)
    pin = run.plan.device.startswith("cuda")
    stream = batches(paths, run.pixels, run.loading, start, step, pin)  # workers start before the network is built
    networks = Networks(run)
    told = networks.at_once
    begun = ((batch, networks.begin(batch.pixels)) for batch in networks.decoded(stream))
    for batch, answer in behind(begun, networks.in_flight):
        rows = networks.rows(paths, batch, answer)
        if networks.at_once != told:
            told = networks.at_once
            split(told or len(batch.pixels))
        yield rows


def _out_of_memory(error: RuntimeError) -> bool:
    """Whether the device, or the host beside it, had no memory left."""
    said = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in said or "can't allocate memory" in said

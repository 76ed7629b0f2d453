"""Heat maps of photos: which places contribute how much to the logit of a class, in fp32 with the network of a run."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from inception_cli.config import PixelConfig, RunConfig, Weights
from inception_cli.errors import InceptionError, UsageError, os_errors
from inception_cli.files.file_kind import file_kind
from inception_cli.files.hashing import sha256
from inception_cli.images.decode import Failure, read
from inception_cli.images.failure import OUT_OF_MEMORY
from inception_cli.images.fetch import fetch_remote
from inception_cli.images.preprocess import views, visible_box
from inception_cli.inference.predictor import softmax
from inception_cli.network.heat_map import cell_edges, class_maps, last_grid, network_for_maps
from inception_cli.predictions.text import existing_path
from inception_cli.weights.load import find_weights, load_network

Box = tuple[float, float, float, float]  # left, top, right, bottom, as shares of the sides

#: Photos that the network sees at once, and that are decoded before.
BATCH = 20


@dataclass(frozen=True)
class Explanation:
    """The heat map of one class: the average of `values` (H, W) plus `bias` is `logit`."""

    index: int  # of the class
    values: NDArray[np.float32]
    bias: float
    logit: float
    score: float  # softmax in fp32, over the classes that the run allows
    edges: tuple[float, float]  # between which the cells are, as shares of the view's sides


@dataclass(frozen=True)
class View:
    """What the network sees of a photo: uint8 (S, S, 3), and which part of the photo that is."""

    pixels: NDArray[np.uint8]
    visible: Box

    @property
    def partial(self) -> bool:
        """Whether there is more of the photo than the network sees."""
        return self.visible != (0, 0, 1, 1)


def require_single_view(crops: int, networks: int) -> None:
    """Raise UsageError unless photos are classified by one network from one crop."""
    if networks > 1:
        raise UsageError(f"a heat map is of one network, and these are {networks}; classify with one --weights")
    if crops > 1:
        raise UsageError(f"a heat map is of one view, and there are {crops}; classify with --crops 1")


def load_view(path: str, config: PixelConfig) -> tuple[Image.Image, View] | Failure:
    """Return a photo, local or remote, and what the network sees of it, or why it cannot be read."""
    image = read(fetch_remote([existing_path(path)])[0], config)
    if isinstance(image, Failure):
        return image
    try:
        return image, View(views(image, config)[0], visible_box(image, config.preset))
    except MemoryError:
        return OUT_OF_MEMORY


class Explainer:
    """The network of a run on a device, in fp32 whatever the run's precision."""

    def __init__(self, run: RunConfig, device: str) -> None:
        require_single_view(run.pixels.crops, len(run.weights))
        weights = run.weights[0]
        self.run, self.device = run, device
        self.network = network_for_maps(load_network(weights), weights.preset.mean, weights.preset.std, device)

    @torch.inference_mode()
    def explain(self, pixels: NDArray[np.uint8], classes: Sequence[int] | None = None) -> list[Explanation]:
        """Return the maps of pixels (N, S, S, 3), each of the class given for it; None: of the best ones."""
        images = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2)
        features = last_grid(self.network, images)
        logits = self.network.forward_head(features)
        scores = softmax(logits, self.run.only_classes)
        chosen = scores.argmax(1) if classes is None else torch.tensor(classes, device=self.device)
        maps = class_maps(self.network, features, chosen).cpu().numpy()
        numbers = [tensor.gather(1, chosen[:, None])[:, 0].tolist() for tensor in (logits, scores)]
        biases = self.network.fc.bias[chosen].tolist()
        edges = cell_edges(maps.shape[-1], pixels.shape[1])
        rows = zip(chosen.tolist(), maps, biases, *numbers, strict=True)
        return [Explanation(index, values, bias, logit, score, edges) for index, values, bias, logit, score in rows]


def explain_photos(
    explainer: Explainer, photos: Sequence[tuple[str, int]], progress: Callable[[int, int], None]
) -> Iterator[tuple[Explanation, Box] | None]:
    """Yield the map of each photo, given by path and class, and the part of the photo that it covers, in order.

    None for a photo that cannot be read. `progress` is called with the photos so far and the number of all.
    """
    load = partial(_view_or_none, config=explainer.run.pixels)
    threads = ThreadPoolExecutor()  # decoding releases the GIL
    try:
        loaded = threads.map(load, [path for path, _ in photos])
        for first in range(0, len(photos), BATCH):
            batch = photos[first : first + BATCH]
            views_of_batch = [*islice(loaded, len(batch))]
            readable = [(view, index) for view, (_, index) in zip(views_of_batch, batch, strict=True) if view]
            pixels, classes = [view.pixels for view, _ in readable], [index for _, index in readable]
            explained = iter(explainer.explain(np.stack(pixels), classes) if readable else ())
            for view in views_of_batch:
                yield (next(explained), view.visible) if view else None
            progress(first + len(batch), len(photos))
    finally:
        threads.shutdown(cancel_futures=True)


def _view_or_none(path: str, config: PixelConfig) -> View | None:
    loaded = load_view(path, config)
    return None if isinstance(loaded, Failure) else loaded[1]


def find_weights_of_run(weights: Weights, directory: str) -> Weights:
    """Return the weights of an earlier run, which was started in `directory`, with the file where they are today.

    Nothing is downloaded. Raises InceptionError if they are not on this machine, or have another sha256.
    """
    file, remedy = Path(directory, weights.file), "make it readable, or leave out --explain"
    if file_kind(file, remedy) == "file":
        with os_errors(file, remedy):
            actual = sha256(file)
    else:
        found = _find_by_name(weights, file)
        file, actual = Path(found.file), found.sha256
    if actual != weights.sha256:
        raise InceptionError(
            f"{file}: not the weights of the run, whose sha256 is {weights.sha256[:12]}…, but others "
            f"({actual[:12]}…); restore them, or leave out --explain"
        )
    return replace(weights, file=str(file))


def _find_by_name(weights: Weights, file: Path) -> Weights:
    """Return the weights of this name on this machine; InceptionError if there are none, as `file` is missing."""
    try:
        return find_weights(weights.name, classes=weights.classes, offline=True)
    except InceptionError as error:
        own = weights.source == weights.file
        remedy = "put them back" if own else f"download them with inception classify PHOTO --weights {weights.name}"
        raise InceptionError(
            f"{file}: the weights of the run are not there; {remedy}, or leave out --explain"
        ) from error

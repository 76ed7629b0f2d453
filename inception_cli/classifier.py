"""Photos classified from Python, as the command does it."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from inception_cli.images.inputs import Inputs, PathList
from inception_cli.images.loader import batches
from inception_cli.predict import Networks
from inception_cli.results.rows import Prediction
from inception_cli.settings import Settings, resolve
from inception_cli.weights import DEFAULT

#: Fewer photos than this are decoded in this process: to start others would take longer.
FEW = 32

Name = str | os.PathLike[str]


class Classifier:
    """Weights, loaded and ready: photos in, a `Prediction` for each out.

    The arguments are options of `inception classify`; weights are a name, a file, or several of them, an ensemble.
    InceptionError for what cannot be had.
    """

    def __init__(
        self,
        weights: str | Sequence[str] = DEFAULT,
        *,
        top_k: int = 5,
        preset: str | None = None,
        classes: str | None = None,
        crops: int = 1,
        decode: str = "fast",
        exif: bool = True,
        batch_size: int | None = None,
        workers: int | None = None,
        device: str = "auto",
        precision: str = "auto",
        offline: bool = False,
    ) -> None:
        self.run = resolve(
            Settings(
                weights=(weights,) if isinstance(weights, str) else tuple(weights),
                top_k=top_k,
                preset=preset,
                classes=classes,
                crops=crops,
                decode=decode,
                exif=exif,
                batch_size=batch_size,
                workers=workers,
                device=device,
                precision=precision,
                offline=offline,
            )
        )
        self._networks = Networks(self.run)

    @property
    def labels(self) -> tuple[str, ...]:
        """All class names, in the model's order."""
        return self._networks.labels

    def __call__(self, named: Name | Iterable[Name]) -> list[Prediction]:
        """A row for each photo of what is named: files, folders with all below them, globs; in order."""
        return list(self.stream(named))

    def stream(self, named: Name | Iterable[Name]) -> Iterator[Prediction]:
        """The same, batch by batch as they come: for more photos than a list should hold."""
        names = [named] if isinstance(named, str | os.PathLike) else named
        paths = PathList.of(Inputs([os.fspath(name) for name in names]))
        loading = replace(self.run.loading, workers=0) if len(paths) < FEW else self.run.loading
        for batch in self._networks.decoded(batches(paths, self.run.pixels, loading)):
            yield from self._networks.rows(paths, batch)

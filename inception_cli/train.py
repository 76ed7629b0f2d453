"""Class folders → weights of the user's own: one recipe, and a checkpoint after each epoch, from which it goes on."""

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inception_cli import weights
from inception_cli.errors import InceptionError
from inception_cli.images import augment
from inception_cli.images.augment import Augmentation, Crops, Draws
from inception_cli.images.decode import Failure
from inception_cli.images.labelled import (
    Photo,
    Photos,
    centre,
    class_names,
    labelled,
    no_photos,
    reduced,
    require_same_classes,
    split,
)
from inception_cli.images.preprocess import Pixels
from inception_cli.network.learner import Learner, Learning
from inception_cli.network.model import MIN_SIDE, InceptionV3
from inception_cli.network.onednn import keep_memory
from inception_cli.network.optimize import Plan
from inception_cli.results.ledger import difference
from inception_cli.settings import TrainSettings, cores

#: Streams of random numbers: each generator is (seed, stream, epoch, …), so that no two uses share numbers.
DRAWS, CROPS, DROPOUT = range(3)


@dataclass(frozen=True)
class Recipe:
    """The one recipe: what is not the user's to choose."""

    learning: Learning = field(default_factory=Learning)
    augmentation: Augmentation = field(default_factory=Augmentation)
    pretrained_rate: float = 0.25  # of the learning rate, when published weights are the start
    balance: float = 0.5  # classes of n photos are drawn in proportion to n ** (1 - balance)
    # A random crop shows things larger than classifying's centre square does, so its side stays below the preset's size
    # (Touvron et al., arXiv:1906.06423). To save time it grows, from `first_side` of the size to `last_side` of it.
    first_side: float = 0.6
    last_side: float = 0.85
    grown: float = 0.7  # share of the epochs after which it is `last_side`
    held: float = 1.5  # decoded photos are reduced to a short side of this many sizes
    val_share: int = 10  # without --val-dir, one photo in so many judges,
    val_run: int = 10  # by runs of up to so many neighbours
    patience: float = 0.5  # it ends after this share of the epochs without a better one


@dataclass(frozen=True)
class Score:
    """Right answers in percent: of all validation photos, and the mean of that over their classes."""

    top1: float
    class_average: float


@dataclass(frozen=True)
class Epoch:
    """What an epoch came to."""

    number: int  # from 1
    side: int  # pixels of the crops
    loss: float  # mean over the crops, the auxiliary classifier's share in it
    top1: float  # percent of the validation photos, by the averaged weights
    class_average: float  # percent
    best: bool  # so far: these weights are kept, see `good_enough`
    images_per_s: float  # while learning
    seconds: float  # validation included
    seconds_left: float


class Training:
    """A training, fresh or gone on with: iterate `epochs()`, then `save()`."""

    def __init__(self, settings: TrainSettings, recipe: Recipe | None = None) -> None:
        """Reads every photo once. InceptionError for folders, photos or a part that will not do."""
        self.settings, self.recipe = settings, recipe or Recipe()
        require_writable(settings)
        self.classes = class_names(settings.train_dir)
        train, val = self._listed()
        self._asked = self._all_asked(train, val)
        part = read_part(settings.part, self._asked)
        torch.set_num_threads(cores())  # the order of sums depends on it
        if settings.device == "cpu":
            keep_memory()
        pixels, short = Pixels(settings.preset), round(self.recipe.held * settings.size)
        self._train = Photos(train, pixels, partial(reduced, short=short), settings.workers)
        self._val = Photos(val, pixels, partial(centre, pixels=pixels), settings.workers)
        self.skipped: dict[str, Failure] = self._train.skipped | self._val.skipped  # by path
        self._require_all_classes()
        self.learner = self._learner()
        self.history = [Epoch(**each) for each in part["history"]] if part else []
        self._best: Mapping[str, Tensor] = part["best"] if part else {}
        if part:
            self.learner.restore(part["learner"])

    @property
    def best(self) -> Epoch:
        """The epoch whose weights are kept."""
        return [epoch for epoch in self.history if epoch.best][-1]

    @property
    def finished(self) -> bool:
        done = len(self.history)
        patience = max(1, round(self.recipe.patience * self.settings.epochs))
        return done == self.settings.epochs or (done > 0 and done - self.best.number >= patience)

    def epochs(self) -> Iterator[Epoch]:
        """The epochs still to go, each of them on disk before it is told."""
        while not self.finished:
            epoch = self._epoch(len(self.history))
            self.history.append(epoch)
            if epoch.best:
                self._best = {name: value.clone() for name, value in self.learner.average.state_dict().items()}
            state = {"learner": self.learner.state(), "best": self._best, "history": [*map(asdict, self.history)]}
            write_part(self.settings.part, self._asked, state)
            yield epoch

    def save(self) -> dict[str, str | float | int]:
        """Write the best weights to `out`, remove the part, and say how they came to be."""
        trained = self._trained()
        network = self.learner.average
        network.load_state_dict(self._best)
        weights.save(self.settings.out, network, self.classes, self.settings.preset, trained)
        self.settings.part.unlink(missing_ok=True)
        return trained

    @property
    def _steps(self) -> int:
        """Steps in an epoch: about as many crops as there are photos, in whole batches."""
        return -(-len(self._train) // self.settings.batch_size)

    def _listed(self) -> tuple[list[Photo], list[Photo]]:
        """The photos to learn from, and those to judge by."""
        settings = self.settings
        photos = labelled(settings.train_dir, self.classes)
        if settings.val_dir is None:
            return split(photos, self.recipe.val_share, self.recipe.val_run)
        require_same_classes(self.classes, settings.train_dir, settings.val_dir)
        return photos, labelled(settings.val_dir, self.classes)

    def _all_asked(self, train: Sequence[Photo], val: Sequence[Photo]) -> dict[str, Any]:
        """All that the losses depend on; of the photos, labels, names and lengths."""
        settings = self.settings
        return {
            "classes": ", ".join(self.classes),
            "photos": describe(train),
            "validation photos": describe(val),
            "from": f"{settings.start.name} ({settings.start.sha256[:8]})" if settings.start else "scratch",
            "size": settings.size,
            "epochs": settings.epochs,
            "seed": settings.seed,
            "batch size": settings.batch_size,
            "device": settings.device,
            "precision": settings.precision,
            "recipe": json.loads(json.dumps(asdict(self.recipe))),
        }

    def _require_all_classes(self) -> None:
        """InceptionError for a class none of whose photos could be read."""
        for label, name in enumerate(self.classes):
            if label not in self._train.labels:
                raise no_photos(self.settings.train_dir / name)
        if not len(self._val):
            raise InceptionError(
                f"{self.settings.val_dir or self.settings.train_dir}: no validation photo can be read; "
                "put some there that can, or name another --val-dir"
            )

    def _learner(self) -> Learner:
        settings, learning = self.settings, self.recipe.learning
        network = InceptionV3(len(self.classes), aux=True, dropout=learning.dropout).initialise(settings.seed)
        rate = learning.learning_rate * settings.batch_size / 32
        if settings.start:
            start = weights.load(settings.start).state_dict()
            trunk = {name: value for name, value in start.items() if not name.startswith(("fc.", "AuxLogits."))}
            network.load_state_dict(trunk, strict=False)
            rate *= self.recipe.pretrained_rate
        plan = Plan(settings.device, settings.precision)
        return Learner(network, replace(learning, learning_rate=rate), settings.epochs * self._steps, plan)

    def _epoch(self, number: int) -> Epoch:
        """Learn for an epoch, counted from 0, and judge the averaged weights."""
        began = time.monotonic()
        loss = self._learn(number)
        learnt = time.monotonic() - began
        score = self._score()
        seconds = time.monotonic() - began
        left = sum(self._side(later) ** 2 for later in range(number + 1, self.settings.epochs))
        return Epoch(
            number=number + 1,
            side=self._side(number),
            loss=loss,
            top1=score.top1,
            class_average=score.class_average,
            best=good_enough(score.top1, [epoch.top1 for epoch in self.history], len(self._val)),
            images_per_s=self._steps * self.settings.batch_size / learnt,
            seconds=seconds,
            seconds_left=seconds * left / self._side(number) ** 2,
        )

    def _learn(self, number: int) -> float:
        """An epoch of steps, all of whose randomness comes from the seed and its number; returns the mean loss."""
        settings, labels = self.settings, self._train.labels
        torch.manual_seed(int(np.random.SeedSequence((settings.seed, DROPOUT, number)).generate_state(1)[0]))
        random = np.random.default_rng((settings.seed, DRAWS, number))
        positions = balanced(labels, self._steps * settings.batch_size, self.recipe.balance, random)
        draws = Draws(positions, settings.batch_size, self._side(number), (settings.seed, CROPS, number))
        stream = augment.crops(self._train, draws, self.recipe.augmentation, settings.workers)
        drawn = torch.from_numpy(labels[positions].reshape(-1, settings.batch_size))
        losses = [
            self.learner.step(self._images(crops), self._targets(crops, of_batch))
            for crops, of_batch in zip(stream, drawn, strict=True)
        ]
        return torch.stack(losses).mean().item()

    def _side(self, number: int) -> int:
        """Pixels of the crops' side in an epoch, counted from 0: a multiple of 16."""
        recipe = self.recipe
        done = min(1.0, number / (recipe.grown * self.settings.epochs))
        side = self.settings.size * (recipe.first_side + (recipe.last_side - recipe.first_side) * done)
        return max(MIN_SIDE, 16 * round(side / 16))

    def _score(self) -> Score:
        """The averaged weights, judged on the validation photos."""
        stream = augment.plain(self._val, self.settings.batch_size, self.settings.workers)
        answers = torch.cat([self.learner.judge(self._images(crops)).argmax(1).cpu() for crops in stream])
        labels = self._val.labels
        right = answers.numpy() == labels
        each = [right[labels == label].mean() for label in np.unique(labels)]
        return Score(top1=100 * float(right.mean()), class_average=100 * float(np.mean(each)))

    def _images(self, crops: Crops) -> Tensor:
        """What the network eats: float32 (N, 3, S, S) on the device."""
        preset, device = self.settings.preset, self.settings.device
        mean, std = torch.tensor(preset.mean, device=device), torch.tensor(preset.std, device=device)
        return augment.recolour(crops.pixels.to(device), crops.colours.to(device), mean, std)

    def _targets(self, crops: Crops, labels: Tensor) -> Tensor:
        """Probabilities (N, C): a crop is of the classes that it shows, by their share of its pixels."""
        shown = torch.nn.functional.one_hot(labels, len(self.classes)).float()
        return torch.lerp(shown, shown.roll(1, 0), crops.foreign[:, None]).to(self.settings.device)

    def _trained(self) -> dict[str, str | float | int]:
        settings, best = self.settings, self.best
        return {
            "start": Path(settings.start.name).name if settings.start else "scratch",
            "photos": len(self._train),
            "skipped": len(self.skipped),
            "val_photos": len(self._val),
            "val_top1": best.top1,
            "val_class_average": best.class_average,
            "epochs": len(self.history),
            "best_epoch": best.number,
            "seed": settings.seed,
            "batch_size": settings.batch_size,
            "device": settings.device,
            "precision": settings.precision,
            "seconds": round(sum(epoch.seconds for epoch in self.history), 1),
            "recipe": json.dumps(asdict(self.recipe)),
        }


def good_enough(top1: float, earlier: Sequence[float], photos: int) -> bool:
    """Whether an epoch takes the place of those before it: unless it is worse than the best by more than chance.

    top1 in percent; chance is one standard error of the best (Breiman et al., 1984). The last steps are the smallest
    and do most good; the highest figure on a few validation photos is often luck, half-way there.
    """
    highest = max([top1, *earlier])
    return top1 >= highest - sqrt(highest * (100 - highest) / photos)


def balanced(labels: NDArray[np.int64], count: int, balance: float, random: np.random.Generator) -> NDArray[np.int64]:
    """`count` positions of photos, shuffled; a class of n is drawn in proportion to n ** (1 - balance).

    Systematic sampling: each photo comes as often as it should, rounded up or down.
    """
    order = random.permutation(len(labels))
    odds = np.bincount(labels)[labels[order]] ** -balance
    ends = np.floor(count * np.cumsum(odds) / odds.sum() + random.random())
    ends[-1] = count  # whatever the rounding
    times = np.diff(ends, prepend=0).astype(np.int64)
    return random.permutation(np.repeat(order, times))


def describe(photos: Sequence[Photo]) -> str:
    """How many, and a digest of their labels, names and lengths, to tell other photos by."""
    digest = hashlib.sha256()
    for photo in photos:
        file = Path(photo.path)
        digest.update(os.fsencode(f"{photo.label} {file.name} {file.lstat().st_size}\n"))
    return f"{len(photos)} ({digest.hexdigest()[:8]})"


def require_writable(settings: TrainSettings) -> None:
    """InceptionError now, not after an epoch, where nothing can be written, or a finished file would be lost."""
    out, folder = settings.out, settings.out.parent
    if out.exists() and not settings.part.exists():
        raise InceptionError(f"{out}: is there already: move it away, or choose another --out")
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise InceptionError(f"{folder}: no folder that can be written to: make it, or choose another --out")


def read_part(part: Path, asked: Mapping[str, Any]) -> dict[str, Any] | None:
    """What `write_part` wrote; None when there is none. InceptionError when it is of another training, or damaged."""
    if not part.exists():
        return None
    cure = f"remove {part} to begin anew"
    try:
        loaded: dict[str, Any] = torch.load(part, map_location="cpu", weights_only=True)
        theirs = loaded["asked"]
    except Exception as error:  # torch and pickle raise many kinds
        raise InceptionError(f"{part}: damaged, or no checkpoint of a training: {cure}") from error
    if theirs != asked:
        told = "; ".join(difference(theirs, dict(asked)))
        raise InceptionError(f"{part}: of a training with other settings ({told}): use those, or {cure}")
    return loaded


def write_part(part: Path, asked: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """The checkpoint, whole or not at all."""
    temporary = part.with_name(part.name + ".tmp")
    try:
        with temporary.open("wb") as stream:
            torch.save({"asked": dict(asked), **state}, stream)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(part)
    except (OSError, RuntimeError) as error:  # torch's zip writer makes RuntimeErrors of a full disk
        raise InceptionError(f"{part}: cannot be written ({error}): make room, and the same command goes on") from error
    finally:
        temporary.unlink(missing_ok=True)

"""Train a classifier on class folders; a checkpoint after each epoch lets an interrupted training resume."""

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from inception_cli.config import MIN_SIDE, PixelConfig, Plan, Weights
from inception_cli.errors import InceptionError
from inception_cli.files.atomic import remove_temporaries
from inception_cli.images.failure import Failure
from inception_cli.machine import cores, fastest_precision, find_device
from inception_cli.network.familiarity import too_few_photos
from inception_cli.network.model import InceptionV3
from inception_cli.network.onednn import keep_memory
from inception_cli.training.augment import (
    Augmentation,
    CropBatch,
    EpochPlan,
    colour_and_normalise,
    training_batches,
    validation_batches,
)
from inception_cli.training.checkpoint import read_part, write_part
from inception_cli.training.dataset import (
    ImageDataset,
    Sample,
    centre_crop,
    digest_samples,
    empty_class_error,
    find_classes,
    list_samples,
    require_same_classes,
    sample_balanced,
    shrink,
    split_samples,
)
from inception_cli.training.familiarity import measure_familiarity
from inception_cli.training.learner import Hyperparameters, Learner
from inception_cli.training.model_card import model_card
from inception_cli.training.settings import SCRATCH, TrainConfig, TrainSettings, is_folder
from inception_cli.training.validation import ValidationPredictions, is_best
from inception_cli.weights.download import DownloadProgress, ignore_progress
from inception_cli.weights.load import find_weights, is_saved_folder, load_network, save_folder, save_weights

DEFAULT_SIZE = 176  # pixels: input resolution of a network trained from scratch
DEFAULT_BATCH_SIZE = 32  # the learning rate is proportional to the batch size
#: Streams of random numbers. A generator's seed is (seed, stream, epoch, …), so that no two share their numbers.
SAMPLING, CROPPING, DROPOUT = range(3)


@dataclass(frozen=True)
class Recipe:
    """Everything about the training that is not an option of the user."""

    hyperparameters: Hyperparameters = field(default_factory=Hyperparameters)
    augmentation: Augmentation = field(default_factory=Augmentation)
    pretrained_rate: float = 0.25  # factor of the learning rate when training starts from existing weights
    balance: float = 0.5  # classes of n images are sampled in proportion to n ** (1 - balance)
    # Objects look larger in a random crop than in the centre crop that is classified, so crops are smaller than the
    # input resolution (Touvron et al., arXiv:1906.06423). They start even smaller, which saves time.
    first_crop: float = 0.6  # size of the crops in the first epoch, as a share of the input resolution
    last_crop: float = 0.85
    growth: float = 0.7  # share of the epochs after which `last_crop` is reached
    cached_side: float = 1.5  # short side of the decoded images in memory, as a multiple of the input resolution
    val_every: int = 10  # without a validation folder, one image in this many is for validation,
    val_run_length: int = 10  # in runs of up to this many consecutive files
    patience: float = 0.5  # training stops after this share of the epochs without a better one


@dataclass(frozen=True)
class EpochResult:
    """The loss, accuracy and speed of an epoch."""

    number: int  # from 1
    crop_size: int  # pixels
    loss: float  # mean over the crops, auxiliary classifier included
    top1: float  # percent of the validation images, by the averaged weights
    class_average: float  # percent
    best: bool  # the best so far: its weights are kept, see `is_best`
    images_per_s: float  # of training alone
    seconds: float  # with validation
    seconds_left: float


def resolve(settings: TrainSettings, progress: DownloadProgress = ignore_progress) -> TrainConfig:
    """Return the configuration of a training, every "auto" made a value; published weights are downloaded.

    Raises InceptionError for a folder without class folders, and for an output file that cannot be written, before the
    download.
    """
    find_classes(Path(settings.train_dir))
    device = find_device(settings.device)
    precision = fastest_precision(device) if settings.precision == "auto" else settings.precision
    if precision == "fp16" and settings.precision == "auto":
        precision = "fp32"  # fp16 would need loss scaling
    config = TrainConfig(
        train_dir=Path(settings.train_dir),
        out=_real_folder(settings.out) if is_folder(settings.out) else Path(settings.out),
        folder=is_folder(settings.out),
        val_dir=Path(settings.val_dir) if settings.val_dir else None,
        size=DEFAULT_SIZE if settings.size == "auto" else settings.size,
        epochs=settings.epochs,
        seed=settings.seed,
        batch_size=DEFAULT_BATCH_SIZE if settings.batch_size == "auto" else settings.batch_size,
        workers=max(1, cores() // 2) if settings.workers == "auto" else settings.workers,
        device=device,
        precision=precision,
    )
    require_writable(config)
    if settings.start == SCRATCH:
        return config
    start = _find_start(settings, progress)
    return replace(config, start=start, size=start.preset.size if settings.size == "auto" else config.size)


def _real_folder(name: str) -> Path:
    """Return the path of a folder, that of its target if it is a symbolic link, which a folder cannot replace."""
    return Path(os.path.realpath(name)) if Path(name).is_symlink() else Path(name)


def _find_start(settings: TrainSettings, progress: DownloadProgress) -> Weights:
    """Return the weights that training starts from; an error names the option."""
    try:
        return find_weights(settings.start, offline=settings.offline, progress=progress)
    except InceptionError as error:
        raise type(error)(f"--from: {error}; or train from nothing: --from {SCRATCH}") from error


class Trainer:
    """A training, new or resumed: iterate over `epochs()`, then call `save()`."""

    def __init__(self, config: TrainConfig, recipe: Recipe | None = None) -> None:
        """Decode every image once; InceptionError for class folders, images or a part file that cannot be used."""
        self.config, self.recipe = config, recipe or Recipe()
        require_writable(config)
        for file in (config.part, config.out):
            remove_temporaries(file)
        self.classes = find_classes(config.train_dir)
        train_samples, val_samples = self._list_samples()
        self._train_samples = train_samples
        self._configuration = self._run_configuration(train_samples, val_samples)
        part = read_part(config.part, self._configuration)
        torch.set_num_threads(cores())  # the order of floating-point sums depends on it
        if config.device == "cpu":
            keep_memory()
        pixels, short_side = PixelConfig(config.preset), round(self.recipe.cached_side * config.size)
        self._train = ImageDataset(train_samples, pixels, partial(shrink, short_side=short_side), config.workers)
        self._val = ImageDataset(val_samples, pixels, partial(centre_crop, pixels=pixels), config.workers)
        self.skipped: dict[str, Failure] = self._train.skipped | self._val.skipped  # by path
        self._require_all_classes()
        self.learner = self._make_learner()
        self.history = [EpochResult(**fields) for fields in part["history"]] if part else []
        self._best_weights: Mapping[str, Tensor] = part["best"] if part else {}
        self._best_validation = ValidationPredictions.from_state_dict(part["validation"]) if part else None
        if part:
            self.learner.load_state_dict(part["learner"])

    @property
    def best(self) -> EpochResult:
        """The epoch whose weights are kept."""
        return [result for result in self.history if result.best][-1]

    @property
    def best_validation(self) -> ValidationPredictions:
        """The predictions of the best epoch for the validation images; RuntimeError before the first epoch."""
        if self._best_validation is None:
            raise RuntimeError("no epoch has been trained yet")
        return self._best_validation

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or too many in a row brought no improvement."""
        done = len(self.history)
        patience = max(1, round(self.recipe.patience * self.config.epochs))
        return done == self.config.epochs or (done > 0 and done - self.best.number >= patience)

    def epochs(self) -> Iterator[EpochResult]:
        """Train the remaining epochs; each is saved to the part file before its result is yielded."""
        while not self.finished:
            result, validation = self._run_epoch(len(self.history))
            self.history.append(result)
            if result.best:
                weights = self.learner.averaged_network.state_dict()
                self._best_weights = {name: value.clone() for name, value in weights.items()}
                self._best_validation = validation
            write_part(self.config.part, self._configuration, self._state_dict())
            yield result

    def save(self) -> dict[str, Any]:
        """Write the best weights to the output file, remove the part file, and return the training's metadata."""
        config, network = self.config, self.learner.averaged_network
        network.load_state_dict(self._best_weights)
        familiarity, labels, classes = None, torch.from_numpy(self._train.labels), len(self.classes)
        metadata = self._metadata() | {"familiarity": too_few_photos(labels, classes)}
        if not metadata["familiarity"]:
            familiarity = measure_familiarity(network, self._train_samples, classes, config)
        if config.folder:
            card = model_card(config, self.classes, metadata, familiarity is not None)
            save_folder(config.out, network, self.classes, config.preset, metadata, card, familiarity)
        else:
            save_weights(config.out, network, self.classes, config.preset, metadata, familiarity=familiarity)
        self.config.part.unlink(missing_ok=True)
        return metadata

    def _state_dict(self) -> dict[str, Any]:
        """Return all that a resumed training needs."""
        return {
            "learner": self.learner.state_dict(),
            "best": self._best_weights,
            "history": [asdict(result) for result in self.history],
            "validation": self.best_validation.state_dict(),
        }

    @property
    def _steps_per_epoch(self) -> int:
        """About as many crops as there are training images, in whole batches."""
        return -(-len(self._train) // self.config.batch_size)

    def _list_samples(self) -> tuple[list[Sample], list[Sample]]:
        """Return the training and the validation samples."""
        config = self.config
        samples = list_samples(config.train_dir, self.classes)
        if config.val_dir is None:
            return split_samples(samples, self.recipe.val_every, self.recipe.val_run_length)
        require_same_classes(self.classes, config.train_dir, config.val_dir)
        return samples, list_samples(config.val_dir, self.classes)

    def _run_configuration(self, train_samples: Sequence[Sample], val_samples: Sequence[Sample]) -> dict[str, Any]:
        """Return every value that the losses depend on; a training resumes only if all are unchanged."""
        config = self.config
        return {
            "classes": ", ".join(self.classes),
            "training images": digest_samples(train_samples),
            "validation images": digest_samples(val_samples),
            "initial weights": f"{config.start.name} ({config.start.sha256[:8]})" if config.start else SCRATCH,
            "input resolution": config.size,
            "epochs": config.epochs,
            "random seed": config.seed,
            "batch size": config.batch_size,
            "device": config.device,
            "precision": config.precision,
            "recipe": json.loads(json.dumps(asdict(self.recipe))),
        }

    def _require_all_classes(self) -> None:
        """Raise InceptionError unless each class has a readable training image, and any a validation image."""
        for label, name in enumerate(self.classes):
            if label not in self._train.labels:
                raise empty_class_error(self.config.train_dir / name)
        if not len(self._val):
            raise InceptionError(
                f"{self.config.val_dir or self.config.train_dir}: no readable validation image; "
                "add some, or give another validation folder"
            )

    def _make_learner(self) -> Learner:
        config, hyperparameters = self.config, self.recipe.hyperparameters
        network = InceptionV3(len(self.classes), aux=True, dropout=hyperparameters.dropout).initialise(config.seed)
        rate = hyperparameters.learning_rate * config.batch_size / DEFAULT_BATCH_SIZE
        if config.start:
            start = load_network(config.start).state_dict()
            trunk = {name: value for name, value in start.items() if not name.startswith(("fc.", "AuxLogits."))}
            network.load_state_dict(trunk, strict=False)
            rate *= self.recipe.pretrained_rate
        steps, plan = config.epochs * self._steps_per_epoch, Plan(config.device, config.precision)
        return Learner(network, replace(hyperparameters, learning_rate=rate), steps, plan)

    def _run_epoch(self, epoch: int) -> tuple[EpochResult, ValidationPredictions]:
        """Train for an epoch, counted from 0, and evaluate the averaged weights."""
        started = time.monotonic()
        loss = self._train_epoch(epoch)
        training_seconds = time.monotonic() - started
        validation = self._evaluate()
        seconds = time.monotonic() - started
        pixels_left = sum(self._crop_size(later) ** 2 for later in range(epoch + 1, self.config.epochs))
        result = EpochResult(
            number=epoch + 1,
            crop_size=self._crop_size(epoch),
            loss=loss,
            top1=validation.top1,
            class_average=validation.class_average,
            best=is_best(validation.top1, [result.top1 for result in self.history], len(self._val)),
            images_per_s=self._steps_per_epoch * self.config.batch_size / training_seconds,
            seconds=seconds,
            seconds_left=seconds * pixels_left / self._crop_size(epoch) ** 2,
        )
        return result, validation

    def _train_epoch(self, epoch: int) -> float:
        """Train for an epoch, counted from 0, and return the mean loss; all randomness comes from seed and epoch."""
        config, labels = self.config, self._train.labels
        torch.manual_seed(int(np.random.SeedSequence((config.seed, DROPOUT, epoch)).generate_state(1)[0]))
        random = np.random.default_rng((config.seed, SAMPLING, epoch))
        positions = sample_balanced(labels, self._steps_per_epoch * config.batch_size, self.recipe.balance, random)
        plan = EpochPlan(positions, config.batch_size, self._crop_size(epoch), (config.seed, CROPPING, epoch))
        batches = training_batches(self._train, plan, self.recipe.augmentation, config.workers)
        batch_labels = torch.from_numpy(labels[positions].reshape(-1, config.batch_size))
        losses = [
            self.learner.step(self._images(batch), self._targets(batch, labels_of_batch))
            for batch, labels_of_batch in zip(batches, batch_labels, strict=True)
        ]
        return torch.stack(losses).mean().item()

    def _crop_size(self, epoch: int) -> int:
        """Return the side of the crops in pixels in an epoch, counted from 0: a multiple of 16, but at least 75."""
        recipe = self.recipe
        grown = min(1.0, epoch / (recipe.growth * self.config.epochs))
        side = self.config.size * (recipe.first_crop + (recipe.last_crop - recipe.first_crop) * grown)
        return max(MIN_SIDE, 16 * round(side / 16))

    def _evaluate(self) -> ValidationPredictions:
        """Return the predictions of the averaged weights for the validation images."""
        batches = validation_batches(self._val, self.config.batch_size, self.config.workers)
        probabilities = torch.cat([self.learner.predict(self._images(batch)).softmax(1).cpu() for batch in batches])
        scores, predicted = probabilities.max(1)
        return ValidationPredictions(self._val.paths, self._val.labels, predicted.numpy(), scores.numpy())

    def _images(self, batch: CropBatch) -> Tensor:
        """Return the network's input: float32 (N, 3, S, S) on the device."""
        preset, device = self.config.preset, self.config.device
        mean, std = torch.tensor(preset.mean, device=device), torch.tensor(preset.std, device=device)
        return colour_and_normalise(batch.pixels.to(device), batch.colour_transforms.to(device), mean, std)

    def _targets(self, batch: CropBatch, labels: Tensor) -> Tensor:
        """Return the target probabilities (N, C): after CutMix, each class by its share of the crop's pixels."""
        one_hot = torch.nn.functional.one_hot(labels, len(self.classes)).float()
        return torch.lerp(one_hot, one_hot.roll(1, 0), batch.pasted[:, None]).to(self.config.device)

    def _metadata(self) -> dict[str, Any]:
        """Return how the weights were trained, for their file."""
        config, best = self.config, self.best
        return {
            "start": config.start_name,
            "photos": len(self._train),
            "skipped": len(self.skipped),
            "val_photos": len(self._val),
            "val_top1": best.top1,
            "val_class_average": best.class_average,
            "val_per_class": self.best_validation.per_class(len(self.classes)),
            "epochs": len(self.history),
            "best_epoch": best.number,
            "seed": config.seed,
            "batch_size": config.batch_size,
            "device": config.device,
            "precision": config.precision,
            "seconds": round(sum(result.seconds for result in self.history), 1),
            "recipe": json.dumps(asdict(self.recipe)),
        }


def _is_replaceable(config: TrainConfig) -> bool:
    """Return whether the existing output is an empty folder, or was written by this training before it was killed."""
    if config.folder and config.out.is_dir() and not any(config.out.iterdir()):
        return True
    return config.part.exists() and (not config.folder or is_saved_folder(config.out))


def require_writable(config: TrainConfig) -> None:
    """Raise InceptionError if the output file exists, or cannot be written, before time is spent on training."""
    out, folder = config.out, config.out.parent
    if out.exists() and not _is_replaceable(config):
        kind = "folder" if config.folder else "file"
        raise InceptionError(f"{out}: already exists; move it away, or choose another output {kind}")
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise InceptionError(f"{folder}: not a writable folder; create it, or choose another output file")

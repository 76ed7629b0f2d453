"""Train a classifier on class folders; a checkpoint after each epoch lets an interrupted training resume."""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from math import isfinite
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inception_cli import __version__
from inception_cli.config import PixelConfig, Plan
from inception_cli.errors import InceptionError
from inception_cli.files.atomic import remove_temporaries
from inception_cli.images.failure import Failure
from inception_cli.machine import cores, describe
from inception_cli.network.model import InceptionV3
from inception_cli.network.onednn import keep_memory
from inception_cli.predictions.intervals import percent
from inception_cli.training.augment import (
    CropBatch,
    EpochPlan,
    colour_and_normalise,
    training_batches,
    validation_batches,
)
from inception_cli.training.checkpoint import (
    describe_resuming,
    not_finite_error,
    read_part,
    require_epochs,
    require_readable,
    run_configuration,
    write_part,
)
from inception_cli.training.dataset import (
    ImageCounts,
    ImageDataset,
    Sample,
    centre_crop,
    digest_samples,
    empty_class_error,
    find_classes,
    list_samples,
    require_other_images,
    require_same_classes,
    require_validation_images,
    sample_balanced,
    shrink,
    split_samples,
    spread,
)
from inception_cli.training.familiarity import measure_familiarity
from inception_cli.training.last_layer import FitError, fit_last_layer
from inception_cli.training.learner import Hyperparameters, Learner
from inception_cli.training.model_card import model_card
from inception_cli.training.recipe import Recipe
from inception_cli.training.resolve import require_writable
from inception_cli.training.settings import DEFAULT_BATCH_SIZE, TrainConfig
from inception_cli.training.validation import ValidationPredictions, is_best
from inception_cli.weights.load import load_network, save_folder, save_weights
from inception_cli.weights.training_record import ClassCounts, EpochResult, TrainingRecord

#: Streams of random numbers. A generator's seed is (seed, stream, epoch, …), so that no two share their numbers.
SAMPLING, CROPPING, DROPOUT, LAST_LAYER, STATISTICS = range(5)
#: What `Trainer` calls during an epoch and while it fits the last layer: with the number of crops done, and of all.
EpochProgress = Callable[[int, int], None]


class Trainer:
    """A training, new or resumed: iterate over `epochs()`, then call `fit_last_layer()` and `save()`."""

    def __init__(self, config: TrainConfig, recipe: Recipe | None = None) -> None:
        """Decode every image once; InceptionError for class folders, images or a part file that cannot be used."""
        self.config, self.recipe = config, recipe or Recipe()
        require_writable(config)
        for file in (config.part, config.out):
            remove_temporaries(file)
        self.classes = find_classes(config.train_dir)
        train_samples, val_samples = self._list_samples()
        self._configuration = run_configuration(config, self.recipe, self.classes, train_samples, val_samples)
        part = read_part(config.part, self._configuration)
        self.history = [EpochResult(**fields) for fields in part["history"]] if part else []
        require_epochs(config, len(self.history))
        torch.set_num_threads(cores())  # the order of floating-point sums depends on it
        if config.device == "cpu":
            keep_memory()
        pixels, short_side = PixelConfig(config.preset), round(self.recipe.cached_side * config.size)
        prepare = partial(centre_crop, pixels=pixels)
        self._train = ImageDataset(train_samples, pixels, partial(shrink, short_side=short_side), config.workers)
        self._val = ImageDataset(val_samples, pixels, prepare, config.workers)
        self._train_on_every_class()
        self.skipped: dict[str, Failure] = self._train.skipped | self._val.skipped  # by path
        if self._untrained:
            raise empty_class_error(config.train_dir / self.classes[min(self._untrained)], self.skipped)
        require_validation_images(self._val, config.train_dir, config.val_dir)
        self._readable = {
            "training images": digest_samples(self._train.samples),
            "validation images": digest_samples(self._val.samples),
        }
        if part:
            require_readable(config.part, part["readable"], self._readable)
        measured = [self._train.samples[position] for position in spread(len(self._train), len(self._val))]
        self._measured = ImageDataset(measured, pixels, prepare, config.workers)
        self.learner = self._make_learner()
        self._mean_and_std = torch.tensor([config.preset.mean, config.preset.std], device=config.device)
        steps, hyperparameters = self._steps_per_epoch, self._hyperparameters
        self.resumed = describe_resuming(self.history, config.epochs, steps, hyperparameters) if part else ""
        self._best_weights: Mapping[str, Tensor] = {}
        self._best_validation = ValidationPredictions.from_state_dict(part["validation"]) if part else None
        self._fitted_train_top1: float | None = None  # None: the last layer is as trained
        self._last_layer, self._last_layer_compared = "", False
        if part:
            self.learner.load_state_dict(part["learner"])
            self._best_weights = part["best"] or self.learner.averaged_weights()

    @property
    def best(self) -> EpochResult:
        """The epoch whose weights are kept."""
        return [result for result in self.history if result.best][-1]

    @property
    def best_validation(self) -> ValidationPredictions:
        """The validation images as the weights that are kept predict them; RuntimeError before the first epoch."""
        if self._best_validation is None:
            raise RuntimeError("no epoch has been trained yet")
        return self._best_validation

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or too many in a row brought no improvement."""
        done = len(self.history)
        patience = max(1, round(self.recipe.patience * self.config.epochs))
        return done == self.config.epochs or (done > 0 and done - self.best.number >= patience)

    @property
    def images(self) -> ImageCounts:
        """Number of images for each purpose."""
        per_class = np.bincount(self._val.labels, minlength=len(self.classes)).tolist()
        return ImageCounts(len(self._train), len(self._measured), len(self._val), per_class)

    @property
    def part_bytes(self) -> tuple[int, int]:
        """Size of the part file in bytes: while the last epoch is the best one, and while an earlier one is."""
        network = self.learner.network
        tensors = [*network.state_dict().values(), *network.parameters()]  # the optimizer has a value per parameter
        best = sum(value.nbytes for name, value in network.state_dict().items() if not name.startswith("AuxLogits."))
        size = sum(value.nbytes for value in tensors) + best
        return size, size + best

    def epochs(self, progress: EpochProgress = lambda done, total: None) -> Iterator[EpochResult]:
        """Train the remaining epochs; each is saved to the part file before its result is yielded."""
        while not self.finished:
            result, validation = self._run_epoch(len(self.history), progress)
            self.history.append(result)
            if result.best:
                self._best_weights = self.learner.averaged_weights()
                self._best_validation = validation
            write_part(self.config.part, self._configuration, self._state_dict())
            yield result

    def fit_last_layer(self, progress: EpochProgress = lambda done, total: None) -> None:
        """Fit the last layer of the best weights again; keep it if more validation images are right than before."""
        config, fit, trained = self.config, self.recipe.last_layer, self.best_validation
        layer = self._load_best_weights().fc
        plan = fit.plan(len(self._train), config.batch_size, config.size, (config.seed, LAST_LAYER))
        crops = training_batches(self._train, plan, self.recipe.plain_crops, config.workers)
        val = validation_batches(self._val, config.batch_size, config.workers)
        try:
            weight, bias = fit_last_layer(
                self._features(crops, self._train.labels[plan.positions], progress),
                self._features(val, self._val.labels),
                len(self.classes),
                fit.shrinkage,
                self.learner.hyperparameters.label_smoothing,
            )
            with torch.no_grad():
                layer.weight.copy_(weight)
                layer.bias.copy_(bias)
            fitted, measured = self._evaluate(self._val), self._evaluate(self._measured)
        except (InceptionError, FitError) as error:  # the weights are saved even if photos are gone by now
            reason = error if isinstance(error, FitError) else "an image could no longer be read"
            self._last_layer = f"as trained: not fitted again, as {reason}"
            self._load_best_weights()
            return
        self._last_layer_compared = True
        as_trained, again = percent(trained.top1), percent(fitted.top1)
        if fitted.right > trained.right:
            self._best_weights, self._best_validation = self.learner.averaged_weights(), fitted
            self._fitted_train_top1 = measured.top1
            self._last_layer = f"fitted again: {again} % of the validation images are right, {as_trained} % as trained"
        else:
            self._load_best_weights()
            self._last_layer = (
                f"as trained: {as_trained} % of the validation images are right, {again} % with one fitted again"
            )

    def save(self, on_saved: Callable[[dict[str, Any]], None] = lambda metadata: None) -> dict[str, Any]:
        """Write the best weights to the output file, remove the part file, and return the training's metadata.

        `on_saved` is called with these before the part file is removed: if it raises, the training can be resumed.
        """
        config, network = self.config, self._load_best_weights()
        statistics, reason = measure_familiarity(network, self._train.samples, len(self.classes), config)
        metadata = self._metadata() | {"familiarity": reason}
        if config.folder:
            card = model_card(config, self.classes, metadata, statistics is not None)
            save_folder(config.out, network, self.classes, config.preset, metadata, card, statistics)
        else:
            save_weights(config.out, network, self.classes, config.preset, metadata, familiarity=statistics)
        on_saved(metadata)
        self.config.part.unlink(missing_ok=True)
        return metadata

    def _features(
        self,
        batches: Iterable[CropBatch],
        labels: NDArray[np.int64],
        progress: EpochProgress = lambda done, total: None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the features (N, D) of the averaged weights and the labels (N,) of each batch."""
        done = 0
        for batch in batches:
            before, done = done, done + len(batch.pixels)
            yield self.learner.features(self._images(batch)), torch.from_numpy(labels[before:done])
            progress(done, len(labels))

    def _load_best_weights(self) -> InceptionV3:
        """Load the weights that are kept into the averaged network, and return it."""
        network = self.learner.averaged_network
        network.load_state_dict(network.state_dict() | dict(self._best_weights))
        return network

    def _state_dict(self) -> dict[str, Any]:
        """Return all that a resumed training needs."""
        return {
            "learner": self.learner.state_dict(),
            "best": None if self.history[-1].best else self._best_weights,  # else they are the averaged weights
            "history": [asdict(result) for result in self.history],
            "readable": self._readable,
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
        val_samples = list_samples(config.val_dir, self.classes)
        require_other_images(samples, val_samples)
        return samples, val_samples

    @property
    def _untrained(self) -> set[int]:
        """The classes without a readable training image."""
        return {*range(len(self.classes))} - {*self._train.labels.tolist()}

    def _train_on_every_class(self) -> None:
        """Move validation images of classes without a readable training image to training, except with --val-dir."""
        if self.config.val_dir is None:
            self._train.add(self._val.remove(self._untrained))

    @property
    def _hyperparameters(self) -> Hyperparameters:
        """The recipe's, with the learning rate for this batch size and start."""
        rate = self.recipe.hyperparameters.learning_rate * self.config.batch_size / DEFAULT_BATCH_SIZE
        rate *= self.recipe.pretrained_rate if self.config.start else 1
        return replace(self.recipe.hyperparameters, learning_rate=rate)

    def _make_learner(self) -> Learner:
        config, hyperparameters = self.config, self._hyperparameters
        network = InceptionV3(len(self.classes), aux=True, dropout=hyperparameters.dropout).initialise(config.seed)
        if config.start:
            start = load_network(config.start).state_dict()
            keeps_classifier = config.keeps_classifier(self.classes)
            own = ("AuxLogits.",) if keeps_classifier else ("AuxLogits.", "fc.")
            kept = {name: value for name, value in start.items() if not name.startswith(own)}
            if keeps_classifier:
                order = [config.start.classes.names.index(name) for name in self.classes]
                kept |= {name: value[order] for name, value in kept.items() if name.startswith("fc.")}
            network.load_state_dict(kept, strict=False)
        steps, plan = config.epochs * self._steps_per_epoch, Plan(config.device, config.precision)
        return Learner(network, hyperparameters, steps, plan)

    def _run_epoch(self, epoch: int, progress: EpochProgress) -> tuple[EpochResult, ValidationPredictions]:
        """Train for an epoch, counted from 0, and evaluate the averaged weights; InceptionError if the loss is NaN."""
        started, learning_rate = time.monotonic(), self.learner.learning_rate()
        crop_sizes = self.recipe.crop_sizes(self.config.size, self.config.epochs)
        loss = self._train_epoch(epoch, crop_sizes[epoch], progress)
        if not isfinite(loss):
            raise not_finite_error(self.config, epoch, loss)
        training_seconds = time.monotonic() - started
        self._measure_statistics()
        measured, validation = self._evaluate(self._measured), self._evaluate(self._val)
        seconds = time.monotonic() - started
        pixels_left = sum(size**2 for size in crop_sizes[epoch + 1 :])
        result = EpochResult(
            number=epoch + 1,
            planned=self.config.epochs,
            crop_size=crop_sizes[epoch],
            learning_rate=learning_rate,
            loss=loss,
            train_top1=measured.top1,
            top1=validation.top1,
            class_average=validation.class_average,
            best=is_best(validation.top1, [result.top1 for result in self.history], len(self._val)),
            images_per_s=self._steps_per_epoch * self.config.batch_size / training_seconds,
            seconds=seconds,
            seconds_left=seconds * pixels_left / crop_sizes[epoch] ** 2,
        )
        return result, validation

    def _train_epoch(self, epoch: int, crop_size: int, progress: EpochProgress) -> float:
        """Train for an epoch, counted from 0, and return the mean loss; all randomness comes from seed and epoch."""
        config, labels = self.config, self._train.labels
        torch.manual_seed(int(np.random.SeedSequence((config.seed, DROPOUT, epoch)).generate_state(1)[0]))
        random = np.random.default_rng((config.seed, SAMPLING, epoch))
        positions = sample_balanced(labels, self._steps_per_epoch * config.batch_size, self.recipe.balance, random)
        plan = EpochPlan(positions, config.batch_size, crop_size, (config.seed, CROPPING, epoch))
        batches = training_batches(self._train, plan, self.recipe.augmentation, config.workers)
        batch_labels = torch.from_numpy(labels[positions].reshape(-1, config.batch_size))
        losses = []
        for number, (batch, labels_of_batch) in enumerate(zip(batches, batch_labels, strict=True), 1):
            losses.append(self.learner.step(self._images(batch), self._targets(batch, labels_of_batch)))
            progress(number * config.batch_size, len(positions))
        return torch.stack(losses).mean().item()

    def _measure_statistics(self) -> None:
        """Measure the batch-norm statistics of the averaged weights on crops like those that are classified."""
        config, recipe, labels = self.config, self.recipe, self._train.labels
        if not recipe.statistics_crops:
            return
        batches, batch_size = recipe.statistics_batches(len(labels), config.batch_size)
        random = np.random.default_rng((config.seed, STATISTICS))
        positions = sample_balanced(labels, batches * batch_size, recipe.balance, random)
        plan = EpochPlan(positions, batch_size, config.size, (config.seed, STATISTICS))
        crops = training_batches(self._train, plan, recipe.plain_crops, config.workers)
        self.learner.measure_statistics(self._images(batch) for batch in crops)

    def _evaluate(self, images: ImageDataset) -> ValidationPredictions:
        """Return the predictions of the averaged weights for some images."""
        batches = validation_batches(images, self.config.batch_size, self.config.workers)
        probabilities = torch.cat([self.learner.predict(self._images(batch)).softmax(1).cpu() for batch in batches])
        scores, predicted = probabilities.max(1)
        return ValidationPredictions(images.paths, images.labels, predicted.numpy(), scores.numpy())

    def _images(self, batch: CropBatch) -> Tensor:
        """Return the network's input: float32 (N, 3, S, S) on the device."""
        to_device = self.learner.to_device
        return colour_and_normalise(to_device(batch.pixels), to_device(batch.colour_transforms), *self._mean_and_std)

    def _targets(self, batch: CropBatch, labels: Tensor) -> Tensor:
        """Return the target probabilities (N, C): after CutMix, each class by its share of the crop's pixels."""
        one_hot = torch.nn.functional.one_hot(labels, len(self.classes)).float()
        return self.learner.to_device(torch.lerp(one_hot, one_hot.roll(1, 0), batch.pasted[:, None]))

    def _metadata(self) -> dict[str, Any]:
        """Return how the weights were trained, for their file."""
        config, best = self.config, self.best
        record = TrainingRecord(
            start=config.start_name,
            photos=len(self._train),
            skipped=len(self.skipped),
            val_photos=len(self._val),
            val_top1=self.best_validation.top1,
            val_class_average=self.best_validation.class_average,
            val_per_class=ClassCounts(**self.best_validation.per_class(len(self.classes))),
            train_top1=best.train_top1 if self._fitted_train_top1 is None else self._fitted_train_top1,
            train_photos_measured=len(self._measured),
            epochs=len(self.history),
            best_epoch=best.number,
            stopped_early=len(self.history) < config.epochs,
            seed=config.seed,
            batch_size=config.batch_size,
            device=config.device,
            precision=config.precision,
            machine=describe(config.device),
            versions={"inception": __version__, "torch": torch.__version__},
            seconds=round(sum(result.seconds for result in self.history), 1),
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
            recipe=json.dumps(asdict(self.recipe)),
            history=tuple(self.history),
            last_layer=self._last_layer,
            last_layer_compared=self._last_layer_compared,
        )
        return asdict(record)
